//! A session that stands: its connections, the queues that it consumes, and the deliveries in the master's hands.
//!
//! What is done with it is in chapters of its own: `consume::deliver` and `consume::settle` (a delivery from its arrival to its
//! acknowledgement), `publish::forward` and `publish::submit` (copies and follow-up tasks), `session::requests` (what clients ask).

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use futures_util::{future::LocalBoxFuture, stream::FuturesUnordered};
use lapin::BasicProperties;
use tokio::{sync::mpsc, task::JoinSet};
use uuid::Uuid;

use super::{connections::Session, note::SessionNote, shared::Shared};
use crate::{
    clock::Instant,
    task::{Handle, QueueIndex, Settlement, Task},
    transport::{
        DeadQueue, Error, Event,
        amqp::{
            broker_error::Fault,
            consume::{
                ack_batch::AckWriteError,
                acks,
                consumer::{ConsumedQueue, PassAction},
                consumers::ConsumedQueues,
            },
            ledger::request::LedgerRequest,
            publish::{
                outbox::Outbox,
                pending_copy::PendingCopy,
                replies::Replies,
                undeliverable::{PublishReport, RefusedMessages},
            },
            schedules::lease_holder::Lease,
        },
        attached::DeliveryState,
    },
};

/// A delivery that the master holds.
pub(crate) struct OpenDelivery {
    pub(crate) queue: usize,
    pub(crate) tag: u64,
    pub(crate) properties: Box<BasicProperties>,
    pub(crate) task: std::sync::Arc<Task>,
    /// What a `Pass` does with it.
    pub(crate) on_pass: Option<PassAction>,
    pub(crate) state: DeliveryState,
    /// Its settlement is under way, and is still a copy or tasks that follow.
    pub(crate) moving: bool,
    /// Its channel is closed, so that it comes again. The settlement under way is finished without an acknowledgement, as that of
    /// an accepted one.
    pub(crate) lost_channel: bool,
    /// The settlement of an accepted one, in case the session ends before it is stored.
    pub(crate) unstored_settlement: Option<Settlement>,
}

/// Deliveries by their handles.
pub(crate) type OpenDeliveries = HashMap<Handle, OpenDelivery, foldhash::fast::RandomState>;

/// A session that stands.
pub(crate) struct Up {
    pub(crate) shared: Rc<Shared>,
    pub(crate) session: Rc<Session>,
    pub(crate) outbox: Outbox,
    pub(crate) queues: ConsumedQueues,
    pub(crate) open: OpenDeliveries,
    /// Copies to be made, gathered so that those for one queue go together.
    pub(crate) moving: Vec<PendingCopy>,
    pub(crate) tasks: JoinSet<()>,
    /// The one of them that only ends with the connection.
    pub(crate) watch: tokio::task::AbortHandle,
    /// Another, which a close does not wait for.
    pub(crate) sweep: Option<tokio::task::AbortHandle>,
    pub(crate) lease: Option<Lease>,
    /// The running attempt to be or become the coordinator of an application.
    pub(crate) ledger: Option<mpsc::UnboundedSender<LedgerRequest>>,
    pub(crate) ledger_of: Option<String>,
    pub(crate) sending: FuturesUnordered<LocalBoxFuture<'static, AcksWritten>>,
    pub(crate) replies: Replies,
    /// The work that sends them, which ends with the session.
    pub(crate) answering: tokio::task::AbortHandle,
    /// Messages of its queues that their targets refuse.
    pub(crate) refused_messages: RefusedMessages,
    /// Applications whose ledgers are listened to.
    pub(crate) subscribed: HashSet<String>,
    pub(crate) fetching: Fetching,
    pub(crate) superseded: Superseded,
    /// No queues are attached.
    pub(crate) is_client: bool,
    pub(crate) since: Instant,
}

/// Whether tasks that were put aside are to be fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetching {
    /// A thaw was heard since the last time.
    pub(crate) wanted: bool,
    pub(crate) under_way: bool,
}

/// The dead letters that are to be removed because they have a successor, and whether that is under way.
#[derive(Debug, Default)]
pub(crate) struct Superseded {
    pub(crate) rounds: HashSet<Uuid>,
    pub(crate) queues: Vec<DeadQueue>,
    pub(crate) under_way: bool,
}

