//! Which acknowledgements to send for one channel: pure.
//!
//! Delivery tags of a channel count up from 1. Everything up to the lowest tag that is still open goes with one
//! `multiple`; what ended above it goes one by one once it is old, or once much of the credit waits on it.

use std::{collections::VecDeque, time::Duration};

use crate::clock::Instant;

/// Above the lowest open tag, what ended waits this long for the gap below it to close.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tag {
    Open,
    Ended(Instant),
    /// Acknowledged alone, or given back.
    Gone,
}

/// One acknowledgement to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: u64,
    pub(super) multiple: bool,
}

/// The tags of one channel.
#[derive(Debug)]
pub(super) struct Acks {
    /// The tag of the front entry.
    first: u64,
    tags: VecDeque<Tag>,
    waiting: usize,
}

impl Acks {
    pub(super) fn new() -> Self {
        Self { first: 1, tags: VecDeque::new(), waiting: 0 }
    }

    /// A delivery came. While two consumers take turns on a channel, tags can be seen out of order; one that was
    /// not seen yet is as open as one that was.
    pub(super) fn open(&mut self, tag: u64) {
        while self.first + (self.tags.len() as u64) <= tag {
            self.tags.push_back(Tag::Open);
        }
    }

    fn entry(&mut self, tag: u64) -> Option<&mut Tag> {
        let position = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        self.tags.get_mut(position)
    }

    /// A delivery is done with and may be acknowledged.
    pub(super) fn ended(&mut self, tag: u64, now: Instant) {
        if let Some(entry) = self.entry(tag) {
            debug_assert_eq!(*entry, Tag::Open, "a delivery is settled once");
            *entry = Tag::Ended(now);
            self.waiting += 1;
        }
    }

    /// A delivery was given back to the broker.
    pub(super) fn gone(&mut self, tag: u64) {
        if let Some(entry) = self.entry(tag) {
            *entry = Tag::Gone;
        }
    }

    /// What to send now, in order. What is returned counts as sent.
    pub(super) fn due(&mut self, now: Instant, credit: u32) -> Vec<Ack> {
        let mut due = Vec::new();
        let mut upto = None;
        while let Some(front) = self.tags.front() {
            match front {
                Tag::Open => break,
                Tag::Ended(_) => {
                    upto = Some(self.first);
                    self.waiting -= 1;
                }
                Tag::Gone => {}
            }
            self.tags.pop_front();
            self.first += 1;
        }
        // Up to the last that ended, not to a given-back tag behind it: the broker no longer knows that one.
        due.extend(upto.map(|tag| Ack { tag, multiple: true }));
        if self.waiting > 0 {
            let many = self.waiting * 2 >= credit as usize;
            for (position, entry) in self.tags.iter_mut().enumerate() {
                if let Tag::Ended(at) = *entry
                    && (many || now.since(at) >= PATIENCE)
                {
                    *entry = Tag::Gone;
                    self.waiting -= 1;
                    due.push(Ack { tag: self.first + position as u64, multiple: false });
                }
            }
        }
        due
    }

    /// Whether something waits for its time to be sent alone.
    pub(super) fn waits(&self) -> bool {
        self.waiting > 0
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
        acks.gone(2);
        assert_eq!(acks.due(at(0), 100), [Ack { tag: 1, multiple: true }]);
        acks.gone(3);
        assert_eq!(acks.due(at(0), 100), []);
        acks.open(4);
        acks.ended(4, at(1));
        assert_eq!(acks.due(at(1), 100), [Ack { tag: 4, multiple: true }]);
    }
}
