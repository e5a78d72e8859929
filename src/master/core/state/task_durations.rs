//! How long the tasks of a queue take, and how large they are: credit is raised for those that are short.

use std::time::Duration;

use crate::clock::Instant;

/// Tasks are short below this on the average …
const SHORT: Duration = Duration::from_millis(1);
/// … until they are above this: a credit that swings costs more than it brings.
const LONG: Duration = Duration::from_millis(4);
/// Tasks seen before the credit is raised.
const SHORT_AFTER: u32 = 16;
/// With raised credit: no task ended for this long, so they are not short any more.
pub(in crate::master::core) const LULL: Duration = Duration::from_millis(50);

/// How long the queue's tasks take and how large they are, on the average of late.
#[derive(Debug, Default)]
pub(in crate::master::core) struct TaskDurations {
    seen: u32,
    mean: Duration,
    short: bool,
    pub(in crate::master::core) mean_body: u64,
    /// When a task last ended.
    pub(in crate::master::core) ended_at: Instant,
}

impl TaskDurations {
    pub(in crate::master::core) fn ended(&mut self, now: Instant, took: Duration, body: usize) {
        self.seen = self.seen.saturating_add(1);
        self.mean = (self.mean * 7 + took) / 8;
        self.mean_body = (self.mean_body * 7 + body as u64) / 8;
        self.ended_at = now;
        self.short = self.seen >= SHORT_AFTER && self.mean < if self.short { LONG } else { SHORT };
    }

    pub(in crate::master::core) fn is_short(&self) -> bool {
        self.short
    }

    /// Nothing ended for a while: begin to measure anew.
    pub(in crate::master::core) fn lulled(&mut self) {
        self.seen = 0;
        self.short = false;
    }
}
