//! Taking tasks.
//!
//! One statement makes the oldest due tasks of a queue ours and raises their claim number, by which a settlement of a
//! former owner is distinguished from ours. It must find them by the index `task_ready` alone (a test looks at the plan): this
//! runs for every handful of tasks, on files with millions.
//!
//! It never looks at whether the tasks can be run. Whatever is due is taken; the master refuses what is expired or
//! malformed.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    clock::Timestamp,
    task::Task,
    transport::sqlite::{
        file::columns::{Counts, bytes, moment, number, parsed, text},
        jobs::{members, stopped::Fates},
    },
};

/// When the next task of a queue is due.
pub(crate) const NEXT_DUE: &str = "SELECT due FROM task WHERE queue = ?1 AND state = 0 ORDER BY due, id LIMIT 1";

/// The oldest due tasks of a queue become the owner's. The order of RETURNING is undefined. The claim number is whole and
/// has room to grow, whatever another program wrote there.
pub(crate) const CLAIM: &str = "
UPDATE task SET state = 1, owner = ?1, claim = (CAST(claim AS INTEGER) & 281474976710655) + 1 WHERE id IN (
    SELECT id FROM task WHERE queue = ?2 AND state = 0 AND due <= ?3 ORDER BY due, id LIMIT ?4
) RETURNING id, claim, due, attempts, deliveries, redelivered, expires_at, first_failed_at, message_id, headers, body,
history, member, memo, job, round";

/// Tasks whose time is no number: in SQLite's order of values they come after all numbers, and would never be due.
const DUE_AT_NO_TIME: &str =
    "UPDATE task SET due = 0 WHERE queue = ?1 AND state = 0 AND due > 9223372036854775807 AND typeof(due) <> 'real'";

/// How often a claim is filled up after tasks of void rounds and frozen jobs were taken out of it.
const SIFTS: usize = 8;

/// A task that was taken.
pub(crate) struct Claimed {
    pub(crate) row: i64,
    pub(crate) claim: i64,
    due: i64,
    pub(crate) redelivered: bool,
    pub(crate) task: Arc<Task>,
}

/// When the next task of a queue is due, if there is one. One whose time is no number is due.
pub(crate) fn next_due(connection: &Connection, queue: i64) -> rusqlite::Result<Option<Timestamp>> {
    let due = connection.prepare_cached(NEXT_DUE)?.query_row([queue], |row| moment(row, 0)).optional()?;
    Ok(due.map(|due| due.unwrap_or(Timestamp(0))))
}

/// Takes at most `limit` due tasks, oldest first; fewer although more are due, where very many of them may not be delivered.
pub(crate) fn claim(
    transaction: &Connection,
    owner: i64,
    queue: i64,
    now: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<Claimed>> {
    let mut claimed = claim_due(transaction, owner, queue, now, limit)?;
    // Looked at only where nothing else is left to claim.
    if claimed.is_empty() && transaction.prepare_cached(DUE_AT_NO_TIME)?.execute([queue])? > 0 {
        claimed = claim_due(transaction, owner, queue, now, limit)?;
    }
    for _ in 0..SIFTS {
        if !sift(transaction, &mut claimed, now)? {
            return Ok(claimed);
        }
        let room = limit - claimed.len() as u32;
        claimed.extend(claim_due(transaction, owner, queue, now, room)?);
    }
    sift(transaction, &mut claimed, now)?;
    Ok(claimed)
}

/// Takes out what must not be delivered. Gives whether there was any.
fn sift(transaction: &Connection, claimed: &mut Vec<Claimed>, now: Timestamp) -> rusqlite::Result<bool> {
    // Tasks outside of jobs pay nothing.
    if claimed.iter().all(|one| one.task.membership.is_none()) {
        return Ok(false);
    }
    let before = claimed.len();
    let mut fates = Fates::default();
    let mut kept = Vec::with_capacity(before);
    for one in claimed.drain(..) {
        let is_out = match one.task.membership.as_deref() {
            Some(membership) => fates.take_out(transaction, one.row, membership, now)?,
            None => false,
        };
        if !is_out {
            kept.push(one);
        }
    }
    *claimed = kept;
    Ok(claimed.len() < before)
}

fn claim_due(
    transaction: &Connection,
    owner: i64,
    queue: i64,
    now: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<Claimed>> {
    let mut statement = transaction.prepare_cached(CLAIM)?;
    let mut claimed = statement
        .query_map(params![owner, queue, now.0, limit], |row| {
            let due = moment(row, 2)?.unwrap_or(now);
            let mut counts = Counts::default();
            let membership = members::membership(row, 12)?.unwrap_or_else(|error| {
                counts.unreadable.get_or_insert(error);
                None
            });
            let task = Task {
                attempts: counts.read(row, 3, "attempts")?,
                deliveries: counts.read(row, 4, "deliveries")?,
                expires_at: moment(row, 6)?,
                first_failed_at: moment(row, 7)?,
                id: text(row, 8)?,
                headers: parsed(row, 9)?,
                body: bytes(row, 10)?,
                history: parsed(row, 11)?,
                due_at: Some(due),
                unreadable: counts.unreadable,
                properties: None,
                name: None,
                time_limit: None,
                membership,
                memo: members::memo(row, 13)?,
            };
            Ok(Claimed {
                row: row.get(0)?,
                claim: row.get(1)?,
                due: due.0,
                redelivered: number(row.get_ref(5)?).is_none_or(|times| times != 0),
                task: Arc::new(task),
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    claimed.sort_unstable_by_key(|one| (one.due, one.row));
    Ok(claimed)
}
