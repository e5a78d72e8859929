//! What only workers of a Celery application hear and say: what they tell of the application in `ready`, and the frames that the
//! master sends to those that want them (`"wants":["celery"]`).
//!
//! An application's own values are kept as they were written: they are shown to people, and decide nothing but time limits and
//! rates.

use std::{collections::BTreeMap, time::Duration};

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{
    fault::{Fault, LIMIT},
    values::push_json,
};
use crate::{outcome::Raised, properties::Properties, task::Headers, unicode::Text};

/// What a worker tells of the Celery application that it runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Application {
    /// Its tasks, by name.
    #[serde(deserialize_with = "or_default")]
    pub tasks: BTreeMap<String, TaskOptions>,
    /// Its settings, secrets masked by the worker: JSON that the master only hands on.
    #[serde(deserialize_with = "text_of")]
    pub conf: Option<String>,
    /// The limit of each task that has none of its own, as its settings say.
    #[serde(deserialize_with = "seconds")]
    pub time_limit: Option<Duration>,
    /// Attributes that its tasks have unless they say otherwise, as Python shows them, by their names.
    #[serde(deserialize_with = "texts")]
    pub attributes: BTreeMap<String, String>,
    /// What Celery's `report` says of it; empty: nothing.
    #[serde(deserialize_with = "word")]
    pub report: String,
}

/// What an application says of one of its tasks. What is of another type than it should be counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TaskOptions {
    /// The worker is killed after this long.
    #[serde(deserialize_with = "seconds")]
    pub time_limit: Option<Duration>,
    /// The task is told after this long.
    #[serde(deserialize_with = "seconds")]
    pub soft_time_limit: Option<Duration>,
    /// Starts on this node: a number for each second, or `10/m`, `5/h`.
    #[serde(deserialize_with = "words")]
    pub rate_limit: Option<String>,
    /// Attributes that differ from those of the application; empty: it has none of this name.
    #[serde(deserialize_with = "texts")]
    pub attributes: BTreeMap<String, String>,
}

/// What stands before a body.
const BODY: &[u8] = b",\"payload_base64\":\"";

/// A task that ended without any worker, for one that stores its result.
#[derive(Clone, Copy, Debug)]
pub struct LostFrame<'a> {
    /// The task's id.
    pub id: &'a str,
    /// Its queue.
    pub queue: &'a str,
    /// The word of the reason.
    pub reason: &'a str,
    /// What became of it, in one line.
    pub error: &'a str,
    /// The limit that it ran into.
    pub time_limit: Option<Duration>,
    /// Its body, as it came.
    pub body: &'a [u8],
    /// Its headers.
    pub headers: &'a Headers,
    /// What the message says of itself.
    pub properties: &'a Properties,
}

/// A frame that tells of a lost task. A body that is too large for a frame is left out.
///
/// # Errors
/// [`Fault::TooLong`] if it is too long without its body.
pub fn lost(task: &LostFrame<'_>) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"lost\":{\"id\":");
    push_json(&mut out, task.id);
    out.extend_from_slice(b",\"queue\":");
    push_json(&mut out, task.queue);
    out.extend_from_slice(b",\"reason\":");
    push_json(&mut out, task.reason);
    out.extend_from_slice(b",\"error\":");
    push_json(&mut out, task.error);
    if let Some(limit) = task.time_limit {
        out.extend_from_slice(b",\"time_limit\":");
        push_json(&mut out, &limit.as_secs_f64());
    }
    out.extend_from_slice(b",\"headers\":");
    push_json(&mut out, task.headers);
    out.extend_from_slice(b",\"properties\":");
    push_json(&mut out, task.properties);
    if out.len() + BODY.len() + BASE64.encode_len(task.body.len()) + 4 <= LIMIT {
        out.extend_from_slice(BODY);
        let start = out.len();
        out.resize(start + BASE64.encode_len(task.body.len()), 0);
        BASE64.encode_mut(task.body, &mut out[start..]);
        out.push(b'"');
    }
    out.extend_from_slice(b"}}\n");
    if out.len() > LIMIT { Err(Fault::TooLong) } else { Ok(out) }
}

/// A frame that hands on what was asked of the node and concerns the application. With a ticket, it is answered by that.
#[must_use]
pub fn control(method: &str, arguments: &serde_json::Value, ticket: Option<u64>) -> Vec<u8> {
    let mut out = b"{\"control\":{\"method\":".to_vec();
    push_json(&mut out, method);
    out.extend_from_slice(b",\"arguments\":");
    push_json(&mut out, arguments);
    if let Some(ticket) = ticket {
        out.extend_from_slice(b",\"ticket\":");
        push_json(&mut out, &ticket);
    }
    out.extend_from_slice(b"}}\n");
    out
}

