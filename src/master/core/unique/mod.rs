//! The core's chapter on keys: of tasks with the same key (`unique`), one is in hand at a time.
//!
//! ```text
//! waiting ── its key is free here ── asked for, Action::Lock ── Locked ──> begun ── settled ──> free
//!    └── held here, or by another master ──> snoozed, dropped or dead-lettered
//! ```
//!
//! What this core holds it knows by itself; whether another master holds the key, the transport says, as far as it can
//! see others. A key belongs to a delivery and ends with its settlement, whatever that is; the transport lets go of it in
//! the same step. A queue without `unique` costs nothing here.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{Core, event::Action, state::slot::Life};
use crate::{
    clock::Instant,
    logging::Level,
    task::{Delivery, Handle, Reason, Settlement},
    unique::{Conflict, Unique},
};

/// Between two tasks with one key that are put off.
const SPACING: Duration = Duration::from_millis(50);
/// No task is put off for longer, but where the settings say so.
const LONGEST: Duration = Duration::from_mins(1);

/// What was delivered to a queue and not begun. Those that wait for an answer about their keys lie apart, so that a task
/// costs the same however many they are.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// What can be looked at, in its order.
    line: VecDeque<Delivery>,
    /// Their keys are asked for. In the order of their handles: a run is to be the same each time.
    asked: BTreeMap<Handle, Delivery>,
}

impl Waiting {
    /// All of them.
    pub(super) fn len(&self) -> usize {
        self.line.len() + self.asked.len()
    }

    /// Whether there are none at all.
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.asked.is_empty()
    }

    /// Whether one can be looked at.
    pub(super) fn has_next(&self) -> bool {
        !self.line.is_empty()
    }

    /// The next one that can be looked at.
    pub(super) fn next(&mut self) -> Option<Delivery> {
        self.line.pop_front()
    }

    /// One more came.
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.line.push_back(delivery);
    }

    /// One is to be the next again.
    pub(super) fn put_back(&mut self, delivery: Delivery) {
        self.line.push_front(delivery);
    }

    /// Takes all of them. Whose keys were asked for comes first, as it did.
    pub(super) fn take_all(&mut self) -> Vec<Delivery> {
        let asked = std::mem::take(&mut self.asked);
        asked.into_values().chain(std::mem::take(&mut self.line)).collect()
    }

    /// Takes the one of a task.
    pub(super) fn take(&mut self, id: &str) -> Option<Delivery> {
        let asked = self.asked.iter().find(|(_, delivery)| delivery.task.id == id).map(|(handle, _)| *handle);
        if let Some(handle) = asked {
            return self.asked.remove(&handle);
        }
        let position = self.line.iter().position(|delivery| delivery.task.id == id)?;
        self.line.remove(position)
    }
}

/// The keys of this core's deliveries.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Who has each key: held, or asked for.
    keys: HashMap<Arc<str>, Handle>,
    held: HashMap<Handle, Lock>,
    /// Not answered yet, with their queues. Never more than there are seats.
    asked: HashMap<Handle, usize>,
    /// One that was asked for was let go unanswered: others may begin in its place.
    freed: bool,
    /// When the last of those that were put off comes again, of each key.
    put_off: HashMap<Arc<str>, Instant>,
    /// As many of these are kept before those that are over are looked for.
    put_off_limit: usize,
}

#[derive(Debug)]
struct Lock {
    key: Arc<str>,
    /// Id of the task.
    id: String,
}

impl Locks {
    /// Keys that are asked for and not answered.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    fn holder(&self, key: &str) -> Option<&Lock> {
        self.held.get(self.keys.get(key)?)
    }

    fn ask(&mut self, index: usize, delivery: &Delivery, key: &str) {
        let (key, id): (Arc<str>, _) = (Arc::from(key), delivery.task.id.clone());
        self.keys.insert(Arc::clone(&key), delivery.handle);
        self.held.insert(delivery.handle, Lock { key, id });
        self.asked.insert(delivery.handle, index);
    }

    /// The answer came; the queue that it is for.
    fn answered(&mut self, handle: Handle) -> Option<usize> {
        self.asked.remove(&handle)
    }

    /// The delivery is settled, or void before it was begun.
    pub(super) fn let_go(&mut self, handle: Handle) -> Option<Arc<str>> {
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
    fn put_off(&mut self, now: Instant, key: &str, after: Duration) -> Duration {
        let last = self.put_off.get(key).map_or(now, |last| *last + SPACING);
        let until = last.max(now + after).min(now + after.max(LONGEST));
        if self.put_off.len() >= self.put_off_limit {
            self.put_off.retain(|_, last| *last > now);
            self.put_off_limit = (2 * self.put_off.len()).max(1024);
        }
        self.put_off.insert(Arc::from(key), until);
        until.since(now)
    }

    /// A task in hand came again, under another handle.
    pub(super) fn adopted(&mut self, old: Handle, new: Handle) {
        if let Some(lock) = self.held.remove(&old) {
            self.keys.insert(Arc::clone(&lock.key), new);
            self.held.insert(new, lock);
        }
    }
}

