//! Revoked tasks: those that wait are dropped when they come to a worker's turn at the latest, those in hand end as a cancelled task
//! does.
//!
//! An id is remembered for longer than most delays (`celery::revoked`). Whoever sent the order may have meant a task that another node has, so
//! that none of them here is as good an answer as many. A stamp is remembered until the master ends, as Celery's workers do.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use serde_json::Value;

use super::super::{
    Core,
    state::{
        in_flight::Withdrawn,
        slot::{KillReason, Slot},
    },
};
use crate::{
    celery::stamps,
    logging::Level,
    task::{Delivery, Settlement, Task},
    text,
};

/// What is stored as the result of a task that was revoked.
const REVOKED: &str = "revoked";
/// Bytes of a stamp's header that are named in the log.
const STAMP: usize = 64;

/// Revoked tasks that were here.
#[derive(Debug, Default)]
pub(super) struct Here {
    /// Their ids.
    pub(super) ids: HashSet<String>,
    /// Those in hand that are ended.
    pub(super) terminated: Vec<Arc<Task>>,
}

impl Core {
    /// Ids are not to be run any more. How many of them are new, and those that are here.
    pub(super) fn revoke(&mut self, ids: &[String], terminate: bool) -> (usize, Here) {
        let now = self.now.at;
        let new = ids.iter().filter(|id| self.celery.revoked.add(now, id)).count();
        let wanted: HashSet<&str> = ids.iter().map(String::as_str).collect();
        (new, self.take_revoked(&|task| wanted.contains(task.id.as_str()), terminate))
    }

    /// Tasks with one of these stamps are not to be run any more. Those that are here.
    pub(super) fn revoke_stamped(&mut self, revoked: &BTreeMap<String, Vec<Value>>, terminate: bool) -> Here {
        let mut of_these = stamps::Revoked::default();
        for (header, value) in
            revoked.iter().flat_map(|(header, values)| values.iter().map(move |value| (header, value)))
        {
            self.celery.revoked_stamps.add(header, value);
            of_these.add(header, value);
        }
        self.take_revoked(&|task| of_these.header_of(&task.headers).is_some(), terminate)
    }

    /// Drops what is here of these, and is not begun; ends what is begun, if that is wanted.
    fn take_revoked(&mut self, is_wanted: &dyn Fn(&Task) -> bool, terminate: bool) -> Here {
        let mut here = Here::default();
        for index in 0..self.pools.len() {
            if self.pools[index].celery.is_none() {
                continue;
            }
            for delivery in self.pools[index].waiting.take_where(is_wanted) {
                here.ids.insert(delivery.task.id.clone());
                self.drop_revoked(&delivery);
            }
        }
        let mut recalled = Vec::new();
        let mut killed = Vec::new();
        let pools = &self.pools;
        let of_celery = self.slots.iter_mut().filter(|slot| pools[slot.queue].celery.is_some());
        for life in of_celery.filter_map(Slot::process_mut) {
            let worker = life.id;
            for task in life.in_flight.iter_mut().filter(|task| is_wanted(&task.delivery.task)) {
                here.ids.insert(task.id().to_owned());
                if !task.begun {
                    // Dropped when it comes back. One that was begun meanwhile goes on, or is ended.
                    if terminate {
                        task.withdrawn.get_or_insert(Withdrawn::Cancelled);
                    }
                    recalled.push(worker.slot);
                } else if terminate {
                    task.withdrawn.get_or_insert(Withdrawn::Cancelled);
                    here.terminated.push(Arc::clone(&task.delivery.task));
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
        here
    }

    /// Whether a delivery is of a revoked task; then it is dropped.
    pub(in crate::master::core) fn is_revoked(&mut self, delivery: &Delivery) -> bool {
        let is_celery = self.pools[delivery.queue.0].celery.is_some();
        let is_revoked = is_celery
            && (self.celery.revoked.contains(self.now.at, &delivery.task.id)
                || self.celery.revoked_stamps.header_of(&delivery.task.headers).is_some());
        if is_revoked {
            self.drop_revoked(delivery);
        }
        is_revoked
    }

    fn drop_revoked(&mut self, delivery: &Delivery) {
        let index = delivery.queue.0;
        let (id, queue) = (delivery.task.id.clone(), self.pools[index].name().to_owned());
        let stamp = self.celery.revoked_stamps.header_of(&delivery.task.headers);
        let by = stamp
            .map(|header| format!(" by its stamp {}", text::shorten(header.to_owned(), STAMP)))
            .unwrap_or_default();
        self.set_log_subject(&delivery.task);
        self.log(Level::Info, || format!("Task {id} of queue {queue} is dropped: it was revoked{by}"));
        self.left_its_rate(delivery);
        self.settle_unheld(delivery.handle, delivery.identity, Settlement::Done { submit: Vec::new() });
        self.no_longer_suspect(delivery);
        self.renew_credit(index);
        self.tell_dropped(delivery, REVOKED.to_owned());
    }
}
