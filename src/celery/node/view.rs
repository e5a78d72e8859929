//! What the core says of the queues with Celery's messages: the answer to `celery-view`, typed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// What runs, what waits here, and in which pools. What the core does not say is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    /// Tasks in hand.
    pub(super) active: Vec<Held>,
    /// Tasks that are here and not begun.
    pub(super) reserved: Vec<Held>,
    /// The tasks that the applications' workers know, by name.
    pub(super) tasks: BTreeMap<String, Registered>,
    /// Settings of the application, flat, without secrets; null: none of the workers is one of an application.
    pub(super) conf: Value,
    /// What the application says of itself for a report; empty: nothing.
    pub(super) report: String,
    /// Attributes that the tasks of each application have unless they say otherwise.
    pub(super) applications: Vec<BTreeMap<String, String>>,
    /// Tasks begun since the start, by name.
    pub(super) total: BTreeMap<String, u64>,
    pub(super) pools: Vec<Pool>,
}

/// A task that is here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Held {
    pub(super) id: String,
    /// Empty where its message does not say it.
    #[serde(deserialize_with = "or_empty")]
    pub(super) name: String,
    pub(super) queue: String,
    /// As Python shows them; empty where its message does not say it.
    #[serde(deserialize_with = "or_empty")]
    pub(super) args: String,
    #[serde(deserialize_with = "or_empty")]
    pub(super) kwargs: String,
    /// JSON of both, where their message says it; empty otherwise, and where it is long.
    #[serde(deserialize_with = "or_empty")]
    pub(super) payload: String,
    /// In seconds since 1970.
    pub(super) time_start: Option<f64>,
    pub(super) acknowledged: bool,
    pub(super) worker_pid: Option<u32>,
    pub(super) priority: Option<u8>,
    pub(super) redelivered: bool,
}

/// A task that workers know.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Registered {
    /// In seconds.
    pub(super) time_limit: Option<f64>,
    pub(super) soft_time_limit: Option<f64>,
    /// `10/m`, or a number.
    pub(super) rate_limit: Value,
    /// Attributes of its own.
    pub(super) attributes: BTreeMap<String, String>,
    /// The place of its application among the applications.
    pub(super) application: usize,
}

/// The processes of one queue.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub(super) queue: String,
    pub(super) processes: u32,
    pub(super) pids: Vec<u32>,
    /// Tasks at once in one process.
    pub(super) concurrency: u32,
    pub(super) credit: u32,
    pub(super) paused: bool,
    /// Hard limit of one task, in seconds.
    pub(super) timeout: Option<f64>,
    /// A process is renewed after so many.
    pub(super) max_tasks: Option<u64>,
    pub(super) exchange: String,
    /// `classic` or `quorum`.
    pub(super) declare_as: String,
    pub(super) max_priority: Option<u8>,
}

/// Null is no text.
fn or_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

impl View {
    /// Reads the core's answer.
    ///
    /// # Errors
    /// It has another form, which is a mistake of ours.
    pub(super) fn read(answer: Value) -> Result<Self, String> {
        serde_json::from_value(answer)
            .map_err(|error| format!("what the master says of itself is not readable: {error}"))
    }
}
