//! Queues that cannot be worked for now: refused by the broker, or lost while they were worked.
//!
//! ```text
//! attached ── its channel is closed, its consumer ended ──> unavailable ── opened ──> attached
//!                     refused in a session that is built ──^   │    ^
//!                                                              └────┘ refused again: backoff
//! ```
//!
//! The backoff is for a queue that cannot be had: one that was worked meanwhile is tried again at once, however often.
//!
//! One such queue is no reason to give up a session: every question that the broker may answer with an error is asked on a
//! channel of its own, and the other queues never notice. Only an error of the connection ends the session, and the queue
//! that was being opened then waits out its backoff in the next one, so that it does not end that one, too.

use super::{
    pauses::{failures_after, pause, with_jitter},
    state::{Actor, QueueChange, State},
};
use crate::{
    clock::Instant,
    task::{Handle, QueueIndex},
    transport::{
        Event,
        amqp::{broker_error::Fault, connect::channel::close, consume::consumer::ConsumedQueue},
    },
};

impl Actor {
    /// The channel of a queue is of no use any more.
    pub(crate) fn ended(&mut self, queue: usize, fault: Fault) {
        let Some(up) = self.state.up() else { return };
        match fault {
            Fault::Broken(cause) => self.session_lost(&cause),
            fault if up.session.stands() => self.detach(queue, fault),
            fault => self.session_lost(&fault.cause()),
        }
    }

    /// Takes a queue out of work, and with it the handles of what was delivered and not accepted: it comes again.
    fn detach(&mut self, queue: usize, fault: Fault) {
        let now = self.now().at;
        let Some(up) = self.state.up() else { return };
        let Some(consumed) = up.queues.get_mut(queue).filter(|consumed| consumed.channel.is_some()) else { return };
        let failures = failures_after(consumed.failures, now.since(consumed.since));
        let credit = self.credits.get(&queue).copied().unwrap_or_default();
        let mut left = ConsumedQueue::new(consumed.setup.clone(), None, credit);
        (left.leaving, left.failures) = (consumed.leaving, failures);
        let (mut void, mut finished) = (Vec::new(), Vec::new());
        for (handle, open) in up.open.iter_mut().filter(|(_, open)| open.queue == queue) {
            if !open.state.is_accepted() && !open.moving {
                void.push(*handle);
                continue;
            }
            open.lost_channel |= !open.state.is_accepted();
            // Its acknowledgement may have been lost; then it comes again, and is known.
            open.state.keep_accepted();
            if open.state.is_settling() && !open.moving {
                finished.push(*handle);
            }
            left.in_hand += 1;
            left.accepted += 1;
        }
        self.earlier_deliveries.retain(|_, open| open.queue != queue);
        for handle in &void {
            self.earlier_deliveries.extend(up.open.remove_entry(handle));
        }
        let channel = up.queues.remove(queue).and_then(|consumed| consumed.channel);
        up.queues.insert(queue, left);
        if let Some(channel) = channel.filter(|channel| channel.status().connected()) {
            close(&channel);
        }
        if !finished.is_empty() {
            up.settled(finished);
        }
        self.shared.moved(now);
        self.mark_unavailable(queue, fault, failures, void);
        self.remove_drained();
    }

    /// Says that a queue cannot be worked, and when it is tried again: after the first failure at once.
    pub(crate) fn mark_unavailable(&mut self, queue: usize, fault: Fault, failures: u32, void: Vec<Handle>) {
        let setup = self.queue_changes.remove(&queue).map(|change| change.setup);
        let attached = self.attachment.as_ref().and_then(|attachment| attachment.queues.get(&queue));
        let Some(setup) = setup.or_else(|| attached.cloned()) else { return };
        let error = fault.of_queue(&setup.name);
        let again_in = with_jitter(pause(failures));
        if !self.leaving.contains(&queue) {
            let until = Some(self.now().at + again_in);
            self.queue_changes.insert(queue, QueueChange { setup, number: 0, failures, until, is_new: true });
        }
        self.emit(Event::QueueUnavailable { queue: QueueIndex(queue), error, again_in, void });
    }

    /// Tries those again whose pause is over.
    pub(crate) fn open_due(&mut self, now: Instant) {
        let is_due =
            |(queue, change): (&usize, &QueueChange)| change.until.is_some_and(|at| at <= now).then_some(*queue);
        if !matches!(self.state, State::Up(_)) || self.closing.is_some() {
            return;
        }
        for queue in self.queue_changes.iter().filter_map(is_due).collect::<Vec<_>>() {
            self.open(queue);
        }
    }

    /// When the next one is to be tried.
    pub(crate) fn opens_at(&self) -> Option<Instant> {
        self.queue_changes.values().filter_map(|change| change.until).min().filter(|_| self.closing.is_none())
    }
}
