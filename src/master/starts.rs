//! Failed starts of a queue's workers, as far as they park it or end the run.

use std::{collections::VecDeque, time::Duration};

use crate::clock::Instant;

/// Failed starts within [`START_WINDOW`] that park a queue.
const FAILED_STARTS_TO_PARK: usize = 5;
/// Failed starts in a row that end a halt-mode run.
const FAILED_STARTS_TO_HALT: u32 = 3;
const START_WINDOW: Duration = Duration::from_mins(1);

/// Failed starts of a queue's workers.
#[derive(Debug, Default)]
pub(super) struct Starts {
    failed_at: VecDeque<Instant>,
    in_a_row: u32,
    /// The last one was told by an exit status: a process that runs says nothing yet.
    known_by_exit: bool,
}

impl Starts {
    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
        self.failed_at.clear();
        self.known_by_exit = false;
    }

    /// A process for one task runs, which was the start, unless that is known at its end only.
    pub(super) fn begun(&mut self) {
        if !self.known_by_exit {
            self.succeeded();
        }
    }

    /// The next failure was told by an exit status.
    pub(super) const fn known_by_exit(&mut self) {
        self.known_by_exit = true;
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.in_a_row += 1;
        self.failed_at.push_back(now);
        while self.failed_at.front().is_some_and(|at| now.since(*at) > START_WINDOW) {
            self.failed_at.pop_front();
        }
    }

    pub(super) fn end_halt_mode(&self) -> bool {
        self.in_a_row >= FAILED_STARTS_TO_HALT
    }

    pub(super) fn park(&self) -> bool {
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
        let mut starts = Starts::default();
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
