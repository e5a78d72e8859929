//! Keeping the file small and sound.

use std::path::Path;

use super::{
    database::{Store, may_pass, no_rows},
    lock_wait::Patience,
};
use crate::{clock::Timestamp, transport::sqlite::queries::dead_letters};

/// An idle master truncates a longer WAL.
const TRUNCATE_FROM: u64 = 64 << 20;
/// A longer WAL means that somebody reads without an end, and is told.
const WARN_FROM: u64 = 256 << 20;
/// Pages given back in one step.
const PAGES: u32 = 2000;
/// Fewer free pages are not worth a step.
const FREE_FROM: i64 = 1000;
/// Dead letters deleted in one transaction.
const PURGED: u32 = 500;

/// What was seen, so that it is said once.
#[derive(Default)]
pub(crate) struct Housekeeping {
    warned: bool,
}

/// What may be done in a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The time can be trusted so far that what is old is deleted.
    pub(crate) may_delete: bool,
    /// Nothing was done in the last second.
    pub(crate) is_idle: bool,
}

/// What there is to say of a step.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept {
    /// A line for each queue of which dead letters were deleted.
    pub(crate) deleted: Vec<String>,
    pub(crate) warning: Option<String>,
}

impl Housekeeping {
    /// A step of everything; called at most once a second.
    pub(crate) fn step(
        &mut self,
        store: &mut Store,
        path: &Path,
        patience: &Patience,
        now: Timestamp,
        step: Step,
    ) -> Result<Kept, rusqlite::Error> {
        // Whatever another writer is in the way of now is done a second later.
        patience.hurry(true);
        let purged = if step.may_delete { dead_letters::purge(store, now, PURGED) } else { Ok(Vec::new()) };
        let done = Self::tidy(store, path, step.is_idle);
        patience.hurry(false);
        let (deleted, purged) = match purged {
            Ok(deleted) => (deleted, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        for done in [purged, done] {
            match done {
                Err(error) if !may_pass(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(Kept { deleted, warning: self.warning(wal_length(path)) })
    }

    fn tidy(store: &mut Store, path: &Path, idle: bool) -> rusqlite::Result<()> {
        if !idle {
            return Ok(());
        }
        let connection = store.read();
        let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let free = pragma("freelist_count")?;
        if free >= FREE_FROM && free > pragma("page_count")? / 4 {
            // Each step of the statement gives one page back, so it is stepped to its end.
            let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
            let mut pages = statement.query([])?;
            while pages.next()?.is_some() {}
        }
        if wal_length(path) > TRUNCATE_FROM {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).or_else(no_rows)?;
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

fn wal_length(path: &Path) -> u64 {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    std::fs::metadata(name).map_or(0, |metadata| metadata.len())
}

/// After an unclean stop: whether the file is whole. `Some`: what is wrong with it.
pub(crate) fn quick_check(store: &Store) -> rusqlite::Result<Option<String>> {
    let first: String = store.read().query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((first != "ok").then_some(first))
}

#[cfg(test)]
mod tests {
    use super::{super::database::Synchronous, *};
    use crate::{task::NewTask, transport::sqlite::tasks::submit};

    #[test]
    fn an_emptied_file_shrinks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let patience = std::sync::Arc::default();
        let mut store = Store::create(&path, &patience).unwrap();
        let task = NewTask { queue: "foo".to_owned(), body: vec![1; 100_000], ..NewTask::default() };
        let filled: rusqlite::Result<()> = store.write(Synchronous::Normal, |transaction, ids| {
            (0..200).try_for_each(|_| submit::insert(transaction, ids, Timestamp(0), &task))
        });
        filled.unwrap();
        store.write(Synchronous::Normal, |transaction, _| transaction.execute("DELETE FROM task", [])).unwrap();
        let mut keeping = Housekeeping::default();
        for _ in 0..5 {
            let kept = keeping
                .step(&mut store, &path, &patience, Timestamp(0), Step { may_delete: true, is_idle: true })
                .unwrap();
            assert_eq!(kept, Kept { deleted: Vec::new(), warning: None });
        }
        drop(store);
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length < 5 << 20, "20 MB were deleted, {length} bytes are left");
    }

    #[test]
    fn dead_letters_are_purged_when_their_time_has_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let patience = std::sync::Arc::default();
        let mut store = Store::create(&path, &patience).unwrap();
        let dead = "INSERT INTO task (queue, state, due, purge_at, message_id, body) VALUES (1, 2, 0, ?1, 'x', x'')";
        for purge_at in [Some(100), Some(200), None] {
            store.write(Synchronous::Normal, |transaction, _| transaction.execute(dead, [purge_at])).unwrap();
        }
        let mut keeping = Housekeeping::default();
        for (now, left) in [(99, 3), (100, 2), (1_000, 1)] {
            keeping
                .step(&mut store, &path, &patience, Timestamp(now), Step { may_delete: true, is_idle: false })
                .unwrap();
            let count: i64 = store.read().query_row("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
            assert_eq!(count, left, "at {now}");
        }
    }

    #[test]
    fn a_long_wal_is_told_once() {
        let mut keeping = Housekeeping::default();
        assert_eq!(keeping.warning(WARN_FROM), None);
        assert!(keeping.warning(300 << 20).unwrap().contains("300 MiB"));
        assert_eq!(keeping.warning(400 << 20), None);
        assert_eq!(keeping.warning(0), None);
        assert!(keeping.warning(300 << 20).is_some());
    }
}
