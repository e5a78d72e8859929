//! How long the tasks of a queue take, and how large they are: credit is raised for those that are short, and they are sent ahead.

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

/// Tasks that one worker has beyond the one in hand take at most this long together, on the average.
const AHEAD: Duration = Duration::from_millis(4);
/// And are at most so many.
pub(in crate::master::core) const MOST_AHEAD: usize = 64;

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

    /// How many tasks a worker may have beyond the one in hand.
    pub(in crate::master::core) fn ahead(&self) -> usize {
        if !self.short {
            return 0;
        }
        // One that takes no time at all is counted as if it took a nanosecond.
        let fitting = AHEAD.as_nanos() / self.mean.as_nanos().max(1);
        usize::try_from(fitting).unwrap_or(MOST_AHEAD).min(MOST_AHEAD)
    }

    /// Nothing ended for a while: begin to measure anew.
    pub(in crate::master::core) fn lulled(&mut self) {
        self.seen = 0;
        self.short = false;
    }
}
