//! `PATH=VALUE`: a change in the text of a payload.
//!
//! What is not on the path stays as it was typed, number by number: the payload is never read as numbers and written
//! again.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::payload::Body;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Edit {
    path: Vec<String>,
    /// JSON text.
    value: String,
}

impl Edit {
    /// Reads `a.b.0=JSON`; a segment that holds dots is quoted, and what is no JSON is a string.
    ///
    /// # Errors
    /// What is wrong with the text, as the end of a sentence about it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut path = vec![String::new()];
        let mut quoted = false;
        let mut rest = text.char_indices();
        let value = loop {
            let last = path.last_mut();
            match (rest.next(), last) {
                (None, _) | (_, None) => return Err("has no ="),
                (Some((_, '"')), _) => quoted = !quoted,
                (Some((_, '.')), _) if !quoted => path.push(String::new()),
                (Some((at, '=')), _) if !quoted => break &text[at + 1..],
                (Some((_, letter)), Some(last)) => last.push(letter),
            }
        };
        if path.iter().any(String::is_empty) {
            return Err("has an empty path");
        }
        // What a tool wrote into a file may begin with a mark, as `"$(cat file)"` does then.
        let value = value.strip_prefix('\u{feff}').unwrap_or(value);
        let value = match serde_json::from_str::<&RawValue>(value) {
            Ok(value) => value.get().to_owned(),
            Err(_) => serde_json::Value::from(value).to_string(),
        };
        Ok(Self { path, value })
    }
}

/// The body with all changes made, packed as it was; `None` if there are none to make.
///
/// # Errors
/// Why it cannot be changed.
pub(crate) fn edited(body: Body<'_>, edits: &[Edit]) -> Result<Option<Vec<u8>>, String> {
    if edits.is_empty() {
        return Ok(None);
    }
    let (_, packing) = body.unpacked()?;
    let mut text = body.json(true)?.into_owned();
    for edit in edits {
        text = set(&text, &edit.path, 0, &edit.value)?;
    }
    Ok(Some(match packing {
        Some(packing) => packing.pack(text.as_bytes()),
        None => text.into_bytes(),
    }))
}

/// The text with the value at `path[depth..]` replaced.
fn set(text: &str, path: &[String], depth: usize, value: &str) -> Result<String, String> {
    let Some(segment) = path.get(depth) else { return Ok(value.to_owned()) };
    let here = || if depth == 0 { "it".to_owned() } else { format!("\"{}\"", path[..depth].join(".")) };
    let read = |error: serde_json::Error| format!("{} cannot be read: {error}", here());
    if text.starts_with('{') {
        let mut members = serde_json::from_str::<Members>(text).map_err(read)?.0;
        match members.iter_mut().rev().find(|(name, _)| name == segment) {
            Some((_, member)) => *member = set(member, path, depth + 1, value)?,
            None => members.push((segment.clone(), made(&path[depth + 1..], value))),
        }
        let members: Vec<String> =
            members.iter().map(|(name, member)| format!("{}:{member}", serde_json::Value::from(&name[..]))).collect();
        return Ok(format!("{{{}}}", members.join(",")));
    }
    if text.starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(read)?;
        let length = elements.len();
        let mut elements: Vec<String> = elements.into_iter().map(|element| element.get().to_owned()).collect();
        let element = segment.parse::<usize>().ok().and_then(|index| elements.get_mut(index));
        let element = element.ok_or_else(|| format!("{} is an array of {length}, without \"{segment}\"", here()))?;
        *element = set(element, path, depth + 1, value)?;
        return Ok(format!("[{}]", elements.join(",")));
    }
    Err(format!("{} is neither an object nor an array", here()))
}

/// A value inside of new objects.
fn made(path: &[String], value: &str) -> String {
    path.iter().rev().fold(value.to_owned(), |made, name| format!("{{{}:{made}}}", serde_json::Value::from(&name[..])))
}

