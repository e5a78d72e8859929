//! Entries of ledgers: what was stored for a coordinator and is not folded yet.
//!
//! A row is never changed, only deleted by the step that folds it. Numbers are given before transactions commit, so that a later one
//! may be seen before an earlier one: the coordinator asks for all entries but those that it knows, not for those behind the last.

use tokio_postgres::Row;

use crate::{
    jobs::record::{EntryId, StoredEntry},
    transport::postgres::connect::{fault::Fault, session::Session},
};

const INSERT: &str = "
INSERT INTO @.entry (application, body)
SELECT application, body FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS new (application, body, n) ORDER BY n";
/// `application, known, room, bytes`: no more than would make so many bytes with those before, but for the first.
const NEW: &str = "
SELECT id, body FROM (
    SELECT id, body, sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body) AS before FROM (
        SELECT id, body FROM @.entry WHERE application = $1 AND id <> ALL ($2) ORDER BY id LIMIT $3
    ) AS found
) AS measured WHERE before <= $4 ORDER BY id";

/// Bytes of bodies that are read at once: one entry may be far longer than all others.
const AT_ONCE: i64 = 16 << 20;

/// Entries that are to be stored.
#[derive(Default)]
pub(crate) struct Batch {
    applications: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

impl Batch {
    pub(crate) fn push(&mut self, application: &str, body: Vec<u8>) {
        self.applications.push(application.to_owned());
        self.bodies.push(body);
    }

    /// The ledgers that are told something, each once.
    pub(crate) fn applications(mut self) -> Vec<String> {
        self.applications.sort();
        self.applications.dedup();
        self.applications
    }

    /// Stores them in their order.
    pub(crate) async fn store(&self, session: &Session) -> Result<(), Fault> {
        if self.bodies.is_empty() {
            return Ok(());
        }
        session.run(INSERT, &[&self.applications, &self.bodies]).await.map(drop)
    }
}

/// The next entries of an application that are not `known`, at most `room`, oldest first.
pub(crate) async fn new_ones(
    session: &Session,
    application: &str,
    known: &[i64],
    room: usize,
) -> Result<Vec<StoredEntry>, Fault> {
    let stored = |row: &Row| StoredEntry { id: EntryId(row.get::<_, i64>(0) as u64), body: row.get(1) };
    let rows = session.rows(NEW, &[&application, &known, &(room as i64), &AT_ONCE]).await?;
    Ok(rows.iter().map(stored).collect())
}

/// Whether there are any.
pub(crate) async fn any(session: &Session, application: &str) -> Result<bool, Fault> {
    let found = session.first("SELECT 1 FROM @.entry WHERE application = $1 LIMIT 1", &[&application]).await?;
    Ok(found.is_some())
}

/// Deletes those that are folded.
pub(crate) async fn delete(session: &Session, entries: &[EntryId]) -> Result<(), Fault> {
    let ids: Vec<i64> = entries.iter().map(|entry| entry.0 as i64).collect();
    session.run("DELETE FROM @.entry WHERE id = ANY($1)", &[&ids]).await.map(drop)
}
