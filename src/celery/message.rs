//! Messages of tasks: what one says of its task, and a new one.
//!
//! In protocol 2 there is a header `task`, the body holds `[args, kwargs, embed]`, and nobody needs to read it to know what is said.
//! In protocol 1 the body is an object with all of it. A body in another format than JSON is never decoded here, pickle least of
//! all: what is in one of protocol 1 stays unknown, and its kind may know more.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::repr;
use crate::{clock::Timestamp, payload::Body, properties::Properties, task::Headers, text::cut};

/// MIME type of the bodies that are written and read here.
pub const CONTENT_TYPE: &str = "application/json";
/// Their character set.
pub const CONTENT_ENCODING: &str = "utf-8";

/// Headers that tell one sending of a task from another with its id: a task that retries itself, or is replaced by another one,
/// is sent again under its id.
pub const SENDING: [&str; 5] = ["task", "retries", "eta", "parent_id", "replaced_task_nesting"];

/// Longest arguments that are taken apart to be shown as Python shows them, in bytes.
const SHOWN: usize = 16 * 1024;

/// Longest time limit that is told, which is longer than anything is up.
const LONGEST_LIMIT: f64 = 3.2e9;

/// What a message says of its task. What it does not say, or in a wrong type, is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message<'a> {
    /// The task's id.
    pub id: Option<Cow<'a, str>>,
    /// The task's name: `shop.tasks.add`.
    pub name: Option<Cow<'a, str>>,
    /// Not to be run before.
    pub eta: Option<Timestamp>,
    /// Not to be run after.
    pub expires: Option<Timestamp>,
    /// The worker is killed after it was at the task for so long.
    pub hard_limit: Option<Duration>,
    /// The task is told that it was at work for so long.
    pub soft_limit: Option<Duration>,
    /// Retries by the task itself before this one.
    pub retries: u32,
    /// The first task of the tree that this one belongs to.
    pub root_id: Option<Cow<'a, str>>,
    /// The task that sent this one.
    pub parent_id: Option<Cow<'a, str>>,
    /// Positional arguments, for people.
    pub argsrepr: Option<Cow<'a, str>>,
    /// Named arguments, for people.
    pub kwargsrepr: Option<Cow<'a, str>>,
    /// Nobody wants its result.
    pub ignore_result: bool,
    /// Why it is no message of a task, or cannot be run as it says.
    pub unreadable: Option<String>,
}

/// A message to be published. Its properties are [`CONTENT_TYPE`], [`CONTENT_ENCODING`], and the id as correlation id.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// All headers of protocol 2.
    pub headers: Headers,
    /// JSON.
    pub body: Vec<u8>,
}

/// A task to be written as a message.
#[derive(Clone, Copy, Debug)]
pub struct NewTask<'a> {
    /// Its name.
    pub name: &'a str,
    /// Positional arguments: a JSON list.
    pub args: &'a RawValue,
    /// Named arguments: a JSON object.
    pub kwargs: &'a RawValue,
    /// Its id.
    pub id: &'a str,
    /// Not to be run before.
    pub eta: Option<Timestamp>,
    /// Not to be run after.
    pub expires: Option<Timestamp>,
    /// Who publishes it, `asynctask@host`.
    pub origin: &'a str,
}

/// The body of protocol 1. The arguments are not taken apart.
#[derive(Deserialize)]
struct FirstProtocol<'a> {
    #[serde(borrow)]
    task: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    kwargs: Option<&'a RawValue>,
    #[serde(borrow)]
    eta: Option<&'a RawValue>,
    #[serde(borrow)]
    expires: Option<&'a RawValue>,
    #[serde(borrow)]
    retries: Option<&'a RawValue>,
    #[serde(borrow)]
    timelimit: Option<&'a RawValue>,
}

/// Reads a message, of either protocol.
#[must_use]
pub fn read<'a>(headers: &'a Headers, properties: Option<&'a Properties>, body: &'a [u8]) -> Message<'a> {
    let mut message = match headers.get("task") {
        Some(name) => second_protocol(headers, name),
        None => first_protocol(headers, properties, body),
    };
    if message.id.is_none() {
        let id = properties.and_then(|properties| properties.correlation_id.as_deref());
        message.id = id.filter(|id| !id.is_empty()).map(Cow::Borrowed);
    }
    message
}

/// Whether headers are those of a message of protocol 2.
#[must_use]
pub fn is_second_protocol(headers: &Headers) -> bool {
    headers.get("task").is_some_and(Value::is_string)
}

