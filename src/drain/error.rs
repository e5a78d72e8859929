//! Why a queue was not drained to its end.

use crate::{transport, worker};

/// Why a queue was not drained to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No kind was named, and the queue is not configured.
    #[error("Cannot identify worker for queue \"{queue}\"")]
    NoKind {
        /// The queue.
        queue: String,
    },
    /// No queue was named, and none is configured for the kind.
    #[error("Cannot identify queue for worker \"{kind}\"")]
    NoQueue {
        /// The kind.
        kind: String,
    },
    /// There is no such kind.
    #[error("Worker \"{kind}\" does not exist")]
    NoSuchKind {
        /// Its name.
        kind: String,
    },
    /// The kind is a program, which needs a master.
    #[error("Worker \"{kind}\" is a program; only a master can start it: asynctask workers --halt-when-empty")]
    Program {
        /// The kind.
        kind: String,
    },
    /// No queue can have this name.
    #[error("\"{queue}\" is not a properly-formatted queue name")]
    QueueName {
        /// The name.
        queue: String,
    },
    /// The kind's worker could not be made.
    #[error("Worker \"{kind}\" could not be started: {source}")]
    Start {
        /// The kind.
        kind: String,
        /// What the registered function said.
        source: worker::TaskError,
    },
    /// The drain was called by a future, which it would block. Nothing was done.
    #[error("a queue cannot be drained by a future: use spawn_blocking")]
    InFuture,
    /// A task ended in an error. It is settled: tried again later or dead-lettered, by the queue's retry policy.
    #[error("{error}")]
    Task {
        /// Its id.
        id: String,
        /// What its code said.
        error: String,
        /// Causes.
        detail: String,
        /// What was done before, in this drain.
        done: u64,
    },
    /// The transport's reason. A task in hand comes again.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// The operating system's reason.
    #[error("cannot run a task: {0}")]
    Io(#[from] std::io::Error),
}