/// Appends the frame of a worker that has stored the result of a lost task.
pub fn reported(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"reported\":{\"id\":");
    push_json(out, id);
    out.extend_from_slice(b"}}\n");
}

/// The frame of a worker that was told of a lost task.
#[derive(Deserialize)]
pub(super) struct ReportedBody {
    id: Text,
    stored: Option<bool>,
}

/// The frame of a worker that has done what a `control` frame with a ticket asked for.
#[derive(Deserialize)]
pub(super) struct ControlledBody {
    pub(super) ticket: u64,
}

impl ReportedBody {
    /// The task's id, and whether its result is stored.
    pub(super) fn parts(self) -> (String, bool) {
        (self.id.0, self.stored.unwrap_or(true))
    }
}

/// As a `done` frame has it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RaisedBody {
    #[serde(deserialize_with = "word")]
    exception: String,
    #[serde(deserialize_with = "word")]
    traceback: String,
}

impl From<RaisedBody> for Raised {
    fn from(RaisedBody { exception, traceback }: RaisedBody) -> Self {
        Self { exception, traceback }
    }
}

fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<serde_json::Value, D::Error> {
    serde_json::Value::deserialize(deserializer)
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn text_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<Box<RawValue>> = Option::deserialize(deserializer)?;
    Ok(text.map(|text| text.get().to_owned()))
}

/// A limit of no time, or of more than a year, is none.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let number = value(deserializer)?.as_f64().filter(|number| *number > 0.0 && *number < 365.0 * 86_400.0);
    Ok(number.and_then(|number| Duration::try_from_secs_f64(number).ok()))
}

fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match value(deserializer)? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// Values by their names; what is no text is left out.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let serde_json::Value::Object(texts) = value(deserializer)? else { return Ok(BTreeMap::new()) };
    let text = |(name, value)| match value {
        serde_json::Value::String(text) => Some((name, text)),
        _ => None,
    };
    Ok(texts.into_iter().filter_map(text).collect())
}

fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(value(deserializer)?.as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_read_whatever_its_values_are() {
        let text = r#"{"tasks":{"a":{"time_limit":1.5,"rate_limit":"10/m","attributes":{"priority":"3","queue":null}},
            "b":{"time_limit":"x","rate_limit":3,"attributes":7},"c":{}},
            "conf":{"task_default_queue": "celery"},"report":"software","attributes":{"serializer":"json"},"more":1}"#;
        let read: Application = serde_json::from_str(text).unwrap();
        assert_eq!(read.tasks["a"].time_limit, Some(Duration::from_millis(1500)));
        assert_eq!((read.tasks["b"].time_limit, read.tasks["b"].rate_limit.as_deref()), (None, Some("3")));
        assert_eq!(read.tasks["a"].attributes, BTreeMap::from([("priority".to_owned(), "3".to_owned())]));
        assert_eq!((read.attributes["serializer"].as_str(), read.report.as_str()), ("json", "software"));
        assert!(read.tasks["b"].attributes.is_empty());
        assert_eq!(read.conf.as_deref(), Some(r#"{"task_default_queue": "celery"}"#));
        assert_eq!(
            serde_json::from_str::<Application>(r#"{"tasks":null,"conf":null}"#).unwrap(),
            Application::default()
        );
        assert!(serde_json::from_str::<Application>("[[[").is_err());
    }

    #[test]
    fn a_body_that_does_not_fit_is_left_out() {
        let headers = Headers::default();
        let frame = |body: &[u8]| {
            lost(&LostFrame {
                id: "a",
                queue: "q",
                reason: "crash",
                error: "the worker died: killed by SIGSEGV",
                time_limit: Some(Duration::from_secs(2)),
                body,
                headers: &headers,
                properties: Properties::NONE,
            })
            .unwrap()
        };
        let read: serde_json::Value = serde_json::from_slice(&frame(b"[[1],{},{}]")).unwrap();
        assert_eq!((&read["lost"]["id"], &read["lost"]["time_limit"]), (&"a".into(), &2.0.into()));
        assert_eq!(read["lost"]["payload_base64"], "W1sxXSx7fSx7fV0=");
        let read: serde_json::Value = serde_json::from_slice(&frame(&vec![0; LIMIT])).unwrap();
        assert_eq!(read["lost"].get("payload_base64"), None);
    }
}
