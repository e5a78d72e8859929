//! The core's chapter on what ended lately: told to whoever asks, kept for nobody else.
//!
//! ```text
//! ended, stored ── nobody asks: one branch
//!          └───── a queue's bucket has room: a record in its ring ── asked: numbers after the last one that was told
//!          └───── it has none: counted
//! ```
//!
//! No payload is ever told here, nor anything else of a task's body.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Core,
    ledger::End,
    state::rings::{Cause, Outcome, Record, Rings, Told},
};
use crate::task::{Failure, Settlement, Task};

/// Records in an answer, at most: a frame of some hundred KiB.
const MOST: usize = 256;

impl Core {
    /// What ended after the record of this number.
    pub(super) fn recent(&mut self, after: u64, most: Option<usize>) -> Value {
        let now = self.now.at;
        let most = most.unwrap_or(MOST).min(MOST);
        let before = self.recent_last;
        let rings = self.rings.get_or_insert_with(|| Box::new(Rings::new(now, before)));
        let Told { records, lost, last } = rings.told(now, after, most);
        let records: Vec<Value> = records.into_iter().map(shown).collect();
        let mut left_out: Map<String, Value> = Map::new();
        for ((queue, outcome), count) in rings.left_out() {
            let of_queue = left_out.entry(queue.clone()).or_insert_with(|| json!({}));
            of_queue[outcome.as_str()] = (*count).into();
        }
        json!({ "records": records, "lost": lost, "last": last, "left_out": left_out })
    }

    /// An end that nothing has to be stored for before it is true.
    pub(super) fn record_end(&mut self, end: &End<'_>) {
        if self.rings.is_none() {
            return;
        }
        let outcome = match end.settlement {
            Settlement::Done { .. } => Outcome::Done,
            Settlement::Snooze { .. } => Outcome::Snoozed,
            Settlement::Release => Outcome::Released,
            _ => return,
        };
        let waited = self.waited(&end.delivery.task, end.took);
        self.record(end.delivery.queue.0, outcome, |core, record| {
            let slot = end.slot.map(|slot| &core.slots[slot]);
            record.slot = slot.map(|slot| slot.name.clone());
            record.pid = slot.and_then(|slot| slot.process()).and_then(|life| life.pid);
            record.id.clone_from(&end.delivery.task.id);
            record.attempt = end.delivery.task.attempts.saturating_add(1);
            (record.waited, record.ran) = (waited, end.took);
        });
    }

    /// A retry or a dead letter is stored.
    pub(super) fn record_failure(&mut self, stored: &Stored<'_>) {
        let Stored { queue, id, is_dead, waited, took, failure } = *stored;
        let outcome = if is_dead { Outcome::Dead } else { Outcome::Retried };
        self.record(queue, outcome, |_, record| {
            id.clone_into(&mut record.id);
            (record.pid, record.attempt, record.waited, record.ran) = (failure.pid, failure.attempts, waited, took);
            record.failure = Some(Box::new(Cause::of(failure)));
        });
    }

    /// Whether failures are to be told to [`Self::record_failure`].
    pub(super) const fn records_failures(&self) -> bool {
        self.rings.is_some()
    }

    /// How long a task was due before it was begun, if it has just ended after so long in a worker's hands.
    pub(super) fn waited(&self, task: &Task, took: Duration) -> Option<Duration> {
        Some(self.now.wall.remaining(task.due_at?).saturating_sub(took))
    }

    /// Makes and keeps a record, if there is room for one.
    fn record(&mut self, queue: usize, outcome: Outcome, fill: impl FnOnce(&Self, &mut Record)) {
        let Some(mut rings) = self.rings.take() else { return };
        self.recent_last = rings.last();
        if rings.is_unwanted(self.now.at) {
            return;
        }
        let settings = &self.pools[queue].plan.settings;
        if rings.admits(self.now.at, queue, &settings.name, outcome) {
            let mut record = Record::of(self.now.wall, &settings.name, &settings.kind, outcome);
            fill(self, &mut record);
            rings.push(record);
        }
        self.rings = Some(rings);
    }
}

/// A retry or a dead letter that is stored.
pub(super) struct Stored<'a> {
    pub(super) queue: usize,
    pub(super) id: &'a str,
    pub(super) is_dead: bool,
    pub(super) waited: Option<Duration>,
    pub(super) took: Duration,
    pub(super) failure: &'a Failure,
}

fn shown(record: &Record) -> Value {
    let mut shown = json!({
        "number": record.number,
        "at": jiff::Timestamp::from_millisecond(record.at.0).unwrap_or_default().to_string(),
        "queue": record.queue,
        "kind": record.kind,
        "slot": record.slot,
        "pid": record.pid,
        "id": record.id,
        "attempt": record.attempt,
        "outcome": record.outcome.as_str(),
        "waited_seconds": record.waited.map(|waited| waited.as_secs_f64()),
        "ran_seconds": record.ran.as_secs_f64(),
    });
    if let Some(cause) = &record.failure {
        shown["reason"] = cause.reason.as_str().into();
        shown["fingerprint"] = cause.fingerprint.as_str().into();
        shown["error"] = cause.error.as_str().into();
        shown["exit"] = json!(cause.exit);
        shown["oom"] = json!(cause.oom);
        shown["max_rss_bytes"] = json!(cause.max_rss_bytes);
    }
    shown
}
