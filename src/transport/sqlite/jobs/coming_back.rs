//! What comes back to its queue: tasks of a job that is frozen no more, dead letters of a round that is done again.
//!
//! There may be very many of them, and others want to write, too: some come back with the step of the coordinator, the rest with the
//! upkeep of whichever master is there. What is left to do stands in two tables, `thawing` and `reviving`.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::members;
use crate::{
    clock::Timestamp,
    transport::sqlite::{
        file::columns::{bytes, moment, text},
        requests::dead_letters,
    },
};

/// Rows deleted, set aside or brought back at once: others want to write, too.
pub(crate) const AT_ONCE: usize = 10_000;

/// Tasks of a job are delivered again. Gives how many that were set aside came back at once.
pub(crate) fn thaw(transaction: &Connection, application: &str, job: &str) -> rusqlite::Result<usize> {
    let statement = "DELETE FROM frozen_job WHERE application = ?1 AND job = ?2";
    transaction.prepare_cached(statement)?.execute([application, job])?;
    let thawed = thaw_some(transaction, application, job)?;
    if thawed == AT_ONCE {
        let statement = "INSERT OR IGNORE INTO thawing (application, job) VALUES (?1, ?2)";
        transaction.prepare_cached(statement)?.execute([application, job])?;
    }
    Ok(thawed)
}

fn thaw_some(transaction: &Connection, application: &str, job: &str) -> rusqlite::Result<usize> {
    // Another application may have a job of the same id.
    let mut statement = transaction.prepare_cached(
        "SELECT id, member, job, round FROM task INDEXED BY task_set_aside WHERE state = 3 AND job = ?1",
    )?;
    let mut rows = statement.query([job])?;
    let mut ours: Vec<i64> = Vec::new();
    while ours.len() < AT_ONCE
        && let Some(row) = rows.next()?
    {
        let membership = members::membership(row, 1)?;
        if !matches!(membership, Ok(Some(membership)) if membership.application != application) {
            ours.push(row.get(0)?);
        }
    }
    let mut back = transaction.prepare_cached("UPDATE task SET state = 0 WHERE id = ?1")?;
    ours.iter().map(|row| back.execute([row])).sum()
}

/// Dead letters of a round go back to work. Gives how many did at once.
pub(crate) fn revive(transaction: &Connection, now: Timestamp, round: Uuid) -> rusqlite::Result<u64> {
    // The last one that is there, whatever the clock said when it died.
    let mut last =
        transaction.prepare_cached("SELECT max(due) FROM task INDEXED BY task_round WHERE round = ?1 AND state = 2")?;
    let until = last.query_row([round.as_bytes()], |row| moment(row, 0))?.unwrap_or(now);
    let revived = dead_letters::revive(transaction, now, round, until, AT_ONCE)?;
    if revived == AT_ONCE as u64 {
        let statement = "INSERT OR REPLACE INTO reviving (round, until) VALUES (?1, ?2)";
        transaction.prepare_cached(statement)?.execute(params![round.as_bytes(), until.0])?;
    }
    Ok(revived)
}

/// Whether more of something is to come back.
pub(crate) fn is_any_left(connection: &Connection) -> rusqlite::Result<bool> {
    let statement = "SELECT EXISTS (SELECT 1 FROM thawing) OR EXISTS (SELECT 1 FROM reviving)";
    connection.prepare_cached(statement)?.query_row([], |row| row.get(0))
}

/// Whether dead letters of a round are still to go back to work.
pub(crate) fn is_reviving(connection: &Connection, round: Uuid) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM reviving WHERE round = ?1")?.exists([round.as_bytes().as_slice()])
}

/// Brings more back. Gives how many tasks.
pub(crate) fn go_on(transaction: &Connection, now: Timestamp) -> rusqlite::Result<usize> {
    let mut first = transaction.prepare_cached("SELECT application, job FROM thawing LIMIT 1")?;
    let job = first.query_row([], |row| Ok((text(row, 0)?, text(row, 1)?))).optional()?;
    let mut came = 0;
    if let Some((application, job)) = job {
        came = thaw_some(transaction, &application, &job)?;
        if came < AT_ONCE {
            stays_frozen(transaction, &application, &job)?;
        }
    }
    let mut first = transaction.prepare_cached("SELECT round, until FROM reviving LIMIT 1")?;
    let round = first.query_row([], |row| Ok((bytes(row, 0)?, moment(row, 1)?))).optional()?;
    let Some((stored, until)) = round else { return Ok(came) };
    // What another program wrote there and is no round has no dead letters.
    let round = Uuid::from_slice(&stored).unwrap_or_default();
    let revived = dead_letters::revive(transaction, now, round, until.unwrap_or(now), AT_ONCE)?;
    if revived < AT_ONCE as u64 {
        transaction.prepare_cached("DELETE FROM reviving WHERE round = ?1")?.execute([stored])?;
    }
    Ok(came + revived as usize)
}

