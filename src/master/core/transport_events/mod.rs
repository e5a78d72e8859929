//! The core's chapter on the transport: sessions that come and go, deliveries, and tasks that come again.
//!
//! A lost session voids every handle but those of accepted tasks. What waits here is forgotten, since it comes again by
//! itself; what is in hand goes on, and takes the new handle when its task is delivered anew.
//!
//! Never may a void handle be settled, nor a task that is known here be run a second time because it came a second time:
//! that is what the identity of a delivery and the memory of settlements are for.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use super::{
    Core,
    in_flight::Adopted,
    ledger::End,
    state::{
        pool::FirstDelivery,
        settlement_memory,
        settlements::{AtRisk, PendingSettlement},
        stall::UNREACHABLE_LIMIT,
        timers::Owner,
    },
};
use crate::{
    exit_code::Code,
    logging::Level,
    outcome::Report,
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport,
};

/// A first delivery with this many deliveries without outcome is worked alone.
const SUSPECT_DELIVERIES: u32 = 3;

impl Core {
    pub(super) fn transport_event(&mut self, event: transport::Event) {
        match event {
            transport::Event::Attached { session } => self.attached(session),
            transport::Event::Lost { error, again_in } => self.lost(&error, again_in),
            transport::Event::Refused(error) => self.end_badly(Code::Unavailable, error.to_string()),
            transport::Event::Delivered(deliveries) => {
                for delivery in deliveries {
                    self.delivered(delivery);
                }
            }
            transport::Event::CameAgain(deliveries) => {
                for delivery in deliveries {
                    self.came_again(delivery);
                }
            }
            transport::Event::Noticed { within } => {
                if let Some(memory) = &mut self.memory {
                    memory.keep(within);
                }
            }
            transport::Event::Stored(handle) => {
                self.tell_stored(handle);
                self.unsettled.stored(handle);
                let identity = self.unsettled.get(handle).and_then(|pending| pending.identity);
                if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
                    memory.stored(identity, handle);
                }
            }
            transport::Event::Unstorable { handle, queue, task, error } => {
                self.unstorable(handle, queue.0, task, &error);
            }
            transport::Event::Stalled(error) => self.stalled(&error),
            transport::Event::Resumed => self.resumed(),
            transport::Event::Settled(handles) => {
                self.stall.moved(self.now.at);
                for handle in handles {
                    let Some(pending) = self.unsettled.answered(handle) else { continue };
                    // Settled and not stored: another had taken the task back before, and says what becomes of it.
                    self.notes.remove(&handle);
                    self.reply_settled(handle);
                    if let (Some(memory), Some(identity)) = (&mut self.memory, pending.identity) {
                        memory.answered(self.now.at, identity, handle);
                    }
                }
            }
            transport::Event::Locked { handle, held_by } => self.locked(handle, held_by.as_deref()),
            transport::Event::QueueAdded { queue } => self.queue_added(queue.0),
            transport::Event::QueueRefused { queue, error } => self.queue_refused(queue.0, &error),
            transport::Event::QueueUnavailable { queue, error, again_in, void } => {
                self.queue_unavailable(queue.0, &error, again_in, &void);
            }
            transport::Event::Stuck { queue, by, error, tasks } => self.queue_stuck(queue.0, &by, &error, tasks),
            transport::Event::QueueRemoved { queue } => self.queue_removed(queue.0),
            transport::Event::JobsStopped { void, frozen } => self.jobs_stopped(&void, &frozen),
            transport::Event::Surveyed { serial, empty, stranded, again_in } => {
                self.surveyed(serial, empty, &stranded, again_in);
            }
            transport::Event::Warning(text) => self.log(Level::Warning, || text),
            transport::Event::Notice(text) => self.log(Level::Info, || text),
            // The timer of schedules is a machine of its own; the shell tells it. Which address is in use is for the shell to
            // show. What is waited for is told to clients.
            transport::Event::LeaseHeld { .. }
            | transport::Event::LeaseRefused
            | transport::Event::LeaseLost
            | transport::Event::Fired { .. }
            | transport::Event::LedgerHeld { .. }
            | transport::Event::LedgerRefused
            | transport::Event::LedgerLost
            | transport::Event::Entries(_)
            | transport::Event::Advanced { .. }
            | transport::Event::Connected(_)
            | transport::Event::Waits(_) => {}
        }
    }

    /// What a task submits can never be stored. It has failed then: it must not go without them, nor be tried for ever.
    fn unstorable(&mut self, handle: Handle, index: usize, task: Arc<Task>, error: &transport::Error) {
        self.serial += 1;
        let error = format!("its follow-up tasks cannot be stored: {error}");
        let (id, queue) = (task.id.clone(), self.pools[index].name().to_owned());
        self.set_log_subject(&task);
        let text = error.clone();
        self.log(Level::Error, || format!("Task {id} of queue {queue} was done, but {text}"));
        // Another answer for its handle is what the first settlement was owed.
        let pending = self.unsettled.take_back(handle).unwrap_or(PendingSettlement {
            identity: None,
            accepted: true,
            done_by: None,
            at_risk: AtRisk::Nothing,
        });
        self.celery.replies.take(handle);
        let delivery =
            Delivery { handle, queue: QueueIndex(index), task, redelivered: false, identity: pending.identity };
        let outcome = Report::error(error);
        self.revoked(&delivery, pending.done_by);
        let is_void = self.is_void(&delivery.task);
        let attempt = self.attempt(&delivery, None, Some(Duration::ZERO));
        let mut settlement = if is_void { Settlement::Discard } else { attempt.told(outcome) };
        if let Settlement::Retry { failure, .. } | Settlement::Dead(failure) = &mut settlement {
            // How long it was in hand is not known any more, and is counted already.
            failure.in_hand_seconds = None;
        }
        let note = self.ended(&End { delivery: &delivery, took: Duration::ZERO, settlement: &settlement, slot: None });
        self.tally.failed += u64::from(matches!(settlement, Settlement::Dead(_) | Settlement::Discard));
        self.keep_note(handle, note);
        if pending.accepted {
            self.settle_accepted(handle, None, settlement);
        } else {
            self.settle_unheld(handle, pending.identity, settlement);
        }
    }

    fn attached(&mut self, session: u32) {
        if self.session > 0 {
            self.log(Level::Info, || "The connection is back".to_owned());
        }
        self.session = session;
        self.epoch += 1;
        self.attached = true;
        if let Some(memory) = &mut self.memory {
            memory.attached(self.now.at);
            if memory.forgot_unanswered() {
                self.log(Level::Warning, || {
                    format!(
                        "over {} settlements were not answered; the oldest are forgotten, and their tasks are run again if \
                         they come again",
                        settlement_memory::LIMIT
                    )
                });
            }
        }
        self.lost_at = None;
        self.void_outcomes.session_began(self.now.at);
        self.stall.moved(self.now.at);
        for pool in &mut self.pools {
            pool.since = self.epoch;
            pool.first = FirstDelivery::Awaited;
            // What the transport kept of the credit is at most 1; it is asked anew from there.
            pool.credit = pool.credit.min(1);
        }
        self.serial += 1;
        self.renew_credits();
    }

    fn lost(&mut self, error: &transport::Error, again_in: Duration) {
        let seconds = again_in.as_secs_f64();
        self.log(Level::Warning, || format!("{error}; again in {seconds:.1} s"));
        self.attached = false;
        if let Some(memory) = &mut self.memory {
            memory.lost();
        }
        self.surveying = false;
        self.nothing_stuck();
        self.serial += 1;
        if self.lost_at.is_none() {
            self.lost_at = Some(self.now.at);
            self.timers.arm(Owner::Outage, self.now.at + UNREACHABLE_LIMIT);
        }
        // Every handle is void: what waits comes again, what is in hand is adopted when it does, what was
        // settled without an answer is remembered.
        self.void_outcomes.session_lost(self.now.at, None);
        let settlements = self.unsettled.session_lost();
        self.void_settlements(settlements);
        for index in 0..self.pools.len() {
            for delivery in self.pools[index].waiting.take_all() {
                self.locks.let_go(delivery.handle);
            }
            if self.pools[index].credit > 1 {
                self.ask_credit(index, 1);
            }
        }
        self.void_in_flight(None);
        for index in 0..self.pools.len() {
            self.recall_queue(index);
        }
    }

    fn delivered(&mut self, delivery: Delivery) {
        self.serial += 1;
        let index = delivery.queue.0;
        let Some(delivery) = self.adopt(delivery, true) else { return };
        let pool = &mut self.pools[index];
        pool.delivered_at = self.now.at;
        if !self.takes_deliveries(index) {
            self.settle_unheld(delivery.handle, None, Settlement::Release);
            return;
        }
        self.tell_received(&delivery);
        if self.is_revoked(&delivery) || self.is_discarded(&delivery) {
            return;
        }
        self.came_first(&delivery);
        self.pools[index].waiting.push(delivery);
        self.dispatch(index);
    }

    /// Never begun here: what is not known goes on its way, counted by the transport, and comes as any other task then.
    fn came_again(&mut self, delivery: Delivery) {
        self.serial += 1;
        let Some(unknown) = self.adopt(delivery, false) else { return };
        // In a stop nothing is stored that need not be.
        let settlement = match self.is_void(&unknown.task) {
            _ if self.stop.is_stopping() => Settlement::Release,
            true => Settlement::Discard,
            false => Settlement::Pass,
        };
        self.settle_unheld(unknown.handle, None, settlement);
    }

    /// The first task of a session decides whether others may come before it has ended.
    fn came_first(&mut self, delivery: &Delivery) {
        let index = delivery.queue.0;
        if self.pools[index].first == FirstDelivery::Awaited {
            let (task, name) = (&delivery.task, self.pools[index].name().to_owned());
            self.pools[index].first = if task.deliveries >= SUSPECT_DELIVERIES {
                self.log(Level::Warning, || {
                    format!(
                        "Task {} of queue {name} was delivered {} times and never ended; until it has, no other of its queue is \
                         taken",
                        task.id, task.deliveries
                    )
                });
                FirstDelivery::Suspect(task.id.clone())
            } else {
                FirstDelivery::Passed
            };
            self.renew_credit(index);
        }
    }

    /// A redelivered task that is known here is not run twice: one still in hand takes the new handle, one
    /// that ended in an earlier session gets its settlement. Everything else is returned.
    fn adopt(&mut self, delivery: Delivery, is_counted: bool) -> Option<Delivery> {
        let Some(identity) = delivery.identity else {
            self.void_outcomes.delivered(delivery.queue.0, delivery.redelivered);
            return Some(delivery);
        };
        if !delivery.redelivered {
            if let Some(memory) = &mut self.memory {
                memory.forget(identity);
            }
            self.void_outcomes.delivered(delivery.queue.0, false);
            return Some(delivery);
        }
        // The session ended with its acceptance under way: it is being worked, and only to be removed.
        if self.is_accepted(identity) {
            self.settle_unheld(delivery.handle, None, Settlement::Done { submit: Vec::new() });
            return None;
        }
        match self.adopt_in_flight(identity, &delivery, is_counted) {
            // It may take hours yet: others must not wait for it with a credit of 1.
            Some(Adopted::InFlight) => {
                self.came_first(&delivery);
                return None;
            }
            Some(Adopted::Pending) => return None,
            None => {}
        }
        let since = self.pools[delivery.queue.0].since;
        let Some(settlement) = self.memory.as_mut().and_then(|memory| memory.settlement_of(identity, since)) else {
            return Some(delivery);
        };
        // Of the task of a void round nothing is stored any more.
        let settlement = if self.is_void(&delivery.task) { Settlement::Discard } else { settlement };
        let id = delivery.task.id.clone();
        self.log(Level::Debug, || format!("Task {id} came again after its end; its settlement is repeated"));
        self.void_outcomes.remove(identity);
        self.celery.replies.repeated(identity, delivery.handle);
        let note = self.note_again(&delivery, &settlement);
        self.keep_note(delivery.handle, note);
        self.settle_unheld(delivery.handle, Some(identity), settlement);
        None
    }
}
