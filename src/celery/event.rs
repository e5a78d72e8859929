//! What Celery's monitors hear of one task: the core says it, the node publishes it.
//!
//! Made only while somebody listens, and never waited for: whatever has no room on its way is dropped and counted.

use crate::clock::Timestamp;

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEvent {
    /// The task's id.
    pub uuid: String,
    /// When it happened, by the wall clock.
    pub at: Timestamp,
    /// What happened, with what events of that kind tell.
    pub what: What,
}

/// What happened to a task. Text that user code made is cut by whoever makes the event, at [`TEXT_LIMIT`] bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// It came here. The only event that carries its name.
    Received(Box<Received>),
    /// A worker was sent it.
    Started {
        /// The worker's process.
        pid: u32,
    },
    /// It was done.
    Succeeded {
        /// Its result as Python shows it, or `""`.
        result: String,
        /// In seconds.
        runtime: f64,
    },
    /// It became a dead letter.
    Failed {
        /// The exception as Python shows it, or our cause of death.
        exception: String,
        /// Where in the code, or `""`.
        traceback: String,
    },
    /// It is tried again.
    Retried {
        /// The exception as Python shows it.
        exception: String,
        /// Where in the code, or `""`.
        traceback: String,
    },
    /// Its own code does not want it.
    Rejected {
        /// It goes back into its queue.
        requeue: bool,
    },
    /// It was not run, or not to its end, as somebody revoked it or its time was over.
    Revoked {
        /// It was in hand and was ended.
        terminated: bool,
        /// By this signal.
        signum: Option<i32>,
        /// Its time was over.
        expired: bool,
    },
}

/// What a task that came says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// Of the task, `shop.tasks.add`.
    pub name: String,
    /// As Python shows them.
    pub args: String,
    /// As Python shows them.
    pub kwargs: String,
    /// The first task of the workflow.
    pub root_id: Option<String>,
    /// The task that submitted it.
    pub parent_id: Option<String>,
    /// So many times its own code has asked for another try.
    pub retries: u32,
    /// Not before this, in ISO 8601, as the message has it.
    pub eta: Option<String>,
    /// Not after this, in ISO 8601, as the message has it.
    pub expires: Option<String>,
}

/// Longest text of a result, an exception or arguments in an event, in bytes. Tracebacks may have eight times that.
pub const TEXT_LIMIT: usize = 1024;
