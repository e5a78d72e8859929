//! Revoked tasks: those that wait are dropped when they come to a worker's turn at the latest, those in hand end as a cancelled task
//! does.
//!
//! An id is remembered as long as Celery's own workers do. Whoever sent the order may have meant a task that another node has, so
//! that none of them here is as good an answer as many.

use std::collections::HashSet;

use super::super::{
    Core,
    state::slot::{KillReason, Slot},
};
use crate::{
    logging::Level,
    task::{Delivery, Settlement},
};

/// What is stored as the result of a task that was revoked.
const REVOKED: &str = "revoked";

impl Core {
    /// Ids are not to be run any more. How many of them are new, and the ids of tasks in hand that are ended for it.
    pub(super) fn revoke(&mut self, ids: &[String], terminate: bool) -> (usize, Vec<String>) {
        let now = self.now.at;
        let new = ids.iter().filter(|id| self.celery.revoked.add(now, id)).count();
        let wanted: HashSet<&str> = ids.iter().map(String::as_str).collect();
        for index in 0..self.pools.len() {
            if self.pools[index].celery.is_none() {
                continue;
            }
            for delivery in self.pools[index].waiting.take_where(|id| wanted.contains(id)) {
                self.drop_revoked(&delivery);
            }
        }
        let mut terminated = Vec::new();
        let mut recalled = Vec::new();
        let mut killed = Vec::new();
        let pools = &self.pools;
        let of_celery = self.slots.iter_mut().filter(|slot| pools[slot.queue].celery.is_some());
        for life in of_celery.filter_map(Slot::process_mut) {
            let worker = life.id;
            for task in life.in_flight.iter_mut().filter(|task| wanted.contains(task.id())) {
                if !task.begun {
                    // Dropped when it comes back. One that was begun meanwhile goes on, or is ended.
                    task.cancelled |= terminate;
                    recalled.push(worker.slot);
                } else if terminate {
                    task.cancelled = true;
                    terminated.push(task.id().to_owned());
                    killed.push(worker);
                }
            }
        }
        for slot in recalled {
            self.recall(slot);
        }
        for worker in killed {
            self.kill_worker(worker, KillReason::Cancelled);
        }
        (new, terminated)
    }

    /// Whether a delivery is of a revoked task; then it is dropped.
    pub(in crate::master::core) fn is_revoked(&mut self, delivery: &Delivery) -> bool {
        let is_celery = self.pools[delivery.queue.0].celery.is_some();
        let is_revoked = is_celery && self.celery.revoked.contains(self.now.at, &delivery.task.id);
        if is_revoked {
            self.drop_revoked(delivery);
        }
        is_revoked
    }

    fn drop_revoked(&mut self, delivery: &Delivery) {
        let index = delivery.queue.0;
        let (id, queue) = (delivery.task.id.clone(), self.pools[index].name().to_owned());
        self.set_log_subject(&id);
        self.log(Level::Info, || format!("Task {id} of queue {queue} is dropped: it was revoked"));
        self.left_its_rate(delivery);
        self.settle_unheld(delivery.handle, delivery.identity, Settlement::Done { submit: Vec::new() });
        self.no_longer_suspect(delivery);
        self.renew_credit(index);
        self.tell_dropped(delivery, REVOKED.to_owned());
    }
}
