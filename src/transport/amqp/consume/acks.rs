//! Which acknowledgements to send for one channel: pure.
//!
//! Delivery tags of a channel count up from 1. Everything up to the lowest tag that is still open goes with one
//! `multiple`; what ended above it goes one by one once it is old, or once much of the credit waits on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::clock::Instant;

/// Above the lowest open tag, what ended waits this long for the gap below it to close.
pub(crate) const MAX_ACK_DELAY: Duration = Duration::from_millis(5);

/// One acknowledgement to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
}

/// The tags of one channel. Only those that the broker waits for: behind a task that takes hours, thousands a second may
/// come and go, and must leave nothing here.
#[derive(Debug)]
pub(crate) struct Acks {
    /// The lowest tag that was not seen yet.
    next: u64,
    open: BTreeSet<u64>,
    /// Done with, and since when.
    ended: BTreeMap<u64, Instant>,
}

impl Acks {
    pub(crate) fn new() -> Self {
        Self { next: 1, open: BTreeSet::new(), ended: BTreeMap::new() }
    }

    /// A delivery came. While two consumers take turns on a channel, tags can be seen out of order; one that was
    /// not seen yet is as open as one that was.
    pub(crate) fn open(&mut self, tag: u64) {
        self.open.extend(self.next..=tag);
        self.next = self.next.max(tag + 1);
    }

    /// A delivery is done with and may be acknowledged.
    pub(crate) fn ended(&mut self, tag: u64, now: Instant) {
        let was_open = self.open.remove(&tag);
        debug_assert!(was_open, "a delivery is settled once");
        if was_open {
            self.ended.insert(tag, now);
        }
    }

    /// A delivery was given back to the broker.
    pub(crate) fn requeued(&mut self, tag: u64) {
        self.open.remove(&tag);
    }

    /// What to send now, in order. What is returned counts as sent.
    pub(crate) fn due(&mut self, now: Instant, credit: u32) -> Vec<Ack> {
        let mut due = Vec::new();
        let lowest_open = self.open.first().copied().unwrap_or(self.next);
        let above = self.ended.split_off(&lowest_open);
        let below = std::mem::replace(&mut self.ended, above);
        // Up to the last that ended, not to a given-back tag behind it: the broker no longer knows that one.
        due.extend(below.last_key_value().map(|(tag, _)| Ack { tag: *tag, multiple: true }));
        let many = self.ended.len() * 2 >= credit as usize;
        self.ended.retain(|tag, at| {
            let goes = many || now.since(*at) >= MAX_ACK_DELAY;
            if goes {
                due.push(Ack { tag: *tag, multiple: false });
            }
            !goes
        });
        due
    }

    /// Whether something waits for its time to be sent alone.
    pub(crate) fn waits(&self) -> bool {
        !self.ended.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn one_multiple_up_to_the_lowest_open_tag() {
        let mut acks = Acks::new();
        (1..=5).for_each(|tag| acks.open(tag));
        for tag in [1, 2, 3, 5] {
            acks.ended(tag, at(0));
        }
        assert_eq!(acks.due(at(0), 100), [Ack { tag: 3, multiple: true }]);
        assert_eq!(acks.due(at(4), 100), []);
        assert_eq!(acks.due(at(5), 100), [Ack { tag: 5, multiple: false }]);
        acks.ended(4, at(6));
        assert_eq!(acks.due(at(6), 100), [Ack { tag: 4, multiple: true }]);
        assert!(!acks.waits());
    }

    #[test]
    fn half_the_credit_does_not_wait() {
        let mut acks = Acks::new();
        (1..=4).for_each(|tag| acks.open(tag));
        acks.ended(3, at(0));
        assert_eq!(acks.due(at(0), 4), []);
        acks.ended(4, at(0));
        assert_eq!(acks.due(at(0), 4), [Ack { tag: 3, multiple: false }, Ack { tag: 4, multiple: false }]);
    }

    #[test]
    fn a_multiple_never_names_a_tag_that_was_given_back() {
        let mut acks = Acks::new();
        (1..=3).for_each(|tag| acks.open(tag));
        acks.ended(1, at(0));
        acks.requeued(2);
        assert_eq!(acks.due(at(0), 100), [Ack { tag: 1, multiple: true }]);
        acks.requeued(3);
        assert_eq!(acks.due(at(0), 100), []);
        acks.open(4);
        acks.ended(4, at(1));
        assert_eq!(acks.due(at(1), 100), [Ack { tag: 4, multiple: true }]);
    }

    #[test]
    fn behind_a_long_task_nothing_gathers() {
        let mut acks = Acks::new();
        acks.open(1);
        for tag in 2..10_000 {
            acks.open(tag);
            acks.ended(tag, at(tag));
            acks.due(at(tag + 5), 100);
        }
        assert_eq!((acks.open.len(), acks.ended.len()), (1, 0));
        acks.ended(1, at(20_000));
        assert_eq!(acks.due(at(20_000), 100), [Ack { tag: 1, multiple: true }]);
    }
}
