//! What is asked of a transport and what it tells its owner, and the rules that every transport keeps.
//!
//! # The contract
//!
//! 1. *Nothing leaves a queue unsettled.* A delivery stays ours until it is settled. `Done` removes it;
//!    `Retry`, `Snooze` and `Dead` store the copy first and remove the original only after the store is
//!    confirmed; `Release` puts it back. A delivery that is never settled (killed process, lost connection)
//!    is delivered again. The tasks that a `Done` submits are stored before it is removed; where that can never be, its
//!    owner is told ([`Event::Unstorable`]) and settles it otherwise.
//! 2. *Every settlement is answered* by [`Event::Settled`] once it is durable, unless [`Event::Lost`] comes
//!    first: then all handles of that session are void, and a settlement for a void handle is ignored. But for those
//!    that were accepted, also those that the owner accepts before it hears of the loss: perhaps nothing else holds
//!    their tasks any more, so they and their settlements outlive the session. Such an `Accept` may stay unanswered.
//! 3. *Credit bounds what is in our hands*: of each queue at most `credit` deliveries are unsettled at once.
//!    `Accept` does not give credit back; the handle stays open until it is settled.
//! 4. *Order*: tasks of one queue come oldest first, except those that were released, retried or delayed.
//! 5. *Bytes are untouched.* Body, id and headers come out as they went in, through any number of moves.
//! 6. *A submit is answered after it is durable.* Tasks are stored in their order up to the first that cannot be; an answer
//!    that says error says which are stored and which may be ([`Error::Unsubmitted`]), and no other is. An error that does
//!    not say so means that none is.
//! 7. *A key is held by one delivery at a time*, among all owners that the transport can see; one that sees no others grants
//!    each. It ends with the settlement of its delivery, in the same step, or with its owner, however that ends.
//! 8. Queues that do not exist are created by the first program that needs them, with the same constant arguments.
//! 9. *What a task of a job carries is kept* ([`Membership`](crate::membership::Membership), memo) through all moves. Its `Dead`, its
//!    removal where it waits, its purge store an entry for its ledger in the same step; its `Retry` and `Snooze` likewise, as news, if
//!    the coordinator submitted it. What its `Done` tells the ledger is among what it submits: a task for
//!    [`ledger_queue`](crate::membership::ledger_queue), which is an entry there and no task of a queue.
//! 10. *One coordinator*: of those that asked for a ledger, one holds it at a time. An `Advance` of one that does not hold it any more
//!     changes nothing, and one that does stores all of it with the end of the entries that it names. What one transaction tells may
//!     be one entry, a [list](crate::jobs::entry_list). Tasks of a void round are never delivered after it; tasks of a frozen job wait until it is thawed.
//! 11. *An index names one queue at a time.* It is free again only after [`Event::QueueRemoved`]; queues that are added or
//!     removed leave the deliveries and the credit of all others as they are.
//!
//! `tests/transport/contract` holds all of this against each implementation.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{
    answers::{Cancelled, Depth, ScheduleMemory},
    dead_letter::{DeadQueue, Visitor, Walked},
    dead_page::{DeadFilter, DeadFound, DeadGroup, DeadKey, DeadPage, DeadPlace},
    error::Error,
    event::Event,
};
use crate::{
    celery::Protocol,
    clock::Timestamp,
    jobs::{
        order::Order,
        record::{Advance, Frozen, JobFilter, Record},
    },
    task::{Handle, NewTask, QueueIndex, Settlement},
};

/// Where a transport reports to.
pub type Events = mpsc::UnboundedSender<Event>;

/// The answer to one request; the receiver may be gone.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A queue as the transport needs to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSetup {
    /// Name of the work queue.
    pub name: String,
    /// Where its dead letters go, and for how long.
    pub dead: DeadQueue,
    /// The delays that its retry policy can ask for, so that what they need can be made at the start.
    pub delays: Vec<Duration>,
    /// The form of its messages. Only RabbitMQ has another one than ours.
    pub protocol: Protocol,
}

