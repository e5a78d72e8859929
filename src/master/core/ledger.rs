//! The core's chapter on the ends of tasks: each is counted once, and settled once.
//!
//! ```text
//! verdict ── ended (counted) ── settle ──> Action::Settle ── Settled ──> no longer pending
//!                                 └── handle void: remembered, settled when the task comes again
//! done, but what it submits cannot be stored: revoked, and ended anew
//! ```
//!
//! The totals of the run, the counts of queues and slots, metrics and the report of the run come from [`Core::ended`], and are
//! taken back by [`Core::revoked`] alone. There are three exceptions. Retries and dead letters are counted and reported once they
//! are stored (`stored`). Failures by a death are counted for the slot when its process ends (`process_exit`). A task that is
//! dead-lettered because its follow-ups cannot be stored is added to the failed attempts of the run by `transport_events`. A handle
//! is never settled twice, and an answer to its acceptance is never taken for one to its settlement.

use std::time::Duration;

use super::{
    Core,
    event::Action,
    state::{
        in_flight::{InFlight, Withdrawn},
        pool::FirstDelivery,
        settlements::{AtRisk, Note, PendingSettlement},
    },
    verdict::Attempt,
};
use crate::{
    jobs::entry::MemberId,
    metrics::counts::Cause,
    task::{Delivery, Handle, Reason, Settlement},
};

/// The end of an attempt at a task, or of a task that is not attempted.
#[derive(Debug)]
pub(super) struct End<'a> {
    pub(super) delivery: &'a Delivery,
    /// How long a worker had it.
    pub(super) took: Duration,
    pub(super) settlement: &'a Settlement,
    /// The slot that counts it. Deaths are counted by their slot when the process ends, which may be before their verdict.
    pub(super) slot: Option<usize>,
}

impl Core {
    // Counting.

    /// Counts an end. A retry or a dead letter counts when it is stored: the note says what is to be counted and said then, and is
    /// to be settled with it.
    #[must_use]
    pub(super) fn ended(&mut self, end: &End<'_>) -> Option<Box<Note>> {
        let End { delivery, took, settlement, slot } = *end;
        let is_told = self.tells_end_of(&delivery.task);
        let pool = &mut self.pools[delivery.queue.0];
        pool.counts.settled(took, settlement);
        let slot = slot.map(|slot| &mut self.slots[slot]);
        match settlement {
            Settlement::Done { .. } => {
                if is_told {
                    let (queue, id) = (pool.name().to_owned(), delivery.task.id.clone());
                    let member = MemberId::of(&delivery.task);
                    self.actions.push(Action::TaskEnded { queue, id, in_hand: took, failure: None, member });
                }
                self.tally.processed += 1;
                if let Some(slot) = slot {
                    slot.done += 1;
                }
            }
            Settlement::Retry { .. } => {
                self.tally.failed += 1;
                if let Some(slot) = slot {
                    slot.failed += 1;
                }
            }
            Settlement::Dead(failure) => {
                self.tally.failed += u64::from(failure.in_hand_seconds.is_some());
                if let Some(slot) = slot {
                    slot.failed += 1;
                }
            }
            Settlement::Snooze { .. }
            | Settlement::Release
            | Settlement::Discard
            | Settlement::Pass
            | Settlement::Accept => {}
        }
        self.record_end(end);
        self.noted(delivery, took, settlement)
    }

    /// Counts a task that no attempt was made at, or whose attempt does not count: it goes back.
    pub(super) fn released(&mut self, delivery: &Delivery) {
        let end = End { delivery, took: Duration::ZERO, settlement: &Settlement::Release, slot: None };
        let note = self.ended(&end);
        debug_assert!(note.is_none(), "nothing is to be said of a release");
    }

    /// Takes back that a task was done: what it submits cannot be stored. What metrics count never goes down. Which slot did
    /// it is not known any more if the session was lost meanwhile.
    pub(super) fn revoked(&mut self, delivery: &Delivery, by: Option<usize>) {
        let index = delivery.queue.0;
        self.tally.processed = self.tally.processed.saturating_sub(1);
        let pool = &mut self.pools[index];
        if pool.done() > 0 {
            pool.revoked += 1;
        }
        if let Some(slot) = by.map(|slot| &mut self.slots[slot]).filter(|slot| slot.queue == index) {
            slot.done = slot.done.saturating_sub(1);
            slot.failed += 1;
        }
        if self.tells_ends {
            let (queue, id) = (self.pools[index].name().to_owned(), delivery.task.id.clone());
            self.actions.push(Action::TaskReopened { queue, id });
        }
    }

    /// Counts a worker that has to be started again.
    pub(super) fn count_restart(&mut self, slot: usize, cause: Cause) {
        let queue = self.slots[slot].queue;
        self.pools[queue].counts.restarted(cause);
    }

