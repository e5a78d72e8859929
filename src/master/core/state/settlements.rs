//! Settlements that the transport has not confirmed, what is at risk with each, and what is said of it once it is stored.

use std::{collections::HashMap, time::Duration};

use foldhash::fast::RandomState;

use super::celery::Lost;
use crate::{
    jobs::entry::MemberId,
    logging::{Level, LogContext},
    task::{Failure, Handle, Reason, Settlement},
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
            Settlement::Accept | Settlement::Discard => Self::Nothing,
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
    /// What the line is about, where the log's form says so.
    pub(in crate::master::core) subject: Option<Box<LogContext>>,
    pub(in crate::master::core) reason: Reason,
    pub(in crate::master::core) is_dead: bool,
    /// The place of its task in a job.
    pub(in crate::master::core) member: Option<Box<MemberId>>,
    /// Its end is told to the shell.
    pub(in crate::master::core) is_reported: bool,
    pub(in crate::master::core) line: Option<(Level, String)>,
    /// For the report of the run, and for whoever looks at what ended lately.
    pub(in crate::master::core) ended: Option<(Duration, Box<Failure>)>,
    /// How long it was due before it was begun.
    pub(in crate::master::core) waited: Option<Duration>,
    /// Of a dead letter of a Celery queue, for whoever waits for the task's result.
    pub(in crate::master::core) lost: Option<Box<Lost>>,
}

/// What this core has settled and the transport has not answered.
///
/// The answer to an acceptance and that to the settlement which follows look the same, so both are waited for: the first answer
/// never ends the settlement.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Unsettled {
    pending: HashMap<Handle, PendingSettlement, RandomState>,
    /// Acceptances without an answer, with their queues. When a session or a queue is lost, none comes any more.
    acceptances: HashMap<Handle, usize, RandomState>,
}

impl Unsettled {
    /// A delivery of this queue is accepted; its settlement comes later.
    pub(in crate::master::core) fn accept(&mut self, handle: Handle, queue: usize) {
        self.acceptances.insert(handle, queue);
    }

    /// A delivery is settled.
    pub(in crate::master::core) fn insert(&mut self, handle: Handle, pending: PendingSettlement) {
        let doubled = self.pending.insert(handle, pending);
        debug_assert!(doubled.is_none(), "a handle is settled once");
    }

    pub(in crate::master::core) fn get(&self, handle: Handle) -> Option<&PendingSettlement> {
        self.pending.get(&handle)
    }

    /// The transport has answered. `None`: it was the acceptance, or what is void.
    pub(in crate::master::core) fn answered(&mut self, handle: Handle) -> Option<PendingSettlement> {
        if self.acceptances.remove(&handle).is_some() {
            return None;
        }
        self.pending.remove(&handle)
    }

    /// What this settlement stores is stored; its answer is still to come. Of an accepted task nothing is at risk any more. A task
    /// that was not accepted is still in its queue, and comes again if the session ends before the answer.
    pub(in crate::master::core) fn stored(&mut self, handle: Handle) {
        if let Some(pending) = self.pending.get_mut(&handle).filter(|pending| pending.accepted) {
            pending.at_risk = AtRisk::Nothing;
        }
    }

    /// A settlement cannot be: another one of its handle is to come.
    pub(in crate::master::core) fn take_back(&mut self, handle: Handle) -> Option<PendingSettlement> {
        self.pending.remove(&handle)
    }

    /// A session is lost: what was not accepted before is void, and given back.
    pub(in crate::master::core) fn session_lost(&mut self) -> Vec<(Handle, PendingSettlement)> {
        self.acceptances.clear();
        self.pending.extract_if(|_, pending| !pending.accepted).collect()
    }

    /// A queue is lost, and these of its handles are void, unless they were accepted meanwhile.
    pub(in crate::master::core) fn queue_lost(
        &mut self,
        queue: usize,
        void: &[Handle],
    ) -> Vec<(Handle, PendingSettlement)> {
        self.acceptances.retain(|_, other| *other != queue);
        let is_void = |handle: &Handle| self.pending.get(handle).is_some_and(|pending| !pending.accepted);
        let void: Vec<Handle> = void.iter().copied().filter(is_void).collect();
        void.into_iter().filter_map(|handle| Some((handle, self.pending.remove(&handle)?))).collect()
    }

    pub(in crate::master::core) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.pending.keys().copied()
    }

    /// Whether every settlement was answered.
    pub(in crate::master::core) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(in crate::master::core) fn len(&self) -> usize {
        self.pending.len()
    }

    /// How many have this at risk.
    pub(in crate::master::core) fn at_risk(&self, at_risk: AtRisk) -> u64 {
        self.pending.values().filter(|pending| pending.at_risk == at_risk).count() as u64
    }
}
