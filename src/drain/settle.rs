//! What becomes of the task in hand: its key before it is begun, its settlement when it has ended, each with the answer of
//! the transport.

use std::{
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use uuid::Uuid;

use super::{
    error::Error,
    state::{Drain, STALL_LIMIT},
};
use crate::{
    celery::result,
    clock::Clock,
    level::Level,
    master::core::foreground::Drawn,
    outcome::Report,
    task::{Delivery, Handle, Reason, Settlement, Task},
    transport::{self, Event, Request},
    unique::{Conflict, Unique},
};

/// Whether the key of a task could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyAnswer {
    /// The task holds its key, or has none: it can be begun.
    Free,
    /// The task of another master holds the key: this one is settled, by the queue's rule for that.
    Held,
}

impl Drain {
    /// Takes the key of a task, if it has one.
    pub(super) fn take_key(&mut self, delivery: &Delivery) -> Result<KeyAnswer, Error> {
        let settings = self.queue.settings();
        let Some(unique) = settings.unique.clone() else { return Ok(KeyAnswer::Free) };
        let Some(key) = unique.key_of(&settings.name, &delivery.task, settings.unwrap) else {
            return Ok(KeyAnswer::Free);
        };
        self.transport.ask(Request::Lock { handle: delivery.handle, key: key.clone() });
        let Some(holder) = self.await_key(delivery.handle)? else { return Ok(KeyAnswer::Free) };
        let (id, text) = (&delivery.task.id, Unique::refusal(&key, &holder));
        let settlement = match unique.conflict {
            Conflict::Snooze => {
                self.worker.log(Level::Debug, &format_args!("Task {id} waits: {text}"));
                Settlement::Snooze { after: unique.after, memo: None }
            }
            Conflict::Drop if delivery.task.membership.is_none() => {
                self.worker.log(Level::Info, &format_args!("Task {id} is dropped: {text}"));
                Settlement::Done { submit: Vec::new() }
            }
            // The ledger of its job is told of a dead letter, and of nothing else that ends it unrun.
            Conflict::DeadLetter | Conflict::Drop => {
                self.queue.refused(&delivery.task, Reason::Cancelled, text, Clock::wall())
            }
        };
        self.settle(delivery, settlement)?;
        Ok(KeyAnswer::Held)
    }

    /// Settles and waits for the confirmation.
    pub(super) fn settle(&mut self, delivery: &Delivery, settlement: Settlement) -> Result<(), Error> {
        let id = &delivery.task.id;
        // Said once it is so.
        let line = match &settlement {
            Settlement::Retry { after, failure } => {
                let (error, seconds) = (&failure.error, after.as_secs_f64());
                Some((Level::Info, format!("Task {id} is retried in {seconds:.1} s: {error}")))
            }
            Settlement::Dead(failure) => {
                let (reason, error) = (failure.reason.as_str(), &failure.error);
                let dead = &self.queue.settings().dead_letter.name;
                Some((Level::Warning, format!("Task {id} dead-lettered to {dead}: {reason}: {error}")))
            }
            Settlement::Done { .. }
            | Settlement::Snooze { .. }
            | Settlement::Release
            | Settlement::Discard
            | Settlement::Pass
            | Settlement::Accept => None,
        };
        let reply = self.reply(&delivery.task, &settlement);
        self.ask_settle(delivery.handle, settlement);
        let Some(error) = self.await_settled(delivery.handle)? else {
            if let Some(reply) = reply {
                self.transport.ask(reply);
            }
            if let Some((level, text)) = line {
                self.worker.log(level, &text);
            }
            return Ok(());
        };
        let error = format!("its follow-up tasks cannot be stored: {error}");
        let outcome = Report::error(error.clone());
        let settlement = self.queue.settlement(&delivery.task, outcome, Duration::ZERO, Clock::wall(), drawn());
        self.settle(delivery, settlement)?;
        Err(Error::Task { id: delivery.task.id.clone(), error, detail: String::new(), done: self.done })
    }

