//! Queues that cannot be worked for now: refused by the broker, or lost while they were worked.
//!
//! ```text
//! attached ── its channel is closed, its consumer ended ──> unavailable ── opened ──> attached
//!                     refused in a session that is built ──^   │    ^
//!                                                              └────┘ refused again: backoff
//! ```
//!
//! One such queue is no reason to give up a session: every question that the broker may answer with an error is asked on a
//! channel of its own, and the other queues never notice. Only an error of the connection ends the session, and the queue
//! that was being opened then waits out its backoff in the next one, so that it does not end that one, too.

use std::hash::{BuildHasher as _, Hasher as _};

use super::{
    engine::Engine,
    intake::Intake,
    life::{AGAIN, STEADY},
    members::Joining,
    state::State,
    topology::{Fault, close},
};
use crate::{
    clock::Instant,
    task::{Handle, QueueIndex},
    transport::{Error, Event},
};

impl Engine {
    /// The queue as it is worked on the channel of this number, if that is the one it has.
    pub(super) fn intake_of(&mut self, session: u64, queue: usize, number: u64) -> Option<&mut Intake> {
        let State::Up(up) = &mut self.state else { return None };
        if up.session.number != session {
            return None;
        }
        up.intakes.get_mut(queue).filter(|intake| intake.number == number)
    }

    /// The channel of a queue is of no use any more.
    pub(super) fn ended(&mut self, queue: usize, fault: Fault) {
        let State::Up(up) = &self.state else { return };
        match fault {
            Fault::Broken(cause) => self.broken(&cause),
            fault if up.session.stands() => self.fall(queue, fault),
            fault => self.broken(&fault.cause()),
        }
    }

    /// Takes a queue out of work, and with it the handles of what was delivered and not accepted: it comes again.
    fn fall(&mut self, queue: usize, fault: Fault) {
        let now = self.now().at;
        let State::Up(up) = &mut self.state else { return };
        let Some(intake) = up.intakes.get_mut(queue).filter(|intake| intake.channel.is_some()) else { return };
        let failures = if now.since(intake.since) >= STEADY { 1 } else { intake.failures + 1 };
        let credit = self.credits.get(&queue).copied().unwrap_or_default();
        let mut left = Intake::new(intake.setup.clone(), None, credit);
        (left.leaving, left.failures) = (intake.leaving, failures);
        let (mut void, mut finished) = (Vec::new(), Vec::new());
        for (handle, open) in up.open.iter_mut().filter(|(_, open)| open.queue == queue) {
            if open.accepted {
                // Its acknowledgement may have been lost; then it comes again, and is known.
                open.acknowledged = true;
                if open.settling && !open.moving {
                    finished.push(*handle);
                }
            } else if open.moving {
                (open.is_loose, open.accepted, open.acknowledged) = (true, true, true);
            } else {
                void.push(*handle);
                continue;
            }
            left.in_hand += 1;
            left.accepted += 1;
        }
        self.parted.retain(|_, open| open.queue != queue);
        for handle in &void {
            self.parted.extend(up.open.remove_entry(handle));
        }
        let channel = up.intakes.remove(queue).and_then(|intake| intake.channel);
        up.intakes.insert(queue, left);
        if let Some(channel) = channel.filter(|channel| channel.status().connected()) {
            close(&channel);
        }
        if !finished.is_empty() {
            self.settled(finished);
        }
        self.horizon.borrow_mut().moved_at = now;
        self.set_aside(queue, fault, failures, void);
        self.let_go();
    }

    /// Says that a queue cannot be worked, and when it is tried again: after the first failure at once.
    pub(super) fn set_aside(&mut self, queue: usize, fault: Fault, failures: u32, void: Vec<Handle>) {
        let setup = self.joining.remove(&queue).map(|joining| joining.setup);
        let attached = self.attachment.as_ref().and_then(|attachment| attachment.queues.get(&queue));
        let Some(setup) = setup.or_else(|| attached.cloned()) else { return };
        let error = match fault {
            Fault::Absent(queue) => Error::NoSuchQueue { queue },
            fault => Error::QueueRefused { queue: setup.name.clone(), cause: fault.cause() },
        };
        let again_in = if failures <= 1 { std::time::Duration::ZERO } else { spread(AGAIN.delay(failures - 1)) };
        if !self.leaving.contains(&queue) {
            let until = Some(self.now().at + again_in);
            self.joining.insert(queue, Joining { setup, number: 0, failures, until, is_new: true });
        }
        self.tell(Event::QueueUnavailable { queue: QueueIndex(queue), error, again_in, void });
    }

    /// Tries those again whose pause is over.
    pub(super) fn open_due(&mut self, now: Instant) {
        let is_due = |(queue, joining): (&usize, &Joining)| joining.until.is_some_and(|at| at <= now).then_some(*queue);
        if !matches!(self.state, State::Up(_)) || self.closing.is_some() {
            return;
        }
        for queue in self.joining.iter().filter_map(is_due).collect::<Vec<_>>() {
            self.open(queue);
        }
    }

    /// When the next one is to be tried.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.joining.values().filter_map(|joining| joining.until).min().filter(|_| self.closing.is_none())
    }
}

/// A pause made up to a fifth longer, so that the masters of a fleet do not come all at once.
pub(super) fn spread(pause: std::time::Duration) -> std::time::Duration {
    let random = std::hash::RandomState::new().build_hasher().finish() % 1024;
    pause + pause.mul_f64(random as f64 / 5120.0)
}
