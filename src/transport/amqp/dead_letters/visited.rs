//! Which dead letters a walk has seen and left: they come again after each time that all were given back.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::transport::DeadLetter;

/// Those that were left, by what tells them apart; two that are the same in all of it may stand for each other.
#[derive(Debug, Default)]
pub(crate) struct VisitedLetters {
    all: HashMap<u64, u32>,
    /// Of these, those that have not come again since all were given back, and their number.
    to_come: HashMap<u64, u32>,
    left: u64,
}

impl VisitedLetters {
    /// One more was seen and left.
    pub(crate) fn add(&mut self, letter: &DeadLetter) {
        *self.all.entry(name(letter)).or_default() += 1;
    }

    /// All were given back.
    pub(crate) fn begin_again(&mut self) {
        self.to_come = self.all.clone();
        self.left = self.all.values().map(|count| u64::from(*count)).sum();
    }

    /// Whether this one was seen before, and comes again now. Those that were left come before all others: once another
    /// one comes, the rest of them is gone (expired, or taken by another consumer).
    pub(crate) fn meet(&mut self, letter: &DeadLetter) -> bool {
        if self.left == 0 {
            return false;
        }
        let Some(count) = self.to_come.get_mut(&name(letter)).filter(|count| **count > 0) else {
            self.forget_the_rest();
            return false;
        };
        *count -= 1;
        self.left -= 1;
        true
    }

    fn forget_the_rest(&mut self) {
        for (name, gone) in self.to_come.drain() {
            if let Some(count) = self.all.get_mut(&name) {
                *count -= gone;
            }
        }
        self.all.retain(|_, count| *count > 0);
        self.left = 0;
    }

    /// How many are to come again.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }
}

/// What the broker changes with each return is no part of it.
fn name(letter: &DeadLetter) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&letter.id, &letter.queue, &letter.reason, letter.failure.failed_at, &letter.body).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;
    use crate::transport::{DeadQueue, amqp::message::dead_letter};

    fn letter(id: &'static str) -> DeadLetter {
        dead_letter::read(&BasicProperties::default().with_message_id(id.into()), b"body", &DeadQueue::of("foo"))
    }

    #[test]
    fn what_was_left_is_known_once_for_each_time_that_it_was_left() {
        let mut kept = VisitedLetters::default();
        for id in ["a", "b", "a"] {
            assert!(!kept.meet(&letter(id)));
            kept.add(&letter(id));
        }
        for _ in 0..2 {
            kept.begin_again();
            assert_eq!(kept.left(), 3);
            assert!(kept.meet(&letter("a")) && kept.meet(&letter("b")) && kept.meet(&letter("a")));
            assert_eq!(kept.left(), 0);
            assert!(!kept.meet(&letter("a")));
        }
    }

    #[test]
    fn behind_another_one_none_of_them_is_to_come() {
        let mut kept = VisitedLetters::default();
        for id in ["a", "b", "b", "c"] {
            kept.add(&letter(id));
        }
        kept.begin_again();
        assert!(kept.meet(&letter("b")) && !kept.meet(&letter("d")));
        assert_eq!(kept.left(), 0);
        kept.begin_again();
        assert_eq!(kept.left(), 1);
        assert!(kept.meet(&letter("b")));
    }
}
