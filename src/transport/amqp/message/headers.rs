//! Header tables: between AMQP's values and JSON, what is stripped from a copy, and how much room a table takes.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::Value;

use crate::task::Headers;

/// What our own headers begin with.
pub(crate) const OURS: &str = "asynctask-";

/// Most bytes that all headers of a message take together once encoded. A header frame must fit into 131,072.
pub(crate) const ROOM: usize = 120 * 1024;

/// Written by the broker about the message, not by its sender; meaningless or harmful on a copy: a client's
/// `x-death` makes the broker see cycles.
pub(crate) fn is_broker(name: &str) -> bool {
    matches!(name, "x-death" | "x-delivery-count" | "x-acquired-count")
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// Not on a copy: the broker's own, and what would route the copy to further queues.
pub(crate) fn is_stripped(name: &str) -> bool {
    is_broker(name) || matches!(name, "CC" | "BCC")
}

/// The headers that are the sender's, as JSON. What JSON cannot say is said as nearly as it can.
pub(crate) fn to_json(table: &FieldTable) -> Headers {
    let foreign = table.into_iter().filter(|(name, _)| !name.as_str().starts_with(OURS) && !is_stripped(name.as_str()));
    foreign.map(|(name, value)| (name.to_string(), value_to_json(value, 0))).collect()
}

/// Tables in tables deeper than this are left out of what workers see; in moves they stay as they are.
const DEPTH: usize = 32;

fn value_to_json(value: &AMQPValue, depth: usize) -> Value {
    match value {
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) if depth >= DEPTH => Value::Null,
        AMQPValue::Boolean(value) => Value::from(*value),
        AMQPValue::ShortShortInt(value) => Value::from(*value),
        AMQPValue::ShortShortUInt(value) => Value::from(*value),
        AMQPValue::ShortInt(value) => Value::from(*value),
        AMQPValue::ShortUInt(value) => Value::from(*value),
        AMQPValue::LongInt(value) => Value::from(*value),
        AMQPValue::LongUInt(value) => Value::from(*value),
        AMQPValue::LongLongInt(value) => Value::from(*value),
        AMQPValue::Timestamp(value) => Value::from(*value),
        AMQPValue::Float(value) => Value::from(*value),
        AMQPValue::Double(value) => Value::from(*value),
        AMQPValue::DecimalValue(value) => Value::from(f64::from(value.value) / 10_f64.powi(i32::from(value.scale))),
        AMQPValue::ShortString(value) => Value::from(value.as_str()),
        AMQPValue::LongString(value) => Value::from(value.to_string()),
        AMQPValue::ByteArray(value) => Value::from(String::from_utf8_lossy(value.as_slice())),
        AMQPValue::FieldArray(values) => {
            values.as_slice().iter().map(|value| value_to_json(value, depth + 1)).collect()
        }
        AMQPValue::FieldTable(table) => {
            let inner = |(name, value): (&ShortString, &AMQPValue)| (name.to_string(), value_to_json(value, depth + 1));
            Value::Object(table.into_iter().map(inner).collect())
        }
        AMQPValue::Void => Value::Null,
    }
}

/// A table of JSON headers; names of ours are left out.
///
/// # Errors
/// The name that is too long for a header.
pub(crate) fn from_json(headers: &Headers) -> Result<BTreeMap<ShortString, AMQPValue>, String> {
    let foreign = headers.iter().filter(|(name, _)| !name.starts_with(OURS) && !is_stripped(name));
    foreign
        .map(|(name, value)| {
            let short = ShortString::try_new(name.as_str()).map_err(|_| {
                format!("the header name \"{}…\" has over 255 bytes", name.chars().take(40).collect::<String>())
            })?;
            Ok((short, value_from_json(value)?))
        })
        .collect()
}

fn value_from_json(value: &Value) -> Result<AMQPValue, String> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => AMQPValue::LongLongInt(whole),
            None => AMQPValue::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => AMQPValue::LongString(text.as_bytes().into()),
        Value::Array(values) => {
            AMQPValue::FieldArray(values.iter().map(value_from_json).collect::<Result<Vec<_>, _>>()?.into())
        }
        Value::Object(map) => AMQPValue::FieldTable(from_json(map)?.into()),
    })
}

/// Bytes that an entry takes in the header frame.
pub(crate) fn encoded_len(name: &str, value: &AMQPValue) -> usize {
    1 + name.len() + 1 + value_len(value)
}

fn value_len(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::LongLongInt(_) | AMQPValue::Timestamp(_) | AMQPValue::Double(_) => 8,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(|value| 1 + value_len(value)).sum::<usize>(),
        AMQPValue::FieldTable(table) => 4 + table_len(table.inner()),
        AMQPValue::Void => 0,
    }
}

/// Bytes that a table takes.
pub(crate) fn table_len(table: &BTreeMap<ShortString, AMQPValue>) -> usize {
    table.iter().map(|(name, value)| encoded_len(name.as_str(), value)).sum()
}

/// A whole number, however its sender wrote it.
pub(crate) fn number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(value) => Some((*value).into()),
        AMQPValue::ShortShortUInt(value) => Some((*value).into()),
        AMQPValue::ShortInt(value) => Some((*value).into()),
        AMQPValue::ShortUInt(value) => Some((*value).into()),
        AMQPValue::LongInt(value) => Some((*value).into()),
        AMQPValue::LongUInt(value) => Some((*value).into()),
        AMQPValue::LongLongInt(value) => Some(*value),
        AMQPValue::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as i64),
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => text(value)?.trim().parse().ok(),
        _ => None,
    }
}

/// A text.
pub(crate) fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_survives_the_way_through_a_table() {
        let json =
            serde_json::json!({"s": "ä", "i": -3, "f": 1.5, "b": true, "n": null, "a": [1, "x"], "o": {"k": "v"}});
        let Value::Object(headers) = json else { unreachable!() };
        assert_eq!(to_json(&from_json(&headers).unwrap().into()), headers);
    }

    #[test]
    fn what_is_ours_or_the_brokers_is_not_shown() {
        let mut table = FieldTable::default();
        for name in ["asynctask-attempt", "x-death", "x-delivery-count", "x-first-death-queue", "CC", "x-theirs"] {
            table.insert(name.into(), AMQPValue::Boolean(true));
        }
        assert_eq!(to_json(&table).keys().collect::<Vec<_>>(), ["x-theirs"]);
    }

    #[test]
    fn numbers_come_in_many_shapes() {
        for value in [AMQPValue::ShortShortUInt(7), AMQPValue::LongString("7".into()), AMQPValue::Double(7.0)] {
            assert_eq!(number(&value), Some(7));
        }
        assert_eq!(number(&AMQPValue::Void), None);
    }
}
