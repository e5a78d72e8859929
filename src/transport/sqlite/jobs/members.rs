//! The columns by which a task belongs to a job: written, read, and what its removal tells the ledger.

use std::borrow::Cow;

use rusqlite::{Connection, Row, types::ValueRef};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entries;
use crate::{
    clock::Timestamp,
    json_text::JsonText,
    membership::Membership,
    transport::{
        job_entries,
        sqlite::file::columns::{bytes, text},
    },
};

/// Job, round, member.
type Columns<'a> = (Option<&'a str>, Option<&'a [u8]>, Option<String>);

/// What `member` tells beside `job` and `round`. The row of an item is written again when it is claimed and when it is gone, so the
/// pages that all of them take count: without names it is a third as long as a [`Membership`] as JSON, which earlier versions wrote.
#[derive(Serialize, Deserialize)]
struct Member<'a>(
    /// Application.
    #[serde(borrow)]
    Cow<'a, str>,
    /// Pipeline.
    #[serde(borrow)]
    Cow<'a, str>,
    /// Key.
    #[serde(borrow)]
    Option<Cow<'a, str>>,
    /// Step.
    #[serde(borrow)]
    Cow<'a, str>,
    /// Queue of the first task.
    #[serde(borrow)]
    Cow<'a, str>,
    /// Queue of items.
    #[serde(borrow)]
    Cow<'a, str>,
    /// Feeder.
    Uuid,
    /// Index.
    u32,
    /// Whether it wipes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    Option<Rest>,
);

/// What items do not have.
#[derive(Serialize, Deserialize)]
struct Rest {
    #[serde(default)]
    wipe: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inputs: Option<JsonText>,
}

/// The values of `job`, `round` and `member`.
pub(crate) fn columns(membership: Option<&Membership>) -> rusqlite::Result<Columns<'_>> {
    let Some(membership) = membership else { return Ok((None, None, None)) };
    let Membership { application, job, pipeline, key, step, queue, each, round, feeder, index, wipe, inputs } =
        membership;
    let rest = (*wipe || inputs.is_some()).then(|| Rest { wipe: *wipe, inputs: inputs.clone() });
    let [application, pipeline, step, queue, each] =
        [application, pipeline, step, queue, each].map(|text| Cow::Borrowed(text.as_str()));
    let key = key.as_deref().map(Cow::Borrowed);
    let member = Member(application, pipeline, key, step, queue, each, *feeder, *index, rest);
    let member =
        serde_json::to_string(&member).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    Ok((Some(job), Some(round.as_bytes()), Some(member)))
}

/// The place in a job that a row tells, or what is wrong with it. The row has `job` and `round`, too.
pub(crate) fn membership(row: &Row<'_>, column: usize) -> rusqlite::Result<Result<Option<Box<Membership>>, String>> {
    if row.get_ref(column)? == ValueRef::Null {
        return Ok(Ok(None));
    }
    let named = |name| row.as_ref().column_index(name);
    let (member, job) = (text(row, column)?, text(row, named("job")?)?);
    let round = bytes(row, named("round")?)?;
    Ok(read(&member, job, &round)
        .map(|membership| Some(Box::new(membership)))
        .map_err(|error| format!("the row cannot be read: its place in a job: {error}")))
}

fn read(member: &str, job: String, round: &[u8]) -> Result<Membership, String> {
    if member.starts_with('{') {
        return serde_json::from_str(member).map_err(|error| error.to_string());
    }
    let Member(application, pipeline, key, step, queue, each, feeder, index, rest) =
        serde_json::from_str(member).map_err(|error| error.to_string())?;
    let round = Uuid::from_slice(round).map_err(|error| error.to_string())?;
    let [application, pipeline, step, queue, each] = [application, pipeline, step, queue, each].map(Cow::into_owned);
    let (wipe, inputs) = rest.map_or((false, None), |rest| (rest.wipe, rest.inputs));
    let key = key.map(Cow::into_owned);
    Ok(Membership { application, job, pipeline, key, step, queue, each, round, feeder, index, wipe, inputs })
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

/// Deletes rows of tasks by a statement that returns their `member, memo, job, round`, and tells the ledgers. Gives how many went, and whether
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
    entries::gather(transaction, |entries| {
        members.iter().try_for_each(|(membership, memo)| {
            let entry = job_entries::of_removal(membership, memo.as_ref(), now, by);
            entries.tell(transaction, &membership.application, &entry)
        })
    })?;
    Ok((removed, !members.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Membership {
        Membership {
            application: "app".to_owned(),
            job: "j".to_owned(),
            pipeline: "p".to_owned(),
            key: None,
            step: "s\"".to_owned(),
            queue: "q".to_owned(),
            each: "e".to_owned(),
            round: Uuid::from_u128(1),
            feeder: Uuid::from_u128(2),
            index: 3,
            wipe: false,
            inputs: None,
        }
    }

    fn stored(member: &str, job: &str, round: &[u8]) -> Result<Option<Membership>, String> {
        let connection = Connection::open_in_memory().unwrap();
        let read = |row: &Row<'_>| membership(row, 0);
        let read = connection.query_row("SELECT ?1 AS member, ?2 AS job, ?3 AS round", (member, job, round), read);
        read.unwrap().map(|membership| membership.map(|membership| *membership))
    }

    #[test]
    fn a_place_in_a_job_is_read_as_it_was_written() {
        let inputs = JsonText::parse("{\"a\": 1e400}").ok();
        let keyed = Membership { key: Some("k".to_owned()), inputs, ..item() };
        for place in [item(), Membership { wipe: true, ..item() }, keyed] {
            let (job, round, member) = columns(Some(&place)).unwrap();
            assert_eq!(stored(&member.unwrap(), job.unwrap(), round.unwrap()), Ok(Some(place)));
        }
        let (_, _, member) = columns(Some(&item())).unwrap();
        let short = r#"["app","p",null,"s\"","q","e","00000000-0000-0000-0000-000000000002",3]"#;
        assert_eq!(member.unwrap(), short);
    }

    #[test]
    fn a_place_that_an_earlier_version_wrote_is_read_and_one_that_is_none_says_so() {
        let before = serde_json::to_string(&item()).unwrap();
        assert_eq!(stored(&before, "", b""), Ok(Some(item())));
        let (_, _, member) = columns(Some(&item())).unwrap();
        assert!(stored(&member.unwrap(), "j", b"short").is_err());
        for bad in ["", "[]", "{}", "7", r#"["app","p"]"#] {
            assert!(stored(bad, "j", &[0; 16]).is_err_and(|error| error.contains("its place in a job")), "{bad}");
        }
    }
}
