//! The core's chapter on tasks in flight: entering and leaving a worker.
//!
//! ```text
//! waiting ── enter ──> in flight ── left ──> settled, or held back as a pending verdict
//! ```
//!
//! The counts of a queue and of the whole, the list of slots with a free seat and the index by identity change here and nowhere
//! else. Nothing here may search among all tasks, but for the loss of a session or of a queue, which visits each of its tasks.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Core,
    event::WorkerId,
    state::{in_flight::InFlight, slot::Slot, task_durations, timers::Owner},
};
use crate::{
    config::Acks,
    task::{Delivery, Handle},
};

impl Core {
    /// A worker gets a task, in a frame of so many bytes. With a free seat it is begun now, else it is sent ahead.
    pub(super) fn enter_in_flight(&mut self, index: usize, slot: usize, delivery: Delivery, size: usize) -> WorkerId {
        let now = self.now.at;
        let begun = self.slots[slot].has_seat();
        if begun {
            self.task_begun(slot, &delivery);
        }
        let limit = self.time_limit_of(index, &delivery.task);
        let due_at = limit.filter(|_| begun).map(|limit| now + limit);
        let pool = &mut self.pools[index];
        // What its ledger waits for may not be lost with this process, whatever the settings have become.
        let accepted = pool.plan.settings.acks == Acks::Early && delivery.task.membership.is_none();
        pool.in_hand += 1;
        if pool.in_hand == 1 {
            pool.durations.ended_at = now;
        }
        if pool.credit > pool.seats() {
            self.timers.arm(Owner::Queue(index), now + task_durations::LULL);
        }
        self.in_hand += 1;
        let (handle, session) = (delivery.handle, self.epoch());
        let number = self.in_flight.next_number();
        let life = self.slots[slot].process_mut().expect("a slot that is listed has a process");
        let worker = life.id;
        life.last_sent = Some(number);
        life.pinged = None;
        let task = InFlight {
            slot,
            number,
            delivery,
            session,
            held: true,
            accepted,
            withdrawn: None,
            goes_back: false,
            begun,
            begun_at: now,
            due_at,
            size,
            progress: None,
        };
        if accepted {
            self.in_flight.add(&task);
        }
        life.in_flight.push(task);
        if !begun {
            self.look_at_ahead(slot);
        }
        self.relist(slot);
        if due_at.is_some() {
            self.arm_slot(slot);
        }
        if accepted {
            self.accept(handle, index);
        }
        worker
    }

    /// A worker begins a task, for all that is known.
    pub(super) fn task_begun(&mut self, slot: usize, delivery: &Delivery) {
        let pool = &mut self.pools[delivery.queue.0];
        if let Some(window) = &mut pool.rate {
            window.started(self.now.at);
        }
        if let Some(due_at) = delivery.task.due_at {
            pool.counts.waited.observe(self.now.wall.remaining(due_at));
        }
        self.log_payload(slot, &delivery.task);
        self.celery_begun(slot, delivery);
        if let Some(place) = &delivery.task.membership {
            self.member_begun(place);
        }
    }

    /// A task that was begun has left its worker; how long the worker had it.
    pub(super) fn left_worker(&mut self, task: &InFlight) -> Duration {
        let now = self.now.at;
        let took = now.since(task.begun_at);
        let pool = &mut self.pools[task.delivery.queue.0];
        pool.in_hand -= 1;
        self.in_hand -= 1;
        pool.durations.ended(now, took, task.delivery.task.body.len());
        self.in_flight.remove(task);
        self.no_longer_suspect(&task.delivery);
        took
    }

    /// Keeps a slot in its pool's list of free ones exactly while it has a seat, and has it listed among those who can be sent tasks
    /// ahead.
    pub(super) fn relist(&mut self, slot: usize) {
        let has_seat = self.slots[slot].has_seat();
        let listed = std::mem::replace(&mut self.slots[slot].listed, has_seat);
        self.list_ahead(slot);
        let free = &mut self.pools[self.slots[slot].queue].free;
        match (listed, has_seat) {
            (false, true) => free.push(slot),
            (true, false) => {
                // It is the last one when a task was just handed to it; elsewhere only when a process ends.
                if let Some(position) = free.iter().rposition(|listed| *listed == slot) {
                    free.remove(position);
                }
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Whether a task with this identity was accepted and has not ended.
    pub(super) fn is_accepted(&self, identity: u64) -> bool {
        let place = |(slot, number): (usize, u64)| self.slots[slot].process()?.in_flight.numbered(number);
        let in_flight = self.in_flight.places(identity).filter_map(place);
        let pending = self.pending_verdicts.iter().flat_map(|pending| &pending.in_flight);
        let is_it = |task: &InFlight| task.accepted && task.delivery.identity == Some(identity);
        in_flight.chain(pending).any(is_it)
    }

    /// A delivery came again: a task of its identity whose handle is void takes the new handle. Whether there is one, and
    /// whether a worker still has it. `is_counted`: the transport has counted that it came, so that it can be begun.
    pub(super) fn adopt_in_flight(&mut self, identity: u64, delivery: &Delivery, is_counted: bool) -> Option<Adopted> {
        let session = self.epoch();
        let waits = |task: &InFlight| !task.held && task.delivery.identity == Some(identity);
        let place = self.in_flight.places(identity).find(|(slot, number)| {
            let slot = &self.slots[*slot];
            let task = slot.process().and_then(|life| life.in_flight.numbered(*number));
            slot.queue == delivery.queue.0 && task.is_some_and(waits)
        });
        let (task, adopted) = if let Some((slot, number)) = place {
            (self.slots[slot].process_mut()?.in_flight.numbered_mut(number)?, Adopted::InFlight)
        } else {
            let mut pending = self.pending_verdicts.iter_mut().flat_map(|pending| &mut pending.in_flight);
            (pending.find(|task| waits(task))?, Adopted::Pending)
        };
        self.locks.adopted(task.delivery.handle, delivery.handle);
        self.pools[delivery.queue.0].waiting.rates.adopted(&task.delivery, delivery.handle);
        task.delivery.handle = delivery.handle;
        task.session = session;
        task.held = true;
        task.goes_back |= !is_counted;
        if !task.accepted {
            self.in_flight.remove(task);
        }
        Some(adopted)
    }

    /// Handles are void: all of them, or these of one queue. What was accepted is in no queue: only this process has it, and its
    /// handle stands.
    pub(super) fn void_in_flight(&mut self, of: Option<(usize, &BTreeSet<Handle>)>) {
        let slots = self.slots.iter_mut().filter(|slot| of.is_none_or(|(index, _)| slot.queue == index));
        let in_flight = slots.filter_map(Slot::process_mut).flat_map(|life| life.in_flight.iter_mut());
        let pending = self.pending_verdicts.iter_mut().flat_map(|pending| &mut pending.in_flight);
        let tasks = in_flight.map(|task| (task, true)).chain(pending.map(|task| (task, false)));
        for (task, has_worker) in tasks {
            if of.is_some_and(|(_, void)| !void.contains(&task.delivery.handle)) || !task.held || task.accepted {
                continue;
            }
            self.void_outcomes.add_void(task.delivery.identity, task.delivery.queue.0);
            if has_worker {
                self.in_flight.add(task);
            }
            task.held = false;
        }
    }
}

/// Where a task was that has taken a new handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adopted {
    /// A worker has it.
    InFlight,
    /// Its worker has died; its verdict is pending.
    Pending,
}
