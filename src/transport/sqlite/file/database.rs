//! The connection: how the file is opened, how it is written, and what its errors mean.
//!
//! Every write goes through [`Database::write`], which begins with `BEGIN IMMEDIATE`: a transaction that reads
//! first and writes later fails at once when another wrote in between, and no busy handler is asked.
//!
//! The file itself is never opened by other means than SQLite's once it is in use: closing any descriptor of
//! a file drops the process's POSIX locks on it, SQLite's among them.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use nix::{errno::Errno, sys::statfs::statfs};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};

use super::{
    access,
    error::{Fault, cause, file_error, no_rows},
    lock_wait::LockTimeout,
    no_room,
    paths::{FileIdentity, wal_length},
    schema::{self, QueueIds},
};
use crate::{file_owner, transport::Error};

/// 3.51.3 mends a fault by which several writers of a WAL could corrupt it.
const OLDEST_LIBRARY: i32 = 3_051_003;

/// How sure a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synchronous {
    /// Survives a loss of power: for what was submitted.
    Full,
    /// Survives the death of any process. What a lost power takes back (a claim, a settlement) only repeats a task.
    Normal,
}

/// An open database.
pub(crate) struct Database {
    connection: Connection,
    file: FileIdentity,
    queue_ids: QueueIds,
    synchronous: Option<Synchronous>,
}

impl Database {
    /// Opens the database, and makes it if it is not there.
    pub(crate) fn open_or_create(path: &Path, lock_timeout: &Arc<LockTimeout>) -> Result<Self, Fault> {
        // Between making the file and closing it again no other thread may open it; see the module's page.
        static MAKING: Mutex<()> = Mutex::new(());
        let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        refuse_network(file_owner::folder(path)).map_err(|cause| Fault::Final(file_error(path, cause)))?;
        access::make(path).map_err(|error| {
            Fault::Final(file_error(path, format!("it cannot be made: {}", access::explained(path, &error))))
        })?;
        drop(making);
        // Under one name for all, whatever links lead to it: the files beside it must be the same for all.
        let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut database = Self::connect(path, lock_timeout)?;
        Errno::clear();
        schema::migrate(&mut database.connection, path).map_err(|fault| match fault {
            Fault::Sqlite(error) => Fault::Sqlite(no_room::with_cause(error)),
            fault @ Fault::Final(_) => fault,
        })?;
        Ok(database)
    }