/// What can be asked of a transport. None of these blocks the sender.
pub enum Request {
    /// Declare these queues and begin to consume with no credit. Answered by [`Event::Attached`], again after each rebuilt
    /// session; those that cannot be had are named after it, by [`Event::QueueUnavailable`]. At most once in a transport's
    /// life; without it the transport is a client that gives up at the first failure to connect.
    Attach {
        /// The queues; their positions are the [`QueueIndex`]es from here on.
        queues: Vec<QueueSetup>,
        /// Create nothing: a queue that is absent at the start is [`Event::Refused`] as [`Error::NoSuchQueue`].
        /// Where queues are no objects of their own this means nothing.
        passive: bool,
    },
    /// Declare one more queue of an attached transport and begin to consume it with no credit, in this session or as soon
    /// as there is one, and in all that follow. At an index that is in use it must be the same queue: then only where
    /// its dead letters go and its delays change. Answered by [`Event::QueueAdded`], however late, or, if it
    /// was to change, [`Event::QueueRefused`]; asked for anew before that, only the last setup counts.
    AddQueue {
        /// Its index: free, chosen by the asker.
        queue: QueueIndex,
        /// The queue.
        setup: QueueSetup,
    },
    /// Take no more tasks of a queue. Its open deliveries are to be settled as ever; when the last one is,
    /// [`Event::QueueRemoved`] says that the index is free. What lies in the queue stays there.
    RemoveQueue {
        /// The queue.
        queue: QueueIndex,
    },
    /// How many unsettled deliveries of one queue may be in our hands. Lowering takes nothing back. Survives
    /// a lost session.
    Credit {
        /// The queue.
        queue: QueueIndex,
        /// The new credit; 0 stops deliveries.
        credit: u32,
    },
    /// Settlements, in order. The transport may store many in one step.
    Settle(Vec<(Handle, Settlement)>),
    /// Hold a key for an open delivery, at most one, until it is settled; `Accept` does not end it. Answered by
    /// [`Event::Locked`], after what was settled before; not for a handle that is not open.
    Lock {
        /// The delivery.
        handle: Handle,
        /// The key; see [`crate::unique`].
        key: String,
    },
    /// Asks whether any attached queue that is not unavailable has work left: ready, delayed, or in the hands of other masters.
    /// Answered by [`Event::Surveyed`] with the same serial, after whatever readings and pauses make the
    /// answer trustworthy on this transport. A later survey replaces one under way.
    Survey {
        /// Names the answer.
        serial: u64,
        /// The application whose jobs count as work, too.
        jobs: Option<String>,
    },
    /// Store tasks; the reply comes when all are durable.
    Submit {
        /// The tasks; their queues are created if need be.
        tasks: Vec<NewTask>,
        /// Answered once.
        reply: Reply<()>,
    },
    /// Count what lies in queues, without creating them.
    Depths {
        /// The queues, with the names of their dead-letter queues.
        queues: Vec<DeadQueue>,
        /// One depth a queue, in the same order.
        reply: Reply<Vec<Depth>>,
    },
    /// Count what is ready in work queues, without creating them: for a client that asks often, and needs no more.
    Ready {
        /// The queues.
        queues: Vec<String>,
        /// One count a queue, in the same order; of one that does not exist 0.
        reply: Reply<Vec<u64>>,
    },
    /// The names of the queues that only the transport knows. Empty where it cannot list them.
    KnownQueues {
        /// Work queues, sorted.
        reply: Reply<Vec<String>>,
    },
    /// Remove a task that waits, ready or delayed, in whatever queue. One that is in hand or a dead letter stays.
    Cancel {
        /// The task's id; where several that wait have it, all are removed.
        id: String,
        /// What became of it.
        reply: Reply<Cancelled>,
    },
    /// Delete what is ready and delayed in a queue. What is in hand stays, and so do dead letters.
    Purge {
        /// The work queue; one that does not exist is [`Error::NoSuchQueue`].
        queue: String,
        /// How many tasks were deleted.
        reply: Reply<u64>,
    },
    /// Delete a queue with what is ready and delayed in it. [`Error::InUse`] while others have tasks in hand or wait for
    /// them, as far as this transport can see. Dead letters stay, and their queue as long as it holds any.
    Delete {
        /// The work queue; one that does not exist is [`Error::NoSuchQueue`].
        queue: DeadQueue,
        /// How many tasks were deleted.
        reply: Reply<u64>,
    },
    /// Visit dead letters, oldest first, and do with each what the visitor says.
    WalkDead {
        /// Which.
        queue: DeadQueue,
        /// Called once per dead letter, on the transport's thread.
        visit: Visitor,
        /// What was done.
        reply: Reply<Walked>,
    },
    /// The groups of a queue's dead letters, the largest first, at most [`MOST_GROUPS`](super::dead_page::MOST_GROUPS).
    DeadGroups {
        /// The work queue.
        queue: DeadQueue,
        /// `None`: this transport can only [walk](Self::WalkDead).
        reply: Reply<Option<Vec<DeadGroup>>>,
    },
    /// A page of a queue's dead letters, without their bodies, the newest first.
    DeadPage {
        /// The work queue.
        queue: DeadQueue,
        /// Which.
        filter: DeadFilter,
        /// Those that are older than the one of this place.
        after: Option<DeadPlace>,
        /// At most so many, and no more than [`MOST_ROWS`](super::dead_page::MOST_ROWS).
        limit: usize,
        /// `None`: this transport can only [walk](Self::WalkDead).
        reply: Reply<Option<DeadPage>>,
    },
    /// One dead letter, whole.
    DeadLetter {
        /// The work queue.
        queue: DeadQueue,
        /// Which.
        key: DeadKey,
        /// The letter, if it is there and can be found so.
        reply: Reply<DeadFound>,
    },
    /// Ask to become the one scheduler of an application, and keep asking. Answered by [`Event::LeaseHeld`]
    /// or [`Event::LeaseRefused`]; after a loss the transport asks again by itself.
    Lease {
        /// The application's name.
        application: String,
    },
    /// Store the task of a schedule's moment together with the memory that it fired. Only with the lease.
    /// Answered by [`Event::Fired`].
    Fire {
        /// The schedule's id.
        schedule: String,
        /// The moment it fires for.
        moment: Timestamp,
        /// The task; `None` moves the memory on without a task (a skipped moment).
        task: Option<NewTask>,
    },
    /// What is remembered of an application's schedules, without becoming its scheduler.
    ScheduleMemory {
        /// The application's name.
        application: String,
        /// `None`: only the scheduler itself can see it on this transport.
        reply: Reply<Option<ScheduleMemory>>,
    },
    /// Sends an answer to whoever waits for it at a queue: once, without waiting for anything, and into nothing if that queue is
    /// gone. Only RabbitMQ has such queues; other transports ignore it.
    Reply {
        /// The queue.
        queue: String,
        /// What the answer is told apart by.
        correlation_id: String,
        /// JSON.
        body: Vec<u8>,
    },
    /// The form of these queues' messages, whatever is asked about them from here on. Only RabbitMQ has other ones than ours.
    Protocols {
        /// Work queues, by their names.
        queues: Vec<(String, Protocol)>,
    },
    /// Give the lease back.
    ReleaseLease,
    /// Ask to become the coordinator of an application's jobs, and keep asking. Answered by [`Event::LedgerHeld`] or
    /// [`Event::LedgerRefused`]; after a loss the transport asks again by itself.
    Ledger {
        /// The application's name.
        application: String,
    },
    /// Store a step of the coordinator. Only with the ledger, one at a time. Answered by [`Event::Advanced`].
    Advance(Box<Advance>),
    /// Give the ledger back.
    ReleaseLedger,
    /// Give the coordinator an order, and wait for its answer.
    Order {
        /// The application's name.
        application: String,
        /// The order.
        order: Box<Order>,
        /// How long to wait, from when the order is stored.
        within: Duration,
        /// The answer, as JSON; `None`: the order is stored, and was not carried out in that time.
        reply: Reply<Option<String>>,
    },
    /// The jobs of an application, newest first, whoever coordinates them.
    Jobs {
        /// The application's name.
        application: String,
        /// Which.
        filter: JobFilter,
        /// What is stored of them, and what is frozen beside them.
        reply: Reply<(Vec<Record>, Vec<Frozen>)>,
    },
    /// Settle what was asked so far, close, and end the thread. Unsettled deliveries go back to their queues
    /// with no delivery counted.
    Close {
        /// Answered when all is closed, or after 5 s.
        reply: Reply<()>,
    },
}

/// The contract; see the [module's page](self). One method, so that a decorator can stand before any of them.
pub trait Transport: Send + Sync {
    /// Hands a request to the transport's thread. Never blocks, never fails: what cannot be done is answered.
    fn ask(&self, request: Request);
}

/// Sends a request made by `request` and waits for its answer, on a thread without a runtime.
///
/// # Errors
/// Says in which form the messages of these queues are, before anything is asked about them.
pub fn tell(transport: &dyn Transport, queues: Vec<(String, Protocol)>) {
    if !queues.is_empty() {
        transport.ask(Request::Protocols { queues });
    }
}

/// The transport's answer, or [`Error::Closed`] if the transport ended without one.
///
/// # Panics
/// If it is called by a future that Tokio polls, which it would block.
pub fn call<T>(transport: &dyn Transport, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
    let (reply, answer) = oneshot::channel();
    transport.ask(request(reply));
    answer.blocking_recv().unwrap_or(Err(Error::Closed))
}
