//! The file of the control socket and its lock: made, restored when they were removed, removed at the end.
//!
//! What lies at its path and is not ours is left alone, unless it is a socket that nobody listens on.

use std::{
    io,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    lock::{self, Lock, LockAttempt, Number, number},
    server::Server,
};
use crate::net::unix_socket;

/// How long the folder's lock is waited for at the start: another master holds it for milliseconds.
const FOLDER_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is waited for at the end, which nothing much hangs on.
const LAST_PATIENCE: Duration = Duration::from_millis(200);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A live master holds it.
    #[error("another master holds the control socket {path}{}", pid.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    Taken {
        /// The socket.
        path: PathBuf,
        /// That master's process id, if it is known.
        pid: Option<u32>,
    },
    /// It cannot be made.
    #[error("cannot make the control socket {path}: {cause}")]
    Impossible {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
}

/// The bound socket, its file and its lock.
#[derive(Debug)]
pub(super) struct BoundFile {
    pub(super) path: PathBuf,
    pub(super) lock: Lock,
    listener: UnixListener,
    /// The file. While the listener lives, no other file gets its number.
    file: Option<Number>,
}

/// What had to be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restored {
    /// The lock's file alone: whoever asks has noticed nothing.
    Lock,
    /// The socket, with its lock or without.
    Socket,
}

impl BoundFile {
    /// Makes the file, mode 0600. A socket that nobody listens on is replaced.
    ///
    /// # Errors
    /// [`Error`]; nothing is left behind then.
    pub(super) fn bind(path: PathBuf) -> Result<Self, Error> {
        let _folder = lock::folder(&path, FOLDER_PATIENCE).map_err(|cause| impossible(&path, cause))?;
        let lock = take(&path)?;
        match make(&path) {
            Ok((listener, file)) => Ok(Self { path, lock, listener, file }),
            Err(error) => {
                lock.remove();
                Err(error)
            }
        }
    }

    /// Whether the file at its path is the one that was made here.
    pub(super) fn is_in_place(&self) -> bool {
        self.file.is_some() && number(&self.path) == self.file
    }

    /// Begins to take clients.
    pub(super) fn serve(&self, server: &Server) -> io::Result<tokio::task::AbortHandle> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        Ok(tokio::task::spawn_local(server.clone().accept(listener)).abort_handle())
    }

    /// Makes what is not in its place again. Waits for nothing.
    ///
    /// # Errors
    /// [`Error`]; nothing is changed then. Where another program has the folder locked, of the kind
    /// [`WouldBlock`](io::ErrorKind::WouldBlock).
    pub(super) fn restore(&mut self) -> Result<Option<Restored>, Error> {
        if self.is_in_place() && self.lock.is_in_place() {
            return Ok(None);
        }
        let _folder = lock::folder(&self.path, Duration::ZERO).map_err(|cause| impossible(&self.path, cause))?;
        let lock = if self.lock.is_in_place() { None } else { Some(take(&self.path)?) };
        let mut restored = Restored::Lock;
        if !self.is_in_place() {
            match make(&self.path) {
                Ok((listener, file)) => {
                    self.listener = listener;
                    self.file = file;
                }
                Err(error) => {
                    if let Some(lock) = lock {
                        lock.remove();
                    }
                    return Err(error);
                }
            }
            restored = Restored::Socket;
        }
        if let Some(lock) = lock {
            self.lock = lock;
        }
        Ok(Some(restored))
    }
}

impl Drop for BoundFile {
    fn drop(&mut self) {
        let _folder = lock::folder(&self.path, LAST_PATIENCE);
        if self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
        self.lock.remove();
    }
}

fn impossible(path: &Path, cause: io::Error) -> Error {
    Error::Impossible { path: path.to_owned(), cause }
}

/// Takes the lock, while the folder is locked.
fn take(path: &Path) -> Result<Lock, Error> {
    match Lock::take(path).map_err(|cause| impossible(path, cause))? {
        LockAttempt::Ours(lock) => Ok(lock),
        LockAttempt::Others(pid) => Err(Error::Taken { path: path.to_owned(), pid }),
    }
}

/// Makes the socket where nothing is, or a socket that nobody listens on; while the folder is locked.
fn make(path: &Path) -> Result<(UnixListener, Option<Number>), Error> {
    if let Ok(there) = std::fs::metadata(path) {
        // A file refuses connections as a socket does that nobody listens on.
        if !there.file_type().is_socket() {
            return Err(impossible(path, io::Error::other("it is there already and is no socket")));
        }
        match unix_socket::is_listened_at(path) {
            // By a master that knows no lock, or by another program.
            Ok(true) => return Err(Error::Taken { path: path.to_owned(), pid: None }),
            Ok(false) => std::fs::remove_file(path).map_err(|cause| impossible(path, cause))?,
            // Not ours to ask.
            Err(error) => return Err(impossible(path, error)),
        }
    }
    let listener = unix_socket::bind(path).map_err(|cause| impossible(path, cause))?;
    let file = number(path);
    Ok((listener, file))
}
