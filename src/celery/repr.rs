//! Values as Python shows them, for `argsrepr` and `kwargsrepr`: texts for people, which nobody reads back.

use std::fmt::Write as _;

use serde_json::Value;

/// Longest text, in bytes; Celery cuts there, too.
pub(super) const LIMIT: usize = 1024;

/// A value as `repr` shows it, cut with `...` at [`LIMIT`].
pub(super) fn of(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    if text.len() > LIMIT {
        text.truncate(text.floor_char_boundary(LIMIT - 3));
        text.push_str("...");
    }
    text
}

/// Positional arguments as the tuple that a task gets.
pub(super) fn of_arguments(arguments: &Value) -> String {
    let text = of(arguments);
    let Value::Array(items) = arguments else { return text };
    let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else { return text };
    if items.len() == 1 { format!("({inner},)") } else { format!("({inner})") }
}

/// Values are read with a bound on their depth, which this inherits; what is over the limit is not visited.
fn write(text: &mut String, value: &Value) {
    if text.len() > LIMIT {
        return;
    }
    match value {
        Value::Null => text.push_str("None"),
        Value::Bool(true) => text.push_str("True"),
        Value::Bool(false) => text.push_str("False"),
        Value::Number(number) => {
            let _ = write!(text, "{number}");
        }
        Value::String(string) => quote(text, string),
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write(text, value);
                if text.len() > LIMIT {
                    return;
                }
            }
            text.push(']');
        }
        Value::Object(entries) => {
            text.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                quote(text, key);
                text.push_str(": ");
                write(text, value);
                if text.len() > LIMIT {
                    return;
                }
            }
            text.push('}');
        }
    }
}

/// In single quotes, or in double ones if only single ones are inside.
fn quote(text: &mut String, string: &str) {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for character in string.chars() {
        if text.len() > LIMIT {
            return;
        }
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            _ if character == quote => {
                text.push('\\');
                text.push(character);
            }
            _ if (character as u32) < 0x20 || character == '\u{7f}' => {
                let _ = write!(text, "\\x{:02x}", character as u32);
            }
            _ => text.push(character),
        }
    }
    text.push(quote);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_look_as_in_python() {
        let value = json!(["a'b", "a\"b", "a'\"b", "\u{1}\n\\", 1.5, null, true, {"k": [1]}]);
        let shown = r#"["a'b", 'a"b', 'a\'"b', '\x01\n\\', 1.5, None, True, {'k': [1]}]"#;
        assert_eq!(of(&value), shown);
        assert_eq!(of_arguments(&json!([])), "()");
        assert_eq!(of_arguments(&json!(["a"])), "('a',)");
        assert_eq!(of_arguments(&json!([1, 2])), "(1, 2)");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        for value in
            [json!("ä".repeat(5000)), json!([["x".repeat(700)], ["y".repeat(700)]]), json!({"ä".repeat(900): 1})]
        {
            let text = of(&value);
            assert!(text.len() <= LIMIT && text.ends_with("..."), "{text}");
            assert!(of_arguments(&value).len() <= LIMIT);
        }
    }
}
