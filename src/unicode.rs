//! Text of others that may be no Unicode, and the one rule for it.
//!
//! Half of a surrogate pair can be written in JSON (`"\ud83d"`) and comes out of every program that cuts text without
//! care; Rust's `String` cannot hold it, and raw bytes may be anything. *Where a text is read as text* (what a worker
//! says, an id, a payload that a Rust type is made of), *each such place is read as U+FFFD. A payload that is passed on keeps
//! its own text*: it is JSON by its grammar (RFC 8259, section 8.2), whatever its escapes stand for. Raw bytes that are no UTF-8
//! are no text: U+FFFD in a frame, malformed as a body.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Visitor},
};

/// A JSON string, read by the rule.
#[derive(Debug, Default)]
pub(crate) struct Text(pub(crate) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Reader).map(|text| Self(text.into_owned()))
    }
}

/// Reads a JSON string by the rule, without a copy where it has no escapes.
pub(crate) fn read_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    deserializer.deserialize_bytes(Reader)
}

/// `serde_json` gives a string that is asked for as bytes whatever it holds: half of a pair as the three bytes that its number has
/// in UTF-8 (WTF-8).
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(cleaned(bytes))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(cleaned(bytes).into_owned()))
    }
}

/// Bytes as text: what is no UTF-8 is U+FFFD, half of a pair one of them.
pub(crate) fn cleaned(bytes: &[u8]) -> Cow<'_, str> {
    let mut rest = bytes;
    let mut text = String::new();
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(valid) if text.is_empty() && rest.len() == bytes.len() => return Cow::Borrowed(valid),
            Ok(valid) => {
                text.push_str(valid);
                return Cow::Owned(text);
            }
            Err(error) => error,
        };
        let (valid, bad) = rest.split_at(error.valid_up_to());
        text.push_str(std::str::from_utf8(valid).unwrap_or_default());
        text.push(char::REPLACEMENT_CHARACTER);
        let is_half = matches!(bad, [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..]);
        let length = if is_half { 3 } else { error.error_len().unwrap_or(bad.len()) };
        rest = &bad[length..];
    }
}

/// JSON text in which each escape of half a pair is U+FFFD; `None` if there is none.
pub(crate) fn without_halves(json: &str) -> Option<String> {
    let mut mended = None::<String>;
    let mut kept = 0;
    let mut at = 0;
    // In JSON a backslash stands only inside of strings, and always before what it escapes.
    while let Some(found) = json.get(at..).and_then(|rest| rest.find('\\')) {
        let begin = at + found;
        at = begin + 2;
        let Some(unit) = unit_at(json, begin) else { continue };
        at = begin + 6;
        match unit {
            0xd800..=0xdbff if matches!(unit_at(json, at), Some(0xdc00..=0xdfff)) => at += 6,
            0xd800..=0xdfff => {
                let text = mended.get_or_insert_default();
                text.push_str(&json[kept..begin]);
                text.push_str("\\ufffd");
                kept = at;
            }
            _ => {}
        }
    }
    let mut text = mended?;
    text.push_str(&json[kept..]);
    Some(text)
}

/// The UTF-16 unit that an escape `\uXXXX` at this place stands for.
fn unit_at(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Reads a value of any type from JSON text by the rule.
///
/// # Errors
/// Those of the text as it stands.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(json).or_else(|error| match without_halves(json) {
        Some(mended) => serde_json::from_str(&mended),
        None => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_pairs_are_read_as_one_replacement_each() {
        for (json, text) in [
            (r#""plain""#, "plain"),
            (r#""a\ud83db""#, "a\u{fffd}b"),
            (r#""\ude00""#, "\u{fffd}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
        ] {
            assert_eq!(serde_json::from_str::<Text>(json).unwrap().0, text, "{json}");
            assert_eq!(from_json::<String>(json).unwrap(), text, "{json}");
        }
        assert!(serde_json::from_str::<Text>("7").unwrap_err().to_string().contains("expected a string"));
        assert!(from_json::<String>(r#""\ud8""#).is_err());
    }

    #[test]
    fn only_halves_are_changed_in_json() {
        assert_eq!(without_halves(r#"{"a":["\ud83d\ude00","\\ud800","\u0041","é"]}"#), None);
        assert_eq!(without_halves(r#"["\uD800",1.0,"\udfff\ud800x"]"#).unwrap(), r#"["\ufffd",1.0,"\ufffd\ufffdx"]"#);
        for odd in ["\\", "\\u", "\\ud8", "\"\\ud800\\", "\\ü", "\\u\u{e9}\u{e9}", "\\ud800\\u"] {
            let _ = without_halves(odd);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_the_rest_is_kept() {
        assert_eq!(cleaned(b"plain"), "plain");
        assert!(matches!(cleaned("ü".as_bytes()), Cow::Borrowed("ü")));
        assert_eq!(cleaned(b"a\xffb\xc3"), "a\u{fffd}b\u{fffd}");
        assert_eq!(cleaned(b"\xed\xa0\xbd!"), "\u{fffd}!");
        assert_eq!(cleaned(b""), "");
    }
}
