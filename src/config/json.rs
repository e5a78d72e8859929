//! A value of the settings as JSON text: what a schedule sends as payload.
//!
//! Numbers stay as they were written where JSON can write them so: `1.10`, `1e400` and a number of forty digits are
//! passed on unchanged.

use serde_json::value::RawValue;

use super::{
    node::{Node, Value},
    reader::Item,
};

/// Larger payloads belong in a file that the payload names.
const MAX_BYTES: usize = 1 << 20;

/// The value as JSON text; reports what JSON cannot say.
pub(super) fn text(item: &Item<'_>) -> Option<String> {
    let mut text = String::new();
    match write(item.node, &mut text) {
        Ok(()) => Some(text),
        Err(what) => {
            item.problem(what, None);
            None
        }
    }
}

fn write(node: &Node, text: &mut String) -> Result<(), String> {
    match &node.value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => match node.written.as_deref().filter(|written| is_number(written)) {
            Some(written) => text.push_str(written),
            None if *value == i128::MAX => return Err("holds a number that is too large to be read".to_owned()),
            None => text.push_str(&value.to_string()),
        },
        Value::Float(value) => match node.written.as_deref().filter(|written| is_number(written)) {
            Some(written) => text.push_str(written),
            None if !value.is_finite() => return Err(format!("JSON has no number {value}; put it in quotes")),
            None => text.push_str(&serde_json::Value::from(*value).to_string()),
        },
        Value::Text(value) => quote(value, text),
        Value::List(nodes) => {
            text.push('[');
            for (number, node) in nodes.iter().enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                write(node, text)?;
            }
            text.push(']');
        }
        Value::Map(entries) => {
            text.push('{');
            for (number, entry) in entries.iter().enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                quote(&entry.key, text);
                text.push(':');
                write(&entry.node, text)?;
            }
            text.push('}');
        }
    }
    if text.len() > MAX_BYTES { Err("is larger than 1 MiB as JSON".to_owned()) } else { Ok(()) }
}

fn quote(value: &str, text: &mut String) {
    text.push_str(&serde_json::Value::from(value).to_string());
}

/// Whether JSON writes numbers so.
pub(super) fn is_number(written: &str) -> bool {
    written.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        && serde_json::from_str::<&RawValue>(written).is_ok()
}
