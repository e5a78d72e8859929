//! The keys of deliveries (`unique`): which delivery has each, which are asked for, and how long others are put off.
//!
//! A key has one holder at any time, and goes with the settlement of its delivery.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    clock::Instant,
    task::{Delivery, Handle},
};

/// Time between the returns of two tasks with one key that are put off.
const SPACING: Duration = Duration::from_millis(50);
/// Longest time for which a task is put off, unless the settings have a longer `after`.
const LONGEST: Duration = Duration::from_mins(1);

/// The keys of this core's deliveries.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Locks {
    /// Who has each key: held, or asked for.
    keys: HashMap<Arc<str>, Handle>,
    pub(in crate::master::core) held: HashMap<Handle, Lock>,
    /// Not answered yet, with their queues. Never more than there are seats.
    asked: HashMap<Handle, usize>,
    /// One that was asked for was let go unanswered: others may begin in its place.
    pub(in crate::master::core) freed: bool,
    /// When the last of those that were put off comes again, of each key.
    put_off: HashMap<Arc<str>, Instant>,
    /// As many of these are kept before those that are over are looked for.
    put_off_limit: usize,
}

#[derive(Debug)]
pub(in crate::master::core) struct Lock {
    key: Arc<str>,
    /// Id of the task.
    pub(in crate::master::core) id: String,
}

impl Locks {
    /// Keys that are asked for and not answered.
    pub(in crate::master::core) fn asked(&self) -> usize {
        self.asked.len()
    }

    pub(in crate::master::core) fn holder(&self, key: &str) -> Option<&Lock> {
        self.held.get(self.keys.get(key)?)
    }

    pub(in crate::master::core) fn ask(&mut self, index: usize, delivery: &Delivery, key: &str) {
        let (key, id): (Arc<str>, _) = (Arc::from(key), delivery.task.id.clone());
        self.keys.insert(Arc::clone(&key), delivery.handle);
        self.held.insert(delivery.handle, Lock { key, id });
        self.asked.insert(delivery.handle, index);
    }

    /// The answer came; the queue that it is for.
    pub(in crate::master::core) fn answered(&mut self, handle: Handle) -> Option<usize> {
        self.asked.remove(&handle)
    }

    /// The delivery is settled, or void before it was begun.
    pub(in crate::master::core) fn let_go(&mut self, handle: Handle) -> Option<Arc<str>> {
        if self.held.is_empty() {
            return None;
        }
        let lock = self.held.remove(&handle)?;
        self.freed |= self.answered(handle).is_some();
        self.keys.remove(&lock.key);
        debug_assert_eq!(self.keys.len(), self.held.len(), "a key has one holder");
        Some(lock.key)
    }

    /// For how long one more task with this key is put off, if it is to be at least `after`. However many wait for a key, they
    /// come one after the other, in their order: as many moves in a second as there are [`SPACING`]s, none later than
    /// [`LONGEST`].
    pub(in crate::master::core) fn put_off(&mut self, now: Instant, key: &str, after: Duration) -> Duration {
        let last = self.put_off.get(key).map_or(now, |last| *last + SPACING);
        let until = last.max(now + after).min(now + after.max(LONGEST));
        if self.put_off.len() >= self.put_off_limit {
            self.put_off.retain(|_, last| *last > now);
            self.put_off_limit = (2 * self.put_off.len()).max(1024);
        }
        self.put_off.insert(Arc::from(key), until);
        until.since(now)
    }

    /// What is found wrong with it.
    pub(in crate::master::core) fn check(&self) -> Result<(), String> {
        let has_its_key = |(handle, lock): (&Handle, &Lock)| self.keys.get(&lock.key) == Some(handle);
        let is_sound = self.keys.len() == self.held.len()
            && self.held.iter().all(has_its_key)
            && self.asked.keys().all(|handle| self.held.contains_key(handle));
        if is_sound { Ok(()) } else { Err(format!("keys and their holders do not agree: {self:?}")) }
    }

    /// A task in hand came again, under another handle.
    pub(in crate::master::core) fn adopted(&mut self, old: Handle, new: Handle) {
        if let Some(lock) = self.held.remove(&old) {
            self.keys.insert(Arc::clone(&lock.key), new);
            self.held.insert(new, lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_wait_for_a_key_they_come_one_after_the_other_and_within_a_minute() {
        let mut locks = Locks::default();
        let at = |ms| crate::clock::Instant::from_start(Duration::from_millis(ms));
        let after = Duration::from_secs(5);
        assert_eq!(locks.put_off(at(0), "a", after), after);
        assert_eq!(locks.put_off(at(0), "a", after), after + Duration::from_millis(50));
        assert_eq!(locks.put_off(at(0), "b", after), after, "another key's are none of its business");
        let waits: Vec<Duration> = (0..100_000).map(|_| locks.put_off(at(100), "a", after)).collect();
        assert!(waits.is_sorted() && waits[99_999] == Duration::from_mins(1));
        let hours = Duration::from_hours(2);
        assert_eq!(locks.put_off(at(100), "a", hours), hours, "the settings say so");
        assert_eq!(locks.put_off(at(9_000_000), "a", after), after, "the crowd is gone");
        for key in 0..5000 {
            locks.put_off(at(9_000_000 + key * 1000), &key.to_string(), after);
        }
        assert!(locks.put_off.len() < 1100, "{}", locks.put_off.len());
    }
}
