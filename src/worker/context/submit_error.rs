//! Why something that is to go with the end of a task was not taken.

use crate::frames::LIMIT;

/// Why a follow-up task, a result or a memo was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The payload cannot be written as JSON.
    #[error("the payload cannot be written as JSON: {0}")]
    Payload(#[from] serde_json::Error),
    /// No queue can have this name.
    #[error("\"{queue}\" is not a properly-formatted queue name")]
    QueueName {
        /// The name.
        queue: String,
    },
    /// All that one task submits must fit into one frame.
    #[error("one task can submit at most {} MiB", LIMIT >> 20)]
    TooLarge,
    /// The result or the memo cannot be written as JSON.
    #[error("the {what} cannot be written as JSON: {source}")]
    Unwritable {
        /// `result` or `memo`.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The result or the memo is longer than what is kept of it.
    #[error("the {what} has {bytes} bytes, more than {most}: put it into a file and give its name")]
    TooLong {
        /// `result` or `memo`.
        what: &'static str,
        /// Its length as JSON.
        bytes: usize,
        /// The longest, in bytes.
        most: usize,
    },
    /// A task that is of no job has no items.
    #[error("the task \"{id}\" is of no job: it has no items")]
    NoJob {
        /// Its id.
        id: String,
    },
    /// The task has ended.
    #[error("the task \"{id}\" has ended")]
    Ended {
        /// Its id.
        id: String,
    },
}
