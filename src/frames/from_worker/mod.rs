//! Frames of a worker: read in the master, written by our own workers.
//!
//! A worker may be any program, so [`parse`] takes any bytes at all and does a bounded amount of work for
//! each; writing is for our own workers.

mod follow_up;
mod write;

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    celery::{Application, ControlledBody, RaisedBody, ReportedBody},
    fault::Fault,
    messages::{FromWorker, Ready},
    values::{Millis, Name},
    wants::Wants,
};
use crate::{
    json_text::JsonText,
    level::Level,
    outcome::{Given, Raised, Report},
    unicode::{Text, cleaned},
};

pub use follow_up::lines as follow_ups;
pub use write::{accept, bye, log, outcome, pong, progress, ready, returned};

/// Reads one line, without its newline. Text in it that is no Unicode is read by the rule of `crate::unicode`; the
/// payloads of follow-ups keep their own text.
///
/// # Errors
/// [`Fault`], with what is wrong.
pub fn parse(line: &[u8]) -> Result<FromWorker, Fault> {
    let text = cleaned(line);
    if let Some(id) = plain_done(&text) {
        return Ok(FromWorker::Outcome { id: id.to_owned(), outcome: Report::DONE });
    }
    serde_json::from_str::<FromWorker>(&text).map_err(|error| Fault::unreadable(&error))
}

/// The id of a frame that is exactly `{"done":{"id":"…"}}`: most are.
fn plain_done(text: &str) -> Option<&str> {
    let id = text.strip_prefix(r#"{"done":{"id":""#)?.strip_suffix(r#""}}"#)?;
    id.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\').then_some(id)
}

impl<'de> Deserialize<'de> for FromWorker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = FromWorker;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that names a frame")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FromWorker, A::Error> {
        let mut known: Option<FromWorker> = None;
        let mut unknown = None;
        while let Some(name) = map.next_key::<Name<'de>>()? {
            let Some(body) = Body::of(&name.0) else {
                map.next_value::<IgnoredAny>()?;
                unknown.get_or_insert_with(|| name.shown());
                continue;
            };
            if known.is_some() {
                return Err(A::Error::custom("two frames in one line"));
            }
            known = Some(body.read(&mut map)?);
        }
        known
            .or(unknown.map(FromWorker::Unknown))
            .ok_or_else(|| A::Error::custom("an object without a key names no frame"))
    }
}

/// The frames by their names.
#[derive(Clone, Copy)]
enum Body {
    Ready,
    Done,
    Error,
    Retry,
    Snooze,
    Failed,
    Malformed,
    Accept,
    Progress,
    Log,
    Bye,
    Pong,
    Returned,
    Reported,
    Controlled,
}

