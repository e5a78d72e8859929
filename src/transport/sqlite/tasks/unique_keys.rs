//! Keys: of all tasks in hand of all masters on the file, one has each.
//!
//! A row is one key that is held, with the number of the master and the id of its task. It is made before the task is
//! begun and goes in the transaction that settles the task; those of a master that is gone go with its claims. So there
//! is no stale lock, and no clock that could free one too early.

use rusqlite::{Connection, OptionalExtension, params};

use crate::transport::sqlite::file::columns::text;

/// Takes a key; otherwise the id of the task that has it.
pub(crate) fn take(transaction: &Connection, owner: i64, key: &str, task: &str) -> rusqlite::Result<Option<String>> {
    let taken = transaction
        .prepare_cached("INSERT INTO held_key (key, owner, task) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![key, owner, task])?;
    if taken == 1 {
        return Ok(None);
    }
    let mut holder = transaction.prepare_cached("SELECT task FROM held_key WHERE key = ?1")?;
    Ok(Some(holder.query_row([key], |row| text(row, 0)).optional()?.unwrap_or_default()))
}

/// Gives a key back.
pub(crate) fn give_back(transaction: &Connection, owner: i64, key: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM held_key WHERE key = ?1 AND owner = ?2")?
        .execute(params![key, owner])
        .map(drop)
}

/// Gives back all keys of a master that is gone.
pub(crate) fn give_back_all(transaction: &Connection, owner: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM held_key WHERE owner = ?1")?.execute([owner]).map(drop)
}
