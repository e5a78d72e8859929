//! What this process has otherwise than it was given it, and its workers have as it was given.
//!
//! A master holds two descriptors a worker, and the usual soft limit of 1,024 was chosen for programs that call
//! select(2). And a write past a limit of file size is an error like that of a full disk for who can handle one; by
//! default it is a signal that kills.

use std::sync::OnceLock;

use libc::rlimit;
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigHandler, Signal, signal},
};

/// The limit of open files as it was.
static FILES: OnceLock<rlimit> = OnceLock::new();

/// Raises the soft limit of open files to the hard one. Workers that are started from now on get the old one.
pub fn raise_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    // Where it cannot be raised, what does not fit is told when it is needed.
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        let _ = FILES.set(rlimit { rlim_cur: soft, rlim_max: hard });
    }
}

/// What a child's limit of open files is to be, if it is not this process's.
pub(super) fn given_files() -> Option<rlimit> {
    FILES.get().copied()
}

/// Has writes past the limit of file size (`ulimit -f`) fail with `EFBIG`. Workers get the signal's default action.
pub fn ignore_file_size_signal() {
    // SAFETY: to ignore a signal runs no code of ours. It fails for no signal that exists.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}
