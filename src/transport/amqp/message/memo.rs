//! The header with what a task left for its next attempt.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, ShortString};

use super::headers;
use crate::json_text::JsonText;

const MEMO: &str = "asynctask-memo";

/// A memo; a text that is no JSON counts as none.
pub(super) fn read(table: &BTreeMap<ShortString, AMQPValue>) -> Option<JsonText> {
    table.get(MEMO).and_then(headers::text).and_then(|text| JsonText::parse(&text).ok())
}

/// Puts a new memo; without one the former stays. It is never cut: half of it is no JSON.
pub(super) fn put(table: &mut BTreeMap<ShortString, AMQPValue>, memo: Option<&JsonText>) {
    if let Some(memo) = memo {
        table.insert(MEMO.into(), AMQPValue::LongString(memo.as_str().as_bytes().into()));
    }
}
