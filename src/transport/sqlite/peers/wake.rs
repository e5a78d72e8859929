//! Waking: the transport's thread by its owner, and masters by each other.
//!
//! Each master binds a datagram socket beside the file. A process that stores tasks sends each master one datagram after the
//! commit, never before: there would be nothing to see. A datagram carries nothing, so a lost one only delays, until the poll.

use std::{
    fs::Permissions,
    io,
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use crate::{
    net::unix_socket::with_short_path,
    transport::{pause, sqlite::file::paths::beside},
};

/// Ends the wait of the transport's thread: for each request that is put into its inbox.
#[derive(Debug)]
pub(crate) struct Waker(EventFd);

impl Waker {
    /// A waker on an eventfd.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// Ends the thread's wait, now or the next time.
    pub(crate) fn wake(&self) {
        // It fails only while the counter is full, which ends the wait as well.
        let _ = self.0.write(1);
    }

    fn clear(&self) {
        let _ = self.0.read();
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wakeup {
    /// Another master sent a datagram, or may have sent one.
    pub(crate) by_datagram: bool,
    /// `poll(2)` failed.
    pub(crate) failed: Option<Errno>,
}

impl Wakeup {
    /// The error of the first failure in a row; `poll_failed` keeps whether the last wait failed.
    pub(crate) fn new_failure(self, poll_failed: &mut bool) -> Option<Errno> {
        let had_failed = std::mem::replace(poll_failed, self.failed.is_some());
        self.failed.filter(|_| !had_failed)
    }
}

/// What is waited for instead when `poll(2)` fails.
const POLL_FAILED_PAUSE: Duration = Duration::from_millis(100);

/// Waits for the waker, a datagram, or the time-out.
pub(crate) fn wait(waker: &Waker, socket: Option<&Socket>, timeout: Duration) -> Wakeup {
    let span = timeout;
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
    let timeout =
        if timeout.is_zero() { PollTimeout::ZERO } else { PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX) };
    let mut descriptors = vec![PollFd::new(waker.0.as_fd(), PollFlags::POLLIN)];
    descriptors.extend(socket.map(|socket| PollFd::new(socket.bound.as_fd(), PollFlags::POLLIN)));
    match poll(&mut descriptors, timeout) {
        // Interrupted: the actor computes its deadlines anew.
        Ok(0) | Err(Errno::EINTR) => return Wakeup::default(),
        Ok(_) => {}
        // ENOMEM: the kernel cannot allocate its tables. Going on at once would spin; a pause of 0.1 s delays all work by that
        // much.
        Err(error) => {
            pause(span.min(POLL_FAILED_PAUSE));
            waker.clear();
            return Wakeup { by_datagram: socket.is_some(), failed: Some(error) };
        }
    }
    let by_datagram = descriptors.get(1).is_some_and(|descriptor| descriptor.any().unwrap_or(false));
    waker.clear();
    if by_datagram && let Some(socket) = socket {
        socket.drain();
    }
    Wakeup { by_datagram, failed: None }
}

/// The socket that a master is woken by; its file is removed when it is dropped.
pub(crate) struct Socket {
    bound: UnixDatagram,
    path: PathBuf,
}

impl Socket {
    /// Binds the socket of this owner.
    pub(crate) fn bind(path: &Path, owner: i64) -> io::Result<Self> {
        let path = socket_path(path, owner);
        let bound = with_short_path(&path, |short| UnixDatagram::bind(short))?;
        bound.set_nonblocking(true)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { bound, path })
    }

    fn drain(&self) {
        while self.bound.recv(&mut [0; 8]).is_ok() {}
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// Removes the socket that a dead owner left.
pub(crate) fn remove(path: &Path, owner: i64) {
    drop(std::fs::remove_file(socket_path(path, owner)));
}

/// Sends datagrams to masters.
pub(crate) struct PeerWaker {
    socket: Option<UnixDatagram>,
}

impl PeerWaker {
    /// Without a socket (no descriptor is left) no master is woken; each polls once a second all the same.
    pub(crate) fn new() -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        Self { socket: socket.ok() }
    }

    /// Wakes these masters on the database at `path`. One that cannot be reached is dead, or has a datagram to read.
    pub(crate) fn wake(&self, path: &Path, owners: impl IntoIterator<Item = i64>) {
        let Some(socket) = &self.socket else { return };
        for owner in owners {
            drop(with_short_path(&socket_path(path, owner), |short| socket.send_to(&[1], short)));
        }
    }
}

fn socket_path(path: &Path, owner: i64) -> PathBuf {
    beside(path, &format!("{owner}.wake"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_woken_whatever_the_length_of_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        for path in [folder.path().join("a.db"), long.join("a.db")] {
            let waker = Waker::new().unwrap();
            let socket = Socket::bind(&path, 3).unwrap();
            assert!(!wait(&waker, Some(&socket), Duration::ZERO).by_datagram);
            let peers = PeerWaker::new();
            peers.wake(&path, [2, 3]);
            peers.wake(&path, [3]);
            assert!(wait(&waker, Some(&socket), Duration::from_secs(5)).by_datagram);
            assert!(!wait(&waker, Some(&socket), Duration::ZERO).by_datagram, "all were read at once");
            let name = socket.path.clone();
            assert!(name.exists());
            drop(socket);
            assert!(!name.exists());
        }
    }
}
