//! What is forgotten of jobs: ended ones after their time, answers after an hour, void rounds after a week.

use rusqlite::params;

use super::{coming_back, stopped};
use crate::{
    clock::Timestamp,
    transport::sqlite::file::{
        columns::text,
        database::{Database, Synchronous},
    },
};

/// Answers are kept so long, in milliseconds.
const ANSWERS: i64 = 3_600_000;
/// Void rounds are kept so long, in milliseconds: their tasks may be in hands, or among dead letters that are put back to work.
const VOID: i64 = 7 * 24 * 3_600_000;

/// Rows are there to be deleted: ended jobs, answers, void rounds.
const OLD: &str = "
SELECT EXISTS (SELECT 1 FROM job WHERE purge_at IS NOT NULL AND purge_at <= ?1)
    OR EXISTS (SELECT 1 FROM answer WHERE at <= ?2) OR EXISTS (SELECT 1 FROM void WHERE at <= ?3 AND swept = 1)";

/// Deletes what was kept long enough, at most `limit` of each. Gives how many tasks that were set aside came back.
pub(crate) fn purge(database: &mut Database, now: Timestamp, limit: u32) -> rusqlite::Result<usize> {
    let (answers, void) = (now.0.saturating_sub(ANSWERS), now.0.saturating_sub(VOID));
    let any: bool = database.read().prepare_cached(OLD)?.query_row(params![now.0, answers, void], |row| row.get(0))?;
    if !any {
        return Ok(0);
    }
    database.write(Synchronous::Normal, |transaction, _| {
        let mut statement = transaction.prepare_cached(
            "DELETE FROM job WHERE number IN (SELECT number FROM job WHERE purge_at IS NOT NULL AND purge_at <= ?1 \
             LIMIT ?2) RETURNING application, id",
        )?;
        let forgotten = statement.query_map(params![now.0, limit], |row| Ok((text(row, 0)?, text(row, 1)?)))?;
        let forgotten: Vec<(String, String)> = forgotten.collect::<rusqlite::Result<_>>()?;
        // A later job may have the id of one.
        let thawed = forgotten.iter().map(|(application, job)| coming_back::thaw(transaction, application, job));
        let thawed = thawed.sum::<rusqlite::Result<usize>>()?;
        for (statement, before) in [
            (
                "DELETE FROM answer WHERE (application, id) IN (SELECT application, id FROM answer WHERE at <= ?1 LIMIT ?2)",
                answers,
            ),
            ("DELETE FROM void WHERE id IN (SELECT id FROM void WHERE at <= ?1 AND swept = 1 LIMIT ?2)", void),
        ] {
            transaction.prepare_cached(statement)?.execute(params![before, limit])?;
        }
        Ok(thawed)
    })
}

/// Goes on deleting what waits of void rounds that had very many tasks, and bringing back what is to come back. Gives how many tasks came.
pub(crate) fn sweep(database: &mut Database, now: Timestamp) -> rusqlite::Result<usize> {
    if let Some(unswept) = stopped::unswept(database.read())? {
        database.write(Synchronous::Normal, |transaction, _| stopped::sweep(transaction, unswept))?;
    }
    if !coming_back::is_any_left(database.read())? {
        return Ok(0);
    }
    database.write(Synchronous::Normal, |transaction, _| coming_back::go_on(transaction, now))
}
