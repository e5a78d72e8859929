//! The one descriptor that a worker gets from its master.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the descriptor `number` that this process was started with, and keeps it from processes started later.
/// To be called first, before anything else could have opened a file under that number.
///
/// # Errors
/// `EBADF` if no such descriptor is open; `EBUSY` if one was taken before.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD reads the flags of a number, open or not, and touches nothing else.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: the descriptor is open, as just seen; the parent made it for this purpose alone, so nothing in this
    // process owns it, and the flag above lets it be taken once.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(descriptor)
}