    /// For whoever waits for the result of a task that came from a Celery producer.
    fn reply(&self, task: &Task, settlement: &Settlement) -> Option<Request> {
        if !self.queue.settings().protocol.is_celery() {
            return None;
        }
        let ended = match settlement {
            Settlement::Done { .. } => result::Ended::Succeeded(None),
            Settlement::Dead(failure) => result::Ended::dead(failure.reason, &failure.error, &failure.detail),
            _ => return None,
        };
        let (queue, correlation_id) = result::waiting_queue(task)?;
        let body = result::body(&task.id, ended, Clock::wall());
        Some(Request::Reply { queue: queue.to_owned(), correlation_id: correlation_id.to_owned(), body })
    }

    /// Nothing is known here of what came again.
    pub(super) fn pass(&self, deliveries: Vec<Delivery>) {
        let pass = deliveries.into_iter().map(|delivery| (delivery.handle, Settlement::Pass));
        self.transport.ask(Request::Settle(pass.collect()));
    }

    /// Sends a settlement of the task in hand; [`Self::await_settled`] counts its answer.
    pub(super) fn ask_settle(&mut self, handle: Handle, settlement: Settlement) {
        self.unanswered += 1;
        self.transport.ask(Request::Settle(vec![(handle, settlement)]));
    }

    /// Waits until every settlement of the task is answered, its acceptance included. `Some`: what it submits can never be
    /// stored, and another settlement is owed.
    fn await_settled(&mut self, handle: Handle) -> Result<Option<transport::Error>, Error> {
        let mut unanswered = self.unanswered;
        let unstorable = self.until(Some(STALL_LIMIT), |event| match event {
            Event::Settled(handles) => {
                // One event may answer the acceptance and the settlement.
                let answers = handles.iter().filter(|of| **of == handle).count();
                unanswered = unanswered.saturating_sub(answers);
                (answers > 0 && unanswered == 0).then_some(None)
            }
            Event::Unstorable { handle: of, error, .. } if *of == handle => {
                unanswered = unanswered.saturating_sub(1);
                Some(Some(error.clone()))
            }
            _ => None,
        });
        self.unanswered = unanswered;
        unstorable
    }

    /// The task of another master that has the key, or `None`: it is ours.
    fn await_key(&mut self, handle: Handle) -> Result<Option<String>, Error> {
        self.until(None, |event| match event {
            Event::Locked { handle: of, held_by } if *of == handle => Some(held_by.clone()),
            _ => None,
        })
    }

    fn until<T>(&mut self, limit: Option<Duration>, mut is_it: impl FnMut(&Event) -> Option<T>) -> Result<T, Error> {
        loop {
            let event = self.next(limit)?;
            if event.is_none() {
                let (queue, seconds) = (self.queue.settings().name.clone(), STALL_LIMIT.as_secs());
                let cause = format!("the transport has stored nothing for {seconds} s");
                return Err(transport::Error::NotStored { queue, cause }.into());
            }
            if let Some(answer) = event.as_ref().and_then(&mut is_it) {
                return Ok(answer);
            }
            match event {
                Some(Event::Delivered(deliveries)) => self.early.extend(deliveries),
                Some(Event::CameAgain(deliveries)) => self.pass(deliveries),
                Some(Event::Surveyed { .. }) => self.surveyed = true,
                Some(Event::Warning(text)) => self.worker.log(Level::Warning, &text),
                _ => {}
            }
        }
    }
}

/// What is random about the end of a task.
pub(super) fn drawn() -> Drawn {
    // The standard library's own source of randomness for hash maps: as good as jitter needs.
    let jitter = std::hash::RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    Drawn { jitter, execution: Uuid::now_v7() }
}

/// The line with a payload. Passwords in it are redacted when it is written, and only then.
pub(super) struct GotPayload<'a>(pub(super) &'a str);

impl std::fmt::Display for GotPayload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Got payload: {}", crate::redact::redact(self.0))
    }
}