impl Body {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "ready" => Self::Ready,
            "done" => Self::Done,
            "error" => Self::Error,
            "retry" => Self::Retry,
            "snooze" => Self::Snooze,
            "failed" => Self::Failed,
            "malformed" => Self::Malformed,
            "accept" => Self::Accept,
            "progress" => Self::Progress,
            "log" => Self::Log,
            "bye" => Self::Bye,
            "pong" => Self::Pong,
            "returned" => Self::Returned,
            "reported" => Self::Reported,
            "controlled" => Self::Controlled,
            _ => return None,
        })
    }

    fn read<'de, A: MapAccess<'de>>(self, map: &mut A) -> Result<FromWorker, A::Error> {
        Ok(match self {
            Self::Ready => {
                let ready: ReadyBody = map.next_value()?;
                FromWorker::Ready(Ready {
                    protocol: ready.protocol,
                    name: ready.name.map(|name| name.0),
                    concurrency: ready.concurrency.unwrap_or(1).max(1),
                    ahead: ready.ahead.unwrap_or(0),
                    wants: ready.wants.unwrap_or_default(),
                    celery: ready.celery,
                })
            }
            Self::Done => {
                let DoneBody { id, submit, result, retried, failure } = map.next_value()?;
                let submit = submit.unwrap_or_default().into_iter().map(|entry| entry.0).collect();
                let given = Given::of(result, retried.map(Raised::from), failure.map(Raised::from));
                FromWorker::Outcome { id: id.0, outcome: Report::Done { submit, given } }
            }
            Self::Error => {
                let EndBody { id, error, detail, memo, .. } = map.next_value()?;
                let (error, detail) = (error.unwrap_or_default().0, detail.unwrap_or_default().0);
                FromWorker::Outcome { id: id.0, outcome: Report::Error { error, detail, memo } }
            }
            Self::Retry => {
                let EndBody { id, error, delay_ms, memo, .. } = map.next_value()?;
                let (error, delay) = (error.unwrap_or_default().0, delay_ms.map(|millis| millis.0));
                FromWorker::Outcome { id: id.0, outcome: Report::Retry { error, delay, memo } }
            }
            Self::Snooze => {
                let EndBody { id, delay_ms, memo, .. } = map.next_value()?;
                let delay = delay_ms.map(|millis| millis.0).unwrap_or_default();
                FromWorker::Outcome { id: id.0, outcome: Report::Snooze { delay, memo } }
            }
            Self::Failed => {
                let EndBody { id, error, detail, memo, .. } = map.next_value()?;
                let (error, detail) = (error.unwrap_or_default().0, detail.unwrap_or_default().0);
                FromWorker::Outcome { id: id.0, outcome: Report::DeadLetter { error, detail, memo } }
            }
            Self::Malformed => {
                let EndBody { id, error, .. } = map.next_value()?;
                FromWorker::Outcome { id: id.0, outcome: Report::Malformed { error: error.unwrap_or_default().0 } }
            }
            Self::Accept => FromWorker::Accept { id: map.next_value::<IdBody>()?.id.0 },
            Self::Progress => {
                let ProgressBody { id, percent, note } = map.next_value()?;
                let percent = percent.map(|percent| percent.clamp(0.0, 100.0));
                FromWorker::Progress { id: id.0, percent, note: note.unwrap_or_default().0 }
            }
            Self::Log => {
                let LogBody { level, message } = map.next_value()?;
                let level = level.and_then(|level| level.0.parse().ok()).unwrap_or(Level::Info);
                FromWorker::Log { level, message: message.unwrap_or_default().0 }
            }
            Self::Bye => map.next_value::<IgnoredAny>().map(|IgnoredAny| FromWorker::Bye)?,
            Self::Reported => FromWorker::reported(map.next_value::<ReportedBody>()?.parts()),
            Self::Controlled => FromWorker::Controlled { ticket: map.next_value::<ControlledBody>()?.ticket },
            Self::Pong => FromWorker::Pong { n: map.next_value::<PongBody>()?.n },
            Self::Returned => {
                let ids = map.next_value::<ReturnedBody>()?.ids.unwrap_or_default();
                FromWorker::Returned { ids: ids.into_iter().map(|id| id.0).collect() }
            }
        })
    }
}

// What may be absent may be null as well: that is how absence is written in many languages.

#[derive(Deserialize)]
struct ReadyBody {
    protocol: u32,
    name: Option<Text>,
    concurrency: Option<u32>,
    ahead: Option<u32>,
    wants: Option<Wants>,
    celery: Option<Box<Application>>,
}

#[derive(Deserialize)]
struct DoneBody {
    id: Text,
    submit: Option<Vec<follow_up::Entry>>,
    result: Option<Box<RawValue>>,
    retried: Option<RaisedBody>,
    failure: Option<RaisedBody>,
}

#[derive(Deserialize)]
struct EndBody {
    id: Text,
    error: Option<Text>,
    detail: Option<Text>,
    delay_ms: Option<Millis>,
    memo: Option<JsonText>,
}

#[derive(Deserialize)]
struct IdBody {
    id: Text,
}

#[derive(Deserialize)]
struct ProgressBody {
    id: Text,
    percent: Option<f64>,
    note: Option<Text>,
}

#[derive(Deserialize)]
struct LogBody {
    level: Option<Text>,
    message: Option<Text>,
}

#[derive(Deserialize)]
struct PongBody {
    n: u64,
}

#[derive(Deserialize)]
struct ReturnedBody {
    ids: Option<Vec<Text>>,
}

#[cfg(test)]
mod tests;
