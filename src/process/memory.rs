//! Reads the kernel's numbers about memory: kills because it was short, and the resident memory of a process.
//!
//! The kernel does not say *whom* it killed; it counts per control group. So a death by SIGKILL, or a wrapper's word for
//! one (137), is put down to it when the count has risen since that worker was started and no other death has claimed the
//! rise. Any other end after a rise may or may not be its doing: a program can outlive what it started and end as it likes.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::task::Exit;

/// What shells say of a command that SIGKILL ended.
const KILLED: i32 = 128 + libc::SIGKILL;

/// The out-of-memory kills in this process's control group; in the tree of v2 its children's are included.
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

    /// Whether this end was the kernel's doing for want of memory; `before` is the [`count`](Self::count) when the
    /// process was started. `None`: not knowable. One kill answers for one death only; `false` is said only where the
    /// kernel counted none since the process was started.
    #[must_use]
    pub fn claim(&mut self, exit: &Exit, before: Option<u64>) -> Option<bool> {
        self.claim_of(exit, before, self.count())
    }

    fn claim_of(&mut self, exit: &Exit, before: Option<u64>, now: Option<u64>) -> Option<bool> {
        let (before, now) = (before?, now?);
        if now <= before {
            return Some(false);
        }
        let was_killed = match exit {
            Exit::Signal { signal, .. } => signal == "SIGKILL",
            Exit::Code { code } => *code == KILLED,
        };
        self.claimed = self.claimed.max(before);
        if !was_killed || now <= self.claimed {
            return None;
        }
        self.claimed += 1;
        Some(true)
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

/// Where the counter can be, the likeliest first: v1 with a memory controller counts there and not in the v2 tree. Where the
/// group itself is not to be seen, that of the mount counts for all below it, but only in the tree of v2: v1, and
/// v2 with `memory_localevents`, count the kills in each group for that group alone, whatever `memory.use_hierarchy` says.
fn candidates(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let v1 = groups.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then_some(group)
    });
    let v2 = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let mut paths = Vec::new();
    for line in mounts.lines() {
        let Some((root, point, kind, options)) = mount(line) else { continue };
        let has = |name: &str| options.split(',').any(|option| option == name);
        let (group, file, counts_all) = match kind {
            "cgroup" if has("memory") => (v1, "memory.oom_control", false),
            "cgroup2" => (v2, "memory.events", !has("memory_localevents")),
            _ => continue,
        };
        let Some(group) = group else { continue };
        // In a container without a cgroup namespace the group's path has the mount's root in front.
        if let Ok(below) = Path::new(group).strip_prefix(root) {
            paths.push(Path::new(point).join(below).join(file));
        }
        if counts_all {
            paths.push(Path::new(point).join(file));
        }
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
        assert_eq!(watch.claim_of(&killed(), Some(5), Some(6)), Some(true));
        assert_eq!(
            watch.claim_of(&killed(), Some(5), Some(6)),
            None,
            "another death may have claimed what was its own"
        );
        assert_eq!(watch.claim_of(&killed(), Some(8), Some(8)), Some(false), "it was before this worker's time");
        assert_eq!(watch.claim_of(&killed(), Some(8), Some(10)), Some(true));
        assert_eq!(watch.claim_of(&killed(), Some(8), Some(10)), Some(true));
        assert_eq!(watch.claim_of(&killed(), Some(5), None), None);
        assert_eq!(watch.claim_of(&killed(), None, Some(9)), None);
    }

    #[test]
    fn no_end_after_a_kill_is_said_to_be_none() {
        let segfault = Exit::Signal { signal: "SIGSEGV".to_owned(), core_dumped: false };
        for (exit, after_a_kill) in [
            (Exit::Code { code: 137 }, Some(true)),
            (Exit::Code { code: 0 }, None),
            (Exit::Code { code: 1 }, None),
            (Exit::Code { code: 9 }, None),
            (segfault, None),
        ] {
            let mut watch = OomWatch { file: None, claimed: 5 };
            assert_eq!(watch.claim_of(&exit, Some(5), Some(5)), Some(false), "{exit}");
            assert_eq!(watch.claim_of(&exit, Some(5), Some(6)), after_a_kill, "{exit}");
            assert_eq!(watch.claim_of(&exit, None, None), None, "{exit}");
            // What was not put down to it is left for whom it killed.
            assert_eq!(watch.claim_of(&killed(), Some(5), Some(6)) == Some(true), after_a_kill.is_none(), "{exit}");
        }
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
    fn a_group_that_is_not_to_be_seen_is_counted_above_it_only_where_that_counts_it() {
        let groups = "4:memory:/pods/abc\n0::/pods/abc\n";
        let tree = |options: &str| format!("29 23 0:26 /other /sys/fs/cgroup rw - cgroup2 cgroup2 {options}\n");
        assert_eq!(candidates(groups, &tree("rw,nsdelegate")), [Path::new("/sys/fs/cgroup/memory.events")]);
        assert!(candidates(groups, &tree("rw,memory_localevents")).is_empty());
        let v1 = |root: &str| format!("35 31 0:32 {root} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
        assert!(candidates(groups, &v1("/other")).is_empty());
        assert_eq!(candidates(groups, &v1("/")), [Path::new("/sys/fs/cgroup/memory/pods/abc/memory.oom_control")]);
    }

    #[test]
    fn this_process_has_memory_and_a_missing_one_has_none() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
