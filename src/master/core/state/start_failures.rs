//! Failed starts of the workers of one queue: when they park it, and when they end a run that halts when empty.

use std::{collections::VecDeque, time::Duration};

use crate::clock::Instant;

/// Failed starts within [`START_WINDOW`] that park a queue.
const FAILED_STARTS_TO_PARK: usize = 5;
/// Failed starts in a row that end a halt-mode run.
pub(in crate::master::core) const FAILED_STARTS_TO_HALT: u32 = 3;
const START_WINDOW: Duration = Duration::from_mins(1);

/// Failed starts of a queue's workers.
#[derive(Debug, Default)]
pub(in crate::master::core) struct StartFailures {
    failed_at: VecDeque<Instant>,
    in_a_row: u32,
    /// The last one was told by an exit status: a process that runs says nothing yet.
    known_by_exit: bool,
    /// In this trial a task was passed over.
    passed_over: bool,
}

impl StartFailures {
    pub(in crate::master::core) fn succeeded(&mut self) {
        self.in_a_row = 0;
        self.failed_at.clear();
        self.known_by_exit = false;
        self.passed_over = false;
    }

    /// Whether the trial of a parked queue goes on with another task: one a trial is passed over.
    pub(in crate::master::core) const fn passes_over(&mut self) -> bool {
        !std::mem::replace(&mut self.passed_over, true)
    }

    pub(in crate::master::core) const fn trial_is_over(&mut self) {
        self.passed_over = false;
    }

    /// Whether the last failure was told by an exit status.
    pub(in crate::master::core) const fn is_known_by_exit(&self) -> bool {
        self.known_by_exit
    }

    /// The next failure was told by an exit status.
    pub(in crate::master::core) const fn known_by_exit(&mut self) {
        self.known_by_exit = true;
    }

    pub(in crate::master::core) fn failed(&mut self, now: Instant) {
        self.in_a_row += 1;
        self.failed_at.push_back(now);
        while self.failed_at.front().is_some_and(|at| now.since(*at) > START_WINDOW) {
            self.failed_at.pop_front();
        }
    }

    pub(in crate::master::core) fn end_halt_mode(&self) -> bool {
        self.in_a_row >= FAILED_STARTS_TO_HALT
    }

    pub(in crate::master::core) fn park(&self) -> bool {
        self.failed_at.len() >= FAILED_STARTS_TO_PARK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn failed_starts_count_within_their_window() {
        let mut starts = StartFailures::default();
        for second in [0, 70, 80, 90, 100] {
            starts.failed(at(second * 1000));
        }
        assert!(starts.end_halt_mode());
        assert!(!starts.park());
        starts.failed(at(101_000));
        assert!(starts.park());
        starts.succeeded();
        assert!(!starts.park() && !starts.end_halt_mode());
    }
}
