//! What the actor holds: the session of the moment, the deliveries in the master's hands, and what work beside it
//! tells it.
//!
//! All of it belongs to one task and is changed by it alone; work that waits for the broker runs beside it, holds nothing
//! of this, and reports by [`Note`]. So no state is ever seen half changed across an await, and nothing here needs a lock.

use std::{collections::HashMap, rc::Rc, time::Duration};

use futures_util::{future::LocalBoxFuture, stream::FuturesUnordered};
use lapin::{BasicProperties, Consumer};
use tokio::{sync::mpsc, task::JoinSet};

use super::connections::{BuiltSession, OpenedQueue, Session};
use crate::{
    clock::Instant,
    task::{Handle, Settlement, Task},
    transport::{
        Error,
        amqp::{
            consume::{ack_batch::AckWriteError, consumer::PassAction, consumers::ConsumedQueues},
            dead_letters::sweep_schedule::Swept,
            publish::{
                outbox::{OutboundMessage, Outbox},
                undeliverable::PublishReport,
            },
            queues::topology::Fault,
            schedules::lease::Lease,
        },
    },
};

/// What work beside the actor reports to it.
pub(crate) enum Note {
    /// A session was built, or could not be.
    Built { number: u64, built: Box<Result<BuiltSession, Error>> },
    /// A session cannot go on.
    Broken { session: u64, cause: String },
    /// A queue that was to be added has its channel and all that it needs, or cannot have it.
    Opened { session: u64, number: u64, queue: usize, opened: Result<OpenedQueue, Fault> },
    /// A change of consumers is done, on the channel of this number.
    Switched { session: u64, queue: usize, number: u64, consumer: Option<Consumer>, prefetch: u16 },
    /// The channel of this number is of no use any more.
    Ended { session: u64, queue: usize, number: u64, fault: Fault },
    /// The copy of a task is confirmed.
    Copied { session: u64, handle: Handle, is_dead: bool },
    /// Dead-letter queues were swept.
    Swept { session: u64, swept: Vec<(String, Swept)> },
    /// The follow-up tasks of a `Done` are confirmed.
    FollowedUp { session: u64, handle: Handle },
    /// The follow-up tasks of a `Done` can never be stored.
    Unstorable { session: u64, handle: Handle, error: Error },
    /// A message of this queue was refused by the queue that it belongs to, or is taken at last.
    PublishReport { session: u64, queue: usize, to: String, publish_reported: PublishReport },
    /// A task that the master has not seen was moved on.
    Passed { session: u64, queue: usize, number: u64, tag: u64 },
    /// The readings of a survey agree.
    Surveyed { serial: u64, empty: bool, again_in: Duration },
    /// The readings of a survey were disturbed.
    Disturbed { serial: u64 },
    /// What clients' requests wait for.
    Waits(String),
    /// Something to be read by a person.
    Warning(String),
}

/// Where notes go.
pub(crate) type Notes = mpsc::UnboundedSender<Note>;

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
