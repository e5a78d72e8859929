//! The core's chapter on renewing workers that are well: rolling restarts, recycling, and other numbers of processes.
//!
//! The replacement comes first: it starts in a slot of its own, of the same name, and only when it is ready is the
//! old process told to halt. If it cannot start, the old one goes on.

use super::{
    Core,
    event::{Action, WorkerId},
    state::{
        pool,
        slot::{Life, Phase, Slot, State},
    },
};
use crate::{
    config,
    frames::HaltReason,
    logging::Level,
    metrics::counts::Cause,
    plural::{self, counted},
};

impl Core {
    /// Renews the workers of a queue, one after the other.
    pub(super) fn restart(&mut self, index: usize) -> String {
        if self.pools[index].plan.is_once {
            return "each task of it has a process of its own already".to_owned();
        }
        let slots = self.pools[index].slots.clone();
        let count = slots.len();
        self.pools[index].renewals = slots.into_iter().collect();
        self.renew_next(index);
        format!("{} being renewed, one after the other", plural::are(count, "worker"))
    }

    /// Changes the number of processes of a queue.
    pub(super) fn scale(&mut self, index: usize, processes: u32) -> Result<String, String> {
        if !(1..=config::MANY).contains(&processes) {
            let most = config::MANY;
            return Err(format!("a queue has 1 to {most} processes; to stop working it, pause it"));
        }
        if let Some(most) = self.plan.max_in_hand.filter(|most| processes as usize > *most) {
            return Err(format!("this master was started with -m {most}: a queue has no more processes than that"));
        }
        let before = self.pools[index].slots.len();
        if processes as usize > before
            && let Some(why) = self.too_many_for_files(index, processes)
        {
            return Err(why);
        }
        self.pools[index].scaled = Some(processes);
        self.scale_to(index, processes);
        Ok(format!("{} before, {processes} now", counted(before, "process")))
    }

    /// Gives a queue so many slots: the last ones go, or more come.
    pub(super) fn scale_to(&mut self, index: usize, processes: u32) {
        while self.pools[index].slots.len() > processes as usize {
            if let Some(slot) = self.pools[index].slots.pop() {
                self.retire(slot, HaltReason::Stop);
            }
        }
        while self.pools[index].slots.len() < processes as usize {
            let number = self.pools[index].slots.len() + 1;
            let name = format!("{}[{number}]", self.pools[index].name());
            let slot = self.vacant(index, name);
            self.pools[index].slots.push(slot);
            self.spawn(slot);
        }
        self.renew_next(index);
        self.count_shut(index);
    }

    /// A slot for this name: one that was left, or a new one.
    fn vacant(&mut self, index: usize, name: String) -> usize {
        let reusable = |slot: &Slot| slot.queue == index && !slot.wanted && matches!(slot.state, State::Empty);
        let kind = self.pools[index].plan.settings.kind.clone();
        if let Some(position) = self.slots.iter().position(reusable) {
            let life = self.slots[position].life;
            self.slots[position] = Slot { life, ..Slot::new(index, name, &kind) };
            return position;
        }
        self.slots.push(Slot::new(index, name, &kind));
        self.slots.len() - 1
    }

    /// Empties a slot for good: what its process holds is finished.
    pub(super) fn retire(&mut self, slot: usize, reason: HaltReason) {
        self.slots[slot].wanted = false;
        self.slots[slot].replaces = None;
        let index = self.slots[slot].queue;
        self.pools[index].renewals.retain(|other| *other != slot);
        // A successor that is starting has no slot to take over any more.
        if let Some(successor) = self.slots.iter().position(|other| other.replaces == Some(slot)) {
            self.retire(successor, reason);
        }
        self.dismiss(slot, reason);
        if let Some(life) = self.slots[slot].process() {
            let id = life.id;
            self.pools[index].leaving.push(slot);
            self.release_retired(id);
        }
    }

    /// A process that was told to go and holds nothing has the grace to do so.
    pub(super) fn release_retired(&mut self, worker: WorkerId) {
        let due = self.now.at + self.plan.supervisor.grace;
        if self.slots[worker.slot].wanted {
            return;
        }
        if let Some(life) = self.slots[worker.slot].life_of(worker)
            && life.holds_nothing()
        {
            life.end_due.get_or_insert(due);
            self.arm_slot(worker.slot);
        }
    }

