//! Which dead letters a command is about, and what it did with them.

use std::io::{self, IsTerminal};

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
    dead_letters::condition::{Condition, Selection},
    exit_code::{Code, Error},
    plural::{self, counted},
    redact::redact,
    transport::{self, Walked},
};

/// What the options say must hold of a dead letter.
pub(super) fn condition(filter: &Filter) -> Result<Condition, Error> {
    let age = filter.older_than.as_deref().map(|text| duration("--older-than", text)).transpose()?;
    Ok(Condition {
        reason: filter.reason.clone(),
        fingerprint: filter.fingerprint.as_ref().map(|hex| hex.to_ascii_lowercase()),
        job: filter.job.clone(),
        died_before: age.map(|age| Timestamp(Clock::wall().0.saturating_sub_unsigned(age.as_millis() as u64))),
    })
}

/// The dead letters that the arguments choose.
pub(super) fn selection(chosen: &SelectionArgs) -> Result<Selection, Error> {
    Ok(Selection::new(&chosen.ids, condition(&chosen.filter)?))
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
