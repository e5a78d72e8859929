//! Frames of the master: written by it, read in a worker.

use std::{borrow::Cow, fmt, time::Duration};

use data_encoding::BASE64;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    fault::{Fault, LIMIT},
    job,
    messages::{HaltReason, Payload, TaskFrame},
    values::{Millis, Name, millis, push_json, push_number},
};
use crate::{level::Level, properties::Properties, task::Headers};

/// What a worker reads.
#[derive(Debug)]
pub enum ToWorker<'a> {
    /// Work.
    Task(Assignment<'a>),
    /// Finish what is in hand, say bye, end.
    Halt(HaltReason),
    /// Answer when idle.
    Ping {
        /// To be repeated in the pong.
        n: u64,
    },
    /// Give back what was not begun.
    Recall,
    /// From now on, this much in the log.
    LogLevel(Level),
    /// A frame of a later protocol; ignored.
    Unknown(String),
}

/// How the frame of a task begins, as [`task`] writes it.
const TASK: &[u8] = b"{\"task\":";

/// Whether what the master has written is a task.
pub(crate) fn is_task(frame: &[u8]) -> bool {
    frame.starts_with(TASK)
}

/// A task as a worker reads it.
#[derive(Debug, Deserialize)]
pub struct Assignment<'a> {
    /// The task's id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Its queue.
    #[serde(borrow, default)]
    pub queue: Cow<'a, str>,
    /// Attempts used + 1.
    #[serde(default = "one")]
    pub attempt: u32,
    /// Attempts in all.
    #[serde(default = "one")]
    pub max_attempts: u32,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    /// Bytes, in base 64, if the payload is not JSON.
    #[serde(borrow)]
    pub payload_base64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
    deadline_ms: Option<Millis>,
    #[serde(borrow)]
    job: Option<&'a RawValue>,
    #[serde(borrow)]
    memo: Option<&'a RawValue>,
}

const fn one() -> u32 {
    1
}

impl<'a> Assignment<'a> {
    /// A task of no master, to be done once.
    #[must_use]
    pub const fn new(id: &'a str, queue: &'a str, payload: &'a RawValue) -> Self {
        Self {
            id: Cow::Borrowed(id),
            queue: Cow::Borrowed(queue),
            attempt: 1,
            max_attempts: 1,
            payload: Some(payload),
            payload_base64: None,
            headers: None,
            properties: None,
            deadline_ms: None,
            job: None,
            memo: None,
        }
    }

    /// The payload's own text; `None` if it is bytes.
    #[must_use]
    pub fn json(&self) -> Option<&'a str> {
        match (self.payload, &self.payload_base64) {
            (Some(payload), _) => Some(payload.get()),
            (None, Some(_)) => None,
            (None, None) => Some("null"),
        }
    }

    /// Headers that are not ours.
    #[must_use]
    pub fn headers(&self) -> Headers {
        self.headers.and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()
    }

    /// What the message says of itself; `None` if it was not asked for.
    #[must_use]
    pub fn properties(&self) -> Option<Properties> {
        self.properties.and_then(|text| serde_json::from_str(text.get()).ok())
    }

    /// Its place in a job; `None` outside of jobs.
    #[must_use]
    pub fn job(&self) -> Option<job::Place> {
        self.job.and_then(|text| serde_json::from_str(text.get()).ok())
    }

    /// What the last attempt left for this one, as its own text.
    #[must_use]
    pub fn memo(&self) -> Option<&'a RawValue> {
        self.memo
    }

    /// Time left when the task begins.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline_ms.as_ref().map(|millis| millis.0)
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads one line, without its newline.
///
/// # Errors
/// [`Fault`], with what is wrong.
pub fn parse(line: &[u8]) -> Result<ToWorker<'_>, Fault> {
    let text = std::str::from_utf8(line).map_err(|error| Fault::unreadable(&error))?;
    serde_json::from_str::<Frame<'_>>(text).map(|frame| frame.0).map_err(|error| Fault::unreadable(&error))
}

