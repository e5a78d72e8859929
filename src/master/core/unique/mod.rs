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

use super::{Core, event::Action, state::slot::Life};
use crate::{
    logging::Level,
    task::{Delivery, Handle, Reason, Settlement},
    unique::{Conflict, Unique},
};

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

    /// Whether one more key may be asked for. A delivery that gets its key must be able to begin at once: each key that is asked
    /// for needs a free seat, and a queue with a rate limit asks for one key at a time.
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
        self.set_log_subject(&delivery.task);
        let settlement = match conflict {
            Conflict::Snooze => {
                let after = self.locks.put_off(self.now.at, key, after);
                let seconds = after.as_secs_f64();
                self.log(Level::Debug, || {
                    format!("Task {id} of queue {queue} waits {seconds:.1} s: task {holder} has its key {key:?}")
                });
                Settlement::Snooze { after, memo: None }
            }
            Conflict::Drop if delivery.task.membership.is_none() => {
                self.log(Level::Info, || {
                    format!("Task {id} of queue {queue} is dropped: task {holder}, which is in hand, has its key")
                });
                Settlement::Done { submit: Vec::new() }
            }
            // The ledger of its job is told of a dead letter, and of nothing else that ends it unrun.
            Conflict::DeadLetter | Conflict::Drop => {
                self.refuse(delivery, Reason::Cancelled, Unique::refusal(key, holder));
                return;
            }
        };
        self.settle_unheld(delivery.handle, delivery.identity, settlement);
        self.left_its_rate(delivery);
        self.no_longer_suspect(delivery);
        self.renew_credit(delivery.queue.0);
        if conflict == Conflict::Drop {
            self.tell_dropped(delivery, Unique::refusal(key, holder));
        }
    }
}
