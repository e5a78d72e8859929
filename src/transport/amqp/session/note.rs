//! What work beside the actor reports to it.

use std::time::Duration;

use lapin::Consumer;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::connections::{BuiltSession, OpenedQueue};
use crate::{
    jobs::record::Record,
    task::Handle,
    transport::{
        DeadQueue, Error,
        amqp::{
            broker_error::Fault, dead_letters::sweep_schedule::Swept, ledger::names::Announcement,
            publish::undeliverable::PublishReport, stopped::known::Hands,
        },
    },
};

/// What work beside the actor reports to it.
pub(crate) enum Note {
    /// A session was built, or could not be.
    Built { number: u64, built: Box<Result<BuiltSession, Error>> },
    /// Work of the session of this number, which is of no interest in a later one.
    OfSession { session: u64, note: Box<SessionNote> },
    /// The readings of a survey agree.
    Surveyed { serial: u64, empty: bool, stranded: Vec<Record>, again_in: Duration },
    /// The readings of a survey were disturbed.
    Disturbed { serial: u64 },
    /// What clients' requests wait for.
    Waits(String),
    /// Something to be read by a person.
    Warning(String),
}

/// What work of one session reports. A `number` names a channel among all that its queue had.
pub(crate) enum SessionNote {
    /// The session cannot go on.
    Broken { cause: String },
    /// A queue that was to be added has its channel and all that it needs, or cannot have it.
    Opened { number: u64, queue: usize, opened: Result<OpenedQueue, Fault> },
    /// A change of consumers is done.
    Switched { queue: usize, number: u64, consumer: Option<Consumer>, prefetch: u16 },
    /// The channel is of no use any more.
    Ended { queue: usize, number: u64, fault: Fault },
    /// The copy of a task is confirmed.
    Copied { handle: Handle, is_dead: bool },
    /// Dead-letter queues were swept.
    Swept { swept: Vec<(String, Swept)> },
    /// The follow-up tasks of a `Done` are confirmed.
    FollowedUp { handle: Handle },
    /// The follow-up tasks of a `Done` can never be stored.
    Unstorable { handle: Handle, error: Error },
    /// A message of this queue was refused by the queue that it belongs to, or is taken at last.
    PublishReport { queue: usize, to: String, report: PublishReport },
    /// No answer waits any more to be sent.
    Replied,
    /// What is stopped of the jobs of an application was said, or nobody answers.
    Stopped { application: String, said: Option<Box<Announcement>> },
    /// What was put aside is fetched.
    Fetched,
    /// The dead letters of these rounds have a successor.
    Superseded { rounds: Vec<Uuid>, queues: Vec<DeadQueue> },
    /// Those that had one are removed.
    SupersededRemoved,
    /// Whether anybody has a task in hand of the job that a task of this queue wipes.
    HandsSeen { queue: usize, number: u64, tag: u64, hands: Hands },
    /// A task that the master has not seen was moved on.
    Passed { queue: usize, number: u64, tag: u64 },
}

impl SessionNote {
    /// With the number of its session.
    pub(crate) fn of(self, session: u64) -> Note {
        Note::OfSession { session, note: Box::new(self) }
    }
}

/// Where notes go.
pub(crate) type Notes = mpsc::UnboundedSender<Note>;