struct Frame<'a>(ToWorker<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Frame<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Frame<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that names a frame")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut unknown = None;
                let frame = loop {
                    let Some(name) = map.next_key::<Name<'de>>()? else {
                        break ToWorker::Unknown(unknown.unwrap_or_default());
                    };
                    break match &*name.0 {
                        "task" => ToWorker::Task(map.next_value()?),
                        "halt" => ToWorker::Halt(map.next_value::<HaltBody>()?.reason()),
                        "ping" => ToWorker::Ping { n: map.next_value::<PingBody>()?.n },
                        "recall" => {
                            map.next_value::<IgnoredAny>()?;
                            ToWorker::Recall
                        }
                        "log_level" => {
                            let word = map.next_value::<LevelBody>()?.level;
                            ToWorker::LogLevel(word.parse().unwrap_or(Level::Info))
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            unknown.get_or_insert_with(|| name.shown());
                            continue;
                        }
                    };
                };
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Frame(frame))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

#[derive(Deserialize)]
struct HaltBody {
    #[serde(default)]
    reason: String,
}

impl HaltBody {
    fn reason(&self) -> HaltReason {
        match self.reason.as_str() {
            "empty" => HaltReason::Empty,
            "recycle" => HaltReason::Recycle,
            _ => HaltReason::Stop,
        }
    }
}

#[derive(Deserialize)]
struct PingBody {
    n: u64,
}

#[derive(Deserialize)]
struct LevelBody {
    level: String,
}

/// Appends a task frame.
///
/// # Errors
/// [`Fault::TooLong`] if the frame would be longer than [`LIMIT`]; `out` is as it was then.
pub fn task(frame: &TaskFrame<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let payload_length = match frame.payload {
        Payload::Json(text) => text.len(),
        Payload::Bytes(bytes) => bytes.len().div_ceil(3) * 4,
    };
    if payload_length > LIMIT {
        return Err(Fault::TooLong);
    }
    let before = out.len();
    out.reserve(payload_length + frame.id.len() + frame.queue.len() + 128);
    out.extend_from_slice(TASK);
    out.extend_from_slice(b"{\"id\":");
    push_json(out, frame.id);
    out.extend_from_slice(b",\"queue\":");
    push_json(out, frame.queue);
    out.extend_from_slice(b",\"attempt\":");
    push_number(out, frame.attempt.into());
    out.extend_from_slice(b",\"max_attempts\":");
    push_number(out, frame.max_attempts.into());
    match frame.payload {
        Payload::Json(text) => {
            debug_assert!(!text.contains('\n'), "a payload is made one line before it is put into a frame");
            out.extend_from_slice(b",\"payload\":");
            out.extend_from_slice(text.as_bytes());
        }
        Payload::Bytes(bytes) => {
            out.extend_from_slice(b",\"payload_base64\":\"");
            let start = out.len();
            out.resize(start + BASE64.encode_len(bytes.len()), 0);
            BASE64.encode_mut(bytes, &mut out[start..]);
            out.push(b'"');
        }
    }
    if !frame.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":");
        push_json(out, frame.headers);
    }
    if let Some(properties) = frame.properties {
        out.extend_from_slice(b",\"properties\":");
        push_json(out, properties);
    }
    if let Some(deadline) = frame.deadline {
        out.extend_from_slice(b",\"deadline_ms\":");
        push_number(out, millis(deadline));
    }
    if let Some(membership) = frame.job {
        out.extend_from_slice(b",\"job\":");
        job::push(membership, out);
    }
    if let Some(memo) = frame.memo {
        out.extend_from_slice(b",\"memo\":");
        out.extend_from_slice(memo.as_str().as_bytes());
    }
    out.extend_from_slice(b"}}\n");
    if out.len() - before > LIMIT {
        out.truncate(before);
        return Err(Fault::TooLong);
    }
    Ok(())
}

/// A halt frame.
#[must_use]
pub fn halt(reason: HaltReason) -> Vec<u8> {
    let word = match reason {
        HaltReason::Empty => "empty",
        HaltReason::Stop => "stop",
        HaltReason::Recycle => "recycle",
    };
    format!("{{\"halt\":{{\"reason\":\"{word}\"}}}}\n").into_bytes()
}

/// A ping frame.
#[must_use]
pub fn ping(n: u64) -> Vec<u8> {
    format!("{{\"ping\":{{\"n\":{n}}}}}\n").into_bytes()
}

/// A recall frame.
#[must_use]
pub fn recall() -> Vec<u8> {
    b"{\"recall\":{}}\n".to_vec()
}