/// The members of an object in their order, values as text.
struct Members(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    members.push((name, value.get().to_owned()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{payload::Packing, properties::Properties, task::Headers};

    fn after(body: &str, edits: &[&str]) -> Result<String, String> {
        let edits: Vec<Edit> = edits.iter().map(|text| Edit::parse(text).unwrap()).collect();
        let headers = Headers::new();
        let body = Body { bytes: body.as_bytes(), properties: None, headers: &headers };
        edited(body, &edits).map(|body| String::from_utf8(body.unwrap()).unwrap())
    }

    #[test]
    fn what_is_not_on_the_path_stays_as_it_was() {
        let body = r#"{"z": 1e400, "a": {"b": [ 10000000000000000000000001, {"c": 2.50} ]}, "é": null}"#;
        assert_eq!(
            after(body, &["a.b.1.c=3"]).unwrap(),
            r#"{"z":1e400,"a":{"b":[10000000000000000000000001,{"c":3}]},"é":null}"#
        );
    }

    #[test]
    fn what_was_packed_is_packed_again() {
        let (headers, edits) = (Headers::new(), [Edit::parse("a=2").unwrap()]);
        for (packing, word) in [(Packing::Gzip, "gzip"), (Packing::Zlib, "deflate"), (Packing::Deflate, "deflate")] {
            let properties = Properties { content_encoding: Some(word.to_owned()), ..Properties::default() };
            let bytes = packing.pack(br#"{"n":1e400,"a":1}"#);
            let body = Body { bytes: &bytes, properties: Some(&properties), headers: &headers };
            let bytes = edited(body, &edits).unwrap().unwrap();
            let body = Body { bytes: &bytes, ..body };
            assert_eq!(body.unpacked().unwrap(), (br#"{"n":1e400,"a":2}"#.into(), Some(packing)));
        }
        let properties = Properties { content_encoding: Some("br".to_owned()), ..Properties::default() };
        let body = Body { bytes: b"{}", properties: Some(&properties), headers: &headers };
        assert!(edited(body, &edits).unwrap_err().contains("\"br\""));
        assert_eq!(edited(body, &[]), Ok(None));
    }

    #[test]
    fn values_are_json_or_else_strings() {
        assert_eq!(
            after("{}", &["a=\u{feff}1", "b=x y", r#"c="1""#, "d=[1]", "e=", "f=a=b"]).unwrap(),
            r#"{"a":1,"b":"x y","c":"1","d":[1],"e":"","f":"a=b"}"#
        );
        assert_eq!(after(r#"{"a":{"x":1}}"#, &["a=null"]).unwrap(), r#"{"a":null}"#);
    }

    #[test]
    fn missing_objects_are_made_and_names_may_hold_dots() {
        assert_eq!(after("{}", &["a.b.0=1"]).unwrap(), r#"{"a":{"b":{"0":1}}}"#);
        assert_eq!(after(r#"{"a.b":1}"#, &[r#""a.b"=2"#]).unwrap(), r#"{"a.b":2}"#);
        assert_eq!(after(r#""{\"a\":1}""#, &["a=2"]).unwrap(), r#"{"a":2}"#);
    }

    #[test]
    fn what_cannot_be_changed_says_why() {
        assert!(after("[1]", &["1=2"]).unwrap_err().contains("array of 1"));
        assert!(after(r#"{"a":[]}"#, &["a.x=2"]).unwrap_err().contains("\"a\" is an array of 0"));
        assert!(after("17", &["a=2"]).unwrap_err().contains("neither"));
        assert!(after(r#"{"a":null}"#, &["a.b=2"]).unwrap_err().contains("neither"));
        assert!(after("\u{0}", &["a=2"]).unwrap_err().contains("not JSON"));
        for text in ["", "a", "=1", "a..b=1", "\"a=1"] {
            assert!(Edit::parse(text).is_err(), "{text}");
        }
    }
}
