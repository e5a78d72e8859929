//! Files that cannot grow: the disk is full, a quota is used up, a limit of file size (`ulimit -f`) is reached.
//!
//! SQLite knows the first of these, and only where it writes to the database or its log; all else is an "I/O error" to it. The
//! cause is taken from errno, which SQLite leaves as the failing call set it: a rollback in WAL mode makes no system call.

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit},
};
use rusqlite::{Error, ErrorCode};

/// SQLite's own choice of pages in the WAL after which they are brought into the database.
const CHECKPOINT_FROM: u64 = 1000;
/// A page of the database with its head in the WAL, in bytes.
const FRAME: u64 = 4096 + 24;

/// Puts the cause that errno names into the error of a call that began with errno cleared.
pub(super) fn with_cause(error: Error) -> Error {
    let Error::SqliteFailure(code, _) = &error else { return error };
    if !matches!(code.code, ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) {
        return error;
    }
    let Some(words) = words(Errno::last()) else { return error };
    Error::SqliteFailure(*code, Some(format!("{words} ({error})")))
}

fn words(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EFBIG => "the limit of file size (ulimit -f, LimitFSIZE=) is reached",
        Errno::EDQUOT => "the disk quota is used up",
        Errno::ENOSPC => "the disk is full",
        Errno::EROFS => "the file system can only be read",
        Errno::EMFILE => "too many files are open in this process (ulimit -n)",
        Errno::ENFILE => "too many files are open in this system",
        Errno::ENOMEM => "no memory is left",
        _ => return None,
    })
}

/// How many pages the WAL may have before they are brought into the database, which lets it begin anew: half of what fits into
/// a file. With SQLite's own number a WAL that reaches the limit first would never begin anew, and nothing be stored again.
pub(super) fn checkpoint_from() -> u64 {
    (file_size_limit() / 2 / FRAME).clamp(1, CHECKPOINT_FROM)
}

/// Whether a WAL that others left, of this size in bytes, is to begin anew before this process writes to it: it would reach this
/// process's limit before it has [enough pages](checkpoint_from) of its own.
pub(super) fn is_too_long(wal: u64) -> bool {
    wal > file_size_limit() / 2
}

fn file_size_limit() -> u64 {
    getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn failed_with(errno: Errno, code: i32) -> String {
        errno.set();
        with_cause(Error::SqliteFailure(ffi::Error::new(code), None)).to_string()
    }

    #[test]
    fn the_kernels_word_counts_where_sqlite_has_none() {
        for (errno, code, text) in [
            (Errno::EFBIG, ffi::SQLITE_IOERR_WRITE, "the limit of file size (ulimit -f, LimitFSIZE=) is reached"),
            (Errno::EDQUOT, ffi::SQLITE_IOERR_WRITE, "the disk quota is used up"),
            (Errno::ENOSPC, ffi::SQLITE_IOERR_SHMSIZE, "the disk is full"),
            (Errno::EMFILE, ffi::SQLITE_CANTOPEN, "too many files are open in this process"),
        ] {
            let said = failed_with(errno, code);
            assert!(said.starts_with(text), "{said}");
        }
        // An errno of before says nothing about these.
        assert!(!failed_with(Errno::EFBIG, ffi::SQLITE_BUSY).contains("limit"));
        assert!(!failed_with(Errno::EAGAIN, ffi::SQLITE_IOERR_WRITE).contains("limit"));
    }
}
