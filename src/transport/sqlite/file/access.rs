//! Permissions: why a file cannot be used, and the owner of the files that root makes.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, Gid, Uid, eaccess, geteuid},
};

use super::paths::{beside, with_suffix};
use crate::file_owner;

/// Why the database at `path` cannot be opened or written, if that is for want of a permission.
pub(crate) fn denied(path: &Path) -> Option<String> {
    let may_not = |path: &Path, what| eaccess(path, what) == Err(Errno::EACCES);
    let both = AccessFlags::R_OK | AccessFlags::W_OK;
    if may_not(path, both) {
        return Some(file_owner::denied(path));
    }
    for file in ["-wal", "-shm"].map(|suffix| with_suffix(path, suffix)) {
        if may_not(&file, both) {
            return Some(format!("{}: {}", file.display(), file_owner::denied(&file)));
        }
    }
    let folder = file_owner::folder(path);
    may_not(folder, AccessFlags::W_OK | AccessFlags::X_OK)
        .then(|| format!("no file can be made in its folder {}: {}", folder.display(), file_owner::denied(folder)))
}

/// The same as an error of the operating system for a file that is opened or made.
pub(crate) fn explained(path: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error.to_string();
    }
    if path.exists() {
        return file_owner::denied(path);
    }
    let folder = file_owner::folder(path);
    format!("its folder {}: {}", folder.display(), file_owner::denied(folder))
}

/// Makes the database's file, mode 0600, if it is not there. A file that root makes in the folder of another user is given to that
/// user; not in a folder that every user may write to.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    let Some(file) = made(path)? else { return Ok(()) };
    if let Ok(folder) = std::fs::metadata(file_owner::folder(path))
        && folder.mode() & 0o002 == 0
    {
        give(&file, &folder);
    }
    Ok(())
}

/// Opens the file of locks beside the database at `path`, mode 0600. One that root makes is given to the database's owner.
pub(crate) fn open_owner_locks(path: &Path) -> io::Result<File> {
    let owner_locks = beside(path, "masters");
    match made(&owner_locks)? {
        Some(file) => {
            if let Ok(database) = std::fs::metadata(path) {
                give(&file, &database);
            }
            Ok(file)
        }
        None => OpenOptions::new().read(true).write(true).open(owner_locks),
    }
}

/// A file that was not there before; `None` where one is.
fn made(path: &Path) -> io::Result<Option<File>> {
    // std opens with O_CLOEXEC.
    match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a file that was just made to the owner of another, if this is root.
fn give(file: &File, like: &Metadata) {
    if geteuid().is_root() && like.uid() != 0 {
        // Where root may not, it stays root's, and a refusal says so.
        let _ = nix::unistd::fchown(file, Some(Uid::from_raw(like.uid())), Some(Gid::from_raw(like.gid())));
    }
}
