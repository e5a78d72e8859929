//! The questions that the master's loop is asked for a page, and its answers.

use tokio::sync::{mpsc, oneshot};

use super::counts::Counts;
use crate::{
    control::server::Asked,
    transport::{DeadQueue, Depth, Error},
};

/// A question to the master's loop.
#[derive(Debug)]
pub enum Question {
    /// Whether it turns at all.
    Alive(oneshot::Sender<()>),
    /// How everything stands.
    Read {
        /// The transport is to count its queues, too.
        count: bool,
        /// Answered at once.
        reply: oneshot::Sender<Reading>,
    },
}

/// Where the master's loop takes questions.
#[derive(Clone, Debug)]
pub struct Master {
    /// Questions of this module.
    pub questions: mpsc::UnboundedSender<Question>,
    /// Commands: `health` is one.
    pub commands: mpsc::UnboundedSender<Asked>,
}

/// How everything stands, as far as the master knows by itself, and where the rest will come from.
#[derive(Debug)]
pub struct Reading {
    /// Each queue.
    pub queues: Vec<QueueReading>,
    /// A session with the transport stands.
    pub connected: bool,
    /// Sessions after the first one.
    pub reconnects: u64,
    /// Log lines that were dropped.
    pub lines_dropped: u64,
    /// The transport sees what other masters have in hand.
    pub sees_all_hands: bool,
    /// The transport's counts of the same queues, when they come; `None`: they were not asked for.
    pub depths: Option<oneshot::Receiver<Result<Vec<Depth>, Error>>>,
}

/// How one queue stands.
#[derive(Clone, Debug)]
pub struct QueueReading {
    /// Its name.
    pub name: String,
    /// The worker kind.
    pub kind: String,
    /// Under which names the transport counts it.
    pub dead: DeadQueue,
    /// One of [`QUEUE_STATES`].
    pub state: &'static str,
    /// Tasks in the hands of its workers.
    pub in_hand: usize,
    /// Tasks that were delivered and wait for a worker.
    pub waiting: usize,
    /// Tasks that have ended and that another queue does not take.
    pub stuck: u64,
    /// Slots in each of [`SLOT_STATES`].
    pub slots: [u64; SLOT_STATES.len()],
    /// What happened so far.
    pub counts: Counts,
}

/// The states of a queue.
pub const QUEUE_STATES: [&str; 5] = ["running", "paused", "parked", "unavailable", "draining"];
/// The states of a slot.
pub const SLOT_STATES: [&str; 6] = ["empty", "starting", "idle", "busy", "stopping", "waiting"];
