//! The memory of schedules: a row for each moment that fired, stored in one transaction with its task.

use rusqlite::{Connection, params};

use crate::{
    clock::Timestamp,
    schedule::SET_BACK,
    task::NewTask,
    transport::sqlite::{
        file::{
            columns::{moment, text},
            schema::QueueIds,
        },
        tasks::submit::insert,
    },
};

/// Moments kept of each schedule: only the last one counts, the others show what happened.
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
    // A moment that fired because the clock was ahead fires again when its time comes.
    transaction
        .prepare_cached("DELETE FROM fired WHERE application = ?1 AND schedule = ?2 AND moment > ?3 AND moment <> ?4")?
        .execute(params![application, schedule, now.plus(SET_BACK).0, moment.0])?;
    transaction
        .prepare_cached(
            "DELETE FROM fired WHERE application = ?1 AND schedule = ?2 AND moment <= (SELECT moment FROM fired \
             WHERE application = ?1 AND schedule = ?2 ORDER BY moment DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute(params![application, schedule, KEPT])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::sqlite::file::database::{Database, Synchronous};

    #[test]
    fn what_a_wrong_clock_fired_is_forgotten_by_a_right_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open_or_create(&folder.path().join("a.db"), &std::sync::Arc::default()).unwrap();
        let mut fire = |now: i64, moment: i64| {
            database
                .write(Synchronous::Full, |transaction, ids| {
                    let what = ("demo", "s", Timestamp(moment * 1000));
                    fire(transaction, ids, what, Timestamp(now * 1000), None)
                })
                .unwrap()
        };
        assert!(fire(60, 60));
        // Five days ahead, by more moments than are kept.
        let ahead: Vec<i64> = (0..20).map(|second| 432_000 + second).collect();
        assert!(ahead.iter().all(|moment| fire(432_020, *moment)));
        // Right again: each once, with two schedulers one after the other.
        assert!(fire(120, 120) && fire(180, 180));
        assert!(!fire(181, 180) && !fire(181, 120), "fired twice");
        // And when the time comes, too.
        assert!(fire(432_000, 432_000));
        let memory = memory(database.read(), "demo").unwrap();
        assert_eq!(memory, [("s".to_owned(), Timestamp(432_000_000))]);
    }
}
