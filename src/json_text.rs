//! JSON that is handed on as its own text: results, memos, inputs.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

/// One JSON value as text on one line. Numbers and spaces inside it stay as they were written.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(Box<str>);

impl JsonText {
    /// The text of a value that was parsed: raw line ends, which valid JSON has only between tokens, become spaces.
    #[must_use]
    pub fn of(raw: &RawValue) -> Self {
        let text = raw.get().trim();
        Self(if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ").into() } else { text.into() })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&RawValue>(text).map(Self::of)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<serde_json::Value> for JsonText {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer).map_err(D::Error::custom)?;
        Ok(Self::of(&raw))
    }
}

/// A token of a JSON text: what is between two of them is space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// `[` or `{`.
    Open(char),
    /// `]` or `}`.
    Close(char),
    /// Between two values.
    Comma,
    /// Between a key and its value.
    Colon,
    /// A string, with its quotes.
    Text(&'a str),
    /// A number, `true`, `false` or `null`.
    Word(&'a str),
}

/// The tokens of a text that is JSON, however deep it is nested. Of one that is not they are whatever looks like them.
pub(crate) fn tokens(json: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = json;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let first = rest.chars().next()?;
        let length = match first {
            '[' | '{' | ']' | '}' | ',' | ':' => 1,
            '"' => end_of_string(rest),
            _ => rest.find(|letter| " \t\n\r[]{},:\"".contains(letter)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        Some(match first {
            '[' | '{' => Token::Open(first),
            ']' | '}' => Token::Close(first),
            ',' => Token::Comma,
            ':' => Token::Colon,
            '"' => Token::Text(token),
            _ => Token::Word(token),
        })
    })
}

/// Where the string ends that a text begins with.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| match byte {
        _ if std::mem::take(&mut is_escaped) => false,
        b'\\' => {
            is_escaped = true;
            false
        }
        byte => byte == b'"',
    });
    end.map_or(text.len(), |end| end + 2)
}

/// How deep the arrays and objects of a JSON text are nested.
pub(crate) fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for token in tokens(json) {
        match token {
            Token::Open(_) => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            Token::Close(_) => depth = depth.saturating_sub(1),
            Token::Comma | Token::Colon | Token::Text(_) | Token::Word(_) => {}
        }
    }
    deepest
}

/// Levels that are moved to the right.
const INDENTED: usize = 32;

/// A JSON text with a line for each value, as far as about `longest` bytes of it. Numbers, strings and the order of keys are as
/// they were; what is nested deeper than [`INDENTED`] levels is not moved further to the right.
pub(crate) fn pretty(json: &str, longest: usize) -> String {
    let mut text = String::new();
    let mut depth = 0_usize;
    let mut before = Token::Comma;
    for (number, token) in tokens(json).enumerate() {
        if text.len() > longest {
            break;
        }
        if let Token::Close(_) = token {
            depth = depth.saturating_sub(1);
        }
        let is_first = matches!(before, Token::Open(_));
        let ends_line = match token {
            Token::Close(_) => !is_first,
            Token::Comma | Token::Colon => false,
            _ => number > 0 && (is_first || before == Token::Comma),
        };
        if ends_line {
            text.push('\n');
            text.extend(std::iter::repeat_n("  ", depth.min(INDENTED)));
        }
        match token {
            Token::Open(sign) => {
                text.push(sign);
                depth += 1;
            }
            Token::Close(sign) => text.push(sign),
            Token::Comma => text.push(','),
            Token::Colon => text.push_str(": "),
            Token::Text(token) | Token::Word(token) => text.push_str(token),
        }
        before = token;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_text_but_for_line_ends() {
        let text = JsonText::parse("{\"a\":\n 1e400, \"b\":\"\\n\"}").unwrap();
        assert_eq!(text.as_str(), "{\"a\":  1e400, \"b\":\"\\n\"}");
        let nested = serde_json::to_string(std::slice::from_ref(&text)).unwrap();
        assert_eq!(nested, "[{\"a\":  1e400, \"b\":\"\\n\"}]");
        assert_eq!(serde_json::from_str::<Vec<JsonText>>(&nested).unwrap(), [text]);
        assert!(JsonText::parse("{").is_err());
    }

    #[test]
    fn a_text_is_cut_into_tokens_and_laid_out_without_a_change() {
        let json = r#"{"a\"]":[2.50,{}, [],"\\"] ,"é":1152921504606846977,"b":null}"#;
        let pretty = pretty(json, 1000);
        assert_eq!(
            pretty,
            "{\n  \"a\\\"]\": [\n    2.50,\n    {},\n    [],\n    \"\\\\\"\n  ],\n  \"é\": 1152921504606846977,\n  \"b\": null\n}"
        );
        assert!(tokens(json).eq(tokens(&pretty)));
        assert_eq!(super::pretty("1e400", 10), "1e400");
        for broken in ["\"a", "{\"a\\", "tru\u{e9} ]", ""] {
            assert!(tokens(broken).eq(tokens(&super::pretty(broken, 100))), "{broken}");
        }
    }

    #[test]
    fn depth_is_that_of_brackets_outside_of_strings() {
        for (json, deep) in [("1", 0), ("[]", 1), (r#"{"a":[[1],{"[[[\"[":2}]}"#, 3), (r#""[[""#, 0)] {
            assert_eq!(depth(json), deep, "{json}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(depth(&deep), 100_000);
        assert!(pretty(&deep, 64 * 1024).len() < 70 * 1024);
    }
}
