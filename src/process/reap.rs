//! Ends of processes.
//!
//! A death is known from `waitid` alone, never from the end of a pipe or socket: a grandchild may hold those. The dead
//! worker is looked at first (WNOWAIT) and taken off the process table last, so that its pid, which is also its group,
//! cannot belong to another process while the rest of that group is killed.

use std::{ffi::c_int, io, mem::MaybeUninit};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill as send, killpg},
    unistd::Pid,
};

use crate::task::Exit;

/// A process that has ended and been taken off the process table: its pid means nothing any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// What its pid was.
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
    /// Highest resident memory of the process or one of its waited-for children, in bytes. Not below what the
    /// master had at the spawn: see [`Self::own_peak`].
    pub rss_peak_bytes: u64,
    /// User and system time, its waited-for children's included.
    pub cpu_seconds: f64,
}

impl Ended {
    /// The peak memory, where it is known to be the process's own. The kernel's figure survives exec and so begins with
    /// what the forked copy of the master had: only above the master's own peak at the spawn does it tell anything.
    #[must_use]
    pub const fn own_peak(&self, master_peak_bytes: u64) -> Option<u64> {
        if self.rss_peak_bytes > master_peak_bytes { Some(self.rss_peak_bytes) } else { None }
    }
}

/// The next child that has ended, or `None` if none has; to be called after SIGCHLD until it says `None`.
///
/// `is_ours` tells whether a pid is a worker's. What is left of a worker's group gets SIGKILL before the worker is
/// reaped. Other pids (orphans, if this is process 1 or a subreaper) are reaped and not mentioned.
///
/// # Errors
/// Those of `waitid(2)` and `wait4(2)`, but for `ECHILD`. The child that was found is not reaped and is found again by the next
/// call.
pub fn next_exit(mut is_ours: impl FnMut(u32) -> bool) -> io::Result<Option<Ended>> {
    while let Some(pid) = first_dead()? {
        let ours = is_ours(pid);
        if ours {
            // It may hold nobody, or somebody with other rights: neither makes this death less true.
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Some(ended) = reap(pid)?
            && ours
        {
            return Ok(Some(ended));
        }
    }
    Ok(None)
}

/// A child that was stopped, or goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopChange {
    /// The process.
    pub pid: u32,
    /// What stopped it; `None`: it goes on.
    pub signal: Option<String>,
}

/// The next child that was stopped or goes on since the last call, or `None`; to be called after SIGCHLD, too. Ends are
/// not looked at and stay for [`next_exit`].
///
/// # Errors
/// Those of `waitid(2)`, but for `ECHILD`.
pub fn next_stop() -> io::Result<Option<StopChange>> {
    let flags = libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG;
    let Some(told) = wait_for_any(flags)? else { return Ok(None) };
    // SAFETY: waitid has filled both for a child.
    let (pid, status) = unsafe { (told.si_pid(), told.si_status()) };
    let signal = (told.si_code == libc::CLD_STOPPED).then(|| signal_name(status));
    Ok(u32::try_from(pid).ok().map(|pid| StopChange { pid, signal }))
}

/// Sends a signal to a worker, wherever it is, and to all of the process group that it was started in. Whether there was
/// a process to get it. Only for a worker that [`next_exit`] has not told about yet: afterwards its number can belong to others.
///
/// # Errors
/// If neither could be signalled.
pub fn kill_group(pid: u32, signal: GroupSignal) -> io::Result<bool> {
    kill(
        pid,
        match signal {
            GroupSignal::Terminate => Signal::SIGTERM,
            GroupSignal::Kill => Signal::SIGKILL,
        },
    )
}

/// What the master says to a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupSignal {
    /// SIGTERM: the program may clean up.
    Terminate,
    /// SIGKILL.
    Kill,
}

