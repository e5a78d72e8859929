//! What makes two tasks the same work: the template of a queue's key, and what becomes of the second one.
//!
//! A key is text made of a task: `export:{payload.job}` and the payload `{"job": 7}` give `export:7`. Keys are one space
//! for all queues; `{queue}` in a template keeps two queues apart. A task whose payload lacks a field of the template
//! (or has `null` there) has no key: it holds no task back, and no task holds it back.
//!
//! Pure: text in, text out.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{celery, payload::Body, task::Task};

/// A longer key is cut, and what it was is told by a hash.
pub const KEY_LENGTH: usize = 200;
/// Fields of fields of fields.
const DEPTH: usize = 32;

/// Of tasks with the same key, one is in hand at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// What the key is made of.
    pub key: Template,
    /// What becomes of a task whose key is held.
    pub conflict: Conflict,
    /// When a snoozed one comes again.
    pub after: Duration,
}

/// What becomes of a task whose key is held by another one in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// It comes again later; no attempt is used.
    #[default]
    Snooze,
    /// It is removed from its queue.
    Drop,
    /// It becomes a dead letter, reason `cancelled`.
    DeadLetter,
}

impl Conflict {
    /// The words of the settings.
    pub const WORDS: [(&'static str, Self); 3] =
        [("snooze", Self::Snooze), ("drop", Self::Drop), ("dead-letter", Self::DeadLetter)];

    /// The word of the settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("snooze", |(word, _)| word)
    }
}

impl Unique {
    /// The delay of a snoozed task, if not configured.
    pub const AFTER: Duration = Duration::from_secs(5);
    /// A shorter one would only turn in circles.
    pub const SHORTEST: Duration = Duration::from_millis(100);

    /// With everything but the key at its default.
    #[must_use]
    pub const fn new(key: Template) -> Self {
        Self { key, conflict: Conflict::Snooze, after: Self::AFTER }
    }

    /// The key of a task, if it has one. `unwrap` as in [`Body::json`].
    #[must_use]
    pub fn key_of(&self, queue: &str, task: &Task, unwrap: bool) -> Option<String> {
        if !self.key.reads_payload() {
            return self.key.render(queue, "null");
        }
        // A task of Celery's has a name, and as its payload what any other kind gets of it.
        if task.name.is_some() {
            return self.key.render(queue, &celery::payload::json(Body::from(task)).ok()?);
        }
        self.key.render(queue, &Body::from(task).json(unwrap).ok()?)
    }

    /// Why a task whose key is held is not run.
    #[must_use]
    pub fn refusal(key: &str, holder: &str) -> String {
        format!("its key {key:?} is held by task {holder}, which is in hand")
    }
}

/// The text that a key is made of, as it was written and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    written: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Queue,
    Payload(Vec<String>),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at character {at}")]
pub struct BadTemplate {
    /// The character, from 1.
    pub at: usize,
    /// What is wrong there.
    pub what: String,
}

impl Template {
    /// Reads a template: text, `{queue}`, `{payload}` and `{payload.path.to.0.field}`; `{{` and `}}` are braces.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let at = |rest: &str| text[..text.len() - rest.len()].chars().count() + 1;
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(place) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(place);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                plain.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let Some(inner) = brace.strip_prefix('{') else {
                return Err(BadTemplate { at: at(brace), what: "a } without a {; }} stands for a }".to_owned() });
            };
            let Some((name, after)) = inner.split_once('}').filter(|(name, _)| !name.contains('{')) else {
                return Err(BadTemplate {
                    at: at(brace),
                    what: "a { that is not closed; {{ stands for a {".to_owned(),
                });
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::parse(name).map_err(|what| BadTemplate { at: at(inner), what })?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { written: text.to_owned(), parts })
    }

    /// Whether the key depends on the task's queue.
    #[must_use]
    pub fn reads_queue(&self) -> bool {
        self.parts.contains(&Part::Queue)
    }

    fn reads_payload(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Payload(_)))
    }

    /// The key that a payload makes, if all fields are there.
    pub(crate) fn render(&self, queue: &str, payload: &str) -> Option<String> {
        let mut key = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => key.push_str(text),
                Part::Queue => key.push_str(queue),
                Part::Payload(path) => key.push_str(&field(payload, path)?),
            }
        }
        Some(bounded(key))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Part {
    fn parse(name: &str) -> Result<Self, String> {
        let (root, path) = match name.split_once('.') {
            Some((root, path)) => (root, path.split('.').map(str::to_owned).collect()),
            None => (name, Vec::new()),
        };
        match root {
            _ if path.iter().any(String::is_empty) => Err(format!("{{{name}}} has an empty name between its dots")),
            "payload" if path.len() > DEPTH => Err(format!("a path of more than {DEPTH} names")),
            "payload" => Ok(Self::Payload(path)),
            "queue" if path.is_empty() => Ok(Self::Queue),
            _ => Err(format!("there is no {{{name}}}; it may be {{payload.FIELD}}, {{payload}} or {{queue}}")),
        }
    }
}

/// A key that is not too long. Different keys stay different: what is cut off is told by its hash.
fn bounded(key: String) -> String {
    if key.len() <= KEY_LENGTH {
        return key;
    }
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()).to_string();
    let begin = &key[..key.floor_char_boundary(KEY_LENGTH - hash.len() - '…'.len_utf8())];
    format!("{begin}…{hash}")
}

/// A field of a payload as text: a string its content, everything else as it is written. `None` if it is not there,
/// or `null`. Of a key that is there twice the last one counts.
///
/// JSON can write half of a surrogate pair, which is no text: a program that counts in UTF-16 has cut a string in two. It is shown as
/// U+FFFD, and a hash keeps two such strings apart.
fn field(payload: &str, path: &[String]) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_str(payload);
    Find(path).deserialize(&mut reader).ok().flatten()
}

