//! Who lives: owner numbers, and the locks that prove them.
//!
//! Each master has a number that is never used again, and holds for life a lock on the byte of that number in
//! `<file>.masters`. The kernel drops the lock with the last descriptor of the master, whatever ended it: so
//! whoever can take the lock of another's number knows that the other is gone, and returns its tasks. There
//! is no lease that could run out under a long task, no clock that could jump, no process id that could be
//! somebody else's.
//!
//! The locks are of the open-file-description kind (`fcntl(2)`, `F_OFD_SETLK`): two masters in one process
//! are as good as two processes, and closing another descriptor of the file drops nothing. The descriptor is
//! close-on-exec, so no worker inherits a lock.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
use rusqlite::{Connection, params};

use crate::{
    clock::Timestamp,
    transport::sqlite::{file::access, tasks::unique_keys},
};

/// Leases of schedulers lie above all owner numbers.
const LEASES: i64 = 1 << 62;

/// The file of locks.
pub(crate) struct OwnerLocks {
    file: File,
    identity: Identity,
}

/// A file as it was when it was opened.
pub(crate) struct Identity {
    pub(crate) path: PathBuf,
    number: Option<(u64, u64)>,
}

impl Identity {
    pub(crate) fn of(path: PathBuf) -> Self {
        let number = number(&path);
        Self { path, number }
    }

    /// Whether its name still leads to it.
    pub(crate) fn is_in_place(&self) -> bool {
        number(&self.path) == self.number
    }
}

fn number(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl OwnerLocks {
    /// Opens the file beside the database at `path`. It stays empty: only its bytes' locks count.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = access::open_owner_locks(path)?;
        Ok(Self { file, identity: Identity::of(beside(path, "masters")) })
    }

    /// The file, to see whether it stays.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Takes the lock of a byte; `false` if another holds it. Taking one's own again succeeds.
    pub(crate) fn try_lock(&self, byte: i64) -> io::Result<bool> {
        match self.set(byte, libc::F_WRLCK) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the lock of a byte back.
    pub(crate) fn unlock(&self, byte: i64) {
        // Unlocking fails only for a descriptor that is no file, which this one is; the end of the thread unlocks too.
        let _ = self.set(byte, libc::F_UNLCK);
    }

    fn set(&self, byte: i64, kind: i32) -> Result<(), Errno> {
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(byte, kind))).map(drop)
    }
}

/// The file of locks, for one who takes none.
pub(crate) struct OwnerLocksView(File);

impl OwnerLocksView {
    /// `None`: there is no such file, and so nobody who holds a lock.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        File::open(beside(path, "masters")).ok().map(Self)
    }

    /// Whether somebody holds the lock of a byte.
    pub(crate) fn is_held(&self, byte: i64) -> bool {
        let mut lock = lock(byte, libc::F_WRLCK);
        fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
    }
}

fn lock(byte: i64, kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

/// The byte of an application's scheduler (FNV-1a of its name).
pub(crate) fn lease_byte(application: &str) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in application.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    LEASES + (hash >> 3) as i64
}

/// `<file>.<ending>`.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// A new owner number. Its lock must be taken before the transaction ends: from then on others look for it.
pub(crate) fn register(transaction: &Connection, now: Timestamp) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("INSERT INTO master (pid, attached_at) VALUES (?1, ?2)")?
        .insert(params![std::process::id(), now.0])
}

/// All owner numbers.
pub(crate) fn owners(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached("SELECT owner FROM master ORDER BY owner")?.query_map([], |row| row.get(0))?.collect()
}

