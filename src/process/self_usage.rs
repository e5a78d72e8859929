//! The resources that this process uses: memory, descriptors, processor time.
//!
//! A value that the kernel does not tell is `None`, never 0: a 0 would be taken for a measurement.

use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::TimeVal,
};

use super::memory::resident_bytes;
use crate::clock::Timestamp;

/// The resources this process uses; `None` where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// Open descriptors.
    pub open_files: Option<u64>,
    /// Descriptors it may have open.
    pub most_files: Option<u64>,
    /// Processor time, user and system, without children.
    pub cpu_seconds: f64,
    /// When it began, in seconds since 1970.
    pub began_at: f64,
}

impl Usage {
    /// At this moment, of a process that began then. Reads files of the kernel's.
    #[must_use]
    pub fn read(began_at: Timestamp) -> Self {
        let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        let times =
            getrusage(UsageWho::RUSAGE_SELF).map(|usage| seconds(usage.user_time()) + seconds(usage.system_time()));
        Self {
            resident_bytes: resident_bytes(std::process::id()),
            open_files: open_files(),
            most_files: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(most, _)| most),
            cpu_seconds: times.unwrap_or_default(),
            began_at: began_at.0 as f64 / 1000.0,
        }
    }
}

/// Descriptors that this process has open now; `None` where the kernel does not tell, or has none left for the question.
#[must_use]
pub fn open_files() -> Option<u64> {
    // The folder is open while it is read.
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    Some(entries.count().saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_takes() {
        let before = Usage::read(Timestamp(1_500));
        assert!(before.resident_bytes > Some(1 << 20) && before.cpu_seconds > 0.0, "{before:?}");
        assert!(before.open_files >= Some(3) && before.most_files > before.open_files, "{before:?}");
        assert!((before.began_at - 1.5).abs() < 1e-9);
    }
}
