//! How long the tasks of a queue take, and how large they are: credit is raised for those that are short, and they are sent ahead.
//!
//! What is held beyond what the workers do at this moment is bounded in time: some 100 ms of a seat's work in the master, 4 ms of it
//! with the worker. The average is of the last 64 tasks, in which one that took long counts as [`LONGEST`].

use std::time::Duration;

use crate::clock::Instant;

/// Tasks that take less than this on the average are short, and so many are held for each seat. A faster level is taken below
/// its time, a slower one only above twice the time of the present one: a change of credit costs two questions to a broker.
const LEVELS: [(Duration, u32); 3] =
    [(Duration::from_micros(200), 256), (Duration::from_micros(1600), 32), (Duration::from_millis(5), 8)];
/// Tasks seen before any is called short.
const SHORT_AFTER: u32 = 16;
/// Tasks of which the average is made.
const REMEMBERED: u32 = 64;
/// Longer tasks count as long as this, so that a few among many short ones do not hide them.
const LONGEST: Duration = Duration::from_millis(20);
/// With raised credit: no task ended for this long, so they are not short any more.
pub(in crate::master::core) const LULL: Duration = Duration::from_millis(50);

/// Tasks are sent ahead while they take less than this on the average.
const AHEAD_BELOW: Duration = Duration::from_millis(2);
/// Those that one worker has beyond the one in hand take at most this long together, on the average.
const AHEAD: Duration = Duration::from_millis(4);
/// And are at most so many.
pub(in crate::master::core) const MOST_AHEAD: usize = 64;

/// How long the queue's tasks take and how large they are, on the average of late.
#[derive(Debug, Default)]
pub(in crate::master::core) struct TaskDurations {
    seen: u32,
    mean: Duration,
    /// Position in [`LEVELS`]; `None`: they are not short.
    level: Option<usize>,
    pub(in crate::master::core) mean_body: u64,
    /// When a task last ended.
    pub(in crate::master::core) ended_at: Instant,
}

impl TaskDurations {
    pub(in crate::master::core) fn ended(&mut self, now: Instant, took: Duration, body: usize) {
        self.seen = self.seen.saturating_add(1);
        let weight = self.seen.min(REMEMBERED);
        self.mean = (self.mean * (weight - 1) + took.min(LONGEST)) / weight;
        self.mean_body = (self.mean_body * 7 + body as u64) / 8;
        self.ended_at = now;
        self.level = self.next_level();
    }

    fn next_level(&self) -> Option<usize> {
        if self.seen < SHORT_AFTER {
            return None;
        }
        let fitting = LEVELS.iter().position(|(below, _)| self.mean < *below);
        match self.level {
            Some(present) if fitting.is_none_or(|level| level > present) && self.mean <= 2 * LEVELS[present].0 => {
                Some(present)
            }
            _ => fitting,
        }
    }

    /// How many tasks are held for each seat: 1 while they are not short.
    pub(in crate::master::core) fn per_seat(&self) -> u32 {
        self.level.map_or(1, |level| LEVELS[level].1)
    }

    /// How many tasks a worker may have beyond the one in hand.
    pub(in crate::master::core) fn ahead(&self) -> usize {
        if self.level.is_none() || self.mean >= AHEAD_BELOW {
            return 0;
        }
        // One that takes no time at all is counted as if it took a nanosecond.
        let fitting = AHEAD.as_nanos() / self.mean.as_nanos().max(1);
        usize::try_from(fitting).unwrap_or(MOST_AHEAD).min(MOST_AHEAD)
    }

    /// Nothing ended for a while: begin to measure anew.
    pub(in crate::master::core) fn lulled(&mut self) {
        self.seen = 0;
        self.level = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// After so many tasks of each of these durations.
    fn after(tasks: impl IntoIterator<Item = (u32, Duration)>) -> TaskDurations {
        let mut durations = TaskDurations::default();
        for (count, took) in tasks {
            for _ in 0..count {
                durations.ended(Instant::default(), took, 100);
            }
        }
        durations
    }

    #[test]
    fn what_is_held_is_bounded_in_time() {
        let held = |took| {
            let durations = after([(100, took)]);
            (durations.per_seat(), durations.ahead())
        };
        assert_eq!(held(Duration::from_micros(10)), (256, 64));
        assert_eq!(held(Duration::from_micros(500)), (32, 8));
        assert_eq!(held(MS * 11 / 10), (32, 3));
        assert_eq!(held(MS * 3), (8, 0));
        assert_eq!(held(MS * 6), (1, 0));
        assert_eq!(after([(SHORT_AFTER - 1, MS)]).per_seat(), 1, "not known yet");
        assert_eq!(after([(0, MS)]).ahead(), 0);
    }

    #[test]
    fn a_level_is_left_only_for_good_reason() {
        // 64 tasks are an average of their own, more or less.
        assert_eq!(after([(100, MS), (300, MS * 3)]).per_seat(), 32);
        assert_eq!(after([(100, MS), (300, MS * 4)]).per_seat(), 8);
        assert_eq!(after([(100, MS * 3), (300, MS * 9)]).per_seat(), 8);
        assert_eq!(after([(100, MS * 3), (300, MS * 11)]).per_seat(), 1);
        assert_eq!(after([(100, MS * 3), (300, MS / 10)]).per_seat(), 256);
    }

    #[test]
    fn a_few_long_tasks_do_not_hide_many_short_ones_and_many_do() {
        let hour = Duration::from_hours(1);
        assert_eq!(after([(100, MS), (2, hour)]).per_seat(), 32);
        assert_eq!(after([(100, MS), (64, hour)]).per_seat(), 1);
        let mut durations = after([(100, MS)]);
        durations.lulled();
        assert_eq!((durations.per_seat(), durations.ahead()), (1, 0));
    }
}
