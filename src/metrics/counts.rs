//! The counters of one queue. Plain numbers in the core, which owns them: counting a task is an addition or two, and
//! nothing is locked, allocated or looked up for it. They are copied for each page.

use std::time::Duration;

use crate::task::{Reason, Settlement};

/// Upper ends of the buckets of times, in seconds; what is longer falls into one more.
pub const BOUNDS: [f64; 15] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0];

/// The same for jobs and their steps, which may take weeks.
pub const JOB_BOUNDS: [f64; 15] = [
    0.1,
    1.0,
    10.0,
    60.0,
    300.0,
    900.0,
    1800.0,
    3600.0,
    10_800.0,
    21_600.0,
    43_200.0,
    86_400.0,
    259_200.0,
    604_800.0,
    1_209_600.0,
];

/// How many times fell into which bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// One a bucket, none included in the next; the last is beyond all bounds.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Times {
    /// Counts one.
    pub fn observe(&mut self, time: Duration) {
        self.observe_among(&BOUNDS, time);
    }

    /// Counts one among buckets that end there: always the same for one value.
    pub fn observe_among(&mut self, bounds: &[f64; BOUNDS.len()], time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = bounds.iter().position(|bound| seconds <= *bound).unwrap_or(bounds.len());
        self.buckets[bucket] += 1;
        self.sum = self.sum.saturating_add(time);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Why a worker process had to be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It died with a task in its hands.
    Crash,
    /// It was killed at a task's time limit.
    Timeout,
    /// It broke the protocol, and was killed for that.
    Fault,
    /// A person cancelled a task that it held, or the job of one.
    Cancelled,
    /// It was idle and did not answer a ping, and was killed for that.
    Silent,
    /// It died with nothing in its hands.
    Idle,
    /// It ended before it was ready, or could not be made.
    Start,
    /// It had done its number of tasks, or was too large or too old.
    Recycle,
    /// New workers were asked for.
    Renewal,
}

impl Cause {
    /// Each of them.
    pub const ALL: [Self; 9] = [
        Self::Crash,
        Self::Timeout,
        Self::Fault,
        Self::Cancelled,
        Self::Silent,
        Self::Idle,
        Self::Start,
        Self::Recycle,
        Self::Renewal,
    ];

    /// The word that stands in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::Fault => "fault",
            Self::Cancelled => "cancelled",
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::Start => "start",
            Self::Recycle => "recycle",
            Self::Renewal => "renewal",
        }
    }
}

/// What happened in one queue since the run began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Tasks done. One whose follow-ups could not be stored counts here, too, beside what became of it: what is counted
    /// never goes down.
    pub done: u64,
    /// Times a task was put off without an attempt.
    pub snoozed: u64,
    /// Times a task went from a worker's hands back to its queue without an attempt.
    pub released: u64,
    /// Attempts that failed and are made again, by [`Reason`].
    pub retried: [u64; Reason::ALL.len()],
    /// Dead letters, by [`Reason`].
    pub dead: [u64; Reason::ALL.len()],
    /// Workers started again, by [`Cause`].
    pub restarts: [u64; Cause::ALL.len()],
    /// How long tasks were in a worker's hands until they had an outcome.
    pub ran: Times,
    /// How long tasks that were due waited for a worker.
    pub waited: Times,
}

impl Counts {
    /// A task that was in hand for so long is to be settled so. What must be stored first counts by [`Counts::stored`].
    pub fn settled(&mut self, took: Duration, settlement: &Settlement) {
        let ran = match settlement {
            Settlement::Done { .. } => {
                self.done += 1;
                true
            }
            Settlement::Snooze { .. } => {
                self.snoozed += 1;
                true
            }
            Settlement::Retry { failure, .. } | Settlement::Dead(failure) => failure.in_hand_seconds.is_some(),
            Settlement::Release => {
                self.released += 1;
                false
            }
            Settlement::Accept | Settlement::Pass | Settlement::Discard => false,
        };
        if ran {
            self.ran.observe(took);
        }
    }

    /// A retry or a dead letter for this reason is stored.
    pub const fn stored(&mut self, reason: Reason, is_dead: bool) {
        if is_dead {
            self.dead[reason as usize] += 1;
        } else {
            self.retried[reason as usize] += 1;
        }
    }

    /// A worker has to be started again.
    pub const fn restarted(&mut self, cause: Cause) {
        self.restarts[cause as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, task::Failure};

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let mut times = Times::default();
        for milliseconds in [0, 1, 2, 3_600_000, 3_600_001] {
            times.observe(Duration::from_millis(milliseconds));
        }
        assert_eq!((times.buckets[0], times.buckets[1], times.buckets[14], times.buckets[15]), (2, 1, 1, 1));
        assert_eq!((times.count(), times.sum), (5, Duration::from_millis(7_200_004)));
        times.observe(Duration::MAX);
        assert_eq!(times.sum, Duration::MAX);
    }

    #[test]
    fn words_stand_at_their_own_places() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place);
        }
    }

    #[test]
    fn what_was_not_run_has_no_time() {
        let mut counts = Counts::default();
        let second = Duration::from_secs(1);
        let failure = Failure::new(Reason::Expired, "late", Timestamp(0));
        counts.settled(second, &Settlement::Dead(Box::new(failure.clone())));
        counts.settled(second, &Settlement::Release);
        assert_eq!((counts.ran.count(), counts.dead[Reason::Expired as usize], counts.released), (0, 0, 1));
        counts.stored(Reason::Expired, true);
        assert_eq!((counts.dead[Reason::Expired as usize], counts.retried[Reason::Expired as usize]), (1, 0));
        let failure = Failure { in_hand_seconds: Some(1.0), ..failure };
        counts.settled(second, &Settlement::Dead(Box::new(failure)));
        counts.settled(second, &Settlement::Done { submit: Vec::new() });
        assert_eq!((counts.ran.count(), counts.done), (2, 1));
    }
}
