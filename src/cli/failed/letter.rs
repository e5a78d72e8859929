//! A dead letter as JSON (the shapes are part of the interface).

use serde_json::{Value, json};

use crate::{
    cli::output::rfc3339, payload::Body, properties::Properties, task::Ending, transport::DeadLetter,
    unicode::without_halves,
};

/// Payloads that are nested deeper are given as bytes: `jq` takes 256 levels, and a payload stands inside of another object.
const DEPTH: usize = 128;

/// What a listing says.
pub(super) fn row(letter: &DeadLetter) -> Value {
    let failure = &letter.failure;
    let mut row = json!({
        "id": letter.id,
        "queue": letter.queue,
        "kind": failure.kind,
        "reason": letter.reason,
        "error": failure.error,
        "fingerprint": letter.fingerprint(),
        "attempts": failure.attempts,
        "first_failed_at": rfc3339(letter.first_failed_at.unwrap_or(failure.failed_at)),
        "failed_at": rfc3339(failure.failed_at),
    });
    if let Some(member) = &letter.membership {
        row["job"] = member.job.as_str().into();
        row["step"] = member.step.as_str().into();
        row["index"] = member.index.into();
    }
    row
}

/// All that there is, as the text of one object. A JSON payload stands in it as its own text: neither numbers nor the
/// order of keys change.
pub(super) fn whole(letter: &DeadLetter) -> String {
    let text = facts(letter).to_string();
    let payload = match Body::from(letter).json(false) {
        Ok(payload) if is_for_everyone(&payload) => format!("\"payload\":{payload}"),
        _ => format!("\"payload_base64\":\"{}\"", data_encoding::BASE64.encode(&letter.body)),
    };
    let inside = text.strip_prefix('{').unwrap_or(&text);
    format!("{{{payload},{inside}")
}

/// Whether every reader of JSON takes this text: some stop at half of a surrogate pair, or deep down.
fn is_for_everyone(json: &str) -> bool {
    without_halves(json).is_none() && depth(json) <= DEPTH
}

/// How deep the arrays and objects of a JSON text are nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The order in which a person reads: what it is, why it failed, when, and where. All else comes after that.
const READ_FIRST: [&str; 17] = [
    "id",
    "queue",
    "kind",
    "job",
    "step",
    "index",
    "reason",
    "error",
    "detail",
    "exit",
    "oom",
    "output_tail",
    "attempts",
    "first_failed_at",
    "failed_at",
    "host",
    "pid",
];

/// All that there is but the payload, as a person reads it; what is not known or empty is left out.
pub(super) fn in_order(letter: &DeadLetter) -> Vec<(String, Value)> {
    let Value::Object(facts) = facts(letter) else { return Vec::new() };
    let mut facts: Vec<(String, Value)> = facts.into_iter().filter(|(_, value)| !is_empty(value)).collect();
    // Stable: the others stay as they are.
    facts.sort_by_key(|(name, _)| READ_FIRST.iter().position(|first| first == name).unwrap_or(READ_FIRST.len()));
    facts
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// All that there is but the payload.
fn facts(letter: &DeadLetter) -> Value {
    let failure = &letter.failure;
    let mut value = row(letter);
    let more = json!({
        "detail": failure.detail,
        "headers": letter.headers,
        "properties": letter.properties.as_deref().unwrap_or(Properties::NONE),
        "exit": failure.exit,
        "oom": failure.oom,
        "max_rss_bytes": failure.max_rss_bytes,
        "cpu_seconds": failure.cpu_seconds,
        "in_hand_seconds": failure.in_hand_seconds,
        "output_tail": failure.output_tail,
        "host": failure.host,
        "pid": failure.pid,
        "history": letter.history.iter().map(ending).collect::<Vec<_>>(),
    });
    for (name, field) in more.as_object().into_iter().flatten() {
        value[name] = field.clone();
    }
    value
}

fn ending(ending: &Ending) -> Value {
    let Ending { reason, error, attempts, failed_at } = ending;
    json!({ "reason": reason, "error": error, "attempts": attempts, "failed_at": rfc3339(*failed_at) })
}

/// Each on a line of its own.
pub(super) fn lines<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string() + "\n").collect()
}

/// A value as the cell of a table; `-` where there is none.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_that_of_brackets_outside_of_strings() {
        for (json, deep) in [("1", 0), ("[]", 1), (r#"{"a":[[1],{"[[[\\\"[":2}]}"#, 3), (r#""[[""#, 0)] {
            assert_eq!(depth(json), deep, "{json}");
        }
        assert!(is_for_everyone(&format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH))));
        assert!(!is_for_everyone(&format!("{}{}", "[".repeat(DEPTH + 1), "]".repeat(DEPTH + 1))));
        assert!(is_for_everyone(r#"{"s":"\ud83d\ude00"}"#) && !is_for_everyone(r#"{"s":"\ud83d"}"#));
    }
}
