//! The header with the place of a task in a job.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};

use super::headers;
use crate::membership::Membership;

pub(crate) const JOB: &str = "asynctask-job";

/// The place of the task that a message with these properties is.
pub(crate) fn of(properties: &BasicProperties) -> Option<Box<Membership>> {
    read(properties.headers().as_ref()?.inner())
}

/// A place; a text that is none counts as none: such a message is a task of no job.
pub(super) fn read(table: &BTreeMap<ShortString, AMQPValue>) -> Option<Box<Membership>> {
    let text = table.get(JOB).and_then(headers::text)?;
    serde_json::from_str(&text).ok()
}

/// Puts the place of a task that is new; copies carry it on. It is never cut: half of it is no JSON.
pub(super) fn put(table: &mut BTreeMap<ShortString, AMQPValue>, place: Option<&Membership>) {
    if let Some(place) = place {
        // Texts, numbers, and what was JSON before: writing them cannot fail.
        let text = serde_json::to_vec(place).unwrap_or_default();
        table.insert(JOB.into(), AMQPValue::LongString(text.into()));
    }
}