/// All owner numbers with their processes.
pub(crate) fn pids(connection: &Connection) -> rusqlite::Result<Vec<(i64, u32)>> {
    let mut statement = connection.prepare_cached("SELECT owner, pid FROM master ORDER BY owner")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Returns the tasks of an owner that is gone; each of these deliveries counts. Gives their number, `None` if
/// the owner had left in order meanwhile.
pub(crate) fn return_tasks(transaction: &Connection, owner: i64) -> rusqlite::Result<Option<usize>> {
    if transaction.prepare_cached("DELETE FROM master WHERE owner = ?1")?.execute([owner])? == 0 {
        return Ok(None);
    }
    unique_keys::give_back_all(transaction, owner)?;
    let returned = transaction
        .prepare_cached(
            "UPDATE task SET state = 0, owner = 0, claim = claim + 1, deliveries = deliveries + 1, redelivered = 1 \
             WHERE state = 1 AND owner = ?1",
        )?
        .execute([owner])?;
    Ok(Some(returned))
}

/// Whether there is a task, or a key, in the hands of nobody: the least owner of each number of tasks in hand, by the index
/// `task_held`, whatever was written as an owner.
pub(crate) const HELD_BY_NO_MASTER: &str = "
WITH RECURSIVE held (owner) AS (
    SELECT min(owner) FROM task WHERE state = 1
    UNION ALL
    SELECT (SELECT min(owner) FROM task WHERE state = 1 AND owner > held.owner) FROM held WHERE held.owner IS NOT NULL
)
SELECT EXISTS (SELECT 1 FROM held WHERE owner IS NOT NULL AND owner NOT IN (SELECT owner FROM master))
    OR EXISTS (SELECT 1 FROM held_key WHERE owner NOT IN (SELECT owner FROM master))";

/// Whether there is a task in a state that is none, by the index `task_in_no_state`.
pub(crate) const IN_NO_STATE: &str = "SELECT EXISTS (SELECT 1 FROM task WHERE state NOT IN (0, 1, 2))";

/// Whether there is anything for [`return_orphans`].
pub(crate) fn any_orphans(connection: &Connection) -> rusqlite::Result<bool> {
    let is = |query: &str| connection.prepare_cached(query)?.query_row([], |row| row.get::<_, bool>(0));
    Ok(is(HELD_BY_NO_MASTER)? || is(IN_NO_STATE)?)
}

/// Returns what no master of ours wrote: tasks in the hands of an owner that never was, as those of one that is gone, and
/// tasks in a state that is none. Gives their number.
pub(crate) fn return_orphans(transaction: &Connection) -> rusqlite::Result<usize> {
    transaction.prepare_cached("DELETE FROM held_key WHERE owner NOT IN (SELECT owner FROM master)")?.execute([])?;
    let held = transaction
        .prepare_cached(
            "UPDATE task SET state = 0, owner = 0, claim = claim + 1, deliveries = deliveries + 1, redelivered = 1 \
             WHERE state = 1 AND owner NOT IN (SELECT owner FROM master)",
        )?
        .execute([])?;
    let stateless = transaction
        .prepare_cached("UPDATE task SET state = 0, owner = 0, claim = claim + 1 WHERE state NOT IN (0, 1, 2)")?
        .execute([])?;
    Ok(held + stateless)
}

/// An orderly end: tasks in hand go back as if they had never been delivered.
pub(crate) fn leave(transaction: &Connection, owner: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE task SET state = 0, owner = 0, claim = claim + 1, redelivered = 1 WHERE state = 1 AND owner = ?1",
        )?
        .execute([owner])?;
    unique_keys::give_back_all(transaction, owner)?;
    transaction.prepare_cached("DELETE FROM master WHERE owner = ?1")?.execute([owner])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let (one, two) = (OwnerLocks::open(&path).unwrap(), OwnerLocks::open(&path).unwrap());
        assert!(one.try_lock(7).unwrap() && one.try_lock(7).unwrap());
        assert!(!two.try_lock(7).unwrap());
        let looked = OwnerLocksView::open(&path).unwrap();
        assert!(looked.is_held(7) && !looked.is_held(8));
        assert!(two.try_lock(8).unwrap());
        drop(OwnerLocks::open(&path).unwrap());
        assert!(!two.try_lock(7).unwrap(), "closing another descriptor dropped a lock");
        drop(one);
        assert!(two.try_lock(7).unwrap());
    }

    #[test]
    fn leases_are_no_owner_numbers() {
        assert!(lease_byte("a") >= LEASES && lease_byte("a") < i64::MAX);
        assert_ne!(lease_byte("a"), lease_byte("b"));
        let folder = tempfile::tempdir().unwrap();
        assert!(OwnerLocks::open(&folder.path().join("a.db")).unwrap().try_lock(lease_byte("app")).unwrap());
    }
}
