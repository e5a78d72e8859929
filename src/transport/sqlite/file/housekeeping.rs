//! Upkeep: old dead letters and jobs are deleted, free pages given back, a long WAL truncated, the file checked.
//!
//! It never waits for a lock: what another writer is in the way of is done with the next step.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rusqlite::ErrorCode;

use super::{
    database::Database,
    error::{may_pass, no_rows},
    lock_wait::LockTimeout,
    paths::wal_length,
};
use crate::{
    clock::Timestamp,
    transport::sqlite::{
        jobs::{entries, upkeep},
        requests::dead_letters,
    },
};

/// An idle master truncates a longer WAL.
const TRUNCATE_FROM: u64 = 64 << 20;
/// A longer WAL is warned of: some program reads without an end.
const WARN_FROM: u64 = 256 << 20;
/// Pages given back in one step.
const PAGES: u32 = 2000;
/// Fewer free pages are not worth a step.
const FREE_FROM: i64 = 1000;
/// Dead letters, or jobs, deleted in one transaction.
const PURGED: u32 = 500;

/// Ledgers whose entries nobody folds are looked for each time that so many steps are done: no more often than once a minute.
const LEDGERS_EACH: u32 = 60;

/// What was warned of, so that it is done once.
#[derive(Default)]
pub(crate) struct Housekeeping {
    warned: bool,
    steps: u32,
    /// The first entry of each ledger that has one, when they were looked at.
    first_entries: BTreeMap<String, i64>,
    /// Ledgers whose entries wait, as was told.
    unfolded: BTreeSet<String>,
}

/// What may be done in a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The time can be trusted so far that what is old is deleted.
    pub(crate) may_delete: bool,
    /// Nothing was done in the last second.
    pub(crate) is_idle: bool,
}

/// What a step did.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept {
    /// A line for each queue of which dead letters were deleted.
    pub(crate) deleted: Vec<String>,
    /// Tasks came back to their queues.
    pub(crate) thawed: bool,
    pub(crate) warning: Option<String>,
}

impl Housekeeping {
    /// A step of everything; called at most once a second.
    pub(crate) fn step(
        &mut self,
        database: &mut Database,
        path: &Path,
        lock_timeout: &LockTimeout,
        now: Timestamp,
        step: Step,
    ) -> Result<Kept, rusqlite::Error> {
        // What another writer is in the way of now is done a second later.
        lock_timeout.set_no_wait(true);
        let purged = if step.may_delete { dead_letters::purge(database, now, PURGED) } else { Ok(Vec::new()) };
        let forgotten = if step.may_delete { upkeep::purge(database, now, PURGED) } else { Ok(0) };
        let swept = upkeep::sweep(database, now);
        let done = Self::tidy(database, path, step.is_idle);
        lock_timeout.set_no_wait(false);
        let (deleted, purged) = match purged {
            Ok(deleted) => (deleted, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        let thawed = [&forgotten, &swept].into_iter().any(|came| came.as_ref().is_ok_and(|count| *count > 0));
        for done in [purged, forgotten.map(drop), swept.map(drop), done] {
            match done {
                Err(error) if !may_pass(&error) => return Err(error),
                _ => {}
            }
        }
        let warning = match self.warning(wal_length(path)) {
            None => self.unfolded_entries(database)?,
            warning => warning,
        };
        Ok(Kept { deleted, thawed, warning })
    }

    /// A warning of ledgers whose first entry was the same at the last look: nobody folds it.
    fn unfolded_entries(&mut self, database: &Database) -> rusqlite::Result<Option<String>> {
        self.steps += 1;
        if self.steps < LEDGERS_EACH {
            return Ok(None);
        }
        self.steps = 0;
        let first = entries::first_of_each(database.read())?;
        let stays = |(application, id): (&String, &i64)| {
            (self.first_entries.get(application) == Some(id)).then(|| application.clone())
        };
        let unfolded: BTreeSet<String> = first.iter().filter_map(stays).collect();
        let new: Vec<&str> = unfolded.difference(&self.unfolded).map(String::as_str).collect();
        let text = (!new.is_empty()).then(|| {
            let names = new.join(", ");
            format!(
                "nobody coordinates the jobs of {names}: what their ledger was told has waited for a minute. A master of that \
                 application with pipelines does, and so does asynctask jobs"
            )
        });
        (self.first_entries, self.unfolded) = (first, unfolded);
        Ok(text)
    }

    fn tidy(database: &mut Database, path: &Path, idle: bool) -> rusqlite::Result<()> {
        if !idle {
            return Ok(());
        }
        let connection = database.read();
        let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let free = pragma("freelist_count")?;
        if free >= FREE_FROM && free > pragma("page_count")? / 4 {
            // Each step of the statement gives one page back, so it is stepped to its end.
            let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
            let mut pages = statement.query([])?;
            while pages.next()?.is_some() {}
        }
        if wal_length(path) > TRUNCATE_FROM {
            truncate_wal(database)?;
        }
        Ok(())
    }

    fn warning(&mut self, length: u64) -> Option<String> {
        let long = length > WARN_FROM;
        let new = long && !self.warned;
        self.warned = long;
        new.then(|| {
            let mebibytes = length >> 20;
            format!("the write-ahead log has grown to {mebibytes} MiB: some program reads the database without an end")
        })
    }
}

/// After an unclean stop: whether the file is whole. `Some`: what is wrong with it.
pub(crate) fn quick_check(database: &Database) -> rusqlite::Result<Option<String>> {
    let first: String = database.read().query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((first != "ok").then_some(first))
}

/// After a write that failed: gives back the room that the WAL takes, so that the next write finds it. What cannot be given back,
/// because a program reads or the database cannot grow either, stays. Waits for no lock: it is tried again after the next
/// failure.
pub(crate) fn give_back_wal(database: &Database, lock_timeout: &LockTimeout, error: &rusqlite::Error) {
    if matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)) {
        lock_timeout.set_no_wait(true);
        let _ = truncate_wal(database);
        lock_timeout.set_no_wait(false);
    }
}