/// Reads what lies at the end of a path, and passes over everything else.
struct Find<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if !self.0.is_empty() {
            return deserializer.deserialize_any(self);
        }
        let written = <&RawValue>::deserialize(deserializer)?.get();
        Ok(match written.as_bytes().first() {
            Some(b'"') => serde_json::Deserializer::from_str(written).deserialize_bytes(Content).ok(),
            _ if written == "null" => None,
            _ => Some(written.to_owned()),
        })
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsNamed(&self.0[0]))? {
            if is_it {
                found = map.next_value_seed(Find(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut before: Option<usize> = self.0[0].parse().ok();
        let mut found = None;
        loop {
            if before == Some(0) {
                match list.next_element_seed(Find(&self.0[1..]))? {
                    Some(value) => found = value,
                    None => return Ok(found),
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            before = before.and_then(|before| before.checked_sub(1));
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Reads a name in an object, which may be no text, and says whether it is this one.
struct IsNamed<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for IsNamed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for IsNamed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(name == self.0.as_bytes())
    }
}

/// Reads a string as a text, whatever is in it.
struct Content;

impl Visitor<'_> for Content {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, content: &[u8]) -> Result<Self::Value, E> {
        Ok(match String::from_utf8_lossy(content) {
            Cow::Borrowed(text) => text.to_owned(),
            Cow::Owned(shown) => format!("{shown}…{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, content)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: &str, payload: &str) -> Option<String> {
        Template::parse(template).unwrap().render("foo", payload)
    }

    #[test]
    fn a_key_is_made_of_text_and_fields() {
        let payload = r#"{"job":7,"a":{"b":[{"c":"x"},"y"]},"n":1234567890123456789012345678901234567890,"t":true}"#;
        for (template, made) in [
            ("export:{payload.job}", "export:7"),
            ("{queue}/{payload.a.b.0.c}{payload.a.b.1}", "foo/xy"),
            ("{payload.n}", "1234567890123456789012345678901234567890"),
            ("{{{payload.t}}}", "{true}"),
            ("{payload.a}", r#"{"b":[{"c":"x"},"y"]}"#),
            ("always", "always"),
        ] {
            assert_eq!(key(template, payload).as_deref(), Some(made), "{template}");
        }
        assert_eq!(key("{payload}", "\"a\\u00fcb\"").as_deref(), Some("aüb"));
        assert_eq!(key("{payload.a}", r#"{"a":1,"a":2}"#).as_deref(), Some("2"));
    }

    #[test]
    fn a_string_that_is_no_text_makes_a_key_of_its_own() {
        let [first, again, other] = [r#"{"k":"a\ud83d"}"#, r#"{"\udc00":1,"k":"\u0061\uD83D"}"#, r#"{"k":"a\ud83e"}"#]
            .map(|payload| key("{payload.k}", payload).unwrap());
        assert!(first.starts_with("a\u{fffd}") && first == again && first != other, "{first} {again} {other}");
        assert_eq!(key("{payload.k}", r#"{"k":"a\ud83d\ude00"}"#).as_deref(), Some("a😀"));
    }

    #[test]
    fn without_a_field_there_is_no_key() {
        for payload in ["{}", "[]", "7", "null", "\"a\"", "true", "1e400", r#"{"a":null}"#, r#"{"a":[1]}"#, "{oops"] {
            assert_eq!(key("x{payload.a.1}", payload), None, "{payload}");
        }
        assert_eq!(key("{payload.a}", r#"{"a":null}"#), None);
        assert_eq!(key("{payload}", "null"), None);
    }

    #[test]
    fn a_task_that_is_wrapped_twice_has_the_key_of_what_is_in_it() {
        let task = Task { body: br#""{\"job\":7}""#.to_vec(), ..Task::default() };
        let unique = Unique::new(Template::parse("{payload.job}").unwrap());
        assert_eq!(unique.key_of("foo", &task, true).as_deref(), Some("7"));
        assert_eq!(unique.key_of("foo", &task, false), None);
        let bytes = Task { body: vec![0xff], ..Task::default() };
        assert_eq!(unique.key_of("foo", &bytes, true), None);
        let all = Unique::new(Template::parse("all").unwrap());
        assert_eq!(all.key_of("foo", &bytes, true).as_deref(), Some("all"));
    }

    #[test]
    fn a_long_key_is_cut_and_stays_its_own() {
        let long = |end: &str| key("{payload}", &format!("\"{}{end}\"", "ü".repeat(500))).unwrap();
        assert!(long("a").len() <= KEY_LENGTH && long("a").starts_with('ü'));
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
        assert_eq!(key("{payload}", &format!("\"{}\"", "x".repeat(200))).unwrap().len(), 200);
    }

    #[test]
    fn a_bad_template_says_what_and_where() {
        for (template, at, what) in [
            ("ü{payload.job", 2, "not closed"),
            ("a}b", 2, "without a {"),
            ("{job}", 2, "there is no {job}"),
            ("{}", 2, "there is no {}"),
            ("{queue.x}", 2, "there is no {queue.x}"),
            ("x{payload..a}", 3, "empty name"),
            ("{payload.}", 2, "empty name"),
            ("{a{b}}", 1, "not closed"),
        ] {
            let bad = Template::parse(template).unwrap_err();
            assert!(bad.at == at && bad.what.contains(what), "{template}: {bad:?}");
        }
        assert!(Template::parse(&format!("{{payload{}}}", ".a".repeat(33))).is_err());
    }
}
