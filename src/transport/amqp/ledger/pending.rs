//! A step of the coordinator on its way: with its tasks as messages, and answered even when it is dropped.

use crate::{
    jobs::record::Advance,
    membership::Membership,
    transport::{DeadQueue, Error, Event, Events, amqp::publish::outbox::OutboundMessage},
};

/// A task of a step.
pub(crate) struct PendingTask {
    /// The queues in which it may come to lie, and its round, if it is of a job.
    pub(crate) membership: Option<Membership>,
    pub(crate) queue: String,
    /// Or why it can never be stored.
    pub(crate) message: Result<OutboundMessage, Error>,
}

/// A step that is to be stored.
pub(crate) struct PendingStep {
    pub(crate) advance: Advance,
    /// Where dead letters may lie that go back to work.
    pub(crate) dead: Vec<DeadQueue>,
    /// Where those may lie that go.
    pub(crate) superseded: Vec<DeadQueue>,
    pub(crate) tasks: Vec<PendingTask>,
    events: Events,
    is_answered: bool,
}

impl PendingStep {
    pub(crate) fn new(
        advance: Advance,
        tasks: Vec<PendingTask>,
        (dead, superseded): (Vec<DeadQueue>, Vec<DeadQueue>),
        events: Events,
    ) -> Self {
        Self { advance, dead, superseded, tasks, events, is_answered: false }
    }

    pub(crate) fn answer(mut self, revived: u64, result: Result<(), Error>) {
        self.tell(revived, result);
    }

    fn tell(&mut self, revived: u64, result: Result<(), Error>) {
        if !std::mem::replace(&mut self.is_answered, true) {
            let _ = self.events.send(Event::Advanced { serial: self.advance.serial, revived, result });
        }
    }
}

impl Drop for PendingStep {
    fn drop(&mut self) {
        let cause = "this process does not hold the ledger".to_owned();
        self.tell(0, Err(Error::Jobs { cause }));
    }
}
