//! Rounds of which nothing counts any more, and jobs of which nothing is to be begun: what becomes of their tasks here.
//!
//! A task of a void round is discarded: no attempt, no dead letter, nothing for its ledger, whatever its worker makes of it. The
//! transport has removed those that wait there. What was on its way is recognised by the rounds that are remembered.

use std::collections::{BTreeSet, HashSet};

use uuid::Uuid;

use super::super::{
    Core,
    state::{
        in_flight::{InFlight, Withdrawn},
        slot::{KillReason, Slot},
    },
};
use crate::{
    jobs::record::FrozenJob,
    logging::Level,
    membership::Membership,
    task::{Delivery, Settlement, Task},
};

/// Applications with the ids of their jobs.
type Frozen<'a> = HashSet<(&'a str, &'a str)>;

fn is_frozen(frozen: &Frozen<'_>, place: &Membership) -> bool {
    frozen.contains(&(place.application.as_str(), place.job.as_str()))
}

impl Core {
    /// Tasks of these rounds count for nothing any more, and of these jobs nothing is to be begun.
    pub(in crate::master::core) fn jobs_stopped(&mut self, void: &[Uuid], frozen: &[FrozenJob]) {
        self.serial += 1;
        for round in void {
            self.jobs.void.add(*round);
        }
        let frozen: Frozen<'_> = frozen.iter().map(|job| (job.application.as_str(), job.id.as_str())).collect();
        for index in 0..self.pools.len() {
            self.stop_waiting(index, &frozen);
        }
        self.stop_in_flight(&frozen);
    }

    fn stop_waiting(&mut self, index: usize, frozen: &Frozen<'_>) {
        let rounds = &self.jobs.void;
        let is_stopped = |delivery: &Delivery| {
            let place = delivery.task.membership.as_deref();
            place.is_some_and(|place| rounds.contains(place.round) || is_frozen(frozen, place))
        };
        let stopped = self.pools[index].waiting.take_stopped(is_stopped);
        if stopped.is_empty() {
            return;
        }
        for delivery in stopped {
            if self.is_void(&delivery.task) {
                self.discard(&delivery);
                continue;
            }
            self.left_its_rate(&delivery);
            self.settle_unheld(delivery.handle, None, Settlement::Release);
            self.no_longer_suspect(&delivery);
        }
        self.renew_credit(index);
        self.dispatch(index);
    }

    fn stop_in_flight(&mut self, frozen: &Frozen<'_>) {
        let rounds = &self.jobs.void;
        let pending = self.pending_verdicts.iter_mut().flat_map(|pending| &mut pending.in_flight);
        let is_void = |task: &Task| task.membership.as_ref().is_some_and(|place| rounds.contains(place.round));
        for task in pending.filter(|task| is_void(&task.delivery.task)) {
            task.withdrawn = Some(Withdrawn::Void);
        }
        let (mut recalled, mut killed) = (BTreeSet::new(), BTreeSet::new());
        for life in self.slots.iter_mut().filter_map(Slot::process_mut) {
            let worker = life.id;
            for task in life.in_flight.iter_mut() {
                let Some(place) = task.delivery.task.membership.as_deref() else { continue };
                if rounds.contains(place.round) {
                    task.withdrawn = Some(Withdrawn::Void);
                    if task.begun {
                        killed.insert(worker);
                    } else {
                        recalled.insert(worker.slot);
                    }
                } else if !task.begun && is_frozen(frozen, place) {
                    task.goes_back = true;
                    recalled.insert(worker.slot);
                }
            }
        }
        for slot in recalled {
            self.recall(slot);
        }
        for worker in killed {
            self.kill_worker(worker, KillReason::Void);
        }
    }

    /// Whether it is of a round of which nothing counts any more.
    pub(in crate::master::core) fn is_void(&self, task: &Task) -> bool {
        task.membership.as_ref().is_some_and(|place| self.jobs.void.contains(place.round))
    }

    /// Whether a delivery is of a void round; then it is discarded.
    pub(in crate::master::core) fn is_discarded(&mut self, delivery: &Delivery) -> bool {
        let is_void = self.is_void(&delivery.task);
        if is_void {
            self.discard(delivery);
            self.renew_credit(delivery.queue.0);
        }
        is_void
    }

    /// A delivery of a void round, which no worker has.
    fn discard(&mut self, delivery: &Delivery) {
        self.tell_void(Level::Debug, &delivery.task);
        self.left_its_rate(delivery);
        self.settle_unheld(delivery.handle, delivery.identity, Settlement::Discard);
        self.no_longer_suspect(delivery);
    }

    /// A task that a worker has had is withdrawn as one of a void round: that is said, of those that were begun.
    pub(in crate::master::core) fn tell_withdrawn(&mut self, task: &InFlight) {
        if task.withdrawn == Some(Withdrawn::Void) {
            let level = if task.begun { Level::Info } else { Level::Debug };
            self.tell_void(level, &task.delivery.task);
        }
    }

    fn tell_void(&mut self, level: Level, task: &Task) {
        self.set_log_subject(task);
        let (id, job) = (&task.id, task.membership.as_ref().map_or("", |place| &place.job));
        self.log(level, || format!("Task {id} of job {job} is dropped: its step counts for nothing any more"));
    }
}
