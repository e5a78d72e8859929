//! Rows of moments that fired. Even two schedulers at once fire each moment once.

use std::collections::HashMap;

use crate::{
    clock::{Clock, Timestamp},
    schedule::SET_BACK,
    task::NewTask,
    transport::postgres::{
        connect::{fault::Fault, session::Session},
        tasks::submit,
    },
};

/// Moments kept of each schedule: only the last one counts, the others show what happened.
const KEPT: i64 = 16;

const MEMORY: &str = "SELECT schedule, max(moment) FROM @.fired WHERE application = $1 GROUP BY schedule";
const FIRE: &str = "INSERT INTO @.fired (application, schedule, moment) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const FORGET_FUTURE: &str =
    "DELETE FROM @.fired WHERE application = $1 AND schedule = $2 AND moment > $3 AND moment <> $4";
const FORGET_PAST: &str = "DELETE FROM @.fired WHERE application = $1 AND schedule = $2 AND moment <= (SELECT moment \
                           FROM @.fired WHERE application = $1 AND schedule = $2 ORDER BY moment DESC LIMIT 1 OFFSET $3)";

/// The last moment of each schedule, sorted.
pub(crate) async fn memory(session: &Session, application: &str) -> Result<Vec<(String, Timestamp)>, Fault> {
    let rows = session.rows(MEMORY, &[&application]).await?;
    let mut memory: Vec<(String, Timestamp)> = rows.iter().map(|row| (row.get(0), Timestamp(row.get(1)))).collect();
    memory.sort();
    Ok(memory)
}

/// Remembers the moment and stores its task, in the caller's transaction; `false` if it was remembered before.
pub(crate) async fn fire(
    session: &Session,
    ids: &HashMap<&str, i32>,
    (application, schedule, moment): (&str, &str, Timestamp),
    task: Option<&NewTask>,
) -> Result<bool, Fault> {
    if session.run(FIRE, &[&application, &schedule, &moment.0]).await? == 0 {
        return Ok(false);
    }
    submit::store(session, ids, task).await?;
    // A moment that fired because the clock was ahead fires again when its time comes. Moments are those of this host's clock.
    let ahead = Clock::wall().plus(SET_BACK).0;
    session.run(FORGET_FUTURE, &[&application, &schedule, &ahead, &moment.0]).await?;
    session.run(FORGET_PAST, &[&application, &schedule, &KEPT]).await?;
    Ok(true)
}