/// Nothing more of a job comes back: it is frozen again, or all of it has.
pub(crate) fn stays_frozen(transaction: &Connection, application: &str, job: &str) -> rusqlite::Result<()> {
    let statement = "DELETE FROM thawing WHERE application = ?1 AND job = ?2";
    transaction.prepare_cached(statement)?.execute([application, job]).map(drop)
}

/// No more dead letters of a round go back to work: it is void.
pub(crate) fn stay_dead(transaction: &Connection, round: Uuid) -> rusqlite::Result<()> {
    let statement = "DELETE FROM reviving WHERE round = ?1";
    transaction.prepare_cached(statement)?.execute([round.as_bytes().as_slice()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::sqlite::{
        file::database::{Database, Synchronous},
        jobs::stopped,
    };

    const MANY: i64 = AT_ONCE as i64 + 5;

    /// So many rows in a state, of job j and round 1.
    fn filled(state: i64) -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open_or_create(&folder.path().join("a.db"), &std::sync::Arc::default()).unwrap();
        let rows = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1) \
                    INSERT INTO task (queue, state, due, message_id, body, failure, job, round) \
                    SELECT 1, ?2, 5, n, x'', '{}', 'j', ?3 FROM number";
        let round = Uuid::from_u128(1);
        database
            .write(Synchronous::Normal, |transaction, _| {
                transaction.execute(rows, params![MANY, state, round.as_bytes()])
            })
            .unwrap();
        (folder, database)
    }

    fn ready(database: &Database) -> i64 {
        database.read().query_row("SELECT count(*) FROM task WHERE state = 0", [], |row| row.get(0)).unwrap()
    }

    fn write<T>(database: &mut Database, step: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> T {
        database.write(Synchronous::Normal, |transaction, _| step(transaction)).unwrap()
    }

    #[test]
    fn very_many_tasks_of_a_frozen_job_come_back_one_part_after_the_other() {
        let (_folder, mut database) = filled(3);
        write(&mut database, |transaction| stopped::freeze(transaction, "app", "j"));
        assert_eq!(write(&mut database, |transaction| thaw(transaction, "app", "j")), AT_ONCE);
        assert!(ready(&database) == AT_ONCE as i64 && is_any_left(database.read()).unwrap());
        assert_eq!(write(&mut database, |transaction| go_on(transaction, Timestamp(9))), 5);
        assert!(ready(&database) == MANY && !is_any_left(database.read()).unwrap());
        assert_eq!(write(&mut database, |transaction| go_on(transaction, Timestamp(9))), 0);

        let (_folder, mut database) = filled(3);
        write(&mut database, |transaction| thaw(transaction, "app", "j"));
        write(&mut database, |transaction| stopped::freeze(transaction, "app", "j"));
        assert!(!is_any_left(database.read()).unwrap(), "it is frozen again");
    }

    #[test]
    fn very_many_dead_letters_come_back_one_part_after_the_other_and_none_that_died_since() {
        let (_folder, mut database) = filled(2);
        let round = Uuid::from_u128(1);
        assert_eq!(write(&mut database, |transaction| revive(transaction, Timestamp(7), round)), AT_ONCE as u64);
        assert!(is_reviving(database.read(), round).unwrap() && is_any_left(database.read()).unwrap());
        let died = "UPDATE task SET state = 2, due = 8, failure = '{}' WHERE id IN (SELECT id FROM task WHERE state = 0 LIMIT 3)";
        write(&mut database, |transaction| transaction.execute(died, []));
        assert_eq!(write(&mut database, |transaction| go_on(transaction, Timestamp(9))), 5);
        assert_eq!(ready(&database), MANY - 3);
        assert!(!is_any_left(database.read()).unwrap());

        let (_folder, mut database) = filled(2);
        write(&mut database, |transaction| revive(transaction, Timestamp(7), round));
        write(&mut database, |transaction| stopped::make_void(transaction, Timestamp(8), round));
        assert!(!is_any_left(database.read()).unwrap(), "nothing of it counts any more");
    }
}
