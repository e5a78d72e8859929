//! Owner numbers, and the locks that prove which masters live.
//!
//! Each master has a number that is never used again, and holds a lock on the byte of that number in `<file>.masters` for life. A
//! process that can take the lock of another's number knows that it is dead, and returns its tasks.
//!
//! The locks are of the open-file-description kind (`fcntl(2)`, `F_OFD_SETLK`): two masters in one process exclude each other as
//! two processes do. The descriptor is close-on-exec, so no worker inherits a lock.

use std::{fs::File, io, path::Path};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
use rusqlite::{Connection, params};

use crate::{
    clock::Timestamp,
    transport::sqlite::{
        file::{
            access,
            error::{Fault, file_error},
            paths::{FileIdentity, beside},
        },
        tasks::unique_keys,
    },
};

/// The first byte of the schedulers' and the coordinators' locks, above all owner numbers.
const LEASES: i64 = 1 << 62;

/// The file of locks, opened to take some.
pub(crate) struct OwnerLocks {
    file: File,
    identity: FileIdentity,
}

impl OwnerLocks {
    /// Opens the file beside the database at `path`. It stays empty: locks need no bytes.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = access::open_owner_locks(path)?;
        Ok(Self { file, identity: FileIdentity::of(beside(path, "masters")) })
    }

    /// The file as it was opened.
    pub(crate) fn identity(&self) -> &FileIdentity {
        &self.identity
    }

    /// Takes the lock of a byte; `false` if another open file holds it. To take one's own again succeeds.
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

/// A lock that cannot be had, and is not held by another one.
pub(crate) fn lock_error(path: &Path, error: &io::Error) -> Fault {
    Fault::Final(file_error(&beside(path, "masters"), format!("it cannot be locked: {error}")))
}

/// The file of locks, opened to see which are held.
pub(crate) struct OwnerLocksView(File);

impl OwnerLocksView {
    /// `None`: there is no such file, so no lock is held.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        File::open(beside(path, "masters")).ok().map(Self)
    }

    /// Whether the lock of a byte is held.
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

/// The byte of an application's scheduler: FNV-1a of its name.
pub(crate) fn lease_byte(application: &str) -> i64 {
    hashed(application.bytes())
}

/// The byte of the coordinator of an application's jobs: FNV-1a of its name and what no name has.
pub(crate) fn ledger_byte(application: &str) -> i64 {
    hashed(application.bytes().chain(*b"\0ledger"))
}

fn hashed(bytes: impl IntoIterator<Item = u8>) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    LEASES + (hash >> 3) as i64
}

/// A new owner number. Its lock must be taken before the transaction ends: from then on others test it.
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

/// Returns the tasks of an owner that is dead; each of these deliveries counts. Gives their number; `None` if the owner had left
/// in order meanwhile.
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

/// Whether a task in hand, or a key, has an owner that is no master: goes through the owners of tasks in hand by the index
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
pub(crate) const IN_NO_STATE: &str = "SELECT EXISTS (SELECT 1 FROM task WHERE state NOT IN (0, 1, 2, 3))";

/// Whether there is anything for [`return_orphans`].
pub(crate) fn any_orphans(connection: &Connection) -> rusqlite::Result<bool> {
    let is = |query: &str| connection.prepare_cached(query)?.query_row([], |row| row.get::<_, bool>(0));
    Ok(is(HELD_BY_NO_MASTER)? || is(IN_NO_STATE)?)
}

/// Returns what no master wrote: tasks of an owner that never was, as those of a dead one, and tasks in a state that is none.
/// Gives their number.
pub(crate) fn return_orphans(transaction: &Connection) -> rusqlite::Result<usize> {
    transaction.prepare_cached("DELETE FROM held_key WHERE owner NOT IN (SELECT owner FROM master)")?.execute([])?;
    let held = transaction
        .prepare_cached(
            "UPDATE task SET state = 0, owner = 0, claim = claim + 1, deliveries = deliveries + 1, redelivered = 1 \
             WHERE state = 1 AND owner NOT IN (SELECT owner FROM master)",
        )?
        .execute([])?;
    let stateless = transaction
        .prepare_cached("UPDATE task SET state = 0, owner = 0, claim = claim + 1 WHERE state NOT IN (0, 1, 2, 3)")?
        .execute([])?;
    Ok(held + stateless)
}

/// Unregisters in order: tasks in hand go back with their count of deliveries as it was.
pub(crate) fn unregister(transaction: &Connection, owner: i64) -> rusqlite::Result<()> {
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
        let view = OwnerLocksView::open(&path).unwrap();
        assert!(view.is_held(7) && !view.is_held(8));
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
        assert!(ledger_byte("a") >= LEASES && ledger_byte("a") != lease_byte("a"));
        let folder = tempfile::tempdir().unwrap();
        assert!(OwnerLocks::open(&folder.path().join("a.db")).unwrap().try_lock(lease_byte("app")).unwrap());
    }
}
