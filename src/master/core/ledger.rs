//! The core's chapter on settlements: each end of a task is counted once, and settled once.

use std::time::Duration;

use super::{
    Core,
    event::Action,
    state::{
        pool::FirstDelivery,
        settlements::{AtRisk, Note, PendingSettlement},
        slot::InFlight,
    },
    verdict::Attempt,
};
use crate::task::{Delivery, Handle, Reason, Settlement};

impl Core {
    /// Settles a delivery whose handle stands.
    pub(super) fn settle(&mut self, handle: Handle, identity: Option<u64>, settlement: Settlement) {
        self.serial += 1;
        if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
            memory.remember(self.now.at, identity, self.epoch, Some(handle), &settlement);
        }
        if settlement != Settlement::Accept {
            self.locks.let_go(handle);
            self.track_settlement(
                handle,
                PendingSettlement { identity, accepted: false, done_by: None, at_risk: AtRisk::of(&settlement, false) },
            );
        }
        self.actions.push(Action::Settle { handle, settlement });
    }

    /// Settles a delivery that was accepted before. It is in no queue any more: if it comes again all the same,
    /// because the session it came in ended with the acceptance under way, its removal is all that is wanted.
    pub(super) fn settle_accepted(&mut self, task: &InFlight, settlement: Settlement) {
        self.serial += 1;
        let (handle, identity) = (task.delivery.handle, task.delivery.identity);
        if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
            // The copy of these has the same identity; taken for the original and removed, it would be lost.
            if matches!(settlement, Settlement::Snooze { .. } | Settlement::Release) {
                memory.forget(identity);
            } else {
                memory.remember_removal(self.now.at, identity, task.session);
            }
        }
        self.track_settlement(
            handle,
            PendingSettlement { identity: None, accepted: true, done_by: None, at_risk: AtRisk::of(&settlement, true) },
        );
        self.actions.push(Action::Settle { handle, settlement });
    }

    pub(super) fn track_settlement(&mut self, handle: Handle, pending: PendingSettlement) {
        if self.unsettled.is_empty() {
            self.first_unsettled();
        }
        let doubled = self.unsettled.insert(handle, pending);
        debug_assert!(doubled.is_none(), "a handle is settled once");
    }

    /// Remembers the settlement of a task whose handle is void, for when it comes again.
    pub(super) fn settle_later(&mut self, identity: Option<u64>, session: u32, settlement: &Settlement) {
        self.serial += 1;
        if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
            memory.remember(self.now.at, identity, session, None, settlement);
        }
    }

    /// Dead-letters a delivery that is not run.
    pub(super) fn refuse(&mut self, delivery: &Delivery, reason: Reason, error: String) {
        let settlement = self.attempt(delivery, None, None).refused(reason, error);
        self.conclude(delivery, settlement);
        self.no_longer_suspect(delivery);
        self.renew_credit(delivery.queue.0);
    }

    /// The first task of a session has ended: if it was worked alone, others may come now.
    pub(super) fn no_longer_suspect(&mut self, delivery: &Delivery) {
        let pool = &mut self.pools[delivery.queue.0];
        if matches!(&pool.first, FirstDelivery::Suspect(id) if *id == delivery.task.id) {
            pool.first = FirstDelivery::Passed;
        }
    }

    /// Counts and settles what became of a task.
    pub(super) fn conclude(&mut self, delivery: &Delivery, settlement: Settlement) {
        let note = self.note(delivery, Duration::ZERO, &settlement);
        self.keep_note(delivery.handle, note);
        self.settle(delivery.handle, delivery.identity, settlement);
    }

    /// An attempt at a task, for its verdict.
    pub(super) fn attempt<'a>(
        &'a mut self,
        delivery: &'a Delivery,
        pid: Option<u32>,
        in_hand: Option<Duration>,
    ) -> Attempt<'a> {
        let jitter = self.random();
        Attempt {
            task: &delivery.task,
            plan: &self.pools[delivery.queue.0].plan,
            host: &self.plan.host,
            pid,
            wall: self.now.wall,
            in_hand,
            jitter,
        }
    }

    /// A number in 0..1 (xorshift64*): jitter needs no better, and the same seed gives the same run.
    pub(super) fn random(&mut self) -> f64 {
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        (self.rng.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether every settlement was confirmed.
    pub(super) fn all_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Settles a task that a slot counts, as [`Core::settle_hand`] does. What it submits may prove not to be storable.
    pub(super) fn settle_counted(
        &mut self,
        slot: usize,
        task: &InFlight,
        settlement: Settlement,
        note: Option<Box<Note>>,
    ) {
        self.count_in_slot(slot, &settlement);
        let submits = matches!(&settlement, Settlement::Done { submit } if !submit.is_empty());
        self.settle_hand(task, settlement, note);
        if submits && let Some(pending) = self.unsettled.get_mut(&task.delivery.handle) {
            pending.done_by = Some(slot);
        }
    }

    /// Settles a task that left a worker's hands: now, or when it comes again if its handle is void.
    pub(super) fn settle_hand(&mut self, task: &InFlight, settlement: Settlement, note: Option<Box<Note>>) {
        self.locks.let_go(task.delivery.handle);
        if task.accepted {
            self.keep_note(task.delivery.handle, note);
            self.settle_accepted(task, settlement);
        } else if task.held {
            self.keep_note(task.delivery.handle, note);
            self.settle(task.delivery.handle, task.delivery.identity, settlement);
        } else {
            self.void_outcome(task, &settlement);
            self.settle_later(task.delivery.identity, task.session, &settlement);
        }
    }

    /// Counts what became of a task for the slot that did it.
    pub(super) fn count_in_slot(&mut self, slot: usize, settlement: &Settlement) {
        let here = &mut self.slots[slot];
        match settlement {
            Settlement::Done { .. } => {
                here.done += 1;
                self.pools[here.queue].done += 1;
            }
            Settlement::Retry { .. } | Settlement::Dead(_) => here.failed += 1,
            Settlement::Snooze { .. } | Settlement::Release | Settlement::Pass | Settlement::Accept => {}
        }
    }

    /// Takes back that a task was done, where it was told or counted; what metrics count never goes down. Which slot did
    /// it is not known any more if the session was lost meanwhile.
    pub(super) fn not_done(&mut self, delivery: &Delivery, by: Option<usize>) {
        let index = delivery.queue.0;
        self.tally.processed = self.tally.processed.saturating_sub(1);
        let pool = &mut self.pools[index];
        pool.done = pool.done.saturating_sub(1);
        if let Some(slot) = by.map(|slot| &mut self.slots[slot]).filter(|slot| slot.queue == index) {
            slot.done = slot.done.saturating_sub(1);
            slot.failed += 1;
        }
        if self.tells_ends {
            let (queue, id) = (self.pools[index].name().to_owned(), delivery.task.id.clone());
            self.actions.push(Action::TaskReopened { queue, id });
        }
    }
}