/// A batch of acknowledgements was written, or not.
pub(crate) struct AcksWritten {
    pub(crate) queue: usize,
    /// Of the channel.
    pub(crate) number: u64,
    pub(crate) handles: Vec<Handle>,
    pub(crate) written: Result<(), AckWriteError>,
}

impl Up {
    /// The queue as it is worked on the channel of this number, if that is the one it has.
    pub(crate) fn channel_of(&mut self, queue: usize, number: u64) -> Option<&mut ConsumedQueue> {
        self.queues.get_mut(queue).filter(|consumed| consumed.number == number)
    }

    /// When something is to be done though nothing happens.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let acks = self.queues.dirty().any(ConsumedQueue::waits).then(|| now + acks::MAX_ACK_DELAY);
        let due = self.queues.dirty().flat_map(|consumed| &consumed.nearly_due).map(|(due, _)| *due).min();
        let deferred = self.queues.poll_deferred_until(now);
        let stale = self.queues.dirty().filter_map(ConsumedQueue::stale_at).min();
        [acks, due, deferred, stale].into_iter().flatten().min()
    }

    /// Writes the acknowledgements that are due, or `all`, and begins the changes of consumers that credits ask for.
    pub(crate) fn advance(&mut self, now: Instant, all: bool) {
        // What has ended keeps its memory until it is taken out.
        while self.tasks.try_join_next().is_some() {}
        let Self { shared, session, queues, sending, tasks, .. } = self;
        queues.each_dirty(|queue, consumed| {
            for (tag, handle) in consumed.acceptable() {
                consumed.acks.ended(tag, now);
                consumed.settled_tags.insert(tag, Some(handle));
            }
            if let Some(mut batch) = consumed.batch(now, all) {
                let handles = std::mem::take(&mut batch.handles);
                let number = consumed.number;
                sending.push(Box::pin(
                    async move { AcksWritten { queue, number, written: batch.write().await, handles } },
                ));
            }
            if let Some(switch) = consumed.switch(&shared.foreign_queues) {
                let tag = shared.next_consumer_tag();
                let (notes, session, prefetch) = (shared.notes.clone(), session.number, switch.prefetch);
                let number = consumed.number;
                tasks.spawn_local(async move {
                    let note = match switch.run(tag).await {
                        Ok(consumer) => SessionNote::Switched { queue, number, consumer, prefetch },
                        Err(error) => SessionNote::Ended { queue, number, fault: Fault::of(&error) },
                    };
                    let _ = notes.send(note.of(session));
                });
            }
        });
        queues.clear_dirty();
    }

    /// Whether nothing of it is under way that a close waits for.
    pub(crate) fn is_settled(&self) -> bool {
        let is_settled = |consumed: &ConsumedQueue| {
            consumed.to_requeue.is_empty() && consumed.republishing == 0 && !consumed.switching
        };
        self.sending.is_empty()
            && self.replies.is_empty()
            && self.open.values().all(|open| !open.state.is_settling())
            && self.queues.iter().all(is_settled)
    }

    /// What was accepted in an earlier session is in hand in this one. Gives what was decided about it meanwhile.
    pub(crate) fn resume_accepted(&mut self) -> Vec<(Handle, Settlement)> {
        let mut decided = Vec::new();
        for (handle, open) in &mut self.open {
            let consumed = &mut self.queues[open.queue];
            consumed.in_hand += 1;
            consumed.accepted += 1;
            open.state.keep_accepted();
            open.state.reopen();
            decided.extend(open.unstored_settlement.take().map(|settlement| (*handle, settlement)));
        }
        decided
    }

    /// A message that a queue owes was refused by the queue that it belongs to, or is taken at last.
    pub(crate) fn publish_reported(&mut self, queue: usize, to: String, report: PublishReport) {
        if self.queues.get(queue).is_none() {
            return;
        }
        if let Some((tasks, cause)) = self.refused_messages.note(queue, &to, report) {
            let error = Error::NotStored { queue: to.clone(), cause };
            self.shared.emit(Event::Stuck { queue: QueueIndex(queue), by: to, error, tasks });
        }
    }
}
