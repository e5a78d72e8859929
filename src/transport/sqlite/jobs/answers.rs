//! Answers to orders, kept for an hour for whoever waits, or asks again.

use rusqlite::{Connection, OptionalExtension, params};

use crate::{clock::Timestamp, transport::sqlite::file::columns::text};

/// Stores an answer.
pub(crate) fn store(
    transaction: &Connection,
    application: &str,
    order: &str,
    answer: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO answer (application, id, text, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![application, order, answer, now.0])
        .map(drop)
}

/// The answer to an order, if there is one.
pub(crate) fn find(connection: &Connection, application: &str, order: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT text FROM answer WHERE application = ?1 AND id = ?2")?
        .query_row([application, order], |row| text(row, 0))
        .optional()
}
