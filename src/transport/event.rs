//! What a transport tells its owner; the rules are those of [`contract`](super::contract).

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::error::Error;
use crate::{
    clock::Timestamp,
    jobs::record::{Frozen, FrozenJob, Record, StoredEntry},
    task::{Delivery, Handle, QueueIndex, Task},
};

/// What a transport tells its owner.
#[derive(Debug)]
pub enum Event {
    /// A session is up and its consumers are attached.
    Attached {
        /// Counts the sessions of this transport, from 1.
        session: u32,
    },
    /// From the next session on, a loss is noticed within this time, by both sides: twice the heartbeat of its
    /// connections. `None`: by nothing but the next attempt to send, however late.
    Noticed {
        /// That time.
        within: Option<Duration>,
    },
    /// The session is gone, and with it every handle. It is being rebuilt.
    Lost {
        /// What happened.
        error: Error,
        /// Time until the next try.
        again_in: Duration,
    },
    /// The transport cannot be used at all: wrong password, damaged file. Nothing more will come.
    Refused(Error),
    /// A queue is attached that was asked for by [`Request::AddQueue`](super::Request::AddQueue) or was unavailable, or has changed as it was asked to.
    QueueAdded {
        /// Its index.
        queue: QueueIndex,
    },
    /// A queue cannot be worked for now: it cannot be declared or consumed, or was lost while it was worked. Every other one is
    /// as it was. It is tried again, in later sessions too, until [`Event::QueueAdded`] or its removal; each try that fails is
    /// told. What lies in it counts for no survey.
    QueueUnavailable {
        /// Its index.
        queue: QueueIndex,
        /// Why.
        error: Error,
        /// Time until the next try.
        again_in: Duration,
        /// Its handles that are void, as all are after [`Event::Lost`]. Settlements under way that store something are made
        /// good and answered, though what they were of comes again.
        void: Vec<Handle>,
    },
    /// Tasks of a queue are held up by another one that does not take what their settlements store: it is full, forbidden,
    /// absent. They are kept and offered again and again, and the queue is worked on. Told at each change; no more of it is
    /// true after [`Event::Lost`].
    Stuck {
        /// The queue whose tasks they are.
        queue: QueueIndex,
        /// Name of the queue that takes nothing.
        by: String,
        /// Why.
        error: Error,
        /// How many tasks; 0: it takes them again.
        tasks: u32,
    },
    /// A queue that is attached cannot be changed; everything is as it was.
    QueueRefused {
        /// Its index.
        queue: QueueIndex,
        /// Why.
        error: Error,
    },
    /// Nothing of a queue is in our hands any more, and nothing will come: its index is free.
    QueueRemoved {
        /// Its index.
        queue: QueueIndex,
    },
    /// Tasks for us, within the credit.
    Delivered(Vec<Delivery>),
    /// Tasks that came again, within the credit, and that are not to be begun: the transport has still to count that, or
    /// to delay them further. One that is known here, in hand or ended, is settled as what it is; every other one by
    /// [`Settlement::Pass`](crate::task::Settlement::Pass).
    CameAgain(Vec<Delivery>),
    /// What a `Retry`, `Snooze` or `Dead` stores is durable; [`Event::Settled`] follows. Where the original is removed by a step
    /// of its own and the session is lost before, what a redelivery still needs is removal alone. Not told of a settlement that
    /// came too late, because the task had been taken back: that stored nothing.
    Stored(Handle),
    /// What a `Done` submits can never be stored: too large for the broker, or forbidden. Nothing of it is settled, the
    /// handle is open as before, and another settlement is owed. Of what it submits some may be stored.
    Unstorable {
        /// The delivery.
        handle: Handle,
        /// Its queue.
        queue: QueueIndex,
        /// Its task.
        task: Arc<Task>,
        /// Why.
        error: Error,
    },
    /// Settled for good.
    Settled(Vec<Handle>),
    /// Answer to [`Request::Lock`](super::Request::Lock).
    Locked {
        /// The delivery.
        handle: Handle,
        /// Id of the task that has the key; `None`: it is ours.
        held_by: Option<String>,
    },
    /// Answer to [`Request::Survey`](super::Request::Survey).
    Surveyed {
        /// Of the request.
        serial: u64,
        /// Whether nothing is left: no task, no entry of the ledger, no live job that is not frozen and can go on.
        empty: bool,
        /// Of live jobs that are not frozen: those of which no task is in any queue or hand, though no entry is left. They wait in vain.
        stranded: Vec<Record>,
        /// If work is left that will not be delivered to us by itself: when it is worth asking again.
        again_in: Duration,
    },
    /// We are the scheduler.
    LeaseHeld {
        /// Schedule ids with the last moment that each fired for.
        memory: Vec<(String, Timestamp)>,
    },
    /// Another process is the scheduler; the transport keeps asking.
    LeaseRefused,
    /// We are no longer the scheduler; the transport asks again.
    LeaseLost,
    /// Answer to [`Request::Fire`](super::Request::Fire).
    Fired {
        /// The schedule's id.
        schedule: String,
        /// The moment.
        moment: Timestamp,
        /// `Ok(false)`: this moment had fired before, nothing was stored.
        stored: Result<bool, Error>,
    },
    /// We are the coordinator.
    LedgerHeld {
        /// Of all that held this ledger, the later has the higher one.
        epoch: u64,
        /// The open jobs.
        jobs: Vec<Record>,
        /// Pipelines and keys that are frozen.
        frozen: Vec<Frozen>,
    },
    /// Another process is the coordinator; the transport keeps asking.
    LedgerRefused,
    /// We are no longer the coordinator: what was folded and not answered counts for nothing. The transport asks again.
    LedgerLost,
    /// Entries for the coordinator, oldest first. More come when some of them are gone.
    Entries(Vec<StoredEntry>),
    /// A step of the coordinator is stored.
    Advanced {
        /// Of the request.
        serial: u64,
        /// Dead letters that went back to their queues.
        revived: u64,
        /// Why nothing of it is stored, and never will be: a key that another job holds, an id that one has.
        result: Result<(), Error>,
    },
    /// Tasks of these rounds count for nothing any more, and of these jobs nothing is to be begun; told to all masters.
    JobsStopped {
        /// Void rounds.
        void: Vec<Uuid>,
        /// Jobs that are frozen.
        frozen: Vec<FrozenJob>,
    },
    /// What is owed cannot be stored and what waits cannot be taken for now: no room on the disk, a lock of another program.
    /// Everything is kept and tried again; [`Event::Resumed`] says that it goes on. The session stands meanwhile.
    Stalled(Error),
    /// It goes on after [`Event::Stalled`].
    Resumed,
    /// Of several addresses of a cluster, the one that a session was built at; without its password.
    Connected(String),
    /// What the requests of a transport without queues wait for from now on, in words that follow "waiting for". Told to
    /// clients alone, whom nothing else tells why no answer comes.
    Waits(String),
    /// Something that a person should read: a classic queue, a long WAL, a move that takes a smaller step.
    Warning(String),
    /// Something of which a person may want to know that it was done.
    Notice(String),
}
