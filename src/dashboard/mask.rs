//! Values of payloads that are not shown to anybody.

use serde_json::Value;

/// What stands in the place of a value.
const HIDDEN: &str = "•••";
/// Levels that are looked into; what is deeper is hidden.
const DEPTH: usize = 128;

/// Which keys are hidden: paths of keys with dots between them, at whatever depth they begin. `*` is any key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask {
    patterns: Vec<Vec<String>>,
}

impl Mask {
    pub(crate) fn new(patterns: &[String]) -> Self {
        let keys = |pattern: &String| pattern.split('.').map(str::to_lowercase).collect();
        Self { patterns: patterns.iter().map(keys).collect() }
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

    fn hide(&self, value: &mut Value, path: &mut Vec<String>) {
        if path.len() > DEPTH {
            *value = HIDDEN.into();
            return;
        }
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    path.push(key.to_lowercase());
                    if self.is_hidden(path) {
                        *field = HIDDEN.into();
                    } else {
                        self.hide(field, path);
                    }
                    path.pop();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item, path)),
            _ => {}
        }
    }

    /// Whether the end of a path is one of the patterns.
    fn is_hidden(&self, path: &[String]) -> bool {
        self.patterns.iter().any(|pattern| {
            let end = path.len().checked_sub(pattern.len()).map(|start| &path[start..]);
            end.is_some_and(|end| end.iter().zip(pattern).all(|(key, wanted)| wanted == "*" || key == wanted))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