fn second_protocol<'a>(headers: &'a Headers, name: &'a Value) -> Message<'a> {
    let text = |name: &str| headers.get(name).and_then(said).map(Cow::Borrowed);
    let of = |name: &str| headers.get(name).unwrap_or(&Value::Null);
    let mut message = Message {
        id: text("id"),
        name: said(name).map(Cow::Borrowed),
        retries: count(of("retries")),
        root_id: text("root_id"),
        parent_id: text("parent_id"),
        argsrepr: text("argsrepr"),
        kwargsrepr: text("kwargsrepr"),
        ignore_result: of("ignore_result") == &Value::Bool(true),
        ..Message::default()
    };
    if message.name.is_none() {
        message.unreadable = Some("the header `task` is no name of a task".to_owned());
    }
    message.limits(of("timelimit"));
    message.moments(of("eta"), of("expires"));
    message
}

fn first_protocol<'a>(headers: &Headers, properties: Option<&Properties>, body: &[u8]) -> Message<'a> {
    let mut message = Message::default();
    let unreadable = |what: String| Message { unreadable: Some(what), ..Message::default() };
    let content_type = properties.and_then(|properties| properties.content_type.as_deref());
    if content_type.is_some_and(|content_type| content_type != CONTENT_TYPE) {
        return message;
    }
    let unpacked = match (Body { bytes: body, properties, headers }).unpacked() {
        Ok((bytes, _)) => bytes,
        Err(error) => return unreadable(error),
    };
    let said_of = match serde_json::from_slice::<FirstProtocol<'_>>(&unpacked) {
        Ok(said_of) => said_of,
        Err(error) => return unreadable(format!("there is no header `task`, and the body is no task: {error}")),
    };
    let value = |raw: Option<&RawValue>| {
        raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok()).unwrap_or(Value::Null)
    };
    let text = |raw| said(&value(raw)).map(|text| Cow::Owned(text.to_owned()));
    message.name = text(said_of.task);
    message.id = text(said_of.id);
    message.retries = count(&value(said_of.retries));
    message.argsrepr = said_of.args.map(|args| Cow::Owned(shown(args, repr::of_arguments)));
    message.kwargsrepr = said_of.kwargs.map(|kwargs| Cow::Owned(shown(kwargs, repr::of)));
    if message.name.is_none() {
        message.unreadable = Some("neither a header nor the body has the name of a task".to_owned());
    }
    message.limits(&value(said_of.timelimit));
    message.moments(&value(said_of.eta), &value(said_of.expires));
    message
}

/// What is long, or too deep to be taken apart, is shown as it is: a value takes many times the room of its text.
fn shown(raw: &RawValue, repr: fn(&Value) -> String) -> String {
    let value = (raw.get().len() <= SHOWN).then(|| serde_json::from_str::<Value>(raw.get()).ok()).flatten();
    value.map_or_else(|| cut(raw.get(), repr::LIMIT).to_owned(), |value| repr(&value))
}

impl Message<'_> {
    fn limits(&mut self, limits: &Value) {
        let limit = |at: usize| {
            let seconds = limits.get(at).and_then(Value::as_f64).filter(|seconds| *seconds > 0.0)?;
            Duration::try_from_secs_f64(seconds.min(LONGEST_LIMIT)).ok()
        };
        (self.hard_limit, self.soft_limit) = (limit(0), limit(1));
    }

    fn moments(&mut self, eta: &Value, expires: &Value) {
        for (name, value, into) in [("eta", eta, &mut self.eta), ("expires", expires, &mut self.expires)] {
            match moment(value) {
                Ok(moment) => *into = moment,
                Err(()) if self.unreadable.is_none() => {
                    self.unreadable = Some(format!("{name} is no moment: {}", cut(&value.to_string(), 64)));
                }
                Err(()) => {}
            }
        }
    }
}

/// A text that says something.
fn said(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn count(value: &Value) -> u32 {
    value.as_u64().map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))
}

/// ISO 8601, of UTC where it names no zone, or seconds since 1970.
fn moment(value: &Value) -> Result<Option<Timestamp>, ()> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => iso(text).map(Some).ok_or(()),
        Value::Number(number) => {
            let milliseconds = number.as_f64().unwrap_or(f64::NAN) * 1000.0;
            if milliseconds.is_nan() { Err(()) } else { Ok(Some(Timestamp(milliseconds.ceil() as i64))) }
        }
        _ => Err(()),
    }
}

