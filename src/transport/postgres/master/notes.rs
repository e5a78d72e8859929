//! What tasks beside the actor tell it.

use std::collections::BTreeSet;

use super::attach::Connected;
use crate::transport::postgres::{connect::fault::Fault, jobs::survey::Left};

/// A note to the actor.
pub(super) enum Note {
    /// A session for work is up, or cannot be had.
    Connected(Result<Box<Connected>, Fault>),
    /// Tasks were stored for these queues, perhaps older than others, and these ledgers were told.
    Stored {
        /// Ids of queues.
        queues: BTreeSet<i32>,
        /// They may be due since longer than what was claimed.
        may_be_old: bool,
        /// Applications.
        told: BTreeSet<String>,
    },
    /// What a survey found.
    Surveyed {
        /// Of the request.
        serial: u64,
        /// `None`: it is to be asked again.
        left: Option<Left>,
        /// Of the request.
        jobs: Option<String>,
    },
    /// The upkeep is done.
    Kept(Kept),
}

/// What the upkeep did.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// A line for each queue of which dead letters were deleted.
    pub(super) lines: Vec<String>,
    /// Tasks came back to their queues.
    pub(super) thawed: bool,
    /// Ledgers that were told something.
    pub(super) told: BTreeSet<String>,
    /// What a person should read.
    pub(super) warning: Option<String>,
}
