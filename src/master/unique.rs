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

use std::{collections::HashMap, sync::Arc};

use super::{core::Core, event::Action};
use crate::{
    logging::Level,
    task::{Delivery, Handle, Reason, Settlement},
    unique::{Conflict, Unique},
};

/// The keys of this core's deliveries.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Who has each key: held, or asked for.
    keys: HashMap<Arc<str>, Handle>,
    held: HashMap<Handle, Lock>,
    /// Not answered yet, with their queues. Never more than there are slots.
    asked: Vec<(usize, Handle)>,
    /// One that was asked for was let go unanswered: others may begin in its place.
    made_room: bool,
}

#[derive(Debug)]
struct Lock {
    key: Arc<str>,
    /// Id of the task.
    id: String,
}

impl Locks {
    /// Keys that are asked for and not answered.
    pub(super) const fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Whether a delivery waits for the answer.
    pub(super) fn is_asked(&self, handle: Handle) -> bool {
        self.asked.iter().any(|(_, asked)| *asked == handle)
    }

    fn asked_for(&self, index: usize) -> usize {
        self.asked.iter().filter(|(queue, _)| *queue == index).count()
    }

    fn holder(&self, key: &str) -> Option<&Lock> {
        self.held.get(self.keys.get(key)?)
    }

    fn ask(&mut self, index: usize, delivery: &Delivery, key: &str) {
        let (key, id): (Arc<str>, _) = (Arc::from(key), delivery.task.id.clone());
        self.keys.insert(Arc::clone(&key), delivery.handle);
        self.held.insert(delivery.handle, Lock { key, id });
        self.asked.push((index, delivery.handle));
    }

    /// The answer came; the queue that it is for.
    fn answered(&mut self, handle: Handle) -> Option<usize> {
        let position = self.asked.iter().position(|(_, asked)| *asked == handle)?;
        Some(self.asked.swap_remove(position).0)
    }

    /// The delivery is settled, or void before it was begun.
    pub(super) fn let_go(&mut self, handle: Handle) -> Option<Arc<str>> {
        if self.held.is_empty() {
            return None;
        }
        let lock = self.held.remove(&handle)?;
        self.made_room |= self.answered(handle).is_some();
        self.keys.remove(&lock.key);
        debug_assert_eq!(self.keys.len(), self.held.len(), "a key has one holder");
        Some(lock.key)
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
    /// The first delivery of a queue that can be looked at: those that wait for an answer are passed over.
    pub(super) fn take_waiting(&mut self, index: usize) -> Option<(usize, Delivery)> {
        let waiting = &mut self.pools[index].waiting;
        let position = match self.locks.asked() {
            0 => 0,
            _ => waiting.iter().position(|delivery| !self.locks.is_asked(delivery.handle))?,
        };
        waiting.remove(position).map(|delivery| (position, delivery))
    }

    /// Gives the delivery back if it may be begun now: it has no key, or its key is its own. Otherwise it waits for an
    /// answer, or has given way. `Err`: no more answers are waited for at once.
    pub(super) fn lock(&mut self, index: usize, delivery: Delivery) -> Result<Option<Delivery>, Delivery> {
        let pool = &self.pools[index];
        let Some(unique) = &pool.plan.settings.unique else { return Ok(Some(delivery)) };
        if self.locks.held.contains_key(&delivery.handle) {
            return Ok(Some(delivery));
        }
        // Who has the key is to begin at once: a seat for each, and one start at a time where starts are counted.
        let most = if pool.rate.is_some() { 1 } else { pool.free.len() };
        if self.locks.asked_for(index) >= most {
            return Err(delivery);
        }
        let Some(key) = unique.key_of(pool.name(), &delivery.task, pool.plan.settings.unwrap) else {
            return Ok(Some(delivery));
        };
        if let Some(holder) = self.locks.holder(&key) {
            let holder = holder.id.clone();
            self.give_way(&delivery, &key, &holder);
            return Ok(None);
        }
        self.locks.ask(index, &delivery, &key);
        self.actions.push(Action::Lock { handle: delivery.handle, key });
        self.pools[index].waiting.push_front(delivery);
        Ok(None)
    }

    /// The transport says whether another master has the key.
    pub(super) fn locked(&mut self, handle: Handle, holder: Option<&str>) {
        let Some(index) = self.locks.answered(handle) else { return };
        self.serial += 1;
        let waiting = &mut self.pools[index].waiting;
        let position = waiting.iter().position(|delivery| delivery.handle == handle);
        let Some(delivery) = position.and_then(|position| waiting.remove(position)) else { return };
        match holder {
            None => self.pools[index].waiting.push_front(delivery),
            Some(holder) => {
                let key = self.locks.let_go(handle).unwrap_or_default();
                self.give_way(&delivery, &key, holder);
            }
        }
        self.dispatch(index);
    }

    /// After each event: whoever waited for the answers of others is looked at.
    pub(super) fn use_room(&mut self) {
        if std::mem::take(&mut self.locks.made_room) {
            for index in 0..self.pools.len() {
                self.dispatch(index);
            }
        }
    }

    /// A task whose key another one has.
    fn give_way(&mut self, delivery: &Delivery, key: &str, holder: &str) {
        let settings = &self.pools[delivery.queue.0].plan.settings;
        let (id, queue) = (delivery.task.id.clone(), settings.name.clone());
        // New settings may have no keys any more while an answer about one was under way.
        let (conflict, after) = settings
            .unique
            .as_ref()
            .map_or((Conflict::Snooze, Unique::AFTER), |unique| (unique.conflict, unique.after));
        self.talk_of(&id);
        let settlement = match conflict {
            Conflict::Snooze => {
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
