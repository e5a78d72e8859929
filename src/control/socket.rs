//! The control socket of a master: bound, served, kept in its place.

use std::{cell::RefCell, io, path::PathBuf, rc::Rc};

use tokio::sync::mpsc;

pub use super::bound_file::Error;
use super::{
    Place,
    bound_file::BoundFile,
    presence::{self, Change},
    server::{Asked, Server},
};

/// A bound control socket; its file is removed with it, if it is still the one that was made here.
#[derive(Debug)]
pub struct Socket {
    file: Rc<RefCell<BoundFile>>,
}

impl Socket {
    /// Makes the socket, mode 0600. One that nobody listens on is replaced.
    ///
    /// # Errors
    /// [`Error`].
    pub fn bind(place: &Place) -> Result<Self, Error> {
        Ok(Self { file: Rc::new(RefCell::new(BoundFile::bind(place.path.clone())?)) })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.file.borrow().path.clone()
    }

    /// Whether the file at its path is the one that was made here: others may have removed or replaced it.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.file.borrow().is_in_place()
    }

    /// Begins to answer, on the local set of this thread's runtime, and to keep the socket in its place; `on_change` is called
    /// with each change of it.
    ///
    /// # Errors
    /// If the event loop cannot watch the socket.
    pub fn serve(&self, master: mpsc::UnboundedSender<Asked>, on_change: impl Fn(Change) + 'static) -> io::Result<()> {
        let server = Server::new(master);
        let listening = self.file.borrow().serve(&server)?;
        tokio::task::spawn_local(presence::keep(Rc::downgrade(&self.file), server, listening, on_change));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsRawFd, unix::fs::PermissionsExt},
        path::{Path, PathBuf},
    };

    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, socket};

    use super::*;
    use crate::{control::bound_file::Restored, net::unix_socket};

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
        let restore = || socket.file.borrow_mut().restore();
        assert_eq!(restore().unwrap(), None);
        std::fs::remove_file(&lock).unwrap();
        assert_eq!(restore().unwrap(), Some(Restored::Lock));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(restore().unwrap(), Some(Restored::Socket));
        // A file that somebody has moved there is a socket that nobody listens on.
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        std::fs::remove_file(&lock).unwrap();
        assert_eq!(restore().unwrap(), Some(Restored::Socket));
        std::fs::rename(path.with_extension("old"), &path).unwrap();
        assert_eq!(restore().unwrap(), Some(Restored::Socket));
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
        assert!(matches!(first.file.borrow_mut().restore(), Err(Error::Taken { .. })));
        drop(second);
        assert_eq!(first.file.borrow_mut().restore().unwrap(), Some(Restored::Socket));
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
