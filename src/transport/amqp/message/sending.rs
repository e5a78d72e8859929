//! Which sending of a Celery task the headers of ours on its message were written for.
//!
//! A task that retries itself is sent again under its id, and Celery gives that message all headers of the one before that it
//! does not know, ours among them. What they say of attempts, deliveries and moments is not about the new message: so each
//! copy of ours says which sending it is of, and what was written of another one is void.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, ShortString};
use serde_json::json;

use super::headers;
use crate::{celery::message, task::Headers};

const SENDING: &str = "asynctask-sending";

/// What all headers of ours begin with.
const OURS: &str = "asynctask-";

/// Whether what we wrote on a message is of another sending. Reckoned only where there is something of ours.
pub(super) fn is_another(table: &BTreeMap<ShortString, AMQPValue>, headers: &Headers, body: &[u8]) -> bool {
    table.get(SENDING).is_some_and(|written| headers::text(written).is_none_or(|text| text != of(headers, body)))
}

/// Writes which sending a copy is of, and takes off what was written of another one.
pub(super) fn mark(table: &mut BTreeMap<ShortString, AMQPValue>, headers: &Headers, body: &[u8]) {
    if is_another(table, headers, body) {
        table.retain(|name, _| !name.as_str().starts_with(OURS));
    }
    table.insert(SENDING.into(), AMQPValue::LongString(of(headers, body).into()));
}

/// The same in all copies of a message.
fn of(headers: &Headers, body: &[u8]) -> String {
    let values = message::SENDING.map(|name| headers.get(name));
    // A message of the first protocol says it in its body.
    let said = if headers.contains_key("task") { json!(values).to_string().into_bytes() } else { body.to_vec() };
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &said).to_string()
}