    // Settling.

    /// Settles a task that has left its worker: now, or when it comes again if its handle is void. `slot`: it counts the task as
    /// done, which is taken back if what the task submits cannot be stored.
    pub(super) fn settle(
        &mut self,
        task: &InFlight,
        settlement: Settlement,
        note: Option<Box<Note>>,
        slot: Option<usize>,
    ) {
        let (handle, identity) = (task.delivery.handle, task.delivery.identity);
        self.locks.let_go(handle);
        if !task.held && !task.accepted {
            self.void_outcome(task, &settlement);
            self.serial += 1;
            if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
                memory.remember(self.now.at, identity, task.session, None, &settlement);
            }
            return;
        }
        self.keep_note(handle, note);
        let submits = matches!(&settlement, Settlement::Done { submit } if !submit.is_empty());
        let done_by = slot.filter(|_| submits);
        if !task.accepted {
            self.settle_pending(handle, identity, settlement, done_by);
            return;
        }
        // It is in no queue any more: if it comes again all the same, because the session it came in ended with the acceptance
        // under way, its removal is all that is wanted.
        if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
            // The copy of these has the same identity; taken for the original and removed, it would be lost.
            if matches!(settlement, Settlement::Snooze { .. } | Settlement::Release) {
                memory.forget(identity);
            } else {
                memory.remember_removal(self.now.at, identity, task.session);
            }
        }
        self.settle_accepted(handle, done_by, settlement);
    }

    /// Settles a task that was withdrawn and that no worker has begun.
    pub(super) fn settle_withdrawn_unbegun(&mut self, task: &InFlight, how: Withdrawn) {
        self.tell_withdrawn(task);
        let settlement = self.attempt(&task.delivery, None, None).withdrawn(how);
        let end = End { delivery: &task.delivery, took: Duration::ZERO, settlement: &settlement, slot: None };
        let note = self.ended(&end);
        self.settle(task, settlement, note, None);
    }

    /// Settles a delivery that no worker has. With its `identity` it is remembered.
    pub(super) fn settle_unheld(&mut self, handle: Handle, identity: Option<u64>, settlement: Settlement) {
        self.locks.let_go(handle);
        self.settle_pending(handle, identity, settlement, None);
    }

    /// Accepts a task of a queue before its end.
    pub(super) fn accept(&mut self, handle: Handle, queue: usize) {
        self.serial += 1;
        self.unsettled.accept(handle, queue);
        self.actions.push(Action::Settle { handle, settlement: Settlement::Accept });
    }

    fn settle_pending(
        &mut self,
        handle: Handle,
        identity: Option<u64>,
        settlement: Settlement,
        done_by: Option<usize>,
    ) {
        if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
            memory.remember(self.now.at, identity, self.epoch, Some(handle), &settlement);
        }
        let at_risk = AtRisk::of(&settlement, false);
        self.await_answer(handle, settlement, PendingSettlement { identity, accepted: false, done_by, at_risk });
    }

    /// Settles a delivery whose handle stands because it was accepted.
    pub(super) fn settle_accepted(&mut self, handle: Handle, done_by: Option<usize>, settlement: Settlement) {
        let at_risk = AtRisk::of(&settlement, true);
        self.await_answer(handle, settlement, PendingSettlement { identity: None, accepted: true, done_by, at_risk });
    }

    fn await_answer(&mut self, handle: Handle, settlement: Settlement, pending: PendingSettlement) {
        self.serial += 1;
        if self.unsettled.is_empty() {
            self.first_unsettled();
        }
        self.unsettled.insert(handle, pending);
        self.actions.push(Action::Settle { handle, settlement });
    }

    /// Dead-letters a delivery that is not run.
    pub(super) fn refuse(&mut self, delivery: &Delivery, reason: Reason, error: String) {
        let settlement = self.attempt(delivery, None, None).refused(reason, error);
        let note = self.ended(&End { delivery, took: Duration::ZERO, settlement: &settlement, slot: None });
        self.keep_note(delivery.handle, note);
        self.settle_unheld(delivery.handle, delivery.identity, settlement);
        self.left_its_rate(delivery);
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

    /// An attempt at a task, for its verdict.
    pub(super) fn attempt<'a>(
        &'a mut self,
        delivery: &'a Delivery,
        pid: Option<u32>,
        in_hand: Option<Duration>,
    ) -> Attempt<'a> {
        let jitter = self.random();
        let execution = delivery.task.membership.is_some().then(|| self.jobs.executions.draw());
        Attempt {
            task: &delivery.task,
            plan: &self.pools[delivery.queue.0].plan,
            host: &self.plan.host,
            application: &self.plan.application,
            execution,
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

    /// Whether every settlement was answered.
    pub(super) fn all_settled(&self) -> bool {
        self.unsettled.is_empty()
    }
}
