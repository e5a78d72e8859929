//! How user code ends a task.

use std::time::Duration;

/// Any error of user code.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// How user code ends a task: an [`Outcome`], or an error for the queue's retry policy.
pub type TaskResult = Result<Outcome, TaskError>;

/// How a task ended, when it did not end in an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done and leaves its queue, together with the storing of what was submitted.
    Done,
    /// It failed, and is tried again after this time if an attempt is left.
    Retry {
        /// Time until the next attempt.
        after: Duration,
    },
    /// Not now: it is due again after this time, and no attempt is used.
    Snooze {
        /// Time until it is due.
        after: Duration,
    },
    /// It can never be done: it goes into the dead-letter queue, with this reason.
    Dead(String),
}
