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
}
