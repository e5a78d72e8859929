//! What the actor holds: the session of the moment, the deliveries in the master's hands, and what work beside it
//! tells it.
//!
//! All of it belongs to one task and is changed by it alone; work that waits for the broker runs beside it, holds nothing
//! of this, and reports by [`Note`]. So no state is ever seen half changed across an await, and nothing here needs a lock.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use futures_util::{future::LocalBoxFuture, stream::FuturesUnordered};
use lapin::BasicProperties;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    connections::{Attachment, Session},
    note::{Note, Notes},
};
use crate::{
    clock::{Clock, Instant},
    task::{Handle, Settlement, Task},
    transport::{
        Error, Event, Events, QueueSetup, Reply, Request,
        amqp::{
            connect::address::Address,
            consume::{ack_batch::AckWriteError, consumer::PassAction, consumers::ConsumedQueues},
            dead_letters::sweep_schedule::SweepSchedule,
            publish::{
                outbox::{OutboundMessage, Outbox, UnansweredQueues},
                undeliverable::RefusedMessages,
            },
            queues::{counts::DepthCounter, foreign_queues::ForeignQueues, in_transit::InTransit},
            schedules::lease_holder::Lease,
        },
    },
};

/// A delivery in the master's hands.
#[expect(clippy::struct_excessive_bools, reason = "an acceptance and a settlement may be under way at the same time")]
pub(crate) struct Open {
    pub(crate) queue: usize,
    pub(crate) tag: u64,
    pub(crate) properties: BasicProperties,
    pub(crate) task: std::sync::Arc<Task>,
    /// What is to be done with it if the master does not know it.
    pub(crate) on_pass: Option<PassAction>,
    /// Removed from its queue already.
    pub(crate) accepted: bool,
    /// … and the acknowledgement is written.
    pub(crate) acknowledged: bool,
    /// Its settlement is under way.
    pub(crate) settling: bool,
    /// … and is still a copy or tasks that follow.
    pub(crate) moving: bool,
    /// Its channel is closed, so that it comes again. The settlement under way is finished without an acknowledgement.
    pub(crate) lost_channel: bool,
    /// Of one that was accepted: that settlement, in case the session ends before it is stored.
    pub(crate) unstored_settlement: Option<Settlement>,
}

/// A session that stands.
pub(crate) struct Up {
    pub(crate) session: Rc<Session>,
    pub(crate) outbox: Outbox,
    pub(crate) queues: ConsumedQueues,
    pub(crate) open: HashMap<Handle, Open>,
    /// Copies to be made, gathered so that those for one queue go together.
    pub(crate) moving: Vec<(Handle, OutboundMessage)>,
    pub(crate) tasks: JoinSet<()>,
    /// The one of them that only ends with the connection.
    pub(crate) watch: tokio::task::AbortHandle,
    /// Another, which nobody waits for at the end.
    pub(crate) sweep: Option<tokio::task::AbortHandle>,
    pub(crate) lease: Option<Lease>,
    pub(crate) sending: FuturesUnordered<LocalBoxFuture<'static, AcksWritten>>,
    pub(crate) since: Instant,
}

/// A batch of acknowledgements was written, or not.
pub(crate) struct AcksWritten {
    pub(crate) queue: usize,
    /// Of the channel.
    pub(crate) number: u64,
    pub(crate) handles: Vec<Handle>,
    pub(crate) written: Result<(), AckWriteError>,
}

/// Where the connections stand.
pub(crate) enum State {
    /// A client without work.
    Idle,
    /// Being built.
    Connecting {
        number: u64,
    },
    Up(Box<Up>),
    /// Until the next try.
    Waiting {
        until: Instant,
        error: Error,
    },
    /// For good.
    Refused(Error),
}

/// A close that is under way.
pub(crate) struct Closing {
    pub(crate) by: Instant,
    pub(crate) reply: Option<Reply<()>>,
}

/// A queue that is to be added or changed.
pub(crate) struct QueueChange {
    pub(crate) setup: QueueSetup,
    /// Names the try under way; the answer to an earlier one means nothing.
    pub(crate) number: u64,
    /// Tries that failed.
    pub(crate) failures: u32,
    /// When it is tried; `None`: a try is under way.
    pub(crate) until: Option<Instant>,
    /// It is not worked; else it is, and is to be changed.
    pub(crate) is_new: bool,
}

/// A survey that was asked for and is not answered.
pub(crate) struct PendingSurvey {
    pub(crate) serial: u64,
    /// When it is answered with what is known then.
    pub(crate) by: Instant,
    /// Readings are being taken.
    pub(crate) reading: Option<tokio::task::AbortHandle>,
}

impl PendingSurvey {
    /// Whether it still waits for a quiet moment to begin.
    pub(crate) fn waits(&self) -> bool {
        self.reading.is_none()
    }
}

/// The actor.
pub(crate) struct Actor {
    pub(crate) address: Rc<Address>,
    pub(crate) events: Events,
    pub(crate) clock: Clock,
    pub(crate) notes: Notes,
    /// What is known about queues that others have declared.
    pub(crate) foreign_queues: Rc<ForeignQueues>,
    pub(crate) state: State,
    pub(crate) attachment: Option<Attachment>,
    /// Accepted deliveries, between two sessions.
    pub(crate) accepted_between_sessions: HashMap<Handle, Open>,
    /// Of the queues that are attached or to be added, by their index.
    pub(crate) credits: BTreeMap<usize, u32>,
    /// Queues to be added or changed.
    pub(crate) queue_changes: BTreeMap<usize, QueueChange>,
    /// Counts the tries to add a queue.
    pub(crate) channel_numbers: u64,
    /// Queues that are to go.
    pub(crate) leaving: BTreeSet<usize>,
    pub(crate) in_transit: Rc<RefCell<InTransit>>,
    pub(crate) depth_counter: Rc<DepthCounter>,
    pub(crate) application: Option<String>,
    pub(crate) surveying: Option<PendingSurvey>,
    /// Clients' requests that wait for the first session.
    pub(crate) waiting_requests: Vec<Request>,
    pub(crate) incoming_notes: mpsc::UnboundedReceiver<Note>,
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
    pub(crate) unanswered_queues: UnansweredQueues,
    /// What the queues of this session owe and others do not take.
    pub(crate) refused_messages: RefusedMessages,
    /// Counts the tries to build a session.
    pub(crate) builds: u64,
    pub(crate) sessions: u32,
    pub(crate) failures: u32,
    pub(crate) consumer_tags: u64,
    pub(crate) closing: Option<Closing>,
    pub(crate) lease_held: Rc<Cell<bool>>,
    pub(crate) sweeps: SweepSchedule,
}

impl Actor {
    pub(crate) fn emit(&self, event: Event) {
        // The owner may be gone; then nobody needs to know.
        let _ = self.events.send(event);
    }
}
