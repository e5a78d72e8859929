//! What becomes of a delivery when the master has settled it: an acknowledgement, a return, or a copy that is confirmed first.
//!
//! The order is the whole of the promise that nothing is lost. What a settlement stores is published and confirmed before the
//! original is acknowledged; a crash in between leaves two messages with one id, never none. Of a task of a job that order is: what it
//! submits, what its ledger is told, the copy, the acknowledgement. An acknowledgement that was written
//! is no proof that the broker has it: if the session ends now, the task comes again and is known to the master.

use std::{collections::hash_map, sync::Arc};

use super::consumer::{COPY_FROM_DELIVERIES, PassAction};
use crate::{
    jobs::entry::Entry,
    task::{Handle, Settlement},
    transport::{
        Event,
        amqp::{
            broker_error::Fault,
            message::properties::{Due, Transition},
            publish::pending_copy::{LedgerEntry, PendingCopy},
            queues::{delay_queues, own_queue::OwnQueue},
            session::up::{AcksWritten, OpenDeliveries, Up},
        },
        job_entries,
    },
};

/// Where a copy goes that is no dead letter.
#[derive(Clone, Copy, Debug)]
enum To {
    /// Back to its queue.
    Own,
    /// To this step of the ladder, in milliseconds.
    Step(u64),
    /// Aside, until its job is thawed.
    Frozen,
}

impl Up {
    /// Settlements of the master. Those for handles of an earlier session are void, except for an acceptance of a delivery in
    /// `earlier`, which was open when that session ended: it is open in this one.
    pub(crate) fn settle(&mut self, settlements: Vec<(Handle, Settlement)>, earlier: &mut OpenDeliveries) {
        let now = self.shared.now();
        let mut done = Vec::new();
        for (handle, settlement) in settlements {
            let Some(open) = self.open.get_mut(&handle) else {
                self.accept_from_earlier_session(handle, &settlement, earlier);
                continue;
            };
            let place = open.task.membership.as_deref();
            let (settlement, is_frozen) = {
                let stopped = self.shared.stopped.borrow();
                // What is void leaves its queue as what is done does; it does not come back to it.
                let is_over = settlement.puts_back() && place.is_some_and(|place| stopped.is_void(place));
                let is_frozen = place.is_some_and(|place| stopped.is_frozen(place));
                (if is_over { Settlement::Discard } else { settlement }, is_frozen)
            };
            let is_acceptance = settlement == Settlement::Accept;
            let begun = if is_acceptance { open.state.accept() } else { open.state.settle() };
            let Some(was_accepted) = begun else { continue };
            let told = job_entries::of_settlement(&open.task, &settlement, now.wall);
            let consumed = &mut self.queues[open.queue];
            if was_accepted && !is_acceptance {
                open.unstored_settlement = Some(settlement.clone());
            }
            let settlement =
                if settlement == Settlement::Discard { Settlement::Done { submit: Vec::new() } } else { settlement };
            match settlement {
                Settlement::Discard => {}
                Settlement::Done { submit } if submit.is_empty() => {
                    if was_accepted {
                        done.push(handle);
                    } else {
                        consumed.acks.ended(open.tag, now.at);
                        consumed.settled_tags.insert(open.tag, Some(handle));
                    }
                }
                Settlement::Done { submit } => self.follow_up(handle, submit),
                // Each is answered, and the first one's acknowledgement answers one.
                Settlement::Accept if was_accepted => done.push(handle),
                Settlement::Accept => {
                    consumed.accepted += 1;
                    consumed.accepting.push((open.tag, handle));
                }
                Settlement::Pass if matches!(open.on_pass, Some(PassAction::Delay { .. } | PassAction::Count)) => {
                    let (to, transition) = match open.on_pass {
                        Some(PassAction::Delay { step, left, not_before }) => {
                            (To::Step(step), Transition::Further { left, not_before })
                        }
                        _ => (To::Own, Transition::Counted { deliveries: open.task.deliveries.saturating_add(1) }),
                    };
                    self.copy(handle, to, None, |_| transition);
                }
                // At once to where it would be put when it came again.
                Settlement::Release | Settlement::Pass if is_frozen && !was_accepted => {
                    consumed.freezing.insert(open.tag);
                    let deliveries = open.task.deliveries;
                    self.copy(handle, To::Frozen, None, |_| Transition::Counted { deliveries });
                }
                // Quorum queues count each return as a delivery (up to RabbitMQ 4.2). So that orderly ones never add up
                // to the limit, from the third on a copy goes to the tail instead, with the count as it was.
                Settlement::Release | Settlement::Pass
                    if !was_accepted && open.task.deliveries >= COPY_FROM_DELIVERIES =>
                {
                    let deliveries = open.task.deliveries;
                    self.copy(handle, To::Own, None, |_| Transition::Counted { deliveries });
                }
                Settlement::Release | Settlement::Pass if !was_accepted => {
                    consumed.to_requeue.push((open.tag, Some(handle)));
                }
                Settlement::Release | Settlement::Pass => self.copy(handle, To::Own, None, |_| Transition::Unchanged),
                Settlement::Retry { after, failure } => {
                    let due = Due::after(after, now.wall);
                    self.copy(handle, To::Step(delay_queues::first_step(after)), told, |_| Transition::Retried {
                        due,
                        failure,
                    });
                }
                Settlement::Snooze { after, memo } => {
                    let due = Due::after(after, now.wall);
                    self.copy(handle, To::Step(delay_queues::first_step(after)), told, |_| Transition::Snoozed {
                        due,
                        memo,
                    });
                }
                Settlement::Dead(failure) => {
                    self.copy(handle, To::Own, told, |keep| Transition::Dead { failure, keep });
                }
            }
        }
        if !done.is_empty() {
            self.settled(done);
        }
    }

