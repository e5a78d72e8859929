//! Values of payloads that are not shown to anybody.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{
    json_text::{Token, tokens},
    unicode::Text,
};

/// What stands in the place of a value.
pub(crate) const HIDDEN: &str = "•••";
/// Levels that are looked into; what is deeper is hidden.
const DEPTH: usize = 128;
/// How deep JSON may stand as a text in JSON; what is deeper is hidden.
const TEXTS: usize = 4;

/// Which keys are hidden: paths of keys with dots between them, at whatever depth they begin. `*` is any key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask {
    patterns: Vec<Vec<String>>,
    /// Keys of the longest of them.
    longest: usize,
}

impl Mask {
    pub(crate) fn new(patterns: &[String]) -> Self {
        let keys = |pattern: &String| pattern.split('.').map(str::to_lowercase).collect();
        let patterns: Vec<Vec<String>> = patterns.iter().map(keys).collect();
        Self { longest: patterns.iter().map(Vec::len).max().unwrap_or_default(), patterns }
    }

    /// Whether it hides nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The value with what is hidden replaced.
    pub(crate) fn apply(&self, mut value: Value) -> Value {
        if !self.is_empty() {
            self.hide(&mut value, &mut Vec::new());
        }
        value
    }

    /// A JSON text with what is hidden replaced, without the spaces between its tokens. Numbers and the order of keys are as they were.
    /// JSON that stands in it as a text is looked into, too.
    pub(crate) fn text(&self, json: &str) -> String {
        self.text_in(json, 0)
    }

    /// The JSON string with what is hidden replaced in the JSON that it holds; `None`: it stays as it is.
    fn inside(&self, string: &str, level: usize) -> Option<String> {
        // Most strings begin with a letter; white space may be escaped.
        let is_candidate = string.strip_prefix('"')?.starts_with(['{', '[', ' ', '\\']);
        let inner = is_candidate.then(|| serde_json::from_str::<Text>(string))?.ok()?.0;
        self.inner(&inner, level).map(|masked| Value::from(masked).to_string())
    }

    /// The text with what is hidden replaced, if it is JSON that has something to hide.
    fn inner(&self, text: &str, level: usize) -> Option<String> {
        if !text.trim_start().starts_with(['{', '[']) || serde_json::from_str::<IgnoredAny>(text).is_err() {
            return None;
        }
        let masked = if level < TEXTS { self.text_in(text, level + 1) } else { HIDDEN.to_owned() };
        (masked.matches(HIDDEN).count() != text.matches(HIDDEN).count()).then_some(masked)
    }

    fn text_in(&self, json: &str, level: usize) -> String {
        let mut text = String::with_capacity(json.len());
        // Which of the levels that are open are objects, and the keys of these.
        let (mut objects, mut keys) = (Vec::new(), Vec::<Option<String>>::new());
        let mut skipped = 0_usize;
        let mut hides = false;
        for token in tokens(json) {
            let opens = matches!(token, Token::Open(_));
            let closes = matches!(token, Token::Close(_));
            if hides {
                skipped = if closes { skipped.saturating_sub(1) } else { skipped + usize::from(opens) };
                hides = skipped > 0;
                continue;
            }
            match token {
                Token::Open(sign) => {
                    text.push(sign);
                    objects.push(sign == '{');
                    if sign == '{' {
                        keys.push(None);
                    }
                }
                Token::Close(sign) => {
                    text.push(sign);
                    if objects.pop() == Some(true) {
                        keys.pop();
                    }
                }
                Token::Comma => {
                    text.push(',');
                    if let (Some(true), Some(key)) = (objects.last(), keys.last_mut()) {
                        *key = None;
                    }
                }
                Token::Colon => {
                    text.push(':');
                    let path = &keys[keys.len().saturating_sub(self.longest)..];
                    hides = keys.len() > DEPTH || self.is_hidden(&path.iter().flatten());
                    if hides {
                        text.extend(["\"", HIDDEN, "\""]);
                    }
                }
                Token::Text(token) | Token::Word(token) => {
                    let is_key = matches!((objects.last(), keys.last()), (Some(true), Some(None)));
                    let masked = if is_key { None } else { self.inside(token, level) };
                    text.push_str(masked.as_deref().unwrap_or(token));
                    if let (Some(true), Some(key @ None)) = (objects.last(), keys.last_mut()) {
                        let name = serde_json::from_str::<Text>(token).unwrap_or_default();
                        *key = Some(name.0.to_lowercase());
                    }
                }
            }
        }
        text
    }

