//! Deadlines: at most one armed entry per owner, so that a task costs nothing that grows with the number of
//! slots or queues.
//!
//! An owner (a slot, a queue, the stop) arms the earliest moment at which it wants to be looked at. A later
//! moment while an earlier one is armed changes nothing: when that one comes, the owner is looked at, finds
//! that nothing is due, and arms what is. A deadline that vanished costs one look, never a search.
//!
//! Limits stand in a line of their own: somebody is judged when one passes, so whoever drives the core takes everything
//! that has come before that. The others are looks, which come with the pace of tasks (a rate, credit for short ones, a
//! survey) or start somebody, and judge nobody.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use foldhash::fast::RandomState;

use crate::clock::Instant;

/// Who wants to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::master::core) enum Owner {
    /// A slot: start limit, a task's time limit, a kill.
    Slot(usize),
    /// A slot whose worker was sent tasks ahead: they are recalled if the one in hand takes long.
    Ahead(usize),
    /// A slot that waits before its next start.
    Restart(usize),
    /// A queue: rate limit, end of a pause, a look at its credit.
    Queue(usize),
    /// The stop: end of the grace, of the patience after a kill.
    Stop,
    /// The next survey.
    Survey,
    /// The limit of an outage, in halt mode.
    Outage,
    /// The line of those who are to be started: nobody may have started for too long.
    Starts,
    /// The limit of a stall.
    Stall,
    /// Verdicts that wait for a stop to explain them.
    Verdicts,
    /// The next round of pings.
    Pings,
    /// The end of the wait for answers to pings.
    Answers,
}

impl Owner {
    const fn is_limit(self) -> bool {
        !matches!(self, Self::Ahead(_) | Self::Queue(_) | Self::Restart(_) | Self::Survey | Self::Pings | Self::Starts)
    }
}

/// The armed deadlines.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Timers {
    limits: Deadlines,
    looks: Deadlines,
}

#[derive(Debug, Default)]
struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, Owner)>>,
    armed: HashMap<Owner, Instant, RandomState>,
}

impl Timers {
    /// Have `owner` looked at no later than `at`.
    pub(in crate::master::core) fn arm(&mut self, owner: Owner, at: Instant) {
        if owner.is_limit() { &mut self.limits } else { &mut self.looks }.arm(owner, at);
    }

    /// When this owner is to be looked at.
    pub(in crate::master::core) fn armed(&self, owner: Owner) -> Option<Instant> {
        let deadlines = if owner.is_limit() { &self.limits } else { &self.looks };
        deadlines.armed.get(&owner).copied()
    }

    /// The earliest armed moment.
    pub(in crate::master::core) fn next(&mut self) -> Option<Instant> {
        [self.limits.next(), self.looks.next()].into_iter().flatten().map(|(at, _)| at).min()
    }

    /// The earliest armed limit.
    pub(in crate::master::core) fn next_limit(&mut self) -> Option<Instant> {
        self.limits.next().map(|(at, _)| at)
    }

    /// Takes the next owner whose moment has come.
    pub(in crate::master::core) fn due(&mut self, now: Instant) -> Option<Owner> {
        match (self.limits.next(), self.looks.next()) {
            (Some(limit), look) if look.is_none_or(|look| limit <= look) => self.limits.due(now),
            _ => self.looks.due(now),
        }
    }

    /// Takes the next owner whose limit has come.
    pub(in crate::master::core) fn due_limit(&mut self, now: Instant) -> Option<Owner> {
        self.limits.due(now)
    }
}

impl Deadlines {
    fn arm(&mut self, owner: Owner, at: Instant) {
        let earlier = self.armed.get(&owner).is_some_and(|armed| *armed <= at);
        if !earlier {
            self.armed.insert(owner, at);
            self.heap.push(Reverse((at, owner)));
        }
    }

    fn next(&mut self) -> Option<(Instant, Owner)> {
        while let Some(Reverse((at, owner))) = self.heap.peek() {
            if self.armed.get(owner) == Some(at) {
                return Some((*at, *owner));
            }
            self.heap.pop();
        }
        None
    }

    fn due(&mut self, now: Instant) -> Option<Owner> {
        let (_, owner) = self.next().filter(|(at, _)| *at <= now)?;
        self.heap.pop();
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

    #[test]
    fn limits_are_told_from_looks_and_both_come_in_their_order() {
        let mut timers = Timers::default();
        timers.arm(Owner::Queue(0), at(10));
        timers.arm(Owner::Slot(0), at(20));
        timers.arm(Owner::Queue(1), at(30));
        assert_eq!((timers.next(), timers.next_limit()), (Some(at(10)), Some(at(20))));
        assert_eq!(timers.due_limit(at(19)), None);
        assert_eq!(timers.due_limit(at(40)), Some(Owner::Slot(0)));
        timers.arm(Owner::Slot(0), at(20));
        let order: Vec<_> = std::iter::from_fn(|| timers.due(at(40))).collect();
        assert_eq!(order, [Owner::Queue(0), Owner::Slot(0), Owner::Queue(1)]);
    }
}
