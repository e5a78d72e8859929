//! What keeps a dead letter of a job from work: the state of its job, and who has its key.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    membership::Membership,
    transport::{
        job_letters::{self, Hindrance},
        sqlite::file::columns::{bytes, text},
    },
};

/// The job that has a key, other than one.
pub(super) fn holder(
    connection: &Connection,
    application: &str,
    (pipeline, key): (&str, &str),
    other_than: &str,
) -> rusqlite::Result<Option<String>> {
    let mut holder = connection.prepare_cached(
        "SELECT id FROM job WHERE application = ?1 AND pipeline = ?2 AND key = ?3 AND holds_key = 1 AND id <> ?4",
    )?;
    holder.query_row([application, pipeline, key, other_than], |row| text(row, 0)).optional()
}

/// What keeps a dead letter of a job from work.
pub(crate) fn hindrance(
    connection: &Connection,
    now: Timestamp,
    membership: &Membership,
) -> rusqlite::Result<Option<Hindrance>> {
    let (application, job) = (&membership.application, &membership.job);
    let mut statement = connection.prepare_cached(
        "SELECT rounds FROM job WHERE application = ?1 AND id = ?2 AND (purge_at IS NULL OR purge_at > ?3)",
    )?;
    let rounds = statement.query_row(params![application, job, now.0], |row| rounds(row, 0)).optional()?;
    let holder = match &membership.key {
        Some(key) => holder(connection, application, (&membership.pipeline, key), job)?,
        None => None,
    };
    Ok(job_letters::hindrance(membership, rounds.as_deref(), holder))
}

/// The rounds that stand in a column.
pub(super) fn rounds(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<Uuid>> {
    Ok(bytes(row, column)?.chunks_exact(16).filter_map(|round| Uuid::from_slice(round).ok()).collect())
}
