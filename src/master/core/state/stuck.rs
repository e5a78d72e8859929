//! Tasks of one queue that have ended and cannot be settled, because another queue takes none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use crate::clock::Instant;

/// Health does not speak of what is over sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// The queues that take nothing of one queue.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Stuck(pub(in crate::master::core) BTreeMap<String, Untaken>);

#[derive(Debug)]
pub(in crate::master::core) struct Untaken {
    pub(in crate::master::core) since: Instant,
    pub(in crate::master::core) error: String,
    /// What was said of it, so that causes that take turns are not said again and again.
    pub(in crate::master::core) said: BTreeSet<String>,
    pub(in crate::master::core) tasks: u32,
}

impl Stuck {
    /// How many tasks are held up.
    pub(in crate::master::core) fn tasks(&self) -> u64 {
        self.0.values().map(|untaken| u64::from(untaken.tasks)).sum()
    }

    /// The one that takes nothing for longest.
    pub(in crate::master::core) fn oldest(&self) -> Option<&Untaken> {
        self.0.values().min_by_key(|untaken| untaken.since)
    }

    /// For the status of the queue.
    pub(in crate::master::core) fn shown(&self, now: Instant) -> Value {
        self.oldest().map_or(Value::Null, |untaken| {
            json!({
                "error": untaken.error,
                "since_seconds": now.since(untaken.since).as_secs_f64(),
                "tasks": self.tasks(),
            })
        })
    }

    /// For health.
    pub(in crate::master::core) fn problem(&self, now: Instant) -> Option<&str> {
        let lasts = |untaken: &&Untaken| now.since(untaken.since) >= PATIENCE;
        self.oldest().filter(lasts).map(|untaken| untaken.error.as_str())
    }
}
