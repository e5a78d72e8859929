//! The place of a task in a job, as a task frame tells it: written by the master, read in a worker.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::values::{push_json, push_number};
use crate::{membership::Membership, unicode::Text};

/// A place as a worker reads it.
#[derive(Debug, Deserialize)]
pub struct Place {
    /// The job's id.
    #[serde(deserialize_with = "text")]
    pub id: String,
    /// Its pipeline.
    #[serde(deserialize_with = "text")]
    pub pipeline: String,
    /// Its key, if it has one.
    #[serde(default, deserialize_with = "text_or_none")]
    pub key: Option<String>,
    /// The step.
    #[serde(deserialize_with = "text")]
    pub step: String,
    /// The task's number among those that were submitted with it, from 0.
    #[serde(default)]
    pub index: u32,
    /// It wipes what the step left.
    #[serde(default)]
    pub wipe: bool,
    /// What the steps before gave, by step; empty for an item.
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
}

/// What a step gave.
#[derive(Debug, Default, Deserialize)]
pub struct Input {
    /// Its state: `done`, for example.
    #[serde(default, deserialize_with = "text")]
    pub state: String,
    /// Its result.
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// The last memo of its first task.
    #[serde(default)]
    pub memo: Option<Box<RawValue>>,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Text::deserialize(deserializer).map(|text| text.0)
}

fn text_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::<Text>::deserialize(deserializer).map(|text| text.map(|text| text.0))
}

/// Appends a place.
pub(super) fn push(membership: &Membership, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    push_json(out, &membership.job);
    out.extend_from_slice(b",\"pipeline\":");
    push_json(out, &membership.pipeline);
    out.extend_from_slice(b",\"key\":");
    push_json(out, &membership.key);
    out.extend_from_slice(b",\"step\":");
    push_json(out, &membership.step);
    out.extend_from_slice(b",\"index\":");
    push_number(out, membership.index.into());
    if membership.wipe {
        out.extend_from_slice(b",\"wipe\":true");
    }
    if let Some(inputs) = &membership.inputs {
        out.extend_from_slice(b",\"inputs\":");
        out.extend_from_slice(inputs.as_str().as_bytes());
    }
    out.push(b'}');
}
