//! A dead letter as JSON (the shapes are part of the interface).

use serde_json::{Value, json};

use crate::{
    clock::Timestamp,
    json_text,
    payload::Body,
    properties::Properties,
    task::Ending,
    transport::{
        DeadLetter,
        dead_page::{DeadPlace, DeadRow},
    },
    unicode::without_halves,
    units,
};

/// Payloads that are nested deeper are given as bytes: `jq` takes 256 levels, and a payload stands inside of another object.
const DEPTH: usize = 128;

/// What a listing says.
pub(crate) fn row(letter: &DeadLetter) -> Value {
    let place = DeadPlace { died_at: letter.failure.failed_at, number: 0 };
    row_of(&letter.queue, &DeadRow::of(place, letter))
}

/// What a listing says of a dead letter of this queue.
pub(crate) fn row_of(queue: &str, found: &DeadRow) -> Value {
    let failure = &found.failure;
    let mut row = json!({
        "id": found.id,
        "queue": queue,
        "kind": failure.kind,
        "reason": found.reason,
        "error": failure.error,
        "fingerprint": found.fingerprint,
        "attempts": failure.attempts,
        "first_failed_at": rfc3339(found.first_failed_at.unwrap_or(failure.failed_at)),
        "failed_at": rfc3339(failure.failed_at),
    });
    if let (Some(job), Some(step), Some(index)) = (&found.job, &found.step, found.index) {
        row["job"] = job.as_str().into();
        row["step"] = step.as_str().into();
        row["index"] = index.into();
    }
    row
}

/// All that there is, as the text of one object. A JSON payload stands in it as its own text: neither numbers nor the
/// order of keys change.
pub(crate) fn whole(letter: &DeadLetter) -> String {
    match Body::from(letter).json(false) {
        Ok(payload) if is_for_everyone(&payload) => whole_with(&facts(letter), &payload, None),
        _ => whole_with(&facts(letter), "", Some(&letter.body)),
    }
}

/// [`whole`] of these facts, with this JSON text as its payload where every reader of JSON takes it, else with its bytes.
pub(crate) fn whole_with(facts: &Value, payload: &str, bytes: Option<&[u8]>) -> String {
    let text = facts.to_string();
    let bytes = bytes.or_else(|| (!is_for_everyone(payload)).then_some(payload.as_bytes()));
    let payload = match bytes {
        None => format!("\"payload\":{payload}"),
        Some(bytes) => format!("\"payload_base64\":\"{}\"", data_encoding::BASE64.encode(bytes)),
    };
    let inside = text.strip_prefix('{').unwrap_or(&text);
    format!("{{{payload},{inside}")
}

/// Whether every reader of JSON takes this text: some stop at half of a surrogate pair, or deep down.
fn is_for_everyone(json: &str) -> bool {
    without_halves(json).is_none() && json_text::depth(json) <= DEPTH
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
pub(crate) fn in_order(letter: &DeadLetter) -> Vec<(String, Value)> {
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
pub(crate) fn facts(letter: &DeadLetter) -> Value {
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

fn rfc3339(moment: Timestamp) -> String {
    units::rfc3339(moment.0)
}

/// Each on a line of its own.
pub(crate) fn lines<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string() + "\n").collect()
}

/// A value as the cell of a table; `-` where there is none.
pub(crate) fn cell(value: &Value) -> String {
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
    fn what_some_readers_of_json_refuse_is_given_as_bytes() {
        assert!(is_for_everyone(&format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH))));
        assert!(!is_for_everyone(&format!("{}{}", "[".repeat(DEPTH + 1), "]".repeat(DEPTH + 1))));
        assert!(is_for_everyone(r#"{"s":"\ud83d\ude00"}"#) && !is_for_everyone(r#"{"s":"\ud83d"}"#));
        assert_eq!(whole_with(&json!({ "id": "a" }), "1e400", None), r#"{"payload":1e400,"id":"a"}"#);
        assert_eq!(whole_with(&json!({ "id": "a" }), "", Some(&[0xff])), r#"{"payload_base64":"/w==","id":"a"}"#);
    }
}
