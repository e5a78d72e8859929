//! What lies in the queues.

use std::collections::HashMap;

use crate::transport::{
    DeadQueue, Depth,
    postgres::connect::{fault::Fault, session::Session},
};

/// The states are written out, so that each count is answered by the index of that state alone.
const DEPTH: &str = "
SELECT q.name,
    (SELECT count(*) FROM @.task WHERE queue = q.id AND state = 0 AND due <= @.now_ms()),
    (SELECT count(*) FROM @.task WHERE queue = q.id AND state = 0 AND due > @.now_ms())
        + (SELECT count(*) FROM @.task WHERE queue = q.id AND state = 3),
    (SELECT count(*) FROM @.task WHERE queue = q.id AND state = 1),
    (SELECT count(*) FROM @.task WHERE queue = q.id AND state = 2 AND (purge_at IS NULL OR purge_at > @.now_ms()))
FROM @.queue AS q WHERE q.name = ANY($1)";
const READY: &str = "SELECT q.name, (SELECT count(*) FROM @.task WHERE queue = q.id AND state = 0 AND due <= @.now_ms()) \
                     FROM @.queue AS q WHERE q.name = ANY($1)";
/// All queues; one that was deleted only if something lies there again.
const NAMES: &str = "SELECT name FROM @.queue AS q WHERE NOT hidden \
                     OR EXISTS (SELECT 1 FROM @.task WHERE queue = q.id AND state = 0) \
                     OR EXISTS (SELECT 1 FROM @.task WHERE queue = q.id AND state = 1) \
                     OR EXISTS (SELECT 1 FROM @.task WHERE queue = q.id AND state = 2) \
                     OR EXISTS (SELECT 1 FROM @.task WHERE queue = q.id AND state = 3)";
const ANY_LEFT: &str = "SELECT EXISTS (SELECT 1 FROM @.task WHERE queue = ANY($1) AND state = 0) \
                        OR EXISTS (SELECT 1 FROM @.task WHERE queue = ANY($1) AND state = 1)";

/// Counts queues; zeros where there are none.
pub(crate) async fn depths(session: &Session, queues: &[DeadQueue]) -> Result<Vec<Depth>, Fault> {
    let names: Vec<&str> = queues.iter().map(|dead| dead.queue.as_str()).collect();
    let rows = session.rows(DEPTH, &[&names]).await?;
    let counted: HashMap<&str, Depth> = rows
        .iter()
        .map(|row| {
            let count = |column| row.get::<_, i64>(column).unsigned_abs();
            let depth = Depth {
                ready: count(1),
                delayed: count(2),
                in_hand: count(3),
                failed: count(4),
                failed_shared: false,
                unknown: false,
            };
            (row.get(0), depth)
        })
        .collect();
    Ok(names.iter().map(|name| counted.get(name).copied().unwrap_or_default()).collect())
}

/// Counts what is due and unclaimed; 0 where there is no such queue.
pub(crate) async fn ready(session: &Session, queues: &[String]) -> Result<Vec<u64>, Fault> {
    let rows = session.rows(READY, &[&queues]).await?;
    let counted: HashMap<&str, u64> =
        rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1).unsigned_abs())).collect();
    Ok(queues.iter().map(|name| counted.get(name.as_str()).copied().unwrap_or(0)).collect())
}

/// Whether none of these queues has a task that is ready, delayed or in the hands of any master.
pub(crate) async fn are_empty(session: &Session, queues: &[i32]) -> Result<bool, Fault> {
    let row = session.first(ANY_LEFT, &[&queues]).await?;
    Ok(row.is_none_or(|row| !row.get::<_, bool>(0)))
}

/// All queues, sorted.
pub(crate) async fn names(session: &Session) -> Result<Vec<String>, Fault> {
    let mut names: Vec<String> = session.rows(NAMES, &[]).await?.iter().map(|row| row.get(0)).collect();
    names.sort();
    Ok(names)
}
