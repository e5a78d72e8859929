//! The end of what waits in a queue, and of the queue itself.

use super::members;
use crate::{
    clock::Clock,
    transport::postgres::{
        connect::{fault::Fault, session::Session},
        schema::queue_ids::known_queue,
    },
};

/// Tasks deleted in one transaction: others want to write, too.
const AT_ONCE: i64 = 5_000;
const WAITING: &str = "DELETE FROM @.task WHERE id = ANY (ARRAY(SELECT id FROM @.task WHERE queue = $1 AND state = 0 \
                       ORDER BY due, id LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING member, memo";
const SET_ASIDE: &str = "DELETE FROM @.task WHERE id = ANY (ARRAY(SELECT id FROM @.task WHERE queue = $1 AND state = 3 \
                         LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING member, memo";
const HELD: &str = "SELECT count(*) FROM @.task WHERE state = 1 AND queue = $1";

/// What went, and the ledgers that were told of tasks of their jobs.
#[derive(Debug, Default)]
pub(crate) struct Purged {
    pub(crate) tasks: u64,
    pub(crate) told: Vec<String>,
}

/// Deletes what is ready, delayed or set aside. `None`: there is no such queue.
pub(crate) async fn purge(session: &Session, name: &str) -> Result<Option<Purged>, Fault> {
    let Some(queue) = known_queue(session, name).await? else { return Ok(None) };
    delete_waiting(session, queue, &format!("queue {name} was purged")).await.map(Some)
}

async fn delete_waiting(session: &Session, queue: i32, by: &str) -> Result<Purged, Fault> {
    let mut purged = Purged::default();
    for statement in [WAITING, SET_ASIDE] {
        loop {
            let now = Clock::wall();
            let (count, told) = session
                .transaction(async |session| {
                    let rows = session.rows(statement, &[&queue, &AT_ONCE]).await?;
                    Ok((rows.len(), members::tell_removed(session, &rows, (0, 1), by, now).await?))
                })
                .await?;
            purged.tasks += count as u64;
            purged.told.extend(told);
            if (count as i64) < AT_ONCE {
                break;
            }
        }
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

/// Deletes a queue with what is ready and delayed in it; it is listed no more, unless it has dead letters. Its row stays: others may
/// know the id. `None`: there is no such queue.
pub(crate) async fn delete(session: &Session, name: &str) -> Result<Option<Deleted>, Fault> {
    let Some(queue) = known_queue(session, name).await? else { return Ok(None) };
    let held = held(session, queue).await?;
    if held > 0 {
        return Ok(Some(Deleted::Held(held)));
    }
    let deleted = delete_waiting(session, queue, &format!("queue {name} was deleted")).await?;
    session.run("UPDATE @.queue SET hidden = true WHERE id = $1", &[&queue]).await?;
    Ok(Some(Deleted::All(deleted)))
}

async fn held(session: &Session, queue: i32) -> Result<u64, Fault> {
    let row = session.first(HELD, &[&queue]).await?;
    Ok(row.map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}
