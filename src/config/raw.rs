//! The values of a YAML text, duplicates kept.
//!
//! The parser that says what a value means refuses a second key of the same name, or drops it, depending on how it
//! is asked. Asked this way it hands over every entry, so that duplicates are reported with all other mistakes.

use serde::de::{Deserialize, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

/// A value as the text has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(String, Raw)>),
}

/// Reads a text that `index` has let pass.
pub(super) fn read(text: &str) -> Result<Raw, serde_yaml::Error> {
    if text.trim().is_empty() { Ok(Raw::Null) } else { serde_yaml::from_str(text) }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Int(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Raw, E> {
        // Too large for any setting: the range check says so.
        Ok(Raw::Int(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        // Asked for text, the parser gives a plain key as it is written, `1` and `true` included.
        while let Some(entry) = access.next_entry::<String, Raw>()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Raw, A::Error> {
        Err(A::Error::custom("a tag (`!…`) has no meaning here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_kept() {
        let Raw::Map(entries) = read("a: 1\na: yes\n1: 1.5\ntrue: ~\n\"x\": '5'\n").unwrap() else { panic!() };
        let expected = [
            ("a", Raw::Int(1)),
            ("a", Raw::Text("yes".into())),
            ("1", Raw::Float(1.5)),
            ("true", Raw::Null),
            ("x", Raw::Text("5".into())),
        ];
        assert_eq!(entries, expected.map(|(key, raw)| (key.to_owned(), raw)));
        assert_eq!(read("").unwrap(), Raw::Null);
        assert_eq!(read("# only this\n").unwrap(), Raw::Null);
        assert!(read("a: !danger x").is_err());
    }
}
