//! The columns by which a task belongs to a job: written, read, and what its removal tells the ledger.

use rusqlite::{Connection, Row, types::ValueRef};

use super::entries;
use crate::{
    clock::Timestamp,
    json_text::JsonText,
    membership::Membership,
    transport::{job_entries, sqlite::file::columns::text},
};

/// Job, round, member.
type Columns<'a> = (Option<&'a str>, Option<&'a [u8]>, Option<String>);

/// The values of `job`, `round` and `member`.
pub(crate) fn columns(membership: Option<&Membership>) -> rusqlite::Result<Columns<'_>> {
    let Some(membership) = membership else { return Ok((None, None, None)) };
    let member =
        serde_json::to_string(membership).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    Ok((Some(&membership.job), Some(membership.round.as_bytes()), Some(member)))
}

/// The place in a job that a row tells, or what is wrong with it.
pub(crate) fn membership(row: &Row<'_>, column: usize) -> rusqlite::Result<Result<Option<Box<Membership>>, String>> {
    if row.get_ref(column)? == ValueRef::Null {
        return Ok(Ok(None));
    }
    let member = text(row, column)?;
    let unreadable = |error| format!("the row cannot be read: its place in a job: {error}");
    Ok(serde_json::from_str(&member).map(Some).map_err(unreadable))
}

/// A memo; text that another program wrote there and that is no JSON reads as none.
pub(crate) fn memo(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<JsonText>> {
    if row.get_ref(column)? == ValueRef::Null {
        return Ok(None);
    }
    Ok(JsonText::parse(&text(row, column)?).ok())
}

/// Whether the file has tasks of any job.
pub(crate) fn any(connection: &Connection) -> rusqlite::Result<bool> {
    let statement = "SELECT EXISTS (SELECT 1 FROM task WHERE round IS NOT NULL)";
    connection.prepare_cached(statement)?.query_row([], |row| row.get(0))
}

/// Deletes rows of tasks by a statement that returns their `member` and `memo`, and tells the ledgers. Gives how many went, and whether
/// a ledger was told.
pub(crate) fn remove(
    transaction: &Connection,
    statement: &str,
    of: impl rusqlite::Params,
    (now, by): (Timestamp, &str),
) -> rusqlite::Result<(usize, bool)> {
    let mut statement = transaction.prepare_cached(statement)?;
    let mut rows = statement.query(of)?;
    let (mut removed, mut members) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        removed += 1;
        // One that cannot be read tells nothing: nobody knows of which job it was.
        if let Ok(Some(membership)) = membership(row, 0)? {
            members.push((membership, memo(row, 1)?));
        }
    }
    for (membership, memo) in &members {
        let entry = job_entries::of_removal(membership, memo.as_ref(), now, by);
        entries::tell(transaction, &membership.application, &entry)?;
    }
    Ok((removed, !members.is_empty()))
}
