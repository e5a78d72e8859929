//! The end of one task that waits, by its id.
//!
//! Ids have no index: one would cost every submit something, for the sake of a command that a person types. So the tasks
//! are read through, and nothing is locked meanwhile; only the removal is a write, and it removes a task only if it
//! still waits.

use rusqlite::{Connection, OptionalExtension, params};

use super::store::{Store, Synchronous};
use crate::transport::Cancelled;

/// Those that wait first, dead letters last; among equals the oldest.
const FIND: &str = "
SELECT task.id, task.state, task.owner, queue.name FROM task JOIN queue ON queue.id = task.queue
WHERE task.message_id = ?1 ORDER BY task.state, task.id";

struct Found {
    row: i64,
    state: i64,
    owner: i64,
    queue: String,
}

/// Removes what waits under this id; of one that does not wait, says where it is. `owner`: ours.
pub(super) fn cancel(store: &mut Store, id: &str, owner: i64) -> rusqlite::Result<Cancelled> {
    let found = find(store.read(), id)?;
    let waiting: Vec<i64> = found.iter().filter(|task| task.state == 0).map(|task| task.row).collect();
    let removed = store.write(Synchronous::Full, |transaction, _| remove(transaction, &waiting))?;
    if removed > 0 {
        return Ok(Cancelled::Removed { queue: found.into_iter().next().map(|task| task.queue).unwrap_or_default() });
    }
    // What waited a moment ago was taken by somebody meanwhile.
    let found = if waiting.is_empty() { found } else { find(store.read(), id)? };
    let Some(task) = found.into_iter().next() else { return Ok(Cancelled::Absent) };
    Ok(match task.state {
        2 => Cancelled::Dead { queue: task.queue },
        _ if task.owner == owner => Cancelled::Held { pid: None },
        _ => Cancelled::Held { pid: pid(store.read(), task.owner)? },
    })
}

fn find(connection: &Connection, id: &str) -> rusqlite::Result<Vec<Found>> {
    let mut statement = connection.prepare_cached(FIND)?;
    let found = statement.query_map([id], |row| {
        Ok(Found { row: row.get(0)?, state: row.get(1)?, owner: row.get(2)?, queue: row.get(3)? })
    })?;
    found.collect()
}

fn remove(transaction: &Connection, rows: &[i64]) -> rusqlite::Result<usize> {
    let mut statement = transaction.prepare_cached("DELETE FROM task WHERE id = ?1 AND state = 0")?;
    rows.iter().map(|row| statement.execute(params![row])).sum()
}

fn pid(connection: &Connection, owner: i64) -> rusqlite::Result<Option<u32>> {
    let mut statement = connection.prepare_cached("SELECT pid FROM master WHERE owner = ?1")?;
    statement.query_row([owner], |row| row.get(0)).optional()
}