/// Rounded up to milliseconds, so that nothing is due too early.
fn iso(text: &str) -> Option<Timestamp> {
    let utc = |text: &str| {
        let moment: jiff::civil::DateTime = text.parse().ok()?;
        moment.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|moment| moment.timestamp())
    };
    let text = text.trim();
    let moment: jiff::Timestamp = text.parse().ok().or_else(|| utc(text))?;
    Some(Timestamp(i64::try_from((moment.as_nanosecond() + 999_999).div_euclid(1_000_000)).ok()?))
}

/// A new message of protocol 2.
///
/// # Errors
/// What is wrong with the task.
pub fn new(task: &NewTask<'_>) -> Result<NewMessage, String> {
    let name = task.name;
    if name.is_empty() || name.len() > 255 || name.contains(char::is_control) {
        return Err("the name of a task has 1 to 255 bytes, and no control characters".to_owned());
    }
    let (args, kwargs) = (task.args.get(), task.kwargs.get());
    if !args.starts_with('[') {
        return Err("args is no list".to_owned());
    }
    if !kwargs.starts_with('{') {
        return Err("kwargs is no object".to_owned());
    }
    let headers = json!({
        "lang": "py",
        "task": name,
        "id": task.id,
        "shadow": null,
        "eta": task.eta.map(iso_text),
        "expires": task.expires.map(iso_text),
        "group": null,
        "group_index": null,
        "retries": 0,
        "timelimit": [null, null],
        "root_id": task.id,
        "parent_id": null,
        "argsrepr": shown(task.args, repr::of_arguments),
        "kwargsrepr": shown(task.kwargs, repr::of),
        "origin": task.origin,
        "ignore_result": false,
        "replaced_task_nesting": 0,
        "stamped_headers": null,
        "stamps": {},
    });
    let Value::Object(headers) = headers else { return Err("no headers".to_owned()) };
    let embed = r#"{"callbacks":null,"errbacks":null,"chain":null,"chord":null}"#;
    Ok(NewMessage { headers, body: format!("[{args},{kwargs},{embed}]").into_bytes() })
}

/// As Python's `isoformat` writes a moment of UTC.
pub(super) fn iso_text(moment: Timestamp) -> String {
    let moment = jiff::Timestamp::from_millisecond(moment.0).unwrap_or(if moment.0 < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    moment.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

/// A new message for a payload `{"task","args","kwargs"}`, as `submit` takes it for a queue of Celery's. `args` and `kwargs` may be
/// absent.
///
/// # Errors
/// What is wrong with the payload.
pub fn from_payload(
    payload: &[u8],
    id: &str,
    eta: Option<Timestamp>,
    expires: Option<Timestamp>,
    origin: &str,
) -> Result<NewMessage, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Said<'a> {
        task: Cow<'a, str>,
        #[serde(borrow, default)]
        args: Option<&'a RawValue>,
        #[serde(borrow, default)]
        kwargs: Option<&'a RawValue>,
    }
    let refused = |error| {
        let form = r#"{"task": NAME, "args": [...], "kwargs": {...}}"#;
        format!("messages of this queue are Celery's, and a payload for one is {form}: {error}")
    };
    if !payload.trim_ascii_start().starts_with(b"{") {
        return Err(refused("it is no object".to_owned()));
    }
    let said: Said<'_> = serde_json::from_slice(payload).map_err(|error| refused(error.to_string()))?;
    let (no_args, no_kwargs): (Box<RawValue>, Box<RawValue>) = (raw("[]"), raw("{}"));
    let task = NewTask {
        name: &said.task,
        args: said.args.unwrap_or(&no_args),
        kwargs: said.kwargs.unwrap_or(&no_kwargs),
        id,
        eta,
        expires,
        origin,
    };
    new(&task).map_err(refused)
}

