//! Settlements that the transport has not confirmed, what is at risk with each, and what is said of it once it is stored.

use std::time::Duration;

use crate::{
    logging::Level,
    task::{Failure, Reason, Settlement},
};

/// A settlement that the transport has not confirmed.
#[derive(Clone, Copy, Debug)]
pub(in crate::master::core) struct PendingSettlement {
    /// The task's identity.
    pub(in crate::master::core) identity: Option<u64>,
    /// It was accepted before: its handle outlives the session.
    pub(in crate::master::core) accepted: bool,
    /// The slot that counts it as done, if what it submits is not stored yet.
    pub(in crate::master::core) done_by: Option<usize>,
    /// What would be lost with it.
    pub(in crate::master::core) at_risk: AtRisk,
}

/// What is lost if a settlement is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master::core) enum AtRisk {
    /// An outcome: the task is still in its queue, and is done again.
    Outcome,
    /// The task itself, and its outcome: it was accepted before, and no queue has it any more.
    Task,
    /// The task is run again in any case, or is done with.
    Nothing,
}

impl AtRisk {
    pub(in crate::master::core) fn of(settlement: &Settlement, accepted: bool) -> Self {
        match settlement {
            Settlement::Accept => Self::Nothing,
            Settlement::Done { submit } if accepted && submit.is_empty() => Self::Nothing,
            _ if accepted => Self::Task,
            Settlement::Done { .. } | Settlement::Retry { .. } | Settlement::Dead(_) => Self::Outcome,
            Settlement::Snooze { .. } | Settlement::Release | Settlement::Pass => Self::Nothing,
        }
    }
}

/// What is to be counted and said of a retry or a dead letter once it is stored.
#[derive(Debug)]
pub(in crate::master::core) struct Note {
    pub(in crate::master::core) queue: usize,
    pub(in crate::master::core) id: String,
    pub(in crate::master::core) reason: Reason,
    pub(in crate::master::core) is_dead: bool,
    pub(in crate::master::core) line: Option<(Level, String)>,
    /// For the report of the run.
    pub(in crate::master::core) ended: Option<(Duration, Box<Failure>)>,
}
