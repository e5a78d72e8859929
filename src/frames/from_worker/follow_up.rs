//! What a task that is done wants stored: an entry of `submit`, or a line of the file that a process for one task writes.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use super::super::values::Millis;
use crate::{
    limits,
    outcome::{FollowUp, Target},
    text::shorten,
    unicode::{Text, cleaned},
};

/// An entry as it is written. What may be absent may be null as well; an item may be null, so its key must be there.
#[derive(Deserialize)]
struct Body {
    queue: Option<Text>,
    #[serde(default, deserialize_with = "null_too")]
    item: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "null_too")]
    more: Option<Box<RawValue>>,
    pipeline: Option<Text>,
    #[serde(default, deserialize_with = "null_too")]
    payload: Option<Box<RawValue>>,
    delay_ms: Option<Millis>,
    id: Option<Text>,
}

fn null_too<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl Body {
    fn follow_up(self) -> Result<FollowUp, &'static str> {
        let Self { queue, item, more, pipeline, payload, delay_ms, id } = self;
        let delay = delay_ms.map(|millis| millis.0).unwrap_or_default();
        let is_named = queue.is_some() || pipeline.is_some();
        // Who writes all keys has null where there is none.
        let is_alone = !is_named && item.is_some() != more.is_some();
        let is_meant = |value: &RawValue| is_alone || value.get() != "null";
        let (item, more) = (item.filter(|item| is_meant(item)), more.filter(|more| is_meant(more)));
        let (target, payload) = match (queue, item, more, pipeline) {
            (Some(queue), None, None, None) => (Target::Queue(queue.0), payload),
            (None, Some(item), None, None) => (Target::Item, Some(item)),
            (None, None, Some(more), None) => (Target::More, Some(more)),
            (None, None, None, Some(name)) => (Target::Pipeline { name: name.0, id: id.map(|id| id.0) }, payload),
            (None, None, None, None) => return Err("missing field `queue`"),
            _ => return Err("more than one of `queue`, `item`, `more` and `pipeline`"),
        };
        Ok(FollowUp { target, payload: payload.ok_or("missing field `payload`")?, delay })
    }
}

/// A follow-up in a frame.
pub(super) struct Entry(pub(super) FollowUp);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Body::deserialize(deserializer)?.follow_up().map(Self).map_err(D::Error::custom)
    }
}

/// Reads follow-ups that are written one a line, as in `submit`. Lines without text are none.
///
/// # Errors
/// Which line is wrong, and what is.
pub fn lines(text: &[u8]) -> Result<Vec<FollowUp>, String> {
    let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let read = |(position, line): (usize, &[u8])| {
        let entry = serde_json::from_str::<Entry>(&cleaned(line)).map_err(|error| {
            let cause = shorten(error.to_string(), limits::FAULT).replace(" at line 1 column ", " at column ");
            format!("line {}: {cause}", position + 1)
        })?;
        Ok(entry.0)
    };
    lines.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Target, String, u128), String> {
        let mut all = lines(text.as_bytes())?;
        let one = all.pop().ok_or("none")?;
        assert!(all.is_empty());
        Ok((one.target, one.payload.get().to_owned(), one.delay.as_millis()))
    }

    #[test]
    fn each_target_has_its_words() {
        let pipeline = |id: Option<&str>| Target::Pipeline { name: "p".to_owned(), id: id.map(str::to_owned) };
        for (text, target, payload, delay) in [
            (
                r#"{"queue":"q","payload":{"a": 1e400},"delay_ms":5}"#,
                Target::Queue("q".to_owned()),
                r#"{"a": 1e400}"#,
                5,
            ),
            (r#"{"item":"\ud800"}"#, Target::Item, r#""\ud800""#, 0),
            (r#"{"item":null,"delay_ms":1.5}"#, Target::Item, "null", 2),
            (r#"{"more":[1, 2],"item":null}"#, Target::More, "[1, 2]", 0),
            (r#"{"more":null}"#, Target::More, "null", 0),
            (r#"{"pipeline":"p","payload":null}"#, pipeline(None), "null", 0),
            (r#"{"pipeline":"p","payload":{},"id":"j","later":[]}"#, pipeline(Some("j")), "{}", 0),
            (
                r#"{"queue":"q","item":null,"more":null,"pipeline":null,"payload":null}"#,
                Target::Queue("q".to_owned()),
                "null",
                0,
            ),
        ] {
            assert_eq!(read(text), Ok((target, payload.to_owned(), delay)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, error) in [
            ("{}", "line 1: missing field `queue`"),
            ("\n \r\n{\"queue\":\"q\"}", "line 3: missing field `payload`"),
            (r#"{"pipeline":"p"}"#, "line 1: missing field `payload`"),
            (r#"{"item":1,"more":2}"#, "line 1: more than one of"),
            (r#"{"queue":"q","item":1,"payload":1}"#, "line 1: more than one of"),
            (r#"{"item":null,"more":null}"#, "line 1: missing field `queue`"),
            (r#"{"item":1} {"item":2}"#, "line 1: trailing characters at column"),
            ("oops", "line 1: expected value at column 1"),
            ("[]", "line 1: invalid length"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.starts_with(error), "{text}: {told}");
        }
        assert!(lines(b"\n\n").unwrap().is_empty());
        assert_eq!(lines(b"{\"item\":1}\r\n{\"more\":2}").unwrap().len(), 2);
        assert!(lines(&[b'{', 0xff, b'}']).is_err());
    }
}