fn raw(text: &str) -> Box<RawValue> {
    serde_json::from_str(text).expect("it is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Packing;

    /// As a producer with celery 5.7 writes them.
    const HEADERS: &str = r#"{"lang": "py", "task": "shop.add", "id": "11111111-1111-1111-1111-111111111111",
        "shadow": null, "eta": "2026-11-30T17:48:15.755930+00:00", "expires": "2026-11-30T17:49:12.755930+00:00",
        "group": null, "group_index": null, "retries": 0, "timelimit": [60, 50],
        "root_id": "11111111-1111-1111-1111-111111111111", "parent_id": null, "argsrepr": "(2,)",
        "kwargsrepr": "{'y': 'ä\\'b'}", "origin": "gen22184@vm", "ignore_result": false, "replaced_task_nesting": 0,
        "stamped_headers": null, "stamps": {}}"#;
    const FIRST: &str = r#"{"task": "shop.add", "id": "7a33c1ff-3c4a-4f3c-a1b4-e24fdbbb2c70", "args": [2, 3], "kwargs": {},
        "group": null, "group_index": null, "retries": 1, "eta": "2030-01-01T00:00:00",
        "expires": "2026-11-30T17:49:12.765946+00:00", "utc": true, "callbacks": null, "errbacks": null,
        "timelimit": [60, null], "taskset": null, "chord": null}"#;

    fn headers(text: &str) -> Headers {
        serde_json::from_str(text).unwrap()
    }

    fn json_body() -> Properties {
        Properties {
            content_type: Some(CONTENT_TYPE.to_owned()),
            content_encoding: Some("utf-8".to_owned()),
            correlation_id: Some("of the properties".to_owned()),
            ..Properties::default()
        }
    }

    #[test]
    fn a_message_of_protocol_2_says_all_in_headers() {
        let headers = headers(HEADERS);
        let properties = json_body();
        let message = read(&headers, Some(&properties), b"not looked at");
        assert_eq!(message.name.as_deref(), Some("shop.add"));
        assert_eq!(message.id.as_deref(), Some("11111111-1111-1111-1111-111111111111"));
        assert_eq!(message.eta, Some(Timestamp(1_796_060_895_756)), "rounded up");
        assert_eq!(message.expires, Some(Timestamp(1_796_060_952_756)));
        assert_eq!(message.hard_limit, Some(Duration::from_mins(1)));
        assert_eq!(message.soft_limit, Some(Duration::from_secs(50)));
        assert_eq!(message.kwargsrepr.as_deref(), Some("{'y': 'ä\\'b'}"));
        assert_eq!((message.retries, message.parent_id, message.unreadable), (0, None, None));
    }

    #[test]
    fn a_message_of_protocol_1_says_it_in_its_body() {
        let check = |message: Message<'_>| {
            assert_eq!(message.name.as_deref(), Some("shop.add"));
            assert_eq!(message.id.as_deref(), Some("7a33c1ff-3c4a-4f3c-a1b4-e24fdbbb2c70"));
            assert_eq!(message.eta, Some(Timestamp(1_893_456_000_000)), "of UTC where no zone is named");
            assert_eq!((message.hard_limit, message.soft_limit), (Some(Duration::from_mins(1)), None));
            assert_eq!((message.argsrepr.as_deref(), message.kwargsrepr.as_deref()), (Some("(2, 3)"), Some("{}")));
            assert_eq!((message.retries, message.unreadable), (1, None));
        };
        check(read(&Headers::new(), Some(&json_body()), FIRST.as_bytes()));
        check(read(&Headers::new(), None, FIRST.as_bytes()));
        let packed = Packing::Zlib.pack(FIRST.as_bytes());
        check(read(&headers(r#"{"compression": "application/x-gzip"}"#), Some(&json_body()), &packed));
    }

    #[test]
    fn an_id_is_looked_for_where_it_may_be() {
        let named = |text: &str, properties: Option<&Properties>| {
            read(&headers(text), properties, b"{}").id.map(Cow::into_owned)
        };
        assert_eq!(named(r#"{"task": "a", "id": "1"}"#, Some(&json_body())).as_deref(), Some("1"));
        for id in ["null", "7", "\"\"", "[]"] {
            let text = format!(r#"{{"task": "a", "id": {id}}}"#);
            assert_eq!(named(&text, Some(&json_body())).as_deref(), Some("of the properties"));
            assert_eq!(named(&text, None), None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_what_can_be_missed_is_absent() {
        let of = |text: &str| read(&headers(text), None, b"").unreadable;
        for value in ["7", "null", "[]", "{}", "\"\""] {
            assert!(of(&format!(r#"{{"task": {value}}}"#)).is_some_and(|text| text.contains("no name")), "{value}");
        }
        for (name, value) in [("eta", "\"soon\""), ("eta", "[1]"), ("expires", "true"), ("expires", "{}")] {
            let unreadable = of(&format!(r#"{{"task": "a", "{name}": {value}}}"#)).unwrap();
            assert!(unreadable.starts_with(&format!("{name} is no moment")), "{unreadable}");
        }
        for limit in ["7", "[]", "[null]", "[-1, 0]", "[\"a\", {}]", "{}", "[1e400]"] {
            let text = format!(r#"{{"task": "a", "timelimit": {limit}, "retries": -1, "argsrepr": 7, "eta": ""}}"#);
            let Ok(headers) = serde_json::from_str::<Headers>(&text) else { continue };
            let message = read(&headers, None, b"");
            assert_eq!((message.unreadable, message.hard_limit, message.soft_limit), (None, None, None), "{limit}");
            assert_eq!((message.retries, message.argsrepr, message.eta), (0, None, None));
        }
        let long = headers(r#"{"task": "a", "timelimit": [1e300, 5e-324]}"#);
        assert_eq!(read(&long, None, b"").hard_limit, Some(Duration::from_secs_f64(LONGEST_LIMIT)));
    }

    #[test]
    fn a_body_that_is_no_task_is_told_and_one_in_another_format_is_left_alone() {
        let of = |body: &[u8]| read(&Headers::new(), Some(&json_body()), body).unreadable;
        let deep = format!(r#"{{"task": "a", "args": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(of(deep.as_bytes()), None, "its arguments are not taken apart");
        for body in ["", "7", "[]", "{}", r#"{"task": 7}"#, &"[".repeat(200_000)] {
            assert!(of(body.as_bytes()).is_some(), "{body:.20}");
        }
        assert!(of(&[0xff, 0]).is_some());
        let pickled = Properties { content_type: Some("application/x-python-serialize".to_owned()), ..json_body() };
        let none = Headers::new();
        let message = read(&none, Some(&pickled), b"\x80\x04}.");
        assert_eq!((message.unreadable, message.name), (None, None));
        assert_eq!(message.id.as_deref(), Some("of the properties"));
    }

    #[test]
    fn moments_come_in_many_shapes() {
        let second = Some(Timestamp(1_767_323_045_000));
        for text in ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05", "2026-01-02 05:04:05+02:00", "20260102T030405Z"] {
            assert_eq!(moment(&text.into()), Ok(second), "{text}");
        }
        assert_eq!(moment(&json!(1_767_323_045)), Ok(second));
        assert_eq!(moment(&json!("2026-01-02T03:04:05.0000001")), Ok(Some(Timestamp(1_767_323_045_001))));
        assert_eq!(moment(&json!(1e300)), Ok(Some(Timestamp(i64::MAX))));
        for text in ["", "0"] {
            assert_eq!(moment(&text.into()).is_ok(), text.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_new_message_has_the_headers_of_a_producer_with_python() {
        let payload = r#"{"task": "shop.add", "args": [1, "ä'b"], "kwargs": {"K": 1}}"#;
        let expires = Some(Timestamp(1_767_323_045_006));
        let new = from_payload(payload.as_bytes(), "id", None, expires, "asynctask@vm").unwrap();
        let names = |headers: &Headers| headers.keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names(&new.headers), names(&headers(HEADERS)));
        assert_eq!(new.headers["argsrepr"], r#"(1, "ä'b")"#);
        assert_eq!(new.headers["expires"], "2026-01-02T03:04:05.006000+00:00");
        let body = r#"[[1, "ä'b"],{"K": 1},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]"#;
        assert_eq!(std::str::from_utf8(&new.body).unwrap(), body);
        let message = read(&new.headers, None, &new.body);
        assert_eq!((message.id.as_deref(), message.root_id.as_deref()), (Some("id"), Some("id")));
        assert_eq!((message.expires, message.unreadable), (expires, None));
        let short = from_payload(br#"{"task": "a"}"#, "id", None, None, "").unwrap();
        assert!(short.body.starts_with(b"[[],{},"));
        // Numbers stay as they are written, and long arguments are not taken apart.
        let long = format!(r#"{{"task": "a", "args": [1e400{}]}}"#, ",7".repeat(SHOWN));
        let long = from_payload(long.as_bytes(), "id", Some(Timestamp(1)), None, "").unwrap();
        assert_eq!(long.headers["argsrepr"].as_str().unwrap().len(), repr::LIMIT);
        assert_eq!(read(&long.headers, None, b"").eta, Some(Timestamp(1)));
    }

    #[test]
    fn a_payload_of_another_form_is_no_message() {
        for payload in [
            "7",
            "{}",
            "not json",
            r#"{"task": ""}"#,
            r#"{"task": 7}"#,
            r#"{"task": "a", "args": {}}"#,
            r#"{"task": "a", "kwargs": []}"#,
            r#"{"task": "a", "queue": "b"}"#,
            r#"["a", [1], {}]"#,
        ] {
            let refused = from_payload(payload.as_bytes(), "id", None, None, "").unwrap_err();
            assert!(refused.contains("{\"task\": NAME"), "{refused}");
        }
    }
}
