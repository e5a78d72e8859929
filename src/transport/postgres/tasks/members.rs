//! The columns by which a task belongs to a job, and what else is text in a row.

use serde::de::DeserializeOwned;
use tokio_postgres::Row;

use crate::clock::Timestamp;
use crate::{
    json_text::JsonText,
    membership::Membership,
    transport::{
        job_entries,
        postgres::{connect::fault::Fault, connect::session::Session, jobs::entries},
    },
};

/// Text that is parsed further; what is no JSON counts as none.
pub(crate) fn parsed<T: DeserializeOwned + Default>(row: &Row, column: usize) -> T {
    row.get::<_, Option<&str>>(column).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// A moment.
pub(crate) fn moment(row: &Row, column: usize) -> Option<Timestamp> {
    row.get::<_, Option<i64>>(column).map(Timestamp)
}

/// The place in a job that a row tells, or what is wrong with it.
pub(crate) fn membership(row: &Row, column: usize) -> Result<Option<Box<Membership>>, String> {
    let Some(text) = row.get::<_, Option<&str>>(column) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|error| format!("the row cannot be read: its place in a job: {error}"))
}

/// A memo; text that another program wrote there and that is no JSON reads as none.
pub(crate) fn memo(row: &Row, column: usize) -> Option<JsonText> {
    row.get::<_, Option<&str>>(column).and_then(|text| JsonText::parse(text).ok())
}

/// A membership as it is stored.
pub(crate) fn member_text(membership: &Membership) -> String {
    serde_json::to_string(membership).expect("a membership is a map with text keys")
}

/// Tells the ledgers of tasks that were removed, from rows whose columns `member` and `memo` stand at these places. Gives the
/// applications.
pub(crate) async fn tell_removed(
    session: &Session,
    rows: &[Row],
    (member, with_memo): (usize, usize),
    by: &str,
    now: Timestamp,
) -> Result<Vec<String>, Fault> {
    let mut told = entries::Batch::default();
    for row in rows {
        // One that cannot be read tells nothing: nobody knows of which job it was.
        if let Ok(Some(membership)) = membership(row, member) {
            let entry = job_entries::of_removal(&membership, memo(row, with_memo).as_ref(), now, by);
            told.push(&membership.application, entry.to_bytes());
        }
    }
    told.store(session).await?;
    Ok(told.applications())
}
