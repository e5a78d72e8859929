//! The end of what waits in a queue, and of the queue itself.

use rusqlite::{Connection, params};

use crate::transport::sqlite::file::{
    database::{Database, Synchronous},
    schema::known_queue,
};

/// Tasks deleted in one transaction: others want to write, too.
const AT_ONCE: u64 = 5_000;

/// Deletes what is ready and delayed. `None`: there is no such queue.
pub(crate) fn purge(database: &mut Database, name: &str) -> rusqlite::Result<Option<u64>> {
    let Some(queue) = known_queue(database.read(), name)? else { return Ok(None) };
    let mut deleted = 0;
    loop {
        let count = database.write(Synchronous::Full, |transaction, _| delete_waiting(transaction, queue, AT_ONCE))?;
        deleted += count;
        if count < AT_ONCE {
            return Ok(Some(deleted));
        }
    }
}

fn delete_waiting(transaction: &Connection, queue: i64, limit: u64) -> rusqlite::Result<u64> {
    let statement =
        "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE queue = ?1 AND state = 0 ORDER BY due, id LIMIT ?2)";
    Ok(transaction.prepare_cached(statement)?.execute(params![queue, limit as i64])? as u64)
}

/// What became of a queue.
pub(crate) enum Deleted {
    /// It is gone, with so many tasks.
    All(u64),
    /// So many tasks are in the hands of masters; nothing was changed.
    Held(u64),
}

/// Deletes a queue with what is ready and delayed in it; it is listed no more, unless it has dead letters. Its row stays:
/// others may know the id. `None`: there is no such queue.
pub(crate) fn delete(database: &mut Database, name: &str) -> rusqlite::Result<Option<Deleted>> {
    let Some(queue) = known_queue(database.read(), name)? else { return Ok(None) };
    let held = held(database.read(), queue)?;
    if held > 0 {
        return Ok(Some(Deleted::Held(held)));
    }
    let deleted = purge(database, name)?.unwrap_or(0);
    database.write(Synchronous::Full, |transaction, _| {
        let held = self::held(transaction, queue)?;
        if held > 0 {
            return Ok(Some(Deleted::Held(held)));
        }
        let rest = delete_waiting(transaction, queue, i64::MAX as u64)?;
        transaction.prepare_cached("UPDATE queue SET hidden = 1 WHERE id = ?1")?.execute([queue])?;
        Ok(Some(Deleted::All(deleted + rest)))
    })
}

fn held(connection: &Connection, queue: i64) -> rusqlite::Result<u64> {
    let statement = "SELECT count(*) FROM task WHERE queue = ?1 AND state = 1";
    connection.prepare_cached(statement)?.query_row([queue], |row| row.get::<_, i64>(0)).map(|count| count as u64)
}
