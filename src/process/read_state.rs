//! How far a pipe or socket was read, and how much it holds.

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, AsRawFd},
};

/// What is left to read after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// Nothing at the moment: wait until the descriptor is readable.
    Drained,
    /// More is there already; the read stopped so that others get their turn.
    More,
    /// The other side has closed it. That says nothing about a process: wait for [`next_exit`](super::next_exit).
    Closed,
}

/// The number of bytes that a pipe or socket holds at this moment.
///
/// # Errors
/// Those of `ioctl(2)`.
pub(super) fn readable_bytes(descriptor: impl AsFd) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: FIONREAD writes one int through the pointer, which points to one, and the descriptor is open: it is borrowed.
    let result = unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}
