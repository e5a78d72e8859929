//! A process held by a descriptor, so that a signal cannot reach the next process with its number. Linux 5.3 or later; before,
//! the number itself is used.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

/// A process. Readable when it has ended.
#[derive(Debug)]
pub(super) struct PidFd(OwnedFd);

impl PidFd {
    /// The process that has this number now.
    ///
    /// # Errors
    /// ESRCH: there is none. Others: it cannot be held.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: pidfd_open(2) takes two integers and gives a new descriptor, which is CLOEXEC.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.cast_signed(), 0) };
        let raw = RawFd::try_from(raw).ok().filter(|raw| *raw >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: it was made just now, for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Sends it SIGKILL.
    pub(super) fn kill(&self) -> io::Result<()> {
        let nothing = ptr::null::<libc::siginfo_t>();
        // SAFETY: pidfd_send_signal(2) with a descriptor of ours; without a siginfo it does what kill(2) does.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), libc::SIGKILL, nothing, 0) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