/// A frame that changes how much the worker logs.
#[must_use]
pub fn log_level(level: Level) -> Vec<u8> {
    format!("{{\"log_level\":{{\"level\":\"{}\"}}}}\n", level.as_str()).into_bytes()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{json_text::JsonText, membership::Membership};

    fn line_of(out: &[u8]) -> &[u8] {
        out.strip_suffix(b"\n").unwrap()
    }

    #[test]
    fn a_task_comes_out_as_it_went_in_and_its_payload_to_the_byte() {
        let headers: Headers = serde_json::from_str(r#"{"trace":"a\"b","n":[1,2]}"#).unwrap();
        let text = r#"{ "n" : 1e400, "long":123456789012345678901234567890, "é":"\u00e9" }"#;
        let frame = TaskFrame {
            id: "a\"\n1",
            queue: "foo",
            attempt: 2,
            max_attempts: 5,
            payload: Payload::Json(text),
            headers: &headers,
            properties: None,
            deadline: Some(Duration::from_micros(1500)),
            job: None,
            memo: None,
        };
        let mut out = Vec::new();
        task(&frame, &mut out).unwrap();
        let ToWorker::Task(read) = parse(line_of(&out)).unwrap() else { panic!() };
        assert_eq!((&*read.id, &*read.queue, read.attempt, read.max_attempts), ("a\"\n1", "foo", 2, 5));
        assert_eq!(read.json(), Some(text));
        assert_eq!(read.headers(), headers);
        assert_eq!(read.time_left(), Some(Duration::from_millis(2)));
        assert_eq!(read.properties(), None);
        assert!(!String::from_utf8(out).unwrap().contains("properties"));
    }

    #[test]
    fn bytes_are_sent_in_base_64() {
        let headers = Headers::new();
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xff\xfe\0", "//4A"),
        ] {
            let payload = Payload::Bytes(bytes);
            let frame = TaskFrame {
                id: "1",
                queue: "q",
                attempt: 1,
                max_attempts: 1,
                payload,
                headers: &headers,
                properties: None,
                deadline: None,
                job: None,
                memo: None,
            };
            let mut out = Vec::new();
            task(&frame, &mut out).unwrap();
            let ToWorker::Task(read) = parse(line_of(&out)).unwrap() else { panic!() };
            assert_eq!(read.payload_base64.as_deref(), Some(text));
            assert!(read.json().is_none() && read.time_left().is_none());
        }
    }

    #[test]
    fn a_task_over_the_limit_is_not_written() {
        let headers = Headers::new();
        let long = format!("\"{}\"", "x".repeat(LIMIT - 60));
        let payload = Payload::Json(&long);
        let frame = TaskFrame {
            id: "1",
            queue: "q",
            attempt: 1,
            max_attempts: 1,
            payload,
            headers: &headers,
            properties: None,
            deadline: None,
            job: None,
            memo: None,
        };
        let mut out = b"before".to_vec();
        assert_eq!(task(&frame, &mut out), Err(Fault::TooLong));
        assert_eq!(out, b"before");
    }

    #[test]
    fn properties_are_in_frames_of_who_asked_and_count_for_the_limit() {
        let headers = Headers::new();
        let told = Properties {
            reply_to: Some("an\"swers".to_owned()),
            kind: Some("t".to_owned()),
            priority: Some(9),
            timestamp: Some("1970-01-01T00:00:17Z".to_owned()),
            ..Properties::default()
        };
        let written = |payload: &str, properties| {
            let payload = Payload::Json(payload);
            let (id, queue, attempt, max_attempts) = ("1", "q", 1, 1);
            let (job, memo, deadline) = (None, None, None);
            let headers = &headers;
            let frame =
                TaskFrame { id, queue, attempt, max_attempts, payload, headers, properties, deadline, job, memo };
            let mut out = Vec::new();
            task(&frame, &mut out).map(|()| out)
        };
        let out = written("7", Some(&told)).unwrap();
        let text = std::str::from_utf8(line_of(&out)).unwrap();
        let properties =
            r#""properties":{"reply_to":"an\"swers","type":"t","priority":9,"timestamp":"1970-01-01T00:00:17Z"}}}"#;
        assert!(text.ends_with(properties), "{text}");
        let ToWorker::Task(read) = parse(line_of(&out)).unwrap() else { panic!() };
        assert_eq!(read.properties(), Some(told.clone()));
        let out = written("7", Some(Properties::NONE)).unwrap();
        assert!(out.ends_with(b",\"properties\":{}}}\n"));
        let ToWorker::Task(read) = parse(line_of(&out)).unwrap() else { panic!() };
        assert_eq!(read.properties().as_ref(), Some(Properties::NONE));
        // So long that it fits without.
        let bare = written("\"\"", None).unwrap().len();
        let long = format!("\"{}\"", "x".repeat(LIMIT - bare));
        assert_eq!(written(&long, None).unwrap().len(), LIMIT);
        assert_eq!(written(&long, Some(Properties::NONE)), Err(Fault::TooLong));
    }

    #[test]
    fn the_place_in_a_job_and_the_memo_are_in_the_frame_to_the_byte() {
        let headers = Headers::new();
        let inputs = r#"{"a b":{"state":"done","result":{"n": 1e400},"memo":"\ud800"},"c":{"state":"failed"}}"#;
        let mut membership = Membership {
            application: "app".to_owned(),
            job: "j\"1".to_owned(),
            pipeline: "registry".to_owned(),
            key: Some("chile".to_owned()),
            step: "export".to_owned(),
            queue: "q".to_owned(),
            each: "e".to_owned(),
            round: Uuid::from_u128(1),
            feeder: Uuid::from_u128(1),
            index: 3,
            wipe: false,
            inputs: JsonText::parse(inputs).ok(),
        };
        let memo = JsonText::parse("[1e400, 2]").unwrap();
        let written = |membership: &Membership, memo: Option<&JsonText>| {
            let payload = Payload::Json("7");
            let frame = TaskFrame {
                id: "1",
                queue: "q",
                attempt: 1,
                max_attempts: 1,
                payload,
                headers: &headers,
                properties: None,
                deadline: None,
                job: Some(membership),
                memo,
            };
            let mut out = Vec::new();
            task(&frame, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = written(&membership, Some(&memo));
        let place = r#""job":{"id":"j\"1","pipeline":"registry","key":"chile","step":"export","index":3,"inputs":"#;
        assert!(text.ends_with(&format!("{place}{inputs}}},\"memo\":[1e400, 2]}}}}\n")), "{text}");
        let ToWorker::Task(read) = parse(line_of(text.as_bytes())).unwrap() else { panic!() };
        assert_eq!(read.memo().map(RawValue::get), Some("[1e400, 2]"));
        let place = read.job().unwrap();
        let (key, index) = (place.key.as_deref(), place.index);
        assert_eq!(
            (&*place.id, &*place.pipeline, key, &*place.step, index),
            ("j\"1", "registry", Some("chile"), "export", 3)
        );
        assert_eq!(place.inputs["a b"].result.as_deref().map(RawValue::get), Some(r#"{"n": 1e400}"#));
        assert_eq!((&*place.inputs["c"].state, place.inputs["c"].memo.is_none(), place.wipe), ("failed", true, false));

        (membership.key, membership.inputs, membership.wipe) = (None, None, true);
        let text = written(&membership, None);
        assert!(text.contains(r#""key":null,"step":"export","index":3,"wipe":true}}}"#), "{text}");
        let ToWorker::Task(read) = parse(line_of(text.as_bytes())).unwrap() else { panic!() };
        let place = read.job().unwrap();
        assert!(place.key.is_none() && place.inputs.is_empty() && place.wipe && read.memo().is_none());
        let null = br#"{"task":{"id":"1","payload":1,"job":null,"memo":null}}"#;
        assert!(matches!(parse(null).unwrap(), ToWorker::Task(task) if task.job().is_none() && task.memo().is_none()));
    }

    #[test]
    fn small_frames() {
        for reason in [HaltReason::Empty, HaltReason::Stop, HaltReason::Recycle] {
            assert!(matches!(parse(line_of(&halt(reason))).unwrap(), ToWorker::Halt(read) if read == reason));
        }
        assert!(matches!(parse(line_of(&ping(7))).unwrap(), ToWorker::Ping { n: 7 }));
        assert!(matches!(parse(line_of(&recall())).unwrap(), ToWorker::Recall));
        assert!(matches!(parse(line_of(&log_level(Level::Debug))).unwrap(), ToWorker::LogLevel(Level::Debug)));
        let later = br#"{"v":2,"halt":{"reason":"later","x":[]},"y":{}}"#;
        assert!(matches!(parse(later).unwrap(), ToWorker::Halt(HaltReason::Stop)));
        assert!(matches!(parse(br#"{"new":{"task":1}}"#).unwrap(), ToWorker::Unknown(name) if name == "new"));
        assert!(parse(br#"{"task":{}}"#).is_err());
        let null = br#"{"task":{"id":"1","payload":null}}"#;
        assert!(matches!(parse(null).unwrap(), ToWorker::Task(task) if task.json() == Some("null")));
    }
}
