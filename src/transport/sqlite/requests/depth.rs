//! What lies in the queues.

use rusqlite::{Connection, params};

use crate::{
    clock::Timestamp,
    transport::{
        DeadQueue, Depth,
        sqlite::file::{columns::text, schema::known_queue},
    },
};

/// Counts one queue; zeros where there is none.
fn depth(connection: &Connection, now: Timestamp, queue: &str) -> rusqlite::Result<Depth> {
    let Some(queue) = known_queue(connection, queue)? else { return Ok(Depth::default()) };
    // The states are written out, so that each count is answered by the index of that state alone.
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM task WHERE queue = ?1 AND state = 0 AND due <= ?2), \
             (SELECT count(*) FROM task WHERE queue = ?1 AND state = 0 AND due > ?2) \
             + (SELECT count(*) FROM task WHERE queue = ?1 AND state = 3), \
             (SELECT count(*) FROM task WHERE queue = ?1 AND state = 1), \
             (SELECT count(*) FROM task WHERE queue = ?1 AND state = 2 AND (purge_at IS NULL OR purge_at > ?2))",
        )?
        .query_row(params![queue, now.0], |row| {
            let count = |column| row.get::<_, i64>(column).map(|count| count as u64);
            Ok(Depth {
                ready: count(0)?,
                delayed: count(1)?,
                in_hand: count(2)?,
                failed: count(3)?,
                failed_shared: false,
                unknown: false,
            })
        })
}

/// Counts queues, in one snapshot.
pub(crate) fn depths(connection: &Connection, now: Timestamp, queues: &[DeadQueue]) -> rusqlite::Result<Vec<Depth>> {
    let snapshot = connection.unchecked_transaction()?;
    queues.iter().map(|dead| depth(&snapshot, now, &dead.queue)).collect()
}

/// Counts what is due and unclaimed; 0 where there is no such queue.
pub(crate) fn ready(connection: &Connection, now: Timestamp, queues: &[String]) -> rusqlite::Result<Vec<u64>> {
    let snapshot = connection.unchecked_transaction()?;
    let count = |queue: &String| {
        let Some(queue) = known_queue(&snapshot, queue)? else { return Ok(0) };
        snapshot
            .prepare_cached("SELECT count(*) FROM task WHERE queue = ?1 AND state = 0 AND due <= ?2")?
            .query_row(params![queue, now.0], |row| row.get::<_, i64>(0))
            .map(|count| count as u64)
    };
    queues.iter().map(count).collect()
}

/// Whether none of these queues has a task that is ready, delayed or in the hands of any master. The caller
/// holds a read transaction: a task that follows another into an emptied queue must not slip through.
pub(crate) fn are_empty(snapshot: &Connection, queues: impl IntoIterator<Item = i64>) -> rusqlite::Result<bool> {
    for queue in queues {
        let any: bool = snapshot
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM task WHERE queue = ?1 AND state = 0) \
                 OR EXISTS (SELECT 1 FROM task WHERE queue = ?1 AND state = 1)",
            )?
            .query_row([queue], |row| row.get(0))?;
        if any {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All queues, sorted; one that was deleted only if something lies there again.
pub(crate) fn names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let names = "SELECT name FROM queue WHERE hidden = 0 OR EXISTS (SELECT 1 FROM task WHERE queue = queue.id \
                 AND state IN (0, 1, 2, 3)) ORDER BY name";
    connection.prepare_cached(names)?.query_map([], |row| text(row, 0))?.collect()
}
