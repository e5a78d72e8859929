//! What the core is told and what it asks for. Events are past tense, actions imperative.

use std::sync::Arc;

pub use super::{
    ended::{Ended, FileText, Written, WrittenFile},
    plan::{Plan, QueuePlan, Settings},
};
use crate::{
    celery::event::TaskEvent,
    clock::Timestamp,
    control::types::{Answer, Command},
    exit_code::Code,
    frames::FromWorker,
    jobs::{entry::MemberId, record::JobState},
    json_text::JsonText,
    logging::{Level, LogContext},
    membership::Membership,
    task::{Handle, NewTask, QueueIndex, Settlement},
    transport,
};

/// One life of one worker process. A number is never used twice, so that a late frame or exit of an earlier
/// process in the same slot cannot be taken for the present one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId {
    /// Position of its slot.
    pub slot: usize,
    /// Which process in that slot, from 1.
    pub life: u64,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The master begins.
    Begun,
    /// The transport says something.
    Transport(transport::Event),
    /// A worker process runs.
    Spawned {
        /// Which.
        worker: WorkerId,
        /// Its process id.
        pid: u32,
    },
    /// A worker process could not be made.
    SpawnFailed {
        /// Which.
        worker: WorkerId,
        /// What the operating system said.
        error: String,
    },
    /// A worker said something.
    Said {
        /// Which.
        worker: WorkerId,
        /// What.
        frame: FromWorker,
    },
    /// A worker said something that is no frame.
    Faulted {
        /// Which.
        worker: WorkerId,
        /// What is wrong.
        fault: String,
    },
    /// A worker's socket is closed: nothing that it says will ever be read again. Not a death.
    HungUp {
        /// Which.
        worker: WorkerId,
    },
    /// This process ended out of order and left others, which are being ended now. [`Exited`](Self::Exited) follows.
    LeftProcesses(WorkerId),
    /// A worker process ended and was reaped.
    Exited {
        /// Which.
        worker: WorkerId,
        /// How, and what it left.
        ended: Ended,
    },
    /// A command came over the control socket.
    Commanded {
        /// Names the answer.
        number: u64,
        /// The command.
        command: Command,
        /// Who gave it.
        by: String,
    },
    /// How many descriptors this process may have for its workers, from now on. Told before a command or settings that may want
    /// more workers.
    DescriptorsCounted(u64),
    /// The settings were read again, and are right.
    SettingsRead {
        /// Names the answer, if somebody waits for one.
        number: Option<u64>,
        /// The answer is to come when all of it is so.
        wait: bool,
        /// Who asked for it.
        by: String,
        /// What they say now.
        settings: Box<Settings>,
    },
    /// The memory of a worker, which was asked for.
    Measured {
        /// Which.
        worker: WorkerId,
        /// Resident, in bytes.
        bytes: u64,
    },
    /// A job has ended, as far as this master hears of it.
    JobEnded {
        /// Its id.
        id: String,
        /// How.
        state: JobState,
    },
    /// A person wants an end now.
    InterruptAsked,
    /// A person or the service manager wants an end: one step more on the way down with each.
    StopAsked,
    /// The time limit of a halt-mode run passed.
    HaltTimedOut,
    /// The transport is closed, as [`Action::Close`] wanted: nothing more will be stored.
    Closed,
    /// Time passed, and who is late is judged: after everything that came before was told.
    DeadlinePassed,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Start a worker process for a queue's kind.
    Spawn {
        /// Under this id.
        worker: WorkerId,
        /// Name of its slot, `foo[1]`.
        slot: String,
        /// The queue.
        queue: QueueIndex,
        /// What to start.
        launch: usize,
    },
    /// Start a process for one task of a queue's kind.
    SpawnOnce {
        /// Name of its slot.
        slot: String,
        /// Under this id.
        worker: WorkerId,
        /// The queue.
        queue: QueueIndex,
        /// What to start.
        launch: usize,
        /// What the process is told.
        once: Once,
    },
    /// Write a frame to a worker.
    Send {
        /// Which.
        worker: WorkerId,
        /// The frame with its newline.
        frame: Vec<u8>,
    },
    /// Signal a worker's process group.
    Signal {
        /// Which.
        worker: WorkerId,
        /// With what.
        signal: Signal,
    },
    /// Have the transport work one more queue, or change what it knows of one.
    AddQueue {
        /// Its index.
        queue: QueueIndex,
        /// The queue.
        setup: transport::QueueSetup,
    },
    /// Have the transport let go of a queue.
    RemoveQueue {
        /// Its index.
        queue: QueueIndex,
    },
    /// Change a queue's credit.
    Credit {
        /// The queue.
        queue: QueueIndex,
        /// The credit.
        credit: u32,
    },
    /// Settle a delivery.
    Settle {
        /// Which.
        handle: Handle,
        /// How.
        settlement: Settlement,
    },
    /// Send a result to the queue where a Celery task's producer waits for it, if that still exists.
    Reply {
        /// The queue.
        queue: String,
        /// Of the producer's message.
        correlation_id: String,
        /// The message.
        body: Vec<u8>,
    },
    /// Store an entry of the ledger of a job. Nobody waits for it, and it may be lost.
    TellLedger(Box<NewTask>),
    /// For monitors of Celery: what happened to a task.
    TaskEvent(Box<TaskEvent>),
    /// Ask for the key of a delivery, which is to be begun.
    Lock {
        /// Which.
        handle: Handle,
        /// The key.
        key: String,
    },
    /// For whoever writes a report of this run: a task was done, or is among the dead letters.
    TaskEnded {
        /// Its queue.
        queue: String,
        /// Its id.
        id: String,
        /// How long it was in a worker's hands the last time.
        in_hand: std::time::Duration,
        /// What dead-lettered it; `None`: it was done.
        failure: Option<Box<crate::task::Failure>>,
        /// Its place in a job.
        member: Option<Box<MemberId>>,
    },
    /// A task whose end was told was not done after all: what it submits cannot be stored.
    TaskReopened {
        /// Its queue.
        queue: String,
        /// Its id.
        id: String,
    },
    /// Ask the transport whether anything is left.
    Survey {
        /// Names the answer.
        serial: u64,
        /// The application whose jobs count, too.
        jobs: Option<String>,
    },
    /// Nothing is left to do here, and jobs are waited for: say which wait for queues that others work.
    TellWaitedFor,
    /// Write a line to the log.
    Log {
        /// Its level.
        level: Level,
        /// Whose line it is.
        name: Arc<str>,
        /// Its text; may hold several lines.
        message: String,
        /// What it is about, if the log's form says so.
        about: Option<Box<LogContext>>,
    },
    /// The answer to a command.
    Answer {
        /// Of the command.
        number: u64,
        /// What it is.
        answer: Answer,
    },
    /// Remove a task that waits in the transport, and answer the command with what became of it.
    CancelWaiting {
        /// Of the command.
        number: u64,
        /// The task's id.
        id: String,
    },
    /// Log this much from now on.
    LogLevel(Level),
    /// Tell how much memory a worker has.
    Measure {
        /// Which.
        worker: WorkerId,
    },
    /// These queues, and no others, are parked for their tasks: the next run is to know it.
    KeepParked(Vec<ParkedQueue>),
    /// These queues, and no others, are paused by people: the next run is to know it.
    KeepPaused(Vec<PausedQueue>),
    /// The timing of schedules ends here: nothing fires any more.
    StopScheduler,
    /// Outcomes are not stored, and are not waited for any longer: close the transport, which tries them once more, and say what it
    /// has told until then, and that it is closed.
    Close,
    /// Everything is done: end with this code.
    Halt {
        /// The exit code.
        code: Code,
        /// For stderr, if the end needs an explanation.
        error: Option<String>,
    },
}

