//! The control socket as a file: made, looked at, made again when others removed it, and removed if it is still ours.
//!
//! What lies at its path and is not ours is left alone, unless it is a socket that nobody listens on.

use std::{
    cell::RefCell,
    io,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    Place,
    lock::{self, Lock, Number, Taking, number},
    presence::{self, Told},
    server::{Asked, Server},
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

/// A bound control socket; its file is removed with it, if it is still the one that was made here.
#[derive(Debug)]
pub struct Socket {
    held: Rc<RefCell<Held>>,
}

/// What a master has of its control socket.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) path: PathBuf,
    pub(super) lock: Lock,
    listener: UnixListener,
    /// The file. While the listener lives, no other file gets its number.
    file: Option<Number>,
}

/// What had to be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// The lock's file alone: whoever asks has noticed nothing.
    Lock,
    /// The socket, with its lock or without.
    Socket,
}

impl Socket {
    /// Makes the socket, mode 0600. One that nobody listens on is replaced.
    ///
    /// # Errors
    /// [`Error`].
    pub fn bind(place: &Place) -> Result<Self, Error> {
        let path = place.path.clone();
        let _folder = lock::folder(&path, FOLDER_PATIENCE).map_err(|cause| impossible(&path, cause))?;
        let lock = take(&path)?;
        let (listener, file) = match make(&path) {
            Ok(made) => made,
            Err(error) => {
                lock.remove();
                return Err(error);
            }
        };
        Ok(Self { held: Rc::new(RefCell::new(Held { path, lock, listener, file })) })
    }

    /// Whether the file at its path is the one that was made here: others may have removed or replaced it.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.held.borrow().is_in_place()
    }

    /// Begins to answer, on the local set of this thread's runtime, and to see to it that the socket stays; what happens to
    /// it is told.
    ///
    /// # Errors
    /// If the event loop cannot watch the socket.
    pub fn serve(&self, master: mpsc::UnboundedSender<Asked>, told: impl Fn(Told) + 'static) -> io::Result<()> {
        let server = Server::new(master);
        let listening = self.held.borrow().serve(&server)?;
        tokio::task::spawn_local(presence::keep(Rc::downgrade(&self.held), server, listening, told));
        Ok(())
    }
}

impl Held {
    fn is_in_place(&self) -> bool {
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
    pub(super) fn restore(&mut self) -> Result<Option<Gone>, Error> {
        if self.is_in_place() && self.lock.is_in_place() {
            return Ok(None);
        }
        let _folder = lock::folder(&self.path, Duration::ZERO).map_err(|cause| impossible(&self.path, cause))?;
        let lock = if self.lock.is_in_place() { None } else { Some(take(&self.path)?) };
        let mut gone = Gone::Lock;
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
            gone = Gone::Socket;
        }
        if let Some(lock) = lock {
            self.lock = lock;
        }
        Ok(Some(gone))
    }
}

impl Drop for Held {
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
        Taking::Ours(lock) => Ok(lock),
        Taking::Others(pid) => Err(Error::Taken { path: path.to_owned(), pid }),
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

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd, unix::fs::PermissionsExt};

    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, socket};

    use super::*;

    fn place(path: &Path) -> Place {
        Place { path: path.to_owned(), asked_for: true }
    }

    /// A socket in a folder of its own, with the paths of it and its lock.
    fn bound() -> (tempfile::TempDir, Socket, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let socket = Socket::bind(&place(&path)).unwrap();
        let lock = folder.path().join("a.sock.lock");
        (folder, socket, path, lock)
    }

    #[test]
    fn what_another_made_at_the_path_is_left_alone() {
        let (_folder, first, path, lock) = bound();
        assert!(first.is_in_place());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else may ask");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&lock).unwrap();
        assert!(!first.is_in_place());
        let second = Socket::bind(&place(&path)).unwrap();
        drop(first);
        assert!(second.is_in_place() && lock.exists());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "somebody's").unwrap();
        drop(second);
        assert!(path.exists() && !lock.exists());
        std::fs::remove_file(&path).unwrap();
        drop(Socket::bind(&place(&path)).unwrap());
        assert!(!path.exists() && !lock.exists());
    }

    #[test]
    fn what_was_removed_is_made_again() {
        let (_folder, socket, path, lock) = bound();
        let restore = || socket.held.borrow_mut().restore();
        assert_eq!(restore().unwrap(), None);
        std::fs::remove_file(&lock).unwrap();
        assert_eq!(restore().unwrap(), Some(Gone::Lock));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(restore().unwrap(), Some(Gone::Socket));
        // A file that somebody has moved there is a socket that nobody listens on.
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        std::fs::remove_file(&lock).unwrap();
        assert_eq!(restore().unwrap(), Some(Gone::Socket));
        std::fs::rename(path.with_extension("old"), &path).unwrap();
        assert_eq!(restore().unwrap(), Some(Gone::Socket));
        assert_eq!(restore().unwrap(), None);
        assert!(unix_socket::is_listened_at(&path).unwrap() && lock.exists());
    }

    #[test]
    fn a_second_master_is_refused_while_the_socket_is_away() {
        let (_folder, first, path, lock) = bound();
        std::fs::remove_file(&path).unwrap();
        match Socket::bind(&place(&path)) {
            Err(Error::Taken { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        // With its lock, too: then whoever comes first has it.
        std::fs::remove_file(&lock).unwrap();
        let second = Socket::bind(&place(&path)).unwrap();
        assert!(matches!(first.held.borrow_mut().restore(), Err(Error::Taken { .. })));
        drop(second);
        assert_eq!(first.held.borrow_mut().restore().unwrap(), Some(Gone::Socket));
    }

    #[test]
    fn a_try_in_vain_leaves_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        std::fs::write(&path, "somebody's").unwrap();
        assert!(matches!(Socket::bind(&place(&path)), Err(Error::Impossible { .. })));
        assert!(!folder.path().join("a.sock.lock").exists());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's");
    }

    #[test]
    fn a_master_that_accepts_nobody_is_found_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let stream = || socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        let address = UnixAddr::new(&path).unwrap();
        let busy = stream();
        bind(busy.as_raw_fd(), &address).unwrap();
        nix::sys::socket::listen(&busy, Backlog::new(1).unwrap()).unwrap();
        // As many as may wait, and one more: a connect that waits would never come back.
        let mut waiting = Vec::new();
        let full = loop {
            let client = stream();
            if let Err(error) = connect(client.as_raw_fd(), &address) {
                break error;
            }
            waiting.push(client);
        };
        assert_eq!(full, nix::errno::Errno::EAGAIN);
        assert!(matches!(Socket::bind(&place(&path)), Err(Error::Taken { .. })));
        assert!(path.exists());
    }
}
