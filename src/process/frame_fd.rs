//! Descriptor 3, the frame socket in a worker: kept free in the master, filled in the child.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd},
    sync::Mutex,
};

use nix::fcntl::{FcntlArg, fcntl};

/// The descriptor of the frame socket in a worker.
pub const FRAME_FD: RawFd = 3;

/// Keeps descriptor 3 occupied in this process for its whole life; to be called at the start of the master, before
/// anything else is opened.
///
/// In the child, std holds a pipe by which it reports a failed exec to the parent. If 3 were free here (another
/// thread may close its own at any moment), that pipe could get it, and our `dup2` onto 3 would put the frame socket in its
/// place: a program that does not exist would then look like one that was started. So 3 is held by `/dev/null`
/// (CLOEXEC), and no pipe ever gets it. If 3 is in use already (inherited, or the caller's), that serves as well as
/// long as it stays open.
///
/// Returns whether it was this call that took it.
///
/// # Errors
/// If `/dev/null` cannot be opened or duplicated. Descriptor 3 is as it was then.
pub fn reserve_frame_fd() -> io::Result<bool> {
    // Two threads at once could each open a descriptor below 3's duplicate and give it back.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);

    let null = OwnedFd::from(File::open("/dev/null")?);
    let null = if null.as_raw_fd() < FRAME_FD { duplicate_from(&null, FRAME_FD)? } else { null };
    let taken = null.as_raw_fd() == FRAME_FD;
    if taken {
        // Left open on purpose: this is the reservation.
        let _ = null.into_raw_fd();
    }
    Ok(taken)
}

/// Puts the socket on descriptor 3 without CLOEXEC.
pub(super) fn place_frames(socket: RawFd) -> io::Result<()> {
    let result = if socket == FRAME_FD {
        // `dup2` onto itself would leave CLOEXEC set.
        // SAFETY: sets the flags of a descriptor; no memory is passed.
        unsafe { libc::fcntl(FRAME_FD, libc::F_SETFD, 0) }
    } else {
        // SAFETY: replaces descriptor 3 of this child, which is the reservation or something that ends with exec anyway.
        unsafe { libc::dup2(socket, FRAME_FD) }
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn duplicate_from(descriptor: &OwnedFd, lowest: RawFd) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;

    let raw = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: fcntl has just made this descriptor for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
