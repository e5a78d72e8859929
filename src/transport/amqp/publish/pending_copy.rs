//! A copy of a settled task that is to be stored, and what the ledger of its job is told before it.

use super::{outbox::OutboundMessage, publisher::Publication};
use crate::{
    jobs::entry::Entry,
    membership::Membership,
    task::{Handle, is_foreign_queue_name},
    transport::amqp::{message::properties, queues::own_queue::OwnQueue},
};

/// A copy on its way, of a delivery that is acknowledged after it.
pub(crate) struct PendingCopy {
    pub(crate) handle: Handle,
    /// Stored first: a crash between the two repeats the task, and never leaves an end that nobody hears of.
    pub(crate) entry: Option<LedgerEntry>,
    pub(crate) message: OutboundMessage,
}

/// What the ledger of a job is told, as a message.
#[derive(Clone)]
pub(crate) struct LedgerEntry {
    pub(crate) message: OutboundMessage,
    /// It is an end; else it is news, which may be lost.
    pub(crate) is_end: bool,
}

impl LedgerEntry {
    /// `None`: no queue can have the name of that ledger, so what the task says of itself is not true.
    pub(crate) fn new(place: &Membership, entry: &Entry) -> Option<Self> {
        let task = entry.message(&place.application, uuid::Uuid::now_v7().to_string());
        let properties = properties::submitted(&task, None).ok().filter(|_| is_foreign_queue_name(&task.queue))?;
        let publication =
            Publication { queue: task.queue.clone(), properties: properties.into(), body: task.body.into() };
        let message = OutboundMessage { own_queue: OwnQueue::Work(task.queue), publication };
        Some(Self { message, is_end: matches!(entry, Entry::End(_)) })
    }
}
