//! The core's chapter on what is true only once it is stored: that a task is retried, that it is a dead letter, that an
//! outcome is not lost.
//!
//! ```text
//! outcome ── note ──> Settle ── Stored ──> counted, logged, told to the report
//!    └── handle void ── remembered ── comes again: noted again ──┘
//! ```
//!
//! What a worker said is counted and logged at once. What follows from it waits for the transport, which may be out of room or
//! out of reach, and the run may end before: then nothing claims it, and the end says how many outcomes are lost.

use std::time::Duration;

use super::{
    Core,
    event::Action,
    recent::Stored,
    state::{
        in_flight::InFlight,
        settlements::{AtRisk, Note, PendingSettlement},
    },
};
use crate::{
    jobs::entry::MemberId,
    logging::Level,
    task::{Delivery, Handle, Settlement},
    text,
};

impl Core {
    /// The note of a settlement that is repeated because its task came again before it was stored.
    pub(super) fn note_again(&mut self, delivery: &Delivery, settlement: &Settlement) -> Option<Box<Note>> {
        let took = match settlement {
            Settlement::Retry { failure, .. } | Settlement::Dead(failure) => failure.in_hand_seconds,
            _ => None,
        };
        let took = took.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        self.noted(delivery, took.unwrap_or_default(), settlement)
    }

    /// What is to be said of a retry or a dead letter once it is stored.
    pub(super) fn noted(&self, delivery: &Delivery, took: Duration, settlement: &Settlement) -> Option<Box<Note>> {
        let settings = &self.pools[delivery.queue.0].plan.settings;
        let (id, name) = (&delivery.task.id, &settings.name);
        let (failure, is_dead) = match settlement {
            Settlement::Retry { failure, .. } => (failure, false),
            Settlement::Dead(failure) => (failure, true),
            _ => return None,
        };
        let level = if is_dead { Level::Warning } else { Level::Info };
        let line = (level <= self.plan.log_level).then(|| {
            let text = if let Settlement::Retry { after, .. } = settlement {
                let (attempt, of, seconds) = (failure.attempts, settings.retry.max_attempts, after.as_secs_f64());
                format!("Task {id} of queue {name}: attempt {attempt} of {of} failed; again in {seconds:.1} s")
            } else {
                let (dead, reason, error) =
                    (&settings.dead_letter.name, failure.reason.as_str(), text::first_line(&failure.error));
                format!("Task {id} of queue {name} dead-lettered to {dead}: {reason}: {error}")
            };
            (level, text)
        });
        let is_reported = is_dead && self.tells_end_of(&delivery.task);
        let is_told = is_reported || self.records_failures();
        let ended = is_told.then(|| (took, failure.clone()));
        let waited = self.waited(&delivery.task, took);
        let (queue, id) = (delivery.queue.0, delivery.task.id.clone());
        let lost = self.lost_of(delivery, settlement);
        let subject = self.log_subject(&delivery.task);
        let member = MemberId::of(&delivery.task);
        Some(Box::new(Note {
            queue,
            id,
            subject,
            reason: failure.reason,
            is_dead,
            member,
            is_reported,
            line,
            ended,
            waited,
            lost,
        }))
    }

    /// Keeps what is to be said once the settlement of this handle is stored. Where the handle is void already, nothing is
    /// kept: it is said when the task comes again.
    pub(super) fn keep_note(&mut self, handle: Handle, note: Option<Box<Note>>) {
        if let Some(note) = note {
            self.notes.insert(handle, note);
        }
    }

    /// A retry or a dead letter is stored.
    pub(super) fn tell_stored(&mut self, handle: Handle) {
        let Some(note) = self.notes.remove(&handle) else { return };
        let Note { queue, id, subject, reason, is_dead, member, is_reported, line, ended, waited, lost } = *note;
        self.pools[queue].counts.stored(reason, is_dead);
        if is_dead {
            self.tally.dead_lettered += 1;
            self.tally.dead_of_jobs += u64::from(member.as_ref().is_some_and(|member| !member.wipe));
        } else {
            self.tally.retried += 1;
        }
        if let Some((level, text)) = line {
            let before = std::mem::replace(&mut self.subject, subject);
            self.log(level, || text);
            self.subject = before;
        }
        if let Some((took, failure)) = &ended {
            self.record_failure(&Stored { queue, id: &id, is_dead, waited, took: *took, failure });
        }
        if let Some((in_hand, failure)) = ended.filter(|_| is_reported) {
            let queue = self.pools[queue].name().to_owned();
            self.actions.push(Action::TaskEnded { queue, id, in_hand, failure: Some(failure), member });
        }
        if let Some(lost) = lost {
            self.lost_stored(queue, *lost);
        }
    }

    /// A task has ended whose handle is void already.
    pub(super) fn void_outcome(&mut self, task: &InFlight, settlement: &Settlement) {
        if AtRisk::of(settlement, false) == AtRisk::Outcome {
            self.void_outcomes.add(task.delivery.identity, task.delivery.queue.0);
        }
    }

    /// Settlements are void that were not answered. What is to be said of them is said when their tasks come again.
    pub(super) fn void_settlements(&mut self, void: Vec<(Handle, PendingSettlement)>) {
        for (handle, pending) in void {
            self.notes.remove(&handle);
            self.celery.replies.voided(handle, pending.identity);
            if pending.at_risk == AtRisk::Outcome {
                self.void_outcomes.unanswered += 1;
            }
        }
    }

    /// What is lost if the run ends now: outcomes of tasks that are done again, and of tasks that are lost with them.
    fn unstored(&self) -> (u64, u64) {
        (self.unsettled.at_risk(AtRisk::Outcome) + self.void_outcomes.count(), self.unsettled.at_risk(AtRisk::Task))
    }

    /// For the end of a run: how many outcomes are not stored, in words.
    pub(super) fn loss(&self) -> Option<String> {
        let (repeated, lost) = self.unstored();
        let repeated = match repeated {
            0 => None,
            1 => Some("1 outcome could not be stored; its task will be done again".to_owned()),
            many => Some(format!("{many} outcomes could not be stored; their tasks will be done again")),
        };
        let lost = match lost {
            0 => None,
            1 => Some("1 outcome of a task that was accepted could not be stored, and is lost".to_owned()),
            many => Some(format!("{many} outcomes of tasks that were accepted could not be stored, and are lost")),
        };
        let words: Vec<String> = repeated.into_iter().chain(lost).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}
