//! Storing tasks.
//!
//! A task becomes a row inside the caller's transaction, whose end decides whether it was stored: nothing here may commit,
//! or answer a request. Headers and history are text in the row; text that another program wrote there and that is no JSON
//! reads as none, because a task is never lost for what stands beside it.

use rusqlite::{Connection, params};

use crate::{
    clock::Timestamp,
    membership::ledger_of,
    task::NewTask,
    transport::{
        row_text::headers_text,
        sqlite::{
            file::schema::{QueueIds, queue_id},
            jobs::{entries, members},
        },
    },
};

/// Stores a task that is due `delay` from now, or an entry of a ledger.
pub(crate) fn insert(
    transaction: &Connection,
    ids: &mut QueueIds,
    now: Timestamp,
    task: &NewTask,
) -> rusqlite::Result<()> {
    if let Some(application) = ledger_of(&task.queue) {
        return entries::insert(transaction, application, &task.body);
    }
    let queue = queue_id(transaction, ids, &task.queue)?;
    let due = now.plus(task.delay).0;
    let expires_at = task.expires_at.map(|at| at.0);
    let headers = headers_text(&task.headers);
    // What is due at once is so whatever the clock shows later.
    let set_at = (!task.at_moment || task.delay.is_zero()).then_some(now.0);
    let Some(membership) = task.membership.as_deref() else {
        // Tasks outside of jobs pay nothing for the columns of others.
        let statement = "INSERT INTO task (queue, due, expires_at, message_id, headers, body, set_at) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let row = params![queue, due, expires_at, task.id, headers, task.body, set_at];
        return transaction.prepare_cached(statement)?.execute(row).map(drop);
    };
    let (job, round, member) = members::columns(Some(membership))?;
    let statement = "INSERT INTO task (queue, due, expires_at, message_id, headers, body, set_at, job, round, member) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let row = params![queue, due, expires_at, task.id, headers, task.body, set_at, job, round, member];
    transaction.prepare_cached(statement)?.execute(row).map(drop)
}