    /// Opens the database for a question; `None` if there is none, or nothing in it yet.
    pub(crate) fn open_existing(path: &Path, lock_timeout: &Arc<LockTimeout>) -> Result<Option<Self>, Fault> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() == 0 => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fault::Final(file_error(path, access::explained(path, &error)))),
            Ok(_) => {}
        }
        Self::open_or_create(path, lock_timeout).map(Some)
    }

    /// A connection that only reads, to a database that is there.
    pub(crate) fn open_reader(path: &Path, lock_timeout: &Arc<LockTimeout>) -> Result<Self, Fault> {
        let database = Self::connect(path, lock_timeout)?;
        database.connection.execute_batch("PRAGMA query_only = 1")?;
        Ok(database)
    }

    fn connect(path: &Path, lock_timeout: &Arc<LockTimeout>) -> Result<Self, Fault> {
        if rusqlite::version_number() < OLDEST_LIBRARY {
            let cause = format!("SQLite {} can corrupt it; 3.51.3 is needed", rusqlite::version());
            return Err(Fault::Final(file_error(path, cause)));
        }
        let open = || -> rusqlite::Result<Connection> {
            Errno::clear();
            // No URI: a file may be called `file:a?mode=memory`. No CREATE: it was made with our permissions.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = Connection::open_with_flags(path, flags)?;
            connection.busy_handler(Some(lock_timeout.busy_handler()))?;
            connection.set_prepared_statement_cache_capacity(64);
            // Else a claim is planned anew whenever its LIMIT is another one.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            // Heeded only before the first page is written; later it would wait for the write lock.
            if connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))? == 0 {
                connection.execute_batch("PRAGMA auto_vacuum = 2")?;
            }
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            connection.query_row("PRAGMA journal_size_limit = 67108864", [], |_| Ok(()))?;
            connection.query_row("PRAGMA mmap_size = 0", [], |_| Ok(())).or_else(no_rows)?;
            let pages = format!("PRAGMA wal_autocheckpoint = {}", no_room::checkpoint_from());
            connection.query_row(&pages, [], |_| Ok(()))?;
            if no_room::is_too_long(wal_length(path)) {
                // Waits for nobody. Where it cannot be done the first write that finds no room says so.
                let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            }
            Ok(connection)
        };
        // The change to WAL does not ask the busy handler when another makes it at the same moment.
        let connection = retry_while_busy(lock_timeout, open).map_err(no_room::with_cause)?;
        Ok(Self { connection, file: FileIdentity::of(path.to_owned()), queue_ids: QueueIds::new(), synchronous: None })
    }

    /// The file, under its name without links.
    pub(crate) fn file(&self) -> &FileIdentity {
        &self.file
    }

    /// The connection, for reading.
    pub(crate) fn read(&self) -> &Connection {
        &self.connection
    }

    /// A number that changes when another connection has written.
    pub(crate) fn data_version(&self) -> rusqlite::Result<i64> {
        self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    /// One transaction that writes. Nothing of it is stored unless `step` and the commit succeed.
    pub(crate) fn write<T>(
        &mut self,
        synchronous: Synchronous,
        step: impl FnOnce(&Connection, &mut QueueIds) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.synchronous != Some(synchronous) {
            self.synchronous = None;
            self.connection.execute_batch(match synchronous {
                Synchronous::Full => "PRAGMA synchronous = FULL",
                Synchronous::Normal => "PRAGMA synchronous = NORMAL",
            })?;
            self.synchronous = Some(synchronous);
        }
        Errno::clear();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(no_room::with_cause)?;
        let written = step(&transaction, &mut self.queue_ids).and_then(|value| transaction.commit().map(|()| value));
        if written.is_err() {
            // Ids that the transaction gave to new queues name none now that it is undone.
            self.queue_ids.clear();
        }
        written.map_err(no_room::with_cause)
    }

    /// What went wrong, with the file's name.
    pub(crate) fn error(&self, error: &rusqlite::Error) -> Error {
        file_error(&self.file.path, cause(&self.file.path, error))
    }
}

/// Tries again while another is in the way, for as long as a lock is waited for.
fn retry_while_busy<T>(
    lock_timeout: &Arc<LockTimeout>,
    mut act: impl FnMut() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let mut sleep = lock_timeout.busy_handler();
    let mut calls = 0;
    loop {
        match act() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && sleep(calls) => calls += 1,
            done => return done,
        }
    }
}

/// The wal-index is shared memory, which other hosts do not share.
fn refuse_network(folder: &Path) -> Result<(), String> {
    let kind = statfs(folder).map_err(|error| format!("its folder cannot be read: {error}"))?.filesystem_type().0;
    match network_name(kind as u32) {
        None => Ok(()),
        Some(name) => Err(format!("it lies on a network file system ({name}), where SQLite's locks do not hold")),
    }
}

fn network_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0x0000_6969 => "nfs",
        0x0000_517b | 0xfe53_4d42 => "smb",
        0xff53_4d42 => "cifs",
        0x0102_1997 => "9p",
        0x5346_414f | 0x6b41_4653 => "afs",
        0x7375_7245 => "coda",
        0x0000_564c => "ncp",
        0x00c3_6400 => "ceph",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x0116_1970 => "gfs2",
        0x7461_636f => "ocfs2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_new_enough_and_network_file_systems_are_known() {
        assert!(rusqlite::version_number() >= OLDEST_LIBRARY);
        assert_eq!(network_name(0x6969), Some("nfs"));
        assert_eq!(network_name(0xef53), None);
        assert!(refuse_network(&std::env::temp_dir()).is_ok());
    }

    #[test]
    fn what_a_transaction_made_and_lost_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open_or_create(&folder.path().join("a.db"), &Arc::default()).unwrap();
        let lost: rusqlite::Result<()> = database.write(Synchronous::Full, |transaction, ids| {
            schema::queue_id(transaction, ids, "foo")?;
            Err(rusqlite::Error::QueryReturnedNoRows)
        });
        assert!(lost.is_err() && database.queue_ids.is_empty());
        let bar = database.write(Synchronous::Normal, |transaction, ids| schema::queue_id(transaction, ids, "bar"));
        let foo = database.write(Synchronous::Normal, |transaction, ids| schema::queue_id(transaction, ids, "foo"));
        assert_ne!(foo.unwrap(), bar.unwrap());
    }
}
