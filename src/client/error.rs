//! The error of both clients: what is wrong with a task, with the call, or at the transport.
//!
//! That there is one does not always mean that nothing is stored; [`Error::extent`] says what is known.

use crate::transport::{self, Extent};

/// Why a task was not stored, or is not known to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The payload cannot be written as JSON.
    #[error("the payload cannot be written as JSON: {0}")]
    Payload(#[from] serde_json::Error),
    /// No queue can have this name.
    #[error("\"{queue}\" is not a properly-formatted queue name")]
    QueueName {
        /// The name.
        queue: String,
    },
    /// The name of a delay queue, whose tasks go to another queue.
    #[error("\"{queue}\" is the name of a delay queue")]
    DelayQueue {
        /// The name.
        queue: String,
    },
    /// The name of a queue that this program keeps for itself, as that of the ledger of jobs.
    #[error("\"{queue}\" is a queue of asynctask's own: nothing is submitted to it")]
    OwnQueue {
        /// The name.
        queue: String,
    },
    /// A [`blocking::Client`](super::blocking::Client) was called by a future. Nothing was submitted.
    #[error("a blocking client cannot be called by a future: await asynctask::Client, or use spawn_blocking")]
    InFuture,
    /// The transport's reason.
    #[error(transparent)]
    Transport(#[from] transport::Error),
}

impl Error {
    /// Which tasks of a submit are stored, and which may be; no others are. Of a single task the position is 0.
    #[must_use]
    pub fn extent(&self) -> Extent {
        match self {
            Self::Transport(error) => error.extent(),
            _ => Extent::default(),
        }
    }
}
