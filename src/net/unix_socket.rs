//! Unix sockets whose path may be longer than a socket's address: they are reached through the folder's descriptor.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::OpenOptionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr},
        stat::{self, Mode},
        time::{TimeVal, TimeValLike},
    },
};

/// An address has 108 bytes, the last of them zero (`unix(7)`).
const LONGEST: usize = 107;

/// Calls `act` with a path to the same place that fits an address.
///
/// # Errors
/// What the operating system said of the folder, or `act`'s own.
pub(crate) fn with_short_path<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= LONGEST {
        return act(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(folder)?;
    act(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

/// A listener at `path`, mode 0600 from its first moment on: the file gets the mode that the socket has when it is bound, less
/// the umask. That mask belongs to all threads, and is left alone.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    with_short_path(path, |path| {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        stat::fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
        socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        socket::listen(&socket, Backlog::MAXCONN)?;
        Ok(UnixListener::from(socket))
    })
}

/// Whether a process listens at `path`. Never waits: one that is too busy to accept listens, too.
///
/// # Errors
/// What the operating system said, if that leaves it open.
pub(crate) fn is_listened_at(path: &Path) -> io::Result<bool> {
    with_short_path(path, |path| {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?) {
            // Full: as many connections wait as may (`unix(7)`).
            Ok(()) | Err(Errno::EAGAIN) => Ok(true),
            Err(Errno::ECONNREFUSED) => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
}

/// Connects to the process that listens at `path`.
///
/// # Errors
/// What the operating system said; of the kind [`WouldBlock`](io::ErrorKind::WouldBlock) where as many connections wait as
/// may, and none was accepted for all of `limit`.
pub(crate) fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    with_short_path(path, |path| {
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // A connect waits as long as a send does (`unix(7)`).
        socket::setsockopt(&socket, socket::sockopt::SendTimeout, &TimeVal::milliseconds(limit.as_millis() as i64))?;
        let address = UnixAddr::new(path)?;
        loop {
            match socket::connect(socket.as_raw_fd(), &address) {
                Err(Errno::EINTR) => {}
                connected => return connected.map(|()| socket.into()).map_err(io::Error::from),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_accepts_nobody_is_waited_for_in_bounded_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let busy = bind(&path).unwrap();
        socket::listen(&busy, socket::Backlog::new(1).unwrap()).unwrap();
        let limit = Duration::from_millis(50);
        let mut waiting = Vec::new();
        let error = loop {
            match connect(&path, limit) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        assert!(!waiting.is_empty());
        drop(busy.accept().unwrap());
        connect(&path, limit).unwrap();
        drop(busy);
        assert_eq!(connect(&path, limit).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
