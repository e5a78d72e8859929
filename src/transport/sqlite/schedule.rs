//! What a scheduler remembers: a row for each moment that fired, stored together with its task.

use rusqlite::{Connection, params};

use super::{
    columns::{moment, text},
    store::QueueIds,
    submit::insert,
};
use crate::{clock::Timestamp, task::NewTask};

/// Moments kept of each schedule: the last is what counts, a few more show what happened.
const KEPT: u32 = 16;

/// The last moment of each schedule.
pub(super) fn memory(connection: &Connection, application: &str) -> rusqlite::Result<Vec<(String, Timestamp)>> {
    connection
        .prepare_cached("SELECT schedule, max(moment) FROM fired WHERE application = ?1 GROUP BY schedule")?
        .query_map([application], |row| Ok((text(row, 0)?, moment(row, 1)?.unwrap_or(Timestamp(0)))))?
        .collect()
}

/// Remembers the moment and stores its task; `false` if it was remembered before.
pub(super) fn fire(
    transaction: &Connection,
    ids: &mut QueueIds,
    (application, schedule, moment): (&str, &str, Timestamp),
    now: Timestamp,
    task: Option<&NewTask>,
) -> rusqlite::Result<bool> {
    let new = transaction
        .prepare_cached("INSERT OR IGNORE INTO fired (application, schedule, moment) VALUES (?1, ?2, ?3)")?
        .execute(params![application, schedule, moment.0])?;
    if new == 0 {
        return Ok(false);
    }
    if let Some(task) = task {
        insert(transaction, ids, now, task)?;
    }
    transaction
        .prepare_cached(
            "DELETE FROM fired WHERE application = ?1 AND schedule = ?2 AND moment <= (SELECT moment FROM fired \
             WHERE application = ?1 AND schedule = ?2 ORDER BY moment DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute(params![application, schedule, KEPT])?;
    Ok(true)
}