fn truncate_wal(database: &Database) -> rusqlite::Result<()> {
    database.read().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).or_else(no_rows)
}

#[cfg(test)]
mod tests {
    use super::{super::database::Synchronous, *};
    use crate::{task::NewTask, transport::sqlite::tasks::submit};

    #[test]
    fn an_emptied_file_shrinks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let lock_timeout = std::sync::Arc::default();
        let mut database = Database::open_or_create(&path, &lock_timeout).unwrap();
        let task = NewTask { queue: "foo".to_owned(), body: vec![1; 100_000], ..NewTask::default() };
        let filled: rusqlite::Result<()> = database.write(Synchronous::Normal, |transaction, ids| {
            (0..200).try_for_each(|_| submit::insert(transaction, ids, Timestamp(0), &task))
        });
        filled.unwrap();
        database.write(Synchronous::Normal, |transaction, _| transaction.execute("DELETE FROM task", [])).unwrap();
        let mut housekeeping = Housekeeping::default();
        for _ in 0..5 {
            let kept = housekeeping
                .step(&mut database, &path, &lock_timeout, Timestamp(0), Step { may_delete: true, is_idle: true })
                .unwrap();
            assert_eq!(kept, Kept { deleted: Vec::new(), thawed: false, warning: None });
        }
        drop(database);
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length < 5 << 20, "20 MB were deleted, {length} bytes are left");
    }

    #[test]
    fn dead_letters_are_purged_when_their_time_has_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let lock_timeout = std::sync::Arc::default();
        let mut database = Database::open_or_create(&path, &lock_timeout).unwrap();
        let dead = "INSERT INTO task (queue, state, due, purge_at, message_id, body) VALUES (1, 2, 0, ?1, 'x', x'')";
        for purge_at in [Some(100), Some(200), None] {
            database.write(Synchronous::Normal, |transaction, _| transaction.execute(dead, [purge_at])).unwrap();
        }
        let mut housekeeping = Housekeeping::default();
        for (now, left) in [(99, 3), (100, 2), (1_000, 1)] {
            housekeeping
                .step(&mut database, &path, &lock_timeout, Timestamp(now), Step { may_delete: true, is_idle: false })
                .unwrap();
            let count: i64 = database.read().query_row("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
            assert_eq!(count, left, "at {now}");
        }
    }

    #[test]
    fn a_ledger_that_nobody_looks_after_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let lock_timeout = std::sync::Arc::default();
        let mut database = Database::open_or_create(&path, &lock_timeout).unwrap();
        let mut housekeeping = Housekeeping::default();
        let mut minute = |database: &mut Database| {
            let step = Step { may_delete: false, is_idle: true };
            let mut warnings = (0..LEDGERS_EACH)
                .filter_map(|_| housekeeping.step(database, &path, &lock_timeout, Timestamp(0), step).unwrap().warning);
            let first = warnings.next();
            assert_eq!(warnings.next(), None);
            first
        };
        let change = |database: &mut Database, statement: &str| {
            database.write(Synchronous::Normal, |transaction, _| transaction.execute(statement, [])).unwrap();
        };
        change(&mut database, "INSERT INTO entry (application, body) VALUES ('app', x''), ('other', x'')");
        assert_eq!(minute(&mut database), None);
        change(&mut database, "DELETE FROM entry WHERE application = 'other'");
        change(&mut database, "INSERT INTO entry (application, body) VALUES ('other', x'')");
        assert!(minute(&mut database).unwrap().starts_with("nobody coordinates the jobs of app: "));
        // The other's is a new one each time: somebody folds.
        change(&mut database, "DELETE FROM entry WHERE application = 'other'");
        assert_eq!(minute(&mut database), None);
        change(&mut database, "DELETE FROM entry");
        assert_eq!(minute(&mut database), None);
        change(&mut database, "INSERT INTO entry (application, body) VALUES ('app', x'')");
        assert_eq!((minute(&mut database), minute(&mut database).is_some()), (None, true));
    }

    #[test]
    fn a_long_wal_is_told_once() {
        let mut housekeeping = Housekeeping::default();
        assert_eq!(housekeeping.warning(WARN_FROM), None);
        assert!(housekeeping.warning(300 << 20).unwrap().contains("300 MiB"));
        assert_eq!(housekeeping.warning(400 << 20), None);
        assert_eq!(housekeeping.warning(0), None);
        assert!(housekeeping.warning(300 << 20).is_some());
    }
}
