//! A value of the settings as JSON text: what a schedule sends as payload.
//!
//! Numbers stay as they were written where JSON can write them so: `1.10`, `1e400` and a number of forty digits are
//! passed on unchanged.

use super::{
    node::{Node, Value, is_json_number},
    reader::Item,
    substitute::escaped,
};
use crate::{json_text::JsonText, redact::redact, schedule::Payload};

/// Larger payloads belong in a file that the payload names.
const MAX_BYTES: usize = 1 << 20;

/// The value as JSON text; reports what JSON cannot say.
pub(super) fn payload(item: &Item<'_>) -> Option<Payload> {
    let mut payload = Payload { text: String::new(), shown: String::new() };
    let done = write(item.node, &mut payload.text, &str::to_owned).and_then(|()| {
        // As `config show` prints it, and as it can be read again.
        write(item.node, &mut payload.shown, &|text| escaped(&redact(text)))
    });
    done.map_err(|what| item.problem(what, None)).ok()?;
    Some(payload)
}

/// JSON text as `config show` prints it, and as it can be read again: passwords of addresses masked, `${` escaped.
pub(super) fn shown(json: &JsonText) -> String {
    let (mut shown, mut rest) = (String::new(), json.as_str());
    while let Some(start) = rest.find('"') {
        let (before, quoted) = rest.split_at(start);
        shown.push_str(before);
        let mut is_escaped = false;
        let end = quoted.char_indices().skip(1).find(|(_, letter)| {
            let is_end = *letter == '"' && !is_escaped;
            is_escaped = *letter == '\\' && !is_escaped;
            is_end
        });
        let (text, after) = quoted.split_at(end.map_or(quoted.len(), |(end, _)| end + 1));
        match serde_json::from_str::<String>(text) {
            Ok(value) if !after.trim_start().starts_with(':') => quote(&escaped(&redact(&value)), &mut shown),
            Ok(_) | Err(_) => shown.push_str(text),
        }
        rest = after;
    }
    shown + rest
}

/// `form` gives texts, but not keys, the form in which they are written.
fn write(node: &Node, text: &mut String, form: &impl Fn(&str) -> String) -> Result<(), String> {
    let as_written = node.written.as_deref().filter(|written| is_json_number(written));
    match (&node.value, as_written) {
        (Value::Null, _) => text.push_str("null"),
        (Value::Bool(value), _) => text.push_str(if *value { "true" } else { "false" }),
        (Value::Int(_) | Value::Float(_), Some(written)) => text.push_str(written),
        (Value::Int(i128::MAX), None) => return Err("holds a number that is too large to be read".to_owned()),
        (Value::Int(value), None) => text.push_str(&value.to_string()),
        (Value::Float(value), None) if !value.is_finite() => {
            return Err(format!("JSON has no number {value}; put it in quotes"));
        }
        (Value::Float(value), None) => text.push_str(&serde_json::Value::from(*value).to_string()),
        (Value::Text(value), _) => quote(&form(value), text),
        (Value::List(nodes), _) => {
            text.push('[');
            for (number, node) in nodes.iter().enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                write(node, text, form)?;
            }
            text.push(']');
        }
        (Value::Map(entries), _) => {
            text.push('{');
            for (number, entry) in entries.iter().enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                quote(&entry.key, text);
                text.push(':');
                write(&entry.node, text, form)?;
            }
            text.push('}');
        }
    }
    if text.len() > MAX_BYTES { Err("is larger than 1 MiB as JSON".to_owned()) } else { Ok(()) }
}

/// What YAML does not take as it is, is escaped.
fn quote(value: &str, text: &mut String) {
    for letter in serde_json::Value::from(value).to_string().chars() {
        if letter.is_control() || matches!(letter, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}') {
            text.extend(["\\u", &format!("{:04x}", u32::from(letter))]);
        } else {
            text.push(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_change_when_they_are_shown() {
        let json = r#"[{"a":"amqp://u:pw@h","amqp://u:pw@h":1e400},"\\","\"${X}",[],-0.0,null,"é"]"#;
        let expected = r#"[{"a":"amqp://u:***@h","amqp://u:pw@h":1e400},"\\","\"$${X}",[],-0.0,null,"é"]"#;
        assert_eq!(shown(&JsonText::parse(json).unwrap()), expected);
        assert_eq!(shown(&JsonText::parse(" 7 ").unwrap()), "7");
    }
}
