//! The file of the history: how it is opened, who may write it, what lies in it, and what goes wrong with it.
//!
//! One process writes: it holds a lock (`flock(2)`) on a file beside it. The others read. What is lost with it is comfort, so nothing
//! is waited for (`synchronous=OFF`), a file of another form is not brought into this one, and no error ends anything.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::file_owner;

/// Says in the file's first page whose it is: `asyh`.
const APPLICATION: i64 = 0x6173_7968;
/// The form of the file. One of another form is left alone until a person removes it.
const VERSION: i64 = 2;
/// Bytes of a page, as SQLite makes them.
pub(super) const PAGE: u64 = 4096;
/// How long the other side of the file may keep it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The tables. Ids of ends grow with the moments at which they were heard of: lists go by them.
const SCHEMA: &str = "
CREATE TABLE ended (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, at INTEGER NOT NULL, host TEXT NOT NULL, queue TEXT NOT NULL, kind TEXT NOT NULL,
    slot TEXT, pid INTEGER, task TEXT NOT NULL, attempt INTEGER NOT NULL, outcome INTEGER NOT NULL, waited REAL, ran REAL NOT NULL,
    error TEXT, cause TEXT
);
CREATE INDEX ended_of_task ON ended (task);
CREATE INDEX others_by_age ON ended (step, id) WHERE outcome < 3;
CREATE INDEX failures_by_age ON ended (step, id) WHERE outcome >= 3;
-- How many ends there were, whether they are listed or not.
CREATE TABLE counts (
    step INTEGER NOT NULL, outcome INTEGER NOT NULL, host TEXT NOT NULL, queue TEXT NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (step, outcome, host, queue, kind)
) WITHOUT ROWID;
-- Runs of masters, and what was heard of them last: another page that goes on counts nothing twice.
CREATE TABLE runs (id INTEGER PRIMARY KEY, host TEXT NOT NULL, name TEXT NOT NULL, last INTEGER NOT NULL);
CREATE TABLE seen (
    run INTEGER NOT NULL, queue TEXT NOT NULL, done INTEGER NOT NULL, snoozed INTEGER NOT NULL, released INTEGER NOT NULL,
    retried INTEGER NOT NULL, dead INTEGER NOT NULL, PRIMARY KEY (run, queue)
) WITHOUT ROWID;
";

/// Why the file cannot be used now.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is not there.
    Absent,
    /// Another page writes it.
    Held,
    /// It is something else.
    Foreign(String),
    Io(io::Error),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Absent } else { Self::Io(error) }
    }
}

impl Fault {
    /// Whether the connection is of no use any more.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::Sqlite(error) => {
                !matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
            }
            _ => true,
        }
    }

    /// For people: what is wrong with the file at this path, and what helps.
    pub(super) fn in_words(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Absent => format!("the file {path} is not there"),
            Self::Held => format!("another page writes the file {path}"),
            Self::Foreign(what) => {
                format!("the file {path} {what}; name another one with dashboard: {{ history: PATH }}")
            }
            Self::Io(error) => format!("the file {path} cannot be opened: {error}"),
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => format!("there is no room for more in the file {path}"),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    format!("the file {path} is damaged; remove it, and a new one is begun")
                }
                _ => format!("the file {path} fails: {error}"),
            },
        }
    }
}

/// Device and number of a file: another one may come to stand under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(u64, u64);

impl Number {
    pub(super) fn of(path: &Path) -> Result<Self, Fault> {
        let file = std::fs::symlink_metadata(path)?;
        if !file.is_file() {
            return Err(Fault::Foreign("is no file".to_owned()));
        }
        Ok(Self(file.dev(), file.ino()))
    }
}

/// The file, open for the one who writes it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) number: Number,
    /// The kernel drops the lock with the process.
    _lock: Flock<File>,
}

/// Opens the file to write, and makes it if it is not there. `bytes`: it never becomes longer.
pub(super) fn open_writing(path: &Path, bytes: u64) -> Result<Opened, Fault> {
    let lock = lock(&lock_path(path))?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => drop(made?),
    }
    let number = Number::of(path)?;
    if std::fs::metadata(path)?.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let is_new = is_empty(&connection)?;
    if is_new {
        // Heeded only before the first page is written, or when all are written anew.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")?;
    } else {
        check(&connection)?;
    }
    // Of a process that dies at once the file stays whole; after a loss of power it may be damaged, which is told: a person removes it, and a new one is begun.
    connection.execute_batch("PRAGMA synchronous = OFF")?;
    connection.query_row("PRAGMA journal_mode = TRUNCATE", [], |_| Ok(()))?;
    connection.query_row(&format!("PRAGMA max_page_count = {}", bytes / PAGE), [], |_| Ok(()))?;
    if is_new {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction
            .execute_batch(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}"))?;
        transaction.commit()?;
    }
    Ok(Opened { connection, number, _lock: lock })
}

