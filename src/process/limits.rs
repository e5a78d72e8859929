//! What the kernel knows about memory: whether it killed somebody for want of it, and how much a process has.
//!
//! The kernel does not say *whom* it killed; it counts per control group. So a death by SIGKILL is put down to it
//! when the count has risen since that worker was started and no other death has claimed the rise.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::task::Exit;

/// The out-of-memory kills in this process's control group, its children's included.
#[derive(Debug)]
pub struct OomWatch {
    file: Option<File>,
    claimed: u64,
}

impl OomWatch {
    /// Finds the counter: `memory.events` (cgroup v2) or `memory.oom_control` (v1). Where there is neither, nothing
    /// is knowable and every answer is `None`.
    #[must_use]
    pub fn open() -> Self {
        let mut watch = Self { file: counter_path().and_then(|path| File::open(path).ok()), claimed: 0 };
        match watch.count() {
            Some(count) => watch.claimed = count,
            None => watch.file = None,
        }
        watch
    }

    /// The kills so far; a file of the kernel is read. Remember it when a worker is started.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        let mut text = [0; 1024];
        let length = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        oom_kills(str::from_utf8(&text[..length]).ok()?)
    }

    /// Whether this death was the kernel's doing for want of memory; `before` is the [`count`](Self::count) when the
    /// process was started. `None`: not knowable. One kill answers for one death only.
    #[must_use]
    pub fn claim(&mut self, exit: &Exit, before: Option<u64>) -> Option<bool> {
        self.claim_of(exit, before, self.count())
    }

    fn claim_of(&mut self, exit: &Exit, before: Option<u64>, now: Option<u64>) -> Option<bool> {
        if !matches!(exit, Exit::Signal { signal, .. } if signal == "SIGKILL") {
            return Some(false);
        }
        let (before, now) = (before?, now?);
        self.claimed = self.claimed.max(before);
        let rose = now > self.claimed;
        self.claimed += u64::from(rose);
        Some(rose)
    }
}

/// Resident memory of a process in bytes, approximate as all of `/proc/PID/statm`. `None` if there is no such process.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let mut text = String::with_capacity(64);
    File::open(format!("/proc/{pid}/statm")).ok()?.read_to_string(&mut text).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_size()))
}

fn page_size() -> u64 {
    static SIZE: OnceLock<u64> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: sysconf takes an integer and returns one.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        u64::try_from(size).unwrap_or(4096)
    })
}

fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse().ok())
}

fn counter_path() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    candidates(&groups, &mounts)
        .into_iter()
        .find(|path| fs::read_to_string(path).is_ok_and(|text| oom_kills(&text).is_some()))
}

/// Where the counter can be, the likeliest first: v1 with a memory controller counts there and not in the v2 tree.
fn candidates(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let v1 = groups.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then_some(group)
    });
    let v2 = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let mut paths = Vec::new();
    for line in mounts.lines() {
        let Some((root, point, kind, options)) = mount(line) else { continue };
        let (group, file) = match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => (v1, "memory.oom_control"),
            "cgroup2" => (v2, "memory.events"),
            _ => continue,
        };
        let Some(group) = group else { continue };
        // In a container without a cgroup namespace the group's path has the mount's root in front.
        if let Ok(below) = Path::new(group).strip_prefix(root) {
            paths.push(Path::new(point).join(below).join(file));
        }
        paths.push(Path::new(point).join(file));
    }
    paths
}

/// Root, mount point, file system and its options of a line of `/proc/self/mountinfo`.
fn mount(line: &str) -> Option<(&str, &str, &str, &str)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let mut kind = kind.split(' ');
    Some((place.next()?, place.next()?, kind.next()?, kind.nth(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed() -> Exit {
        Exit::Signal { signal: "SIGKILL".to_owned(), core_dumped: false }
    }

    #[test]
    fn one_kill_answers_for_one_death() {
        let mut watch = OomWatch { file: None, claimed: 5 };
        assert_eq!(watch.claim_of(&Exit::Code { code: 1 }, Some(5), Some(6)), Some(false));
        assert_eq!(watch.claim_of(&killed(), Some(5), Some(6)), Some(true));
        assert_eq!(watch.claim_of(&killed(), Some(5), Some(6)), Some(false));
        assert_eq!(watch.claim_of(&killed(), Some(8), Some(8)), Some(false), "it was before this worker's time");
        assert_eq!(watch.claim_of(&killed(), Some(5), None), None);
        assert_eq!(watch.claim_of(&killed(), None, Some(9)), None);
    }

    #[test]
    fn both_formats_are_read() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"), Some(4));
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn the_counter_is_found_under_each_layout() {
        let v2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            candidates("0::/system.slice/foo.service\n", v2)[0],
            Path::new("/sys/fs/cgroup/system.slice/foo.service/memory.events")
        );
        let v1 = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(
            candidates("4:memory:/docker/abc\n1:cpu:/docker/abc\n", v1)[0],
            Path::new("/sys/fs/cgroup/memory/memory.oom_control")
        );
        assert!(candidates("", "").is_empty());
    }

    #[test]
    fn this_process_has_memory_and_a_missing_one_has_none() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