impl Core {
    /// Gives the delivery back if it may be begun now: it has no key, or its key is its own. Otherwise it waits for an
    /// answer, or has given way. `Err`: no more answers are waited for at once.
    pub(super) fn lock(&mut self, index: usize, delivery: Delivery) -> Result<Option<Delivery>, Delivery> {
        let pool = &self.pools[index];
        let Some(unique) = &pool.plan.settings.unique else { return Ok(Some(delivery)) };
        if self.locks.held.contains_key(&delivery.handle) {
            return Ok(Some(delivery));
        }
        if !self.may_ask(index) {
            return Err(delivery);
        }
        let Some(key) = unique.key_of(pool.name(), &delivery.task, pool.plan.settings.unwrap) else {
            return Ok(Some(delivery));
        };
        if let Some(holder) = self.locks.holder(&key) {
            let holder = holder.id.clone();
            self.handle_conflict(&delivery, &key, &holder);
            return Ok(None);
        }
        self.locks.ask(index, &delivery, &key);
        self.actions.push(Action::Lock { handle: delivery.handle, key });
        self.pools[index].waiting.asked.insert(delivery.handle, delivery);
        Ok(None)
    }

    /// Whether one more key may be asked for. Who has the key is to begin at once: a seat for each, and one start at a
    /// time where starts are counted.
    fn may_ask(&self, index: usize) -> bool {
        let pool = &self.pools[index];
        let asked = pool.waiting.asked.len();
        if pool.rate.is_some() {
            return asked < 1;
        }
        // Each of these has a seat; what they have beyond that is counted as far as it matters.
        let mut spare = (asked + 1).saturating_sub(pool.free.len());
        if spare == 0 || pool.plan.settings.concurrency <= 1 {
            return spare == 0;
        }
        for slot in &pool.free {
            let seats = self.slots[*slot].process().map_or(0, Life::free_seats);
            spare = spare.saturating_sub(seats.saturating_sub(1));
            if spare == 0 {
                return true;
            }
        }
        false
    }

    /// The transport says whether another master has the key.
    pub(super) fn locked(&mut self, handle: Handle, holder: Option<&str>) {
        let Some(index) = self.locks.answered(handle) else { return };
        self.serial += 1;
        let Some(delivery) = self.pools[index].waiting.asked.remove(&handle) else {
            debug_assert!(false, "a key is asked for on behalf of a delivery that waits");
            self.locks.let_go(handle);
            return;
        };
        match holder {
            None => self.pools[index].waiting.put_back(delivery),
            Some(holder) => {
                let key = self.locks.let_go(handle).unwrap_or_default();
                self.handle_conflict(&delivery, &key, holder);
            }
        }
        self.dispatch(index);
    }

    /// After each event: whoever waited for the answers of others is looked at.
    pub(super) fn dispatch_freed(&mut self) {
        if std::mem::take(&mut self.locks.freed) {
            for index in 0..self.pools.len() {
                self.dispatch(index);
            }
        }
    }

    /// A task whose key another one has.
    fn handle_conflict(&mut self, delivery: &Delivery, key: &str, holder: &str) {
        let settings = &self.pools[delivery.queue.0].plan.settings;
        let (id, queue) = (delivery.task.id.clone(), settings.name.clone());
        // New settings may have no keys any more while an answer about one was under way.
        let (conflict, after) = settings
            .unique
            .as_ref()
            .map_or((Conflict::Snooze, Unique::AFTER), |unique| (unique.conflict, unique.after));
        self.set_log_subject(&id);
        let settlement = match conflict {
            Conflict::Snooze => {
                let after = self.locks.put_off(self.now.at, key, after);
                let seconds = after.as_secs_f64();
                self.log(Level::Debug, || {
                    format!("Task {id} of queue {queue} waits {seconds:.1} s: task {holder} has its key {key:?}")
                });
                Settlement::Snooze { after }
            }
            Conflict::Drop => {
                self.log(Level::Info, || {
                    format!("Task {id} of queue {queue} is dropped: task {holder}, which is in hand, has its key")
                });
                Settlement::Done { submit: Vec::new() }
            }
            Conflict::DeadLetter => {
                self.refuse(delivery, Reason::Cancelled, Unique::refusal(key, holder));
                return;
            }
        };
        self.settle(delivery.handle, delivery.identity, settlement);
        self.no_longer_suspect(delivery);
        self.renew_credit(delivery.queue.0);
    }
}
