//! The core's chapter on queues whose tasks have ended and cannot be settled, because the queue that their dead letters, retries
//! or copies belong to takes none: it is full, or forbidden.
//!
//! The transport keeps them and offers them again and again; the queue is worked on meanwhile, and so are the others. What is
//! left to do here is to say so: once when it begins, once when it is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use super::pool::Pool;
use crate::{
    clock::Instant,
    error::Code,
    logging::Level,
    master::core::{Core, UNREACHABLE_LIMIT},
    transport,
};

/// Health does not speak of what is over sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// The queues that take nothing of one queue.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Stuck(BTreeMap<String, Untaken>);

#[derive(Debug)]
struct Untaken {
    since: Instant,
    error: String,
    /// What was said of it, so that causes that take turns are not said again and again.
    said: BTreeSet<String>,
    tasks: u32,
}

impl Stuck {
    /// How many tasks are held up.
    pub(in crate::master::core) fn tasks(&self) -> u64 {
        self.0.values().map(|untaken| u64::from(untaken.tasks)).sum()
    }

    /// The one that takes nothing for longest.
    fn oldest(&self) -> Option<&Untaken> {
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

impl Core {
    /// So many tasks of a queue are held up by another; 0: none any more.
    pub(in crate::master::core) fn queue_stuck(
        &mut self,
        index: usize,
        by: &str,
        error: &transport::Error,
        tasks: u32,
    ) {
        let now = self.now.at;
        let pool = &mut self.pools[index];
        let name = pool.name().to_owned();
        if tasks == 0 {
            let Some(over) = pool.stuck.0.remove(by) else { return };
            let seconds = now.since(over.since).as_secs_f64();
            self.log(Level::Info, || format!("Queue {by} takes tasks of queue {name} again, after {seconds:.1} s"));
            return;
        }
        let error = error.to_string();
        let new = || Untaken { since: now, error: String::new(), said: BTreeSet::new(), tasks };
        let untaken = pool.stuck.0.entry(by.to_owned()).or_insert_with(new);
        (untaken.tasks, untaken.error) = (tasks, error.clone());
        if untaken.said.insert(error.clone()) {
            self.log(Level::Warning, || {
                format!("Tasks of queue {name} that have ended are stuck: {error}; they are kept, and offered again and again")
            });
        }
    }

    /// Nothing is offered any more: the tasks come again.
    pub(in crate::master::core) fn nothing_stuck(&mut self) {
        for pool in &mut self.pools {
            pool.stuck.0.clear();
        }
    }

    /// The queue that is stuck for longest.
    fn most_stuck(&self) -> Option<(&Pool, &Untaken)> {
        let stuck = self.members().filter_map(|pool| Some((pool, pool.stuck.oldest()?)));
        stuck.min_by_key(|(_, untaken)| untaken.since)
    }

    /// In halt mode, with nothing left but what is stuck: until when that is waited for. `None`: nothing is.
    pub(in crate::master::core) fn waits_for_stuck(&self) -> Option<Instant> {
        self.most_stuck().map(|(_, untaken)| untaken.since + UNREACHABLE_LIMIT)
    }

    /// What is stuck, to be named at the end of a run.
    pub(in crate::master::core) fn stuck_cause(&self) -> Option<String> {
        self.most_stuck().map(|(pool, untaken)| format!("tasks of queue {} are stuck: {}", pool.name(), untaken.error))
    }

    /// Ends a run that has done all but that.
    pub(in crate::master::core) fn end_stuck(&mut self) {
        let Some(cause) = self.stuck_cause() else { return };
        let seconds = UNREACHABLE_LIMIT.as_secs();
        self.end_badly(Code::Unavailable, format!("for {seconds} s nothing else was left to do: {cause}"));
    }
}
