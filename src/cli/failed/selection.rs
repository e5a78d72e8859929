//! Which dead letters a command is about, and what it did with them.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::{
    cli::{
        failed_args::{Filter, SelectionArgs},
        output::print,
        settings::duration,
        waiting::CallFailed,
    },
    clock::{Clock, Timestamp},
    exit_code::{Code, Error},
    jobs::ledger::place,
    membership::Membership,
    plural::{self, counted},
    redact::redact,
    text,
    transport::{self, DeadLetter, Walked},
};

/// What must hold of a dead letter.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    reason: Option<String>,
    fingerprint: Option<String>,
    job: Option<String>,
    died_before: Option<Timestamp>,
}

impl Condition {
    pub(super) fn of(filter: &Filter) -> Result<Self, Error> {
        let age = filter.older_than.as_deref().map(|text| duration("--older-than", text)).transpose()?;
        Ok(Self {
            reason: filter.reason.clone(),
            fingerprint: filter.fingerprint.as_ref().map(|hex| hex.to_ascii_lowercase()),
            job: filter.job.clone(),
            died_before: age.map(|age| Timestamp(Clock::wall().0.saturating_sub_unsigned(age.as_millis() as u64))),
        })
    }

    /// … of this job.
    pub(super) fn of_job(self, id: &str) -> Self {
        Self { job: Some(id.to_owned()), ..self }
    }

    pub(super) fn holds(&self, letter: &DeadLetter) -> bool {
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

/// The dead letters that were chosen: by their ids, each once, or by a condition.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    condition: Condition,
    /// Asked for by id and not met yet.
    missing: Option<BTreeSet<String>>,
    /// How many were met.
    pub(super) met: u64,
}

impl Selection {
    pub(super) fn of(chosen: &SelectionArgs) -> Result<Self, Error> {
        let missing = (!chosen.ids.is_empty()).then(|| chosen.ids.iter().cloned().collect());
        Ok(Self { condition: Condition::of(&chosen.filter)?, missing, met: 0 })
    }

    /// Whether this one is meant. Of several with the same id, the oldest.
    pub(super) fn matches(&self, letter: &DeadLetter) -> bool {
        match &self.missing {
            Some(missing) => missing.contains(&letter.id) || missing.contains(&*text::escape_line(&letter.id)),
            None => self.condition.holds(letter),
        }
    }

    /// Notes that one that is meant was met.
    pub(super) fn record(&mut self, letter: &DeadLetter) {
        self.met += 1;
        if let Some(missing) = &mut self.missing {
            let _ = missing.remove(&letter.id) || missing.remove(&*text::escape_line(&letter.id));
        }
    }

    /// Whether no more can be met.
    pub(super) fn is_complete(&self) -> bool {
        self.missing.as_ref().is_some_and(BTreeSet::is_empty)
    }

    fn missing(&self) -> impl Iterator<Item = &String> {
        self.missing.iter().flatten()
    }
}

/// The error for a walk that broke off, with what it has done: `what` is what was to be done with dead letters.
pub(super) fn broke_off(broken: &CallFailed<Walked>, what: &str) -> Error {
    let error = broken.error();
    let (walked, unknown) = match broken.last() {
        Some(transport::Error::Unfinished { walked, unknown, .. }) => (*walked, *unknown),
        // It said nothing any more.
        None if broken.is_unanswered() => return error.hint(format!("how many dead letters were {what} is not known")),
        _ => (Walked::default(), 0),
    };
    // What a broker was told to delete it has deleted only once it has answered something later.
    let cause = broken.last().map(transport::Error::cause);
    let unsure = walked.removed > 0 && matches!(cause, Some(transport::Error::Lost { .. }));
    let done = match walked.retried + walked.removed {
        0 => format!("no dead letter was {what}"),
        done @ 2.. if unsure => format!("up to {done} dead letters were {what} before"),
        done => format!("{} {what} before", plural::were(done, "dead letter")),
    };
    let both = match unknown {
        0 => String::new(),
        unknown => format!("; up to {unknown} more may be in both queues, with the same ids"),
    };
    error.hint(format!("{done}{both}; all others are where they were"))
}

/// Prints what was done: a line, or an object. Ids that were not there are an error.
pub(super) fn tell(chosen: &SelectionArgs, what: &str, selection: &Selection, walked: Walked) -> Result<Code, Error> {
    let queue = &chosen.queue;
    let done = walked.retried + walked.removed;
    if chosen.json {
        let missing: Vec<_> = selection.missing().collect();
        let object = json!({
            "queue": queue, "seen": walked.seen, "matched": selection.met, what: done, "dry_run": chosen.dry_run,
            "missing": missing, "left": walked.left,
        });
        print(&format!("{object}\n"))?;
    } else if chosen.dry_run {
        print(&format!("{} of queue {} would be {what}\n", counted(selection.met, "dead letter"), redact(queue)))?;
    } else {
        print(&format!("{} of queue {} {what}\n", counted(done, "dead letter"), redact(queue)))?;
    }
    let missing: Vec<String> = selection.missing().map(|id| format!("\"{id}\"")).collect();
    match &missing[..] {
        [] => Ok(Code::Ok),
        ids => Err(Error::new(Code::Refused, format!("queue {queue} has no dead letter with id {}", ids.join(", ")))),
    }
}

/// Progress on a terminal; nothing elsewhere.
pub(super) fn progress(length: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} dead letters, {per_sec}, {elapsed}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