fn kill(pid: u32, signal: Signal) -> io::Result<bool> {
    // Group 0 is our own and group 1 would become kill(-1): everybody.
    let group = i32::try_from(pid).ok().filter(|pid| *pid > 1).ok_or(Errno::EINVAL)?;
    let worker = Pid::from_raw(group);
    match killpg(worker, signal) {
        // Once is enough: some programs take a second SIGTERM for haste.
        Ok(()) if signal == Signal::SIGTERM => Ok(true),
        // A worker leads its session and cannot leave its group: this matters for a process that leads none.
        of_group => match (of_group, send(worker, signal)) {
            (Ok(()), _) | (_, Ok(())) => Ok(true),
            (Err(Errno::ESRCH), Err(Errno::ESRCH)) => Ok(false),
            (Err(Errno::ESRCH), Err(error)) | (Err(error), Err(_)) => Err(error.into()),
        },
    }
}

/// A child that has ended and is not reaped yet; it stays so.
fn first_dead() -> io::Result<Option<u32>> {
    let told = wait_for_any(libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)?;
    // SAFETY: waitid has filled it for a child.
    Ok(told.and_then(|told| u32::try_from(unsafe { told.si_pid() }).ok()))
}

/// waitid(2) for all children, with WNOHANG. Not nix's, which fails on a death by a real-time signal without telling whose.
fn wait_for_any(flags: c_int) -> io::Result<Option<libc::siginfo_t>> {
    loop {
        let mut told = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the pointer is to a siginfo_t of ours, which the kernel fills or leaves zeroed.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, told.as_mut_ptr(), flags) };
        if result == 0 {
            // SAFETY: all zeroes is a valid siginfo_t.
            let told = unsafe { told.assume_init() };
            // SAFETY: si_pid is what waitid sets; zero: there is nobody.
            return Ok((unsafe { told.si_pid() } != 0).then_some(told));
        }
        match Errno::last() {
            Errno::EINTR => {}
            Errno::ECHILD => return Ok(None),
            error => return Err(error.into()),
        }
    }
}

/// Takes a dead child off the process table. `None`: somebody else of this process was faster.
fn reap(pid: u32) -> io::Result<Option<Ended>> {
    let mut status: c_int = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to variables of ours of the types that wait4 writes.
        let result = unsafe { libc::wait4(pid.cast_signed(), &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        match result {
            -1 if Errno::last() == Errno::EINTR => {}
            -1 if Errno::last() == Errno::ECHILD => return Ok(None),
            -1 => return Err(io::Error::last_os_error()),
            0 => return Ok(None),
            _ => break,
        }
    }
    // SAFETY: all zeroes is a valid rusage, and wait4 has filled it.
    let usage = unsafe { usage.assume_init() };
    Ok(Some(Ended {
        pid,
        exit: exit(status),
        rss_peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
        cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
    }))
}

fn exit(status: c_int) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal { signal: signal_name(libc::WTERMSIG(status)), core_dumped: libc::WCOREDUMP(status) }
    } else {
        Exit::Code { code: libc::WEXITSTATUS(status) }
    }
}

fn signal_name(number: c_int) -> String {
    if let Ok(known) = Signal::try_from(number) {
        return known.as_str().to_owned();
    }
    match number - libc::SIGRTMIN() {
        0 => "SIGRTMIN".to_owned(),
        above if above > 0 => format!("SIGRTMIN+{above}"),
        _ => format!("signal {number}"),
    }
}

fn seconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_signals() {
        assert_eq!(signal_name(libc::SIGSEGV), "SIGSEGV");
        assert_eq!(signal_name(libc::SIGKILL), "SIGKILL");
        assert_eq!(signal_name(libc::SIGRTMIN()), "SIGRTMIN");
        assert_eq!(signal_name(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
    }

    #[test]
    fn statuses() {
        assert_eq!(exit(3 << 8), Exit::Code { code: 3 });
        let core = Exit::Signal { signal: "SIGSEGV".to_owned(), core_dumped: true };
        assert_eq!(exit(libc::SIGSEGV | 0x80), core);
    }

    #[test]
    fn a_peak_is_told_only_where_it_is_the_workers_own() {
        let ended = Ended { pid: 2, exit: Exit::Code { code: 0 }, rss_peak_bytes: 100, cpu_seconds: 0.0 };
        assert_eq!(ended.own_peak(99), Some(100));
        assert_eq!(ended.own_peak(100), None);
    }

    #[test]
    fn nobody_elses_group_is_ever_meant() {
        for pid in [0, 1, u32::MAX] {
            assert!(kill_group(pid, GroupSignal::Terminate).is_err(), "{pid}");
        }
    }
}
