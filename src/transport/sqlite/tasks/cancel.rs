//! The end of one task that waits, by its id.
//!
//! Ids have no index: one would cost every submit something, for the sake of a command that a person types. So the tasks
//! are read through, some rows at a time: the thread that reads them is the one that claims and settles, and what else
//! it has to do is done in between. Only the removal is a write, which locks others out; it is not begun unless something
//! was found, and removes a task only if it still waits.

use std::collections::VecDeque;

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    clock::Clock,
    transport::{
        Cancelled, Reply,
        sqlite::{
            file::{
                columns::{number, text},
                database::{Database, Synchronous},
            },
            jobs::members,
        },
    },
};

/// Rows that are read before something else is done.
const ROWS: i64 = 4096;

/// The last row of the next ones.
const NEXT: &str = "SELECT max(id) FROM (SELECT id FROM task WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3)";
const FIND: &str = "SELECT id FROM task WHERE id > ?1 AND id <= ?2 AND message_id = ?3";
const LOCATE: &str = "
SELECT task.id, task.state, task.owner, queue.name FROM task JOIN queue ON queue.id = task.queue
WHERE task.id = ?1 AND task.message_id = ?2";

/// A cancellation that is under way: the task with this id is looked for.
pub(crate) struct Search {
    id: String,
    pub(crate) reply: Reply<Cancelled>,
    /// Read up to this row …
    read: i64,
    /// … of those up to this one, the last when it was asked.
    last: Option<i64>,
    /// What has this id.
    rows: Vec<i64>,
    /// A ledger was told.
    pub(crate) told: bool,
}

struct Found {
    row: i64,
    state: i64,
    owner: i64,
    queue: String,
}

/// The cancellations that were asked for, done one after the other.
pub(crate) type Searches = VecDeque<Search>;

impl Search {
    pub(crate) fn new(id: String, reply: Reply<Cancelled>) -> Self {
        Self { id, reply, read: 0, last: None, rows: Vec::new(), told: false }
    }

    /// Reads some more rows; with the last ones comes the answer. `owner` is our number.
    pub(crate) fn step(&mut self, database: &mut Database, owner: i64) -> rusqlite::Result<Option<Cancelled>> {
        let connection = database.read();
        let last = match self.last {
            Some(last) => last,
            None => *self.last.insert(one(connection, "SELECT coalesce(max(id), 0) FROM task", ())?.unwrap_or(0)),
        };
        if let Some(up_to) = one(connection, NEXT, params![self.read, last, ROWS])? {
            let mut statement = connection.prepare_cached(FIND)?;
            for row in statement.query_map(params![self.read, up_to, self.id], |row| row.get(0))? {
                self.rows.push(row?);
            }
            self.read = up_to;
            if up_to < last {
                return Ok(None);
            }
        }
        cancel(database, &self.rows, &self.id, owner, &mut self.told).map(Some)
    }
}

/// Removes what waits among these rows; of one that does not wait, says where it is.
fn cancel(database: &mut Database, rows: &[i64], id: &str, owner: i64, told: &mut bool) -> rusqlite::Result<Cancelled> {
    let mut found = locate(database.read(), rows, id)?;
    let waiting: Vec<i64> = found.iter().filter(|task| matches!(task.state, 0 | 3)).map(|task| task.row).collect();
    if !waiting.is_empty() {
        let removed;
        (removed, *told) = database.write(Synchronous::Full, |transaction, _| remove(transaction, &waiting))?;
        if removed > 0 {
            let queue = found.into_iter().next().map(|task| task.queue).unwrap_or_default();
            return Ok(Cancelled::Removed { queue });
        }
        // What waited a moment ago was claimed meanwhile.
        found = locate(database.read(), rows, id)?;
    }
    let Some(task) = found.into_iter().next() else { return Ok(Cancelled::Absent) };
    Ok(match task.state {
        2 => Cancelled::Dead { queue: task.queue },
        _ if task.owner == owner => Cancelled::Held { pid: None },
        _ => Cancelled::Held { pid: pid(database.read(), task.owner)? },
    })
}

/// Those that wait first, be they set aside, and dead letters last; among equals the oldest.
fn locate(connection: &Connection, rows: &[i64], id: &str) -> rusqlite::Result<Vec<Found>> {
    let mut statement = connection.prepare_cached(LOCATE)?;
    let mut found = Vec::new();
    for row in rows {
        let task = statement.query_row(params![row, id], |row| {
            Ok(Found {
                row: row.get(0)?,
                state: number(row.get_ref(1)?).unwrap_or(0),
                owner: number(row.get_ref(2)?).unwrap_or(0),
                queue: text(row, 3)?,
            })
        });
        found.extend(task.optional()?);
    }
    found.sort_by_key(|task| (task.state % 3, task.row));
    Ok(found)
}

fn one(connection: &Connection, query: &str, of: impl rusqlite::Params) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached(query)?.query_row(of, |row| row.get(0))
}

/// Gives how many tasks went, and whether a ledger was told.
fn remove(transaction: &Connection, rows: &[i64]) -> rusqlite::Result<(usize, bool)> {
    let statement = "DELETE FROM task WHERE id = ?1 AND state IN (0, 3) RETURNING member, memo, job, round";
    let by = (Clock::wall(), "it was cancelled where it waited");
    let (mut removed, mut told) = (0, false);
    for row in rows {
        let (count, of_job) = members::remove(transaction, statement, [row], by)?;
        (removed, told) = (removed + count, told || of_job);
    }
    Ok((removed, told))
}

fn pid(connection: &Connection, owner: i64) -> rusqlite::Result<Option<u32>> {
    let mut statement = connection.prepare_cached("SELECT pid FROM master WHERE owner = ?1")?;
    statement.query_row([owner], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::{super::submit, *};
    use crate::{clock::Timestamp, task::NewTask};

    #[test]
    fn many_rows_are_read_in_several_steps_and_what_comes_meanwhile_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open_or_create(&folder.path().join("a.db"), &Arc::default()).unwrap();
        let submit = |database: &mut Database, ids: std::ops::Range<i64>| {
            let task = |id: i64| NewTask { queue: "foo".to_owned(), id: id.to_string(), ..NewTask::default() };
            let insert = |transaction: &Connection, known: &mut _| {
                ids.map(task).try_for_each(|task| submit::insert(transaction, known, Timestamp(0), &task))
            };
            database.write(Synchronous::Normal, insert).unwrap();
        };
        submit(&mut database, 0..2 * ROWS + 1);
        let search = |id: i64| Search::new(id.to_string(), oneshot::channel().0);
        let mut last = search(2 * ROWS);
        let mut late = search(2 * ROWS + 1);
        assert_eq!([last.step(&mut database, 1).unwrap(), last.step(&mut database, 1).unwrap()], [None, None]);
        assert_eq!(late.step(&mut database, 1).unwrap(), None);
        submit(&mut database, 2 * ROWS + 1..2 * ROWS + 2);
        assert_eq!(last.step(&mut database, 1).unwrap(), Some(Cancelled::Removed { queue: "foo".to_owned() }));
        assert_eq!(
            [late.step(&mut database, 1).unwrap(), late.step(&mut database, 1).unwrap()],
            [None, Some(Cancelled::Absent)]
        );
    }
}