    /// Starts the replacement of the next slot that is to be renewed.
    pub(super) fn renew_next(&mut self, index: usize) {
        let parked = matches!(self.pools[index].state, pool::State::Parked { .. });
        if self.stop.is_stopping()
            || parked
            || self.slots.iter().any(|slot| slot.queue == index && slot.replaces.is_some())
        {
            return;
        }
        while let Some(old) = self.pools[index].renewals.pop_front() {
            let is_working = self.slots[old]
                .process()
                .is_some_and(|life| matches!(life.phase, Phase::Working { .. } | Phase::Starting { .. }));
            if self.slots[old].wanted && is_working {
                let name = self.slots[old].name.clone();
                let new = self.vacant(index, name);
                self.slots[new].replaces = Some(old);
                self.spawn(new);
                return;
            }
        }
    }

    /// Nobody is replaced in a parked queue: later.
    pub(super) fn postpone_renewal(&mut self, slot: usize) {
        let index = self.slots[slot].queue;
        if let Some(old) = self.slots[slot].replaces.take() {
            self.slots[slot].wanted = false;
            self.pools[index].renewals.push_front(old);
        }
    }

    /// A worker is ready: if it replaces another, that one goes.
    pub(super) fn take_over(&mut self, new: usize) {
        let Some(old) = self.slots[new].replaces.take() else { return };
        let index = self.slots[new].queue;
        match self.pools[index].slots.iter_mut().find(|slot| **slot == old) {
            Some(place) => {
                *place = new;
                let (done, failed, restarts) = (self.slots[old].done, self.slots[old].failed, self.slots[old].restarts);
                let last_exit = self.slots[old].last_exit.clone();
                let here = &mut self.slots[new];
                (here.done, here.failed, here.restarts, here.last_exit) = (done, failed, restarts, last_exit);
                // A restart was asked for after this one was started.
                for waiting in self.pools[index].renewals.iter_mut().filter(|waiting| **waiting == old) {
                    *waiting = new;
                }
                if let Some(life) = self.slots[old].process() {
                    let cause = if life.recycling { Cause::Recycle } else { Cause::Renewal };
                    self.count_restart(old, cause);
                }
                self.retire(old, HaltReason::Recycle);
            }
            // Scaled away meanwhile.
            None => self.retire(new, HaltReason::Recycle),
        }
        self.count_shut(index);
        self.renew_next(index);
    }

    /// After an outcome: is this process due to be renewed?
    pub(super) fn check_recycle(&mut self, worker: WorkerId) {
        let index = self.slots[worker.slot].queue;
        let recycle = self.pools[index].plan.settings.recycle;
        let now = self.now.at;
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        if !matches!(life.phase, Phase::Working { .. }) || life.recycling {
            return;
        }
        if recycle.max_tasks.is_some_and(|most| life.tasks as f64 >= most as f64 * life.recycle_jitter) {
            self.recycle(worker, "it has done its number of tasks");
        } else if recycle.max_memory.is_some() && now.since(life.measured_at) >= super::state::slot::MEASURE_EVERY {
            life.measured_at = now;
            self.actions.push(Action::Measure { worker });
        }
    }

    /// The resident memory of a process, which was asked for.
    pub(super) fn measured(&mut self, worker: WorkerId, bytes: u64) {
        let index = self.slots[worker.slot].queue;
        let most = self.pools[index].plan.settings.recycle.max_memory;
        if most.is_some_and(|most| bytes > most) {
            self.recycle(worker, "it has outgrown its memory");
        }
    }

    /// The age at which a process is renewed.
    pub(super) fn old_at(&self, index: usize, life: &Life) -> Option<crate::clock::Instant> {
        let age = self.pools[index].plan.settings.recycle.max_age?;
        let is_due = matches!(life.phase, Phase::Working { .. }) && !life.recycling;
        is_due.then(|| life.spawned_at + age.mul_f64(life.recycle_jitter))
    }

    /// Has a process renewed, its replacement first.
    pub(super) fn recycle(&mut self, worker: WorkerId, why: &str) {
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        life.recycling = true;
        let (slot, index) = (worker.slot, self.slots[worker.slot].queue);
        let queued = self.pools[index].renewals.contains(&slot);
        let replaced = self.slots.iter().any(|other| other.replaces == Some(slot));
        if queued || replaced || !self.pools[index].slots.contains(&slot) {
            return;
        }
        let name = self.slots[slot].name.clone();
        self.log(Level::Info, || format!("{name} is renewed: {why}"));
        self.pools[index].renewals.push_back(slot);
        self.renew_next(index);
    }
}
