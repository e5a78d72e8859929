//! What SQLite's errors mean: which may pass, whether the transaction may be in the file, and the words for people.
//!
//! The text of an error names the file, and never the statement or a value of a row.

use std::path::Path;

use rusqlite::ErrorCode;

use super::access;
use crate::transport::Error;

/// Why something could not be done.
#[derive(Debug)]
pub(crate) enum Fault {
    /// SQLite says so; it may pass ([`may_pass`]).
    Sqlite(rusqlite::Error),
    /// For good.
    Final(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// An error about a file.
pub(crate) fn file_error(path: &Path, cause: impl Into<String>) -> Error {
    Error::File { path: path.display().to_string(), cause: cause.into() }
}

/// Whether the same thing may succeed later: the lock is given back, the disk has room again.
pub(crate) fn may_pass(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}

/// Whether a transaction that failed with this may be found in the file after all: all of it was written, and only not
/// known to have reached the disk.
pub(crate) fn may_be_committed(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC))
}

/// An error in words, of the database at `path`.
pub(crate) fn cause(path: &Path, error: &rusqlite::Error) -> String {
    if let Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) = error.sqlite_error_code()
        && let Some(denied) = access::denied(path)
    {
        return denied;
    }
    let text = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another program keeps it locked",
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::NotADatabase) => "it is not a database, or its beginning is damaged",
        Some(ErrorCode::DatabaseCorrupt) => "it is damaged",
        Some(ErrorCode::ReadOnly) => "it, or its folder, can only be read",
        Some(ErrorCode::CannotOpen) => "it cannot be opened, or no file can be made beside it",
        _ => return error.to_string(),
    };
    format!("{text} ({error})")
}

/// For what answers with no row where it has nothing to say.
pub(crate) fn no_rows(error: rusqlite::Error) -> rusqlite::Result<()> {
    if error == rusqlite::Error::QueryReturnedNoRows { Ok(()) } else { Err(error) }
}
