//! Numbers for Prometheus and answers for probes, over HTTP: `/metrics`, `/livez`, `/readyz`.
//!
//! ```text
//!   scraper, probe ── server (a thread of its own) ── Question ──> the master's loop ── Reading ──> page
//! ```
//!
//! The core counts as it goes ([`counts`]); the master's loop copies the numbers when it is asked and does nothing
//! else for anybody here. Everything that strangers can make long or large, which is reading what they send, writing
//! the page and waiting for the transport's counts, happens in the server's thread. What the probes say comes from the
//! loop: a thread that runs proves nothing about another one.
//!
//! Labels are names from the configuration and words of ours. Nothing that a task, a worker or a broker says becomes
//! one, so the number of series is known before the first task.

pub mod counts;
mod form;
mod page;
mod server;

use tokio::sync::{mpsc, oneshot};

use self::counts::Counts;
pub use self::server::{Listener, Server};
use crate::{
    control::server::Asked,
    transport::{DeadQueue, Depth, Error},
};

/// What the master's loop is asked.
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
    /// Log lines that nobody read in time.
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
