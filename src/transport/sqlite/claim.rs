//! Taking tasks.
//!
//! One statement makes the oldest due tasks of a queue ours and raises their claim number, by which a settlement of a
//! former owner is told from ours. It must find them by the index `task_ready` alone (a test looks at the plan): this
//! runs for every handful of tasks, on files with millions.
//!
//! It never looks at whether the tasks can be run. Whatever is due is taken; the master refuses what is expired or
//! malformed.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::submit::{read_headers, read_history};
use crate::{clock::Timestamp, task::Task};

/// When the next task of a queue is due.
pub(super) const NEXT_DUE: &str = "SELECT due FROM task WHERE queue = ?1 AND state = 0 ORDER BY due, id LIMIT 1";

/// The oldest due tasks of a queue become the owner's. The order of RETURNING is undefined.
pub(super) const CLAIM: &str = "
UPDATE task SET state = 1, owner = ?1, claim = claim + 1 WHERE id IN (
    SELECT id FROM task WHERE queue = ?2 AND state = 0 AND due <= ?3 ORDER BY due, id LIMIT ?4
) RETURNING id, claim, due, attempts, deliveries, redelivered, expires_at, first_failed_at, message_id, headers, body,
history";

/// A task that was taken.
pub(super) struct Claimed {
    pub(super) row: i64,
    pub(super) claim: i64,
    due: i64,
    pub(super) redelivered: bool,
    pub(super) task: Arc<Task>,
}

/// When the next task of a queue is due, if there is one.
pub(super) fn next_due(connection: &Connection, queue: i64) -> rusqlite::Result<Option<Timestamp>> {
    connection.prepare_cached(NEXT_DUE)?.query_row([queue], |row| row.get(0).map(Timestamp)).optional()
}

/// Takes at most `limit` due tasks, oldest first.
pub(super) fn claim(
    transaction: &Connection,
    owner: i64,
    queue: i64,
    now: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<Claimed>> {
    let mut statement = transaction.prepare_cached(CLAIM)?;
    let mut claimed = statement
        .query_map(params![owner, queue, now.0, limit], |row| {
            Ok(Claimed {
                row: row.get(0)?,
                claim: row.get(1)?,
                due: row.get(2)?,
                redelivered: row.get(5)?,
                task: Arc::new(Task {
                    attempts: row.get(3)?,
                    deliveries: row.get(4)?,
                    expires_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
                    first_failed_at: row.get::<_, Option<i64>>(7)?.map(Timestamp),
                    id: row.get(8)?,
                    headers: read_headers(row.get_ref(9)?.as_str_or_null().unwrap_or_default()),
                    body: row.get(10)?,
                    history: read_history(row.get_ref(11)?.as_str_or_null().unwrap_or_default()),
                    due_at: Some(Timestamp(row.get(2)?)),
                }),
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    claimed.sort_unstable_by_key(|one| (one.due, one.row));
    Ok(claimed)
}