/// Opens the file to read.
pub(super) fn open_reading(path: &Path) -> Result<(Connection, Number), Fault> {
    let number = Number::of(path)?;
    // It may have to undo what a writer that was killed left half done.
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if is_empty(&connection)? {
        return Err(Fault::Absent);
    }
    check(&connection)?;
    connection.execute_batch("PRAGMA query_only = 1")?;
    Ok((connection, number))
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // No URI: a file may be called `file:a?mode=memory`. No CREATE: it was made with our permissions.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    connection.execute_batch("PRAGMA trusted_schema = 0; PRAGMA cell_size_check = 1")?;
    Ok(connection)
}

/// Whether nothing is in it yet: it was just made, or there was no room for more.
fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(number_of(connection, "SELECT count(*) FROM sqlite_master")? == 0)
}

/// Whether it is a history of this form.
fn check(connection: &Connection) -> Result<(), Fault> {
    if number_of(connection, "PRAGMA application_id")? != APPLICATION {
        return Err(Fault::Foreign("is no history of a page".to_owned()));
    }
    if number_of(connection, "PRAGMA user_version")? != VERSION {
        return Err(Fault::Foreign("is of another version of the program: remove it".to_owned()));
    }
    Ok(())
}

/// The answer to a question that is a number.
pub(super) fn number_of(connection: &Connection, question: &str) -> rusqlite::Result<i64> {
    connection.query_row(question, [], |row| row.get(0))
}

/// The path of the file with no link on the way to its folder, under which two pages find the same lock.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let folder = std::fs::canonicalize(file_owner::folder(path));
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn lock(path: &Path) -> Result<Flock<File>, Fault> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    match Flock::lock(options.open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => Err(Fault::Held),
        Err((_, errno)) => Err(Fault::Io(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writes_and_the_others_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        assert!(matches!(open_reading(&path), Err(Fault::Absent)));
        let first = open_writing(&path, 1 << 20).unwrap();
        assert!(matches!(open_writing(&path, 1 << 20), Err(Fault::Held)));
        let (reader, number) = open_reading(&path).unwrap();
        assert_eq!(number, first.number);
        assert!(reader.execute("DELETE FROM runs", []).is_err(), "it only reads");
        for name in ["a.db", "a.db.lock"] {
            assert_eq!(std::fs::metadata(folder.path().join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
        }
        drop(first);
        assert!(open_writing(&path, 1 << 20).is_ok(), "with its end another one writes");
    }

    #[test]
    fn a_file_that_others_could_read_is_closed_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(open_writing(&path, 1 << 20).unwrap());
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(open_writing(&path, 1 << 20).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_something_else_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        std::fs::write(&text, "not a database, but a long text ".repeat(50)).unwrap();
        let fault = open_writing(&text, 1 << 20).unwrap_err();
        assert!(fault.in_words(&text).contains("is damaged; remove it"), "{fault:?}");
        assert!(std::fs::read_to_string(&text).unwrap().starts_with("not a database"));

        let other = folder.path().join("other");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE tasks (id)").unwrap();
        for fault in [open_writing(&other, 1 << 20).unwrap_err(), open_reading(&other).unwrap_err()] {
            assert!(fault.in_words(&other).contains("is no history of a page; name another"), "{fault:?}");
        }

        let later = folder.path().join("later");
        drop(open_writing(&later, 1 << 20).unwrap());
        Connection::open(&later).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        let fault = open_writing(&later, 1 << 20).unwrap_err();
        assert!(fault.in_words(&later).contains("of another version of the program: remove it"), "{fault:?}");

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&later, &link).unwrap();
        assert!(matches!(open_writing(&link, 1 << 20), Err(Fault::Foreign(_))));
        assert!(matches!(open_writing(&folder.path().join("none/a.db"), 1 << 20), Err(Fault::Absent)));
    }
}
