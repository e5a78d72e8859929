//! Which dead letters are meant: by what holds of them, or by their ids.

use std::collections::BTreeSet;

use crate::{clock::Timestamp, jobs::ledger::place, membership::Membership, text, transport::DeadLetter};

/// What must hold of a dead letter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    /// Its reason's word.
    pub(crate) reason: Option<String>,
    /// Its fingerprint, in small letters.
    pub(crate) fingerprint: Option<String>,
    /// A job's id, or a place `PIPELINE/KEY`.
    pub(crate) job: Option<String>,
    /// It died before this moment.
    pub(crate) died_before: Option<Timestamp>,
}

impl Condition {
    /// … of this job.
    pub(crate) fn of_job(self, id: &str) -> Self {
        Self { job: Some(id.to_owned()), ..self }
    }

    pub(crate) fn holds(&self, letter: &DeadLetter) -> bool {
        self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && self.fingerprint.as_ref().is_none_or(|fingerprint| *fingerprint == letter.fingerprint())
            && self.job.as_ref().is_none_or(|job| {
                let of =
                    |member: &Membership| member.job == *job || place(&member.pipeline, member.key.as_deref()) == *job;
                letter.membership.as_deref().is_some_and(of)
            })
            && self.died_before.is_none_or(|before| letter.failure.failed_at < before)
    }
}

/// Whether this is the id of the task, or how it is shown.
pub(crate) fn is_id_of(letter: &DeadLetter, id: &str) -> bool {
    letter.id == id || text::escape_line(&letter.id) == id
}

/// The dead letters that were chosen: by their ids, each once, or by a condition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    condition: Condition,
    /// Asked for by id and not met yet.
    missing: Option<BTreeSet<String>>,
    /// How many were met.
    pub(crate) met: u64,
}

impl Selection {
    /// Those with these ids; without any, those of the condition.
    pub(crate) fn new(ids: &[String], condition: Condition) -> Self {
        Self { condition, missing: (!ids.is_empty()).then(|| ids.iter().cloned().collect()), met: 0 }
    }

    /// Whether this one is meant. Of several with the same id, the oldest.
    pub(crate) fn matches(&self, letter: &DeadLetter) -> bool {
        match &self.missing {
            Some(missing) => missing.contains(&letter.id) || missing.contains(&*text::escape_line(&letter.id)),
            None => self.condition.holds(letter),
        }
    }

    /// Notes that one that is meant was met.
    pub(crate) fn record(&mut self, letter: &DeadLetter) {
        self.met += 1;
        if let Some(missing) = &mut self.missing {
            let _ = missing.remove(&letter.id) || missing.remove(&*text::escape_line(&letter.id));
        }
    }

    /// Whether no more can be met.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// Ids that were not met.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &String> {
        self.missing.iter().flatten()
    }
}
