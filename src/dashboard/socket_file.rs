//! The file of the Unix socket that the page listens on: its owner's alone from its first moment on, and removed at the end.

use std::{
    io,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{control::lock, net::unix_socket};

/// How long the folder's lock is waited for at the start: another program holds it for milliseconds.
const FOLDER_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is waited for at the end, which nothing much hangs on.
const LAST_PATIENCE: Duration = Duration::from_millis(200);

/// The file, removed when this is dropped, if it still is the one that was made here.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    number: Option<lock::Number>,
    /// While the socket lives, no other file gets its number.
    _listener: UnixListener,
}

/// Listens at a path. A socket that nobody listens on was left by a page that was killed, and is replaced.
///
/// # Errors
/// Something else is there, somebody listens, or what the operating system says.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    // Of two that start at once, none removes what the other one has just made.
    let _folder = lock::folder(path, FOLDER_PATIENCE)?;
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there already and is no socket"));
        }
        Ok(_) if unix_socket::is_listened_at(path)? => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = unix_socket::bind(path)?;
    let file = SocketFile { path: path.to_owned(), number: lock::number(path), _listener: listener.try_clone()? };
    Ok((listener, file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _folder = lock::folder(&self.path, LAST_PATIENCE);
        if self.number.is_some() && lock::number(&self.path) == self.number {
            // What cannot be removed is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_socket_is_its_owners_and_goes_with_its_page() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.sock");
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop((listener, file));
        assert!(!path.exists());
        // One that was killed leaves it behind.
        drop(unix_socket::bind(&path).unwrap());
        let (_listener, file) = bind(&path).unwrap();
        // Another one stands there by now.
        std::fs::remove_file(&path).unwrap();
        let other = unix_socket::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop(other);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
