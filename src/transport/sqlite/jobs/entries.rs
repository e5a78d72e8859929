//! Entries of ledgers: what was stored for a coordinator and is not folded yet.
//!
//! A row is never changed, only deleted by the step that folds it. Numbers rise in the order of the commits and are never used
//! again, so who has read up to one finds all later ones behind it. What one transaction tells of many tasks is a row together
//! ([`gather`]): a row for each end cost as much as the rest of its settlement (measured).

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::{
    jobs::{
        entry::Entry,
        entry_list::EntryList,
        record::{EntryId, StoredEntry},
    },
    transport::sqlite::file::columns::{bytes, text},
};

/// Stores an entry, whatever its body is: the ledger judges that.
pub(crate) fn insert(transaction: &Connection, application: &str, body: &[u8]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached("INSERT INTO entry (application, body) VALUES (?1, ?2)")?;
    statement.execute(params![application, body]).map(drop)
}

/// Stores an entry that is made here.
pub(crate) fn tell(transaction: &Connection, application: &str, entry: &Entry) -> rusqlite::Result<()> {
    insert(transaction, application, &entry.to_bytes())
}

/// Entries that a transaction is to store.
#[derive(Default)]
pub(crate) struct Gathered(BTreeMap<String, EntryList>);

impl Gathered {
    /// Stores an entry with the others of its application, or now, if it must be alone.
    pub(crate) fn add(&mut self, transaction: &Connection, application: &str, body: &[u8]) -> rusqlite::Result<()> {
        if !EntryList::may_hold(body) {
            return insert(transaction, application, body);
        }
        let list = match self.0.get_mut(application) {
            Some(list) => list,
            None => self.0.entry(application.to_owned()).or_default(),
        };
        if !list.has_room(body) {
            insert(transaction, application, std::mem::take(list).body())?;
        }
        list.add(body);
        Ok(())
    }

    /// Stores an entry that is made here.
    pub(crate) fn tell(&mut self, transaction: &Connection, application: &str, entry: &Entry) -> rusqlite::Result<()> {
        self.add(transaction, application, &entry.to_bytes())
    }
}

/// Does a part of a transaction, and stores with it the entries that were gathered.
pub(crate) fn gather<T>(
    transaction: &Connection,
    part: impl FnOnce(&mut Gathered) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let mut gathered = Gathered::default();
    let given = part(&mut gathered)?;
    for (application, list) in &gathered.0 {
        insert(transaction, application, list.body())?;
    }
    Ok(given)
}

/// The next entries of an application after a number, oldest first: at most `limit` rows, and no more after so many bytes.
pub(crate) fn after(
    connection: &Connection,
    application: &str,
    last: i64,
    (limit, most): (usize, usize),
) -> rusqlite::Result<Vec<StoredEntry>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, body FROM entry INDEXED BY entry_told WHERE application = ?1 AND id > ?2 ORDER BY id",
    )?;
    let mut rows = statement.query(params![application, last])?;
    let (mut entries, mut size) = (Vec::new(), 0);
    while entries.len() < limit
        && size < most
        && let Some(row) = rows.next()?
    {
        let (id, body) = (row.get::<_, i64>(0)?, bytes(row, 1)?);
        size += body.len();
        entries.push(StoredEntry { id: EntryId(id as u64), body });
    }
    Ok(entries)
}

/// The number of the first entry of each application that has any.
pub(crate) fn first_of_each(connection: &Connection) -> rusqlite::Result<BTreeMap<String, i64>> {
    let mut statement = connection.prepare_cached("SELECT application, min(id) FROM entry GROUP BY application")?;
    statement.query_map([], |row| Ok((text(row, 0)?, row.get(1)?)))?.collect()
}

/// Whether there are any.
pub(crate) fn any(connection: &Connection, application: &str) -> rusqlite::Result<bool> {
    let statement = "SELECT EXISTS (SELECT 1 FROM entry WHERE application = ?1)";
    connection.prepare_cached(statement)?.query_row([application], |row| row.get(0))
}

/// Deletes those that are folded.
pub(crate) fn delete(transaction: &Connection, entries: &[EntryId]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached("DELETE FROM entry WHERE id = ?1")?;
    entries.iter().try_for_each(|entry| statement.execute([entry.0 as i64]).map(drop))
}

/// The owner numbers of the masters that coordinate these applications; a command that does has none.
pub(crate) fn coordinators<'a>(
    connection: &Connection,
    applications: impl IntoIterator<Item = &'a str>,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT owner FROM ledger WHERE application = ?1 AND owner <> 0")?;
    let mut owners = Vec::new();
    for application in applications {
        let found: Vec<i64> = statement.query_map([application], |row| row.get(0))?.collect::<Result<_, _>>()?;
        owners.extend(found);
    }
    Ok(owners)
}
