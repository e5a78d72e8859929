//! The end of what waits in a queue, and of the queue itself.

use rusqlite::{Connection, params};

use crate::{
    clock::Clock,
    transport::sqlite::{
        file::{
            database::{Database, Synchronous},
            schema::known_queue,
        },
        jobs::members,
    },
};

/// Tasks deleted in one transaction: others want to write, too.
const AT_ONCE: u64 = 5_000;

/// What went, and whether a ledger was told of tasks of its jobs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Purged {
    pub(crate) tasks: u64,
    pub(crate) told: bool,
}

impl Purged {
    const fn and(self, more: Self) -> Self {
        Self { tasks: self.tasks + more.tasks, told: self.told || more.told }
    }
}

/// Deletes what is ready, delayed or set aside. `None`: there is no such queue.
pub(crate) fn purge(database: &mut Database, name: &str) -> rusqlite::Result<Option<Purged>> {
    delete_in_steps(database, name, &format!("queue {name} was purged"))
}

fn delete_in_steps(database: &mut Database, name: &str, by: &str) -> rusqlite::Result<Option<Purged>> {
    let Some(queue) = known_queue(database.read(), name)? else { return Ok(None) };
    let mut purged = Purged::default();
    loop {
        let step =
            database.write(Synchronous::Full, |transaction, _| delete_waiting(transaction, queue, AT_ONCE, by))?;
        purged = purged.and(step);
        if step.tasks < AT_ONCE {
            return Ok(Some(purged));
        }
    }
}

fn delete_waiting(transaction: &Connection, queue: i64, limit: u64, by: &str) -> rusqlite::Result<Purged> {
    let waiting =
        "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE queue = ?1 AND state = 0 ORDER BY due, id LIMIT ?2)";
    if !members::any(transaction)? {
        let tasks = transaction.prepare_cached(waiting)?.execute(params![queue, limit as i64])? as u64;
        return Ok(Purged { tasks, told: false });
    }
    let set_aside = "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE queue = ?1 AND state = 3 LIMIT ?2)";
    let mut purged = Purged::default();
    for statement in [waiting, set_aside] {
        let statement = format!("{statement} RETURNING member, memo, job, round");
        let rest = limit - purged.tasks;
        let by = (Clock::wall(), by);
        let (tasks, told) = members::remove(transaction, &statement, params![queue, rest as i64], by)?;
        purged = purged.and(Purged { tasks: tasks as u64, told });
    }
    Ok(purged)
}

/// What became of a queue.
pub(crate) enum Deleted {
    /// It is gone, with so many tasks.
    All(Purged),
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
    let by = format!("queue {name} was deleted");
    let deleted = delete_in_steps(database, name, &by)?.unwrap_or_default();
    database.write(Synchronous::Full, |transaction, _| {
        let held = self::held(transaction, queue)?;
        if held > 0 {
            return Ok(Some(Deleted::Held(held)));
        }
        let rest = delete_waiting(transaction, queue, i64::MAX as u64, &by)?;
        transaction.prepare_cached("UPDATE queue SET hidden = 1 WHERE id = ?1")?.execute([queue])?;
        Ok(Some(Deleted::All(deleted.and(rest))))
    })
}

fn held(connection: &Connection, queue: i64) -> rusqlite::Result<u64> {
    let statement = "SELECT count(*) FROM task WHERE queue = ?1 AND state = 1";
    connection.prepare_cached(statement)?.query_row([queue], |row| row.get::<_, i64>(0)).map(|count| count as u64)
}