    /// The same when the next session stands already: the handle counts in it from now on.
    fn accept_from_earlier_session(&mut self, handle: Handle, settlement: &Settlement, earlier: &mut OpenDeliveries) {
        if *settlement == Settlement::Accept
            && let Some(mut open) = earlier.remove(&handle).filter(|open| !open.state.is_settling())
        {
            let consumed = &mut self.queues[open.queue];
            consumed.in_hand += 1;
            consumed.accepted += 1;
            open.state.keep_accepted();
            self.open.insert(handle, open);
        }
    }

    /// The copy is confirmed: now the original may go.
    pub(crate) fn copied(&mut self, handle: Handle) {
        self.shared.emit(Event::Stored(handle));
        self.copy_stored(handle);
    }

    /// What a task leaves behind is confirmed, its copy or its follow-up tasks: now the task itself may go.
    pub(crate) fn copy_stored(&mut self, handle: Handle) {
        let now = self.shared.now().at;
        let Some(open) = self.open.get_mut(&handle) else { return };
        open.moving = false;
        if open.state.is_accepted() {
            return self.settled(vec![handle]);
        }
        let consumed = &mut self.queues[open.queue];
        consumed.freezing.remove(&open.tag);
        consumed.acks.ended(open.tag, now);
        consumed.settled_tags.insert(open.tag, Some(handle));
    }

    /// A batch of acknowledgements was written, or could not be: then the channel is of no use any more.
    pub(crate) fn acks_written(
        &mut self,
        AcksWritten { queue, number, handles, written }: AcksWritten,
    ) -> Result<(), Fault> {
        // Of a channel that is no more: these handles are void.
        let Some(consumed) = self.channel_of(queue, number) else { return Ok(()) };
        if let Err(error) = written {
            return error.fault(consumed.has_consumers()).map_or(Ok(()), Err);
        }
        consumed.sending = false;
        if !handles.is_empty() {
            // A queue that is worked: should it be lost again, its backoff begins anew.
            consumed.failures = 0;
        }
        self.settled(handles);
        Ok(())
    }

    /// These are settled for good; their credit is free.
    pub(crate) fn settled(&mut self, handles: Vec<Handle>) {
        for handle in &handles {
            // An acceptance is answered too, and the delivery stays open.
            if let hash_map::Entry::Occupied(mut entry) = self.open.entry(*handle)
                && entry.get_mut().state.answered()
            {
                let open = entry.remove();
                let consumed = &mut self.queues[open.queue];
                consumed.in_hand -= 1;
                consumed.accepted -= u32::from(open.state.is_accepted());
            }
        }
        self.shared.moved(self.shared.now().at);
        if !handles.is_empty() {
            self.shared.emit(Event::Settled(handles));
        }
        self.hand_out();
    }

    /// Stores a copy of a delivery: on a step of the ladder, among the dead letters, or back in its queue; before it what the ledger
    /// of its job is told.
    fn copy(
        &mut self,
        handle: Handle,
        to: To,
        told: Option<Entry>,
        transition: impl FnOnce(Option<std::time::Duration>) -> Transition,
    ) {
        let Some(open) = self.open.get(&handle) else { return };
        let queue = open.queue;
        let setup = &self.queues[queue].setup;
        let transition = transition(setup.dead.keep);
        let own_queue = match (&transition, to) {
            (Transition::Dead { .. }, _) => OwnQueue::Dead(setup.dead.name.clone()),
            (_, To::Step(step)) => OwnQueue::Delay(setup.name.clone(), step),
            (_, To::Frozen) => OwnQueue::Frozen(setup.name.clone()),
            (_, To::Own) => OwnQueue::Work(setup.name.clone()),
        };
        let (properties, task) = (open.properties.clone(), Arc::clone(&open.task));
        let message = self.outbound_message(queue, own_queue, &transition, &properties, &task);
        self.open.entry(handle).and_modify(|open| open.moving = true);
        let entry = task.membership.as_ref().zip(told).and_then(|(place, told)| LedgerEntry::new(place, &told));
        self.moving.push(PendingCopy { handle, entry, message });
    }
}