    fn hide(&self, value: &mut Value, path: &mut Vec<String>) {
        if path.len() > DEPTH {
            *value = HIDDEN.into();
            return;
        }
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    path.push(key.to_lowercase());
                    if self.is_hidden(&path.iter()) {
                        *field = HIDDEN.into();
                    } else {
                        self.hide(field, path);
                    }
                    path.pop();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item, path)),
            Value::String(text) => {
                if let Some(masked) = self.inner(text, 0) {
                    *text = masked;
                }
            }
            _ => {}
        }
    }

    /// Whether the end of a path is one of the patterns.
    fn is_hidden<'a>(&self, path: &(impl DoubleEndedIterator<Item = &'a String> + Clone)) -> bool {
        self.patterns.iter().any(|pattern| {
            let mut keys = path.clone().rev();
            pattern.iter().rev().all(|wanted| keys.next().is_some_and(|key| wanted == "*" || key == wanted))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_in_a_text_is_looked_into() {
        let mask = Mask::new(&["password".to_owned()]);
        let inner = r#"{"password":"s3cret","n":1152921504606846977}"#;
        let text = json!({ "body": inner, "list": [format!("[{inner}]")], "plain": "{password" }).to_string();
        let masked = mask.text(&text);
        assert!(!masked.contains("s3cret") && masked.contains("1152921504606846977"), "{masked}");
        assert!(
            masked.contains(r#""plain":"{password""#) && serde_json::from_str::<Value>(&masked).is_ok(),
            "{masked}"
        );
        assert!(!mask.apply(json!({ "header": inner })).to_string().contains("s3cret"));
        let deep = (0..2 * TEXTS).fold(inner.to_owned(), |text, _| json!({ "x": text }).to_string());
        let masked = mask.text(&deep);
        assert!(!masked.contains("s3cret") && masked.contains(HIDDEN), "{masked}");
        // What has nothing to hide stays as it is, spaces and all.
        let text = r#"{"x":"{ \"a\" : 1 }","y":"[ ]"}"#;
        assert_eq!(mask.text(text), text);
    }

    #[test]
    fn keys_are_hidden_wherever_they_stand() {
        let mask = Mask::new(&["password".to_owned(), "card.*".to_owned()]);
        let value = json!({ "Password": 1, "user": [{ "password": { "a": 1 }, "name": "x" }], "card": { "n": 1, "m": [2] }, "cards": 3 });
        assert_eq!(
            mask.apply(value),
            json!({ "Password": HIDDEN, "user": [{ "password": HIDDEN, "name": "x" }], "card": { "n": HIDDEN, "m": HIDDEN }, "cards": 3 })
        );
        let mut deep = json!({ "password": 1 });
        for _ in 0..200 {
            deep = json!({ "a": deep });
        }
        assert!(!mask.apply(deep).to_string().contains("password"));
        assert_eq!(Mask::default().apply(json!({ "password": 1 })), json!({ "password": 1 }));
    }

    #[test]
    fn a_text_is_masked_as_a_value_is_and_keeps_its_numbers() {
        let mask = Mask::new(&["password".to_owned(), "card.*".to_owned()]);
        let json = r#"{"n": 1152921504606846977, "Password":[1,{"a":2}],"user":[{"pass\u0077ord":{"a":1},"x":2.50}],"card":{"n":1,"m":[2]},"s":"password"}"#;
        assert_eq!(
            mask.text(json),
            r#"{"n":1152921504606846977,"Password":"•••","user":[{"pass\u0077ord":"•••","x":2.50}],"card":{"n":"•••","m":"•••"},"s":"password"}"#
        );
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&mask.text(json)).unwrap(), mask.apply(value));
        assert_eq!(
            mask.text(r#"["password",[{"password":"b"},"password"],1]"#),
            r#"["password",[{"password":"•••"},"password"],1]"#
        );
    }

    #[test]
    fn depth_and_twice_the_same_key_hide_nothing_from_the_mask() {
        let mask = Mask::new(&["password".to_owned()]);
        let deep = format!("{}{{\"password\":1}}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(mask.text(&deep).contains("{\"password\":\"•••\"}"));
        let deep = format!("{}{{\"password\":\"s\"}}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert!(!mask.text(&deep).contains("password"));
        assert_eq!(mask.text(r#"{"password":1,"password":2}"#), r#"{"password":"•••","password":"•••"}"#);
    }
}
