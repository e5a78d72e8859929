//! What the ledger of a job is told about its tasks by the transport that stores their ends: entries of settlements and of removals,
//! for transports that keep tasks and entries in one store.

use crate::{
    clock::Timestamp,
    jobs::entry::{Entry, LONGEST_ERROR, What},
    json_text::JsonText,
    membership::Membership,
    task::{Reason, Settlement, Task},
    text,
};

/// What a settlement tells the ledger of the task's job, beside what its `Done` submits. `now` is the wall clock's.
pub(crate) fn of_settlement(task: &Task, settlement: &Settlement, now: Timestamp) -> Option<Entry> {
    let membership = task.membership.as_deref()?;
    let memo = memo_after(task, settlement);
    let news = |what| membership.tells_news().then(|| Entry::news(membership, now, what, memo));
    match settlement {
        Settlement::Retry { after, failure } => {
            let error = text::one_line(&failure.error, LONGEST_ERROR);
            news(What::Retrying { error, again_at: now.plus(*after) })
        }
        Settlement::Snooze { after, .. } => news(What::Snoozed { again_at: now.plus(*after) }),
        Settlement::Dead(failure) => {
            Some(Entry::failed(membership, now, failure.reason.as_str(), &failure.error, Some(&task.id), memo))
        }
        Settlement::Done { .. } | Settlement::Accept | Settlement::Release | Settlement::Discard | Settlement::Pass => {
            None
        }
    }
}

/// By what a dead letter is no more: a person removed it, or it was kept long enough.
pub(crate) const PURGED: &str = "its dead letter was purged";
/// See [`PURGED`].
pub(crate) const EXPIRED: &str = "its dead letter was kept long enough";

/// What the ledger is told of a task that is removed where it waits, or as a dead letter, and by what.
pub(crate) fn of_removal(membership: &Membership, memo: Option<&JsonText>, now: Timestamp, by: &str) -> Entry {
    Entry::failed(membership, now, Reason::Cancelled.as_str(), by, None, memo)
}

/// What a task has with it after a settlement: what that says, else what it had.
pub(crate) fn memo_after<'a>(task: &'a Task, settlement: &'a Settlement) -> Option<&'a JsonText> {
    let said = match settlement {
        Settlement::Retry { failure, .. } | Settlement::Dead(failure) => failure.memo.as_ref(),
        Settlement::Snooze { memo, .. } => memo.as_ref(),
        _ => None,
    };
    said.or(task.memo.as_ref())
}
