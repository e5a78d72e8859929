//! The questions that the master's loop is asked for a page, and its answers.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::counts::{Counts, Times};
use crate::{
    control::server::Asked,
    jobs::record::JobState,
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
    /// The jobs of its pipelines, if it has some.
    pub jobs: Option<JobsReading>,
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

/// How the jobs of a master's pipelines stand.
#[derive(Clone, Debug, Default)]
pub struct JobsReading {
    /// What only the coordinator knows; `None` elsewhere.
    pub ledger: Option<LedgerReading>,
    /// How long the jobs took that ended while this master was the coordinator: pipeline, state, times.
    pub job_times: Vec<(String, JobState, Times)>,
    /// How long the steps of those jobs took: pipeline, step, times.
    pub step_times: Vec<(String, String, Times)>,
}

/// What the coordinator knows of jobs.
#[derive(Clone, Debug, Default)]
pub struct LedgerReading {
    /// Open jobs of each pipeline of the settings, in each of [`JobState::ALL`].
    pub open: Vec<(String, [u64; JobState::ALL.len()])>,
    /// Entries that are not folded.
    pub entries: u64,
    /// Age of the oldest live job.
    pub oldest: Option<Duration>,
}

/// The states of a queue.
pub const QUEUE_STATES: [&str; 5] = ["running", "paused", "parked", "unavailable", "draining"];
/// The states of a slot.
pub const SLOT_STATES: [&str; 6] = ["empty", "starting", "idle", "busy", "stopping", "waiting"];
