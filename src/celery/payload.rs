//! The payload of a kind that is no Celery application: `{"task","args","kwargs"}`, from a message of either protocol.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::message::CONTENT_TYPE;
use crate::{payload::Body, text::cut};

/// The three parts of a body of protocol 2. The third, what follows the task, is Celery's alone.
#[derive(Deserialize)]
struct SecondProtocol<'a>(#[serde(borrow)] &'a RawValue, #[serde(borrow)] &'a RawValue, IgnoredAny);

#[derive(Deserialize)]
struct FirstProtocol<'a> {
    #[serde(borrow)]
    task: &'a RawValue,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(borrow, default)]
    kwargs: Option<&'a RawValue>,
}

/// The payload as one line of JSON; numbers and the spelling of keys stay as they are in the message.
///
/// # Errors
/// Why there is none: the body is no JSON, or not of Celery's form.
pub fn json(body: Body<'_>) -> Result<String, String> {
    let content_type = body.properties.and_then(|properties| properties.content_type.as_deref());
    if let Some(content_type) = content_type.filter(|content_type| *content_type != CONTENT_TYPE) {
        return Err(format!("the body is {:?}; this kind takes {CONTENT_TYPE}", cut(content_type, 64)));
    }
    let text = body.json(false)?;
    if let Some(name) = body.headers.get("task") {
        let SecondProtocol(args, kwargs, IgnoredAny) = parsed(&text)?;
        return written(&name.to_string(), args.get(), kwargs.get());
    }
    let said: FirstProtocol<'_> = parsed(&text)?;
    written(said.task.get(), said.args.map_or("[]", RawValue::get), said.kwargs.map_or("{}", RawValue::get))
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("the body is not that of a task of Celery: {error}"))
}

fn written(name: &str, args: &str, kwargs: &str) -> Result<String, String> {
    if !name.starts_with('"') {
        return Err("the task's name is no text".to_owned());
    }
    if !args.starts_with('[') {
        return Err("the positional arguments are no list".to_owned());
    }
    if !kwargs.starts_with('{') {
        return Err("the named arguments are no object".to_owned());
    }
    Ok(format!(r#"{{"task":{name},"args":{args},"kwargs":{kwargs}}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{payload::Packing, properties::Properties, task::Headers};

    const EMBED: &str = r#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}"#;

    fn of(headers: &str, content_type: &str, bytes: &[u8]) -> Result<String, String> {
        let headers: Headers = serde_json::from_str(headers).unwrap();
        let properties = Properties { content_type: Some(content_type.to_owned()), ..Properties::default() };
        json(Body { bytes, properties: Some(&properties), headers: &headers })
    }

    #[test]
    fn the_payload_is_the_same_from_both_protocols() {
        let payload = Ok(r#"{"task":"resize","args":[1.50, "ä"],"kwargs":{"b": 2, "a": 1}}"#.to_owned());
        let second = format!(r#"[[1.50, "ä"], {{"b": 2, "a": 1}}, {EMBED}]"#);
        assert_eq!(of(r#"{"task": "resize"}"#, CONTENT_TYPE, second.as_bytes()), payload);
        let first = r#"{"id": "1", "kwargs": {"b": 2, "a": 1}, "task": "resize", "args": [1.50, "ä"], "utc": true}"#;
        assert_eq!(of("{}", CONTENT_TYPE, first.as_bytes()), payload);
        let packed = Packing::Zlib.pack(second.as_bytes());
        assert_eq!(of(r#"{"task": "resize", "compression": "application/x-gzip"}"#, CONTENT_TYPE, &packed), payload);
        let bare = of("{}", CONTENT_TYPE, br#"{"task": "a"}"#).unwrap();
        assert_eq!(bare, r#"{"task":"a","args":[],"kwargs":{}}"#);
    }

    #[test]
    fn what_is_of_another_form_is_no_payload() {
        for body in ["", "7", "[]", "[[], {}]", "{}", "[[], {}, {}, {}]", "[{}, {}, {}]", "[[], [], {}]"] {
            assert!(of(r#"{"task": "a"}"#, CONTENT_TYPE, body.as_bytes()).is_err(), "{body}");
        }
        for body in ["[[], {}, {}]", r#"{"task": 7}"#, r#"{"task": "a", "args": 7}"#] {
            assert!(of("{}", CONTENT_TYPE, body.as_bytes()).is_err(), "{body}");
        }
        let pickled = of(r#"{"task": "a"}"#, "application/x-python-serialize", b"\x80\x04].").unwrap_err();
        assert!(pickled.contains("application/x-python-serialize"), "{pickled}");
    }
}
