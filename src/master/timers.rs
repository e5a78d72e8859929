//! Deadlines: at most one armed entry per owner, so that a task costs nothing that grows with the number of
//! slots or queues.
//!
//! An owner (a slot, a queue, the stop) arms the earliest moment at which it wants to be looked at. A later
//! moment while an earlier one is armed changes nothing: when that one comes, the owner is looked at, finds
//! that nothing is due, and arms what is. A deadline that vanished costs one look, never a search.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use crate::clock::Instant;

/// Who wants to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A slot: start limit, restart delay, a task's time limit, a kill.
    Slot(usize),
    /// A queue: rate limit, end of a pause, a look at its credit.
    Queue(usize),
    /// The stop: end of the grace, of the patience after a kill.
    Stop,
    /// The next survey, or the limit of an outage.
    Survey,
    /// The line of those who are to be started: it may have stood still for too long.
    Starts,
    /// The limit of a stall.
    Stall,
    /// Verdicts that wait for a stop to explain them.
    Verdicts,
    /// Pings: the next round, or the end of the wait for answers.
    Pings,
}

/// The armed deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Owner)>>,
    armed: HashMap<Owner, Instant>,
}

impl Timers {
    /// Have `owner` looked at no later than `at`.
    pub(super) fn arm(&mut self, owner: Owner, at: Instant) {
        let earlier = self.armed.get(&owner).is_some_and(|armed| *armed <= at);
        if !earlier {
            self.armed.insert(owner, at);
            self.heap.push(Reverse((at, owner)));
        }
    }

    /// The earliest armed moment.
    pub(super) fn next(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, owner))) = self.heap.peek() {
            if self.armed.get(owner) == Some(at) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next owner whose moment has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<Owner> {
        let at = self.next()?;
        if at > now {
            return None;
        }
        let Reverse((_, owner)) = self.heap.pop()?;
        self.armed.remove(&owner);
        Some(owner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn an_owner_is_looked_at_at_its_earliest_moment_and_once() {
        let mut timers = Timers::default();
        timers.arm(Owner::Slot(1), at(50));
        timers.arm(Owner::Slot(1), at(90));
        timers.arm(Owner::Slot(1), at(20));
        timers.arm(Owner::Stop, at(30));
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.due(at(19)), None);
        assert_eq!(timers.due(at(100)), Some(Owner::Slot(1)));
        assert_eq!(timers.due(at(100)), Some(Owner::Stop));
        assert_eq!(timers.due(at(100)), None);
        assert_eq!(timers.next(), None);
    }
}
