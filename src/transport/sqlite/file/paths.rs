//! The names of the files beside the database, and whether a file is still the one that was opened.
//!
//! Nothing here opens a file: closing any descriptor of the database would drop the process's POSIX locks on it.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// `<file>.<ending>`.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    with_suffix(path, &format!(".{ending}"))
}

/// `<file><suffix>`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Bytes of the write-ahead log beside the database; 0 if there is none.
pub(crate) fn wal_length(path: &Path) -> u64 {
    std::fs::metadata(with_suffix(path, "-wal")).map_or(0, |metadata| metadata.len())
}

/// A file as it was when it was opened.
pub(crate) struct FileIdentity {
    pub(crate) path: PathBuf,
    number: Option<(u64, u64)>,
}

impl FileIdentity {
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
