//! Why a transport could not do what was asked, in words for people.
//!
//! An address may never stand in one with its password: errors go to logs, to answers, and into dead letters.

use std::ops::Range;

use super::Walked;
use crate::task::is_queue_name;

/// How far a request to store several tasks came. Positions count from 0, in the order of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// So many are stored, from the first one on.
    pub stored: usize,
    /// Stored as well: a queue that refused one task may have taken later ones that were on their way.
    pub beyond: Vec<Range<usize>>,
    /// Sent and not answered: each may be stored or not.
    pub unknown: Vec<Range<usize>>,
}

/// Why a transport could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing answers at the address, or not in time.
    #[error("cannot reach {uri}: {cause}")]
    Unreachable {
        /// Without its password.
        uri: String,
        /// What the operating system or the library said.
        cause: String,
    },
    /// The other side answers and does not want us: password, virtual host, permissions, limits; or we do not trust it.
    #[error("{uri}: {cause}")]
    Refused {
        /// Without its password.
        uri: String,
        /// What it said.
        cause: String,
    },
    /// The session ended while the request was under way; whether it was done is unknown.
    #[error("the connection to {uri} was lost: {cause}")]
    Lost {
        /// Without its password.
        uri: String,
        /// What happened.
        cause: String,
    },
    /// The file cannot be used: damaged, read-only, on a network file system, too old a library.
    #[error("{path}: {cause}")]
    File {
        /// The database.
        path: String,
        /// Why.
        cause: String,
    },
    /// A queue does not exist and may not or need not be created.
    #[error("queue \"{queue}\" does not exist{}", never_made(queue))]
    NoSuchQueue {
        /// Its name.
        queue: String,
    },
    /// The broker lets other queues be worked, but not this one: no permission, somebody's own, one too many, no answer.
    #[error("queue \"{queue}\" cannot be had: {cause}")]
    QueueRefused {
        /// Its name.
        queue: String,
        /// What it said.
        cause: String,
    },
    /// A queue cannot be deleted now.
    #[error("queue \"{queue}\" is in use: {cause}")]
    InUse {
        /// Its name.
        queue: String,
        /// By what.
        cause: String,
    },
    /// The task was not taken by the queue.
    #[error("queue \"{queue}\" did not take the task: {cause}")]
    NotStored {
        /// Its name.
        queue: String,
        /// Returned, refused, or no answer in time.
        cause: String,
    },
    /// The other side is there, and has not confirmed what was sent to it: whether it is stored is unknown.
    #[error("{uri} does not confirm: {cause}")]
    Unconfirmed {
        /// Without its password.
        uri: String,
        /// What it waits for, if it has said so.
        cause: String,
    },
    /// Of several tasks that were to be stored not all are.
    #[error("{cause}")]
    Unsubmitted {
        /// Which.
        extent: Extent,
        /// Why it went no further.
        cause: Box<Self>,
    },
    /// A walk among dead letters, or a purge, broke off. No submit has this error.
    #[doc(hidden)]
    #[error("{cause}")]
    Unfinished {
        /// What was done until then.
        walked: Walked,
        /// So many more may have been put back to work, and lie in both queues.
        unknown: u64,
        /// Why it went no further.
        cause: Box<Self>,
    },
    /// The text is not the address of a transport.
    #[error("\"{text}\" is not a transport: {cause}")]
    BadUri {
        /// As given, without its password.
        text: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The ledger of jobs cannot do this.
    #[error("jobs: {cause}")]
    Jobs {
        /// Why.
        cause: String,
    },
    /// Not all dead letters of a round can go back to their queues that its ledger knows.
    #[doc(hidden)]
    #[error("jobs: {found} of {known} dead letters of round {round} are there")]
    NotRevived {
        /// The round.
        round: uuid::Uuid,
        /// Members of which there is one.
        found: u64,
        /// Those of which the ledger knows one.
        known: u64,
    },
    /// The transport was closed.
    #[error("the transport is closed")]
    Closed,
}

/// Of a queue that is used where it exists, and has no name for one that is made here.
fn never_made(queue: &str) -> String {
    if is_queue_name(queue) {
        return String::new();
    }
    format!(", and is not created: \"{queue}\" is not a properly-formatted queue name")
}

impl Error {
    /// The error for a walk or a purge that broke off with this cause; only that, if nothing was done.
    #[must_use]
    pub fn unfinished(walked: Walked, unknown: u64, cause: Self) -> Self {
        if walked.retried + walked.removed + unknown == 0 {
            return cause;
        }
        Self::Unfinished { walked, unknown, cause: Box::new(cause) }
    }

    /// The reason alone, without how far a request came.
    #[must_use]
    pub fn cause(&self) -> &Self {
        match self {
            Self::Unsubmitted { cause, .. } | Self::Unfinished { cause, .. } => cause.cause(),
            error => error,
        }
    }

    /// How far a submit came that was answered with this error: not at all, unless it says otherwise.
    #[must_use]
    pub fn extent(&self) -> Extent {
        match self {
            Self::Unsubmitted { extent, .. } => extent.clone(),
            _ => Extent::default(),
        }
    }

    /// What may help, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.cause() {
            Self::Refused { cause, .. } => Some(super::refusal::hint(cause)),
            Self::QueueRefused { cause, .. } | Self::NotStored { cause, .. }
                if cause.contains("access to ") && !cause.contains("exclusive access") =>
            {
                Some(super::refusal::hint(cause))
            }
            _ => None,
        }
    }
}
