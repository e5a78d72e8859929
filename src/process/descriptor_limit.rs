//! The limits and signal actions that the master changes for itself, and that its workers get as the master was given them.
//!
//! A master holds two descriptors a worker, and the usual soft limit of 1,024 was chosen for programs that call
//! select(2). And a write past a limit of file size is, like a full disk, an error that can be handled; by
//! default it is a signal that kills.

use std::{io, os::fd::RawFd, sync::OnceLock};

use libc::rlimit;
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigHandler, Signal, signal},
};

use super::self_usage::open_files;

/// What a master keeps free: for a connection, a question of a person, a file.
const KEPT: u64 = 8;
/// The worker's own ends of its socket and its output, which are open here while it is started.
const STARTING: u64 = 2;
/// What it has open beside its workers (standard streams, the event loop, signals, the control socket and its lock, the
/// transport), where that cannot be counted.
const OWN: u64 = 28;

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

/// How many descriptors this process may have for its workers, by the limit and by what is open now. `of_workers`: how many
/// it has for workers already. `planned`: how many more it is going to open for itself.
#[must_use]
pub fn files_for_workers(of_workers: u64, planned: u64) -> u64 {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    left_for_workers(soft, open_files(), of_workers, planned)
}

fn left_for_workers(limit: u64, open: Option<u64>, of_workers: u64, planned: u64) -> u64 {
    let own = open.map_or(OWN, |open| open.saturating_sub(of_workers) + planned);
    limit.saturating_sub(own + KEPT + STARTING)
}

/// Whether this process has descriptors for itself beside this one, which is the lowest that was free: for a connection,
/// a question of a person, a file. A worker that takes the last ones is not started.
///
/// # Errors
/// `EMFILE`, in words.
pub(super) fn leaves_some(taken: RawFd) -> io::Result<()> {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    if u64::try_from(taken).is_ok_and(|taken| taken.saturating_add(KEPT) < soft) {
        return Ok(());
    }
    let text = format!("Too many open files: the limit is {soft}, and the master keeps {KEPT} of them for itself");
    Err(io::Error::other(text))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_for_others_than_workers_is_not_left_for_workers() {
        assert_eq!(left_for_workers(64, Some(20), 0, 10), 64 - 30 - 10);
        assert_eq!(left_for_workers(64, Some(20), 4, 0), 64 - 16 - 10);
        assert_eq!(left_for_workers(64, None, 4, 10), 64 - OWN - 10);
        assert_eq!(left_for_workers(16, Some(20), 0, 10), 0);
        assert_eq!(left_for_workers(u64::MAX, Some(20), 0, 0), u64::MAX - 20 - 10);
    }
}
