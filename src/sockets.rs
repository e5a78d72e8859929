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
};

use nix::{
    errno::Errno,
    sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr},
};

/// An address has 108 bytes, the last of them zero (`unix(7)`).
const LONGEST: usize = 107;

/// Calls `act` with a path to the same place that fits an address.
///
/// # Errors
/// What the operating system said of the folder, or `act`'s own.
pub(crate) fn shortened<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= LONGEST {
        return act(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(folder)?;
    act(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

/// A listener at `path`.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    shortened(path, |path| UnixListener::bind(path))
}

/// Whether anybody listens at `path`. Asked without waiting: somebody who is too busy to accept listens, too.
///
/// # Errors
/// What the operating system said, if that leaves it open.
pub(crate) fn is_listened_at(path: &Path) -> io::Result<bool> {
    shortened(path, |path| {
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

/// A connection to whoever listens at `path`.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    shortened(path, |path| UnixStream::connect(path))
}