/// A queue that is parked because its tasks crashed or timed out, or that is being tried after such a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedQueue {
    /// The queue.
    pub queue: String,
    /// Its kind: what another one does with its tasks is not known.
    pub kind: String,
    /// The pause, which is longer the next time.
    pub pause: std::time::Duration,
    /// The end of the pause.
    pub until: Timestamp,
}

/// A queue that a person has paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PausedQueue {
    /// The queue.
    pub queue: String,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub since: Timestamp,
    /// When it is resumed by itself, if ever.
    pub until: Option<Timestamp>,
}

/// A task as a process of its own gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// `ASYNCTASK_TASK_ID`.
    pub id: String,
    /// `ASYNCTASK_ATTEMPT`.
    pub attempt: u32,
    /// `ASYNCTASK_MAX_ATTEMPTS`.
    pub max_attempts: u32,
    /// Its stdin.
    pub payload: Vec<u8>,
    /// Somebody waits for its result, which it writes to the file that `ASYNCTASK_RESULT` names.
    pub is_result_wanted: bool,
    /// `ASYNCTASK_CONTENT_ENCODING`, if the payload is the body as it came and its producer said so.
    pub content_encoding: Option<String>,
    /// Its place in a job: then it has files to read from and to write to.
    pub job: Option<Box<Membership>>,
    /// What its last attempt left for this one, in the file that `ASYNCTASK_MEMO` names.
    pub memo: Option<JsonText>,
}

/// Whose limits have passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Slots: a time limit, a start limit, the patience with an end.
    pub slots: Vec<usize>,
    /// Other limits, which may be about everybody: of a stop, of answers to pings, of the transport.
    pub others: bool,
}

impl Passed {
    /// Whether no limit has passed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && !self.others
    }
}

/// The signals that the master sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: a program may clean up.
    Terminate,
    /// SIGKILL.
    Kill,
}
