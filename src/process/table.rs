//! The processes of this machine, as far as `/proc` shows them.
//!
//! A number alone names no process: the kernel gives it again after the end of one. With the moment at which its process began it
//! is unique.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

use crate::{plural::counted, redact::redact};

/// Longest name of a program that is told, in characters.
const PROGRAM: usize = 80;

/// A process, whatever becomes of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since the machine did.
    pub began: u64,
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) identity: Identity,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    /// It has ended, with all its threads, and was not waited for yet.
    pub(super) has_ended: bool,
}

impl Entry {
    /// Of one process; `None` if there is none with this number.
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: u32, stat: &[u8]) -> Option<Self> {
        // The name before may be any bytes, parentheses included.
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let mut fields = str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace();
        // That of its first thread.
        let state = fields.next()?;
        // Of who is outside of our namespace, or has none, the numbers are 0 or -1.
        let mut number = || fields.next().map(|field| field.parse::<u32>().unwrap_or_default());
        let (parent, group, session) = (number()?, number()?, number()?);
        // proc_pid_stat(5): `session` is the 6th field, `num_threads` the 20th, `starttime` the 22nd.
        let threads: u32 = fields.nth(13)?.parse().ok()?;
        let began = fields.nth(1)?.parse().ok()?;
        // The others may run on where the first thread has ended.
        let has_ended = matches!(state, "Z" | "X" | "x") && threads <= 1;
        Some(Self { identity: Identity { pid, began }, parent, group, session, has_ended })
    }
}

/// Whether this very process has ended for sure: its number is free, or another process has it. One that cannot be read may run.
pub(super) fn is_gone(process: Identity) -> bool {
    match fs::read(format!("/proc/{}/stat", process.pid)) {
        Ok(stat) => Entry::parse(process.pid, &stat).is_some_and(|entry| entry.identity != process || entry.has_ended),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => true,
        // Nor is there a file for another user's process where `/proc` is mounted with `hidepid`.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            kill(Pid::from_raw(process.pid.cast_signed()), None) == Err(Errno::ESRCH)
        }
        Err(_) => false,
    }
}

/// All processes that live at one moment, or nearly: it is read one by one, so a process that is missing may live all the same.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<u32, Entry>,
    children: HashMap<u32, Vec<u32>>,
    /// Who had ended, and was not waited for.
    ended: HashSet<Identity>,
    /// Nobody was seen to end while it was read.
    is_whole: bool,
}

impl Table {
    /// Reads it; empty where there is no `/proc`.
    pub(super) fn read() -> Self {
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let numbers = numbers.filter_map(|pid| Some((pid, Entry::read(pid).filter(|entry| !entry.has_ended)?)));
        let entries: HashMap<u32, Entry> = numbers.collect();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in entries.values() {
            children.entry(entry.parent).or_default().push(entry.identity.pid);
        }
        Self { entries, children, ended: HashSet::new(), is_whole: true }
    }

    /// Of those that descend from a process, read from it downwards: there are fewer of them than there are processes, and what is
    /// read sooner has changed less meanwhile. Who `is_left_out` is not in it, nor who descends from there. `before`: the reading
    /// before this one. `None` where the kernel does not tell children.
    pub(super) fn read_below(root: u32, before: &Self, mut is_left_out: impl FnMut(u32) -> bool) -> Option<Self> {
        let mut table = Self { is_whole: true, ..Self::default() };
        let mut seen = HashSet::from([root]);
        let mut next: Vec<u32> = children(root)?;
        while let Some(pid) = next.pop() {
            if !seen.insert(pid) || is_left_out(pid) {
                continue;
            }
            match Entry::read(pid) {
                Some(entry) if !entry.has_ended => {
                    table.entries.insert(pid, entry);
                    table.children.entry(entry.parent).or_default().push(pid);
                    next.extend(children(pid).unwrap_or_default());
                }
                // Its children are those of another, perhaps since that one's were read.
                Some(entry) => {
                    table.is_whole &= before.ended.contains(&entry.identity);
                    table.ended.insert(entry.identity);
                }
                None => table.is_whole = false,
            }
        }
        Some(table)
    }

    /// Whether nobody is missing who descends from the same as these, or nearly so: none of them has ended since the reading began
    /// and may have passed its place on to one that was not seen. (The kernel's list of children skips one only after another
    /// was taken off it meanwhile, which has ended, too.)
    pub(super) fn is_whole(&self, these: &HashSet<u32>) -> bool {
        let runs = |entry: &Entry| {
            Entry::read(entry.identity.pid).is_some_and(|now| now.identity == entry.identity && !now.has_ended)
        };
        self.is_whole && these.iter().filter_map(|pid| self.get(*pid)).all(runs)
    }

    /// The process that has this number now.
    pub(super) fn get(&self, pid: u32) -> Option<&Entry> {
        self.entries.get(&pid)
    }

    /// Each of them.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// All that descend from these, and they themselves as far as they are here.
    pub(super) fn below(&self, roots: impl IntoIterator<Item = u32>) -> HashSet<u32> {
        let mut found = HashSet::new();
        let mut next: Vec<u32> = roots.into_iter().collect();
        while let Some(pid) = next.pop() {
            if found.insert(pid) {
                next.extend(self.children.get(&pid).into_iter().flatten());
            }
        }
        found.retain(|pid| self.entries.contains_key(pid));
        found
    }
}

/// Children of a process; `None` where the kernel does not tell them (`CONFIG_PROC_CHILDREN`).
///
/// Of this very process it is exact in the thread that waits for children: no other thread takes a child off the list. Of
/// others it is what it was at about this moment.
pub(super) fn children(pid: u32) -> Option<Vec<u32>> {
    let mut looks = usize::MAX;
    children_within(pid, &mut looks)
}

/// The same of as many of its threads at most, which are taken off.
pub(super) fn children_within(pid: u32, looks: &mut usize) -> Option<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let Some(rest) = looks.checked_sub(1) else { break };
        *looks = rest;
        match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // A thread that has ended meanwhile is no reason not to believe the others.
            Err(_) if thread.path().exists() => return None,
            Err(_) => {}
        }
    }
    Some(children)
}

/// The variables that a process was started with. `None`: it is gone, or another user's.
pub(super) fn environment(pid: u32) -> Option<Vec<u8>> {
    let own = match fs::read(format!("/proc/{pid}/environ")) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return None,
        own => own.ok().filter(|own| !own.is_empty()),
    };
    // A first thread that has ended has none any more, the others have.
    own.or_else(|| {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let mut environments = threads.filter_map(|thread| fs::read(thread.path().join("environ")).ok());
        environments.find(|environment| !environment.is_empty())
    })
}

/// Whether a process shows neither what it was started with nor what it is called with: it is just being executed, and shows
/// both in a moment.
pub(super) fn is_being_executed(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.is_empty()) && environment(pid).is_none()
}

/// One of them, if it is text.
pub(super) fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a str> {
    let value = |pair: &'a [u8]| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    str::from_utf8(environment.split(|byte| *byte == 0).find_map(value)?).ok()
}

/// What a process was called with, for people: its program, and how many arguments. Not which: anything may be a password.
pub(super) fn command(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = words.strip_suffix(b"\0").unwrap_or(&words).split(|byte| *byte == 0);
    // A program that has written a title of its own over its words (setproctitle) has blanks in the first.
    let program = words.next().unwrap_or_default().split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program);
    let comm = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let program = if program.is_empty() { comm() } else { redact(&program).into_owned() };
    let shown = |letter: char| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
    let mut line: String = program.trim().chars().take(PROGRAM).map(shown).collect();
    if program.trim().chars().nth(PROGRAM).is_some() {
        line.push('…');
    }
    match words.count() {
        0 => line,
        arguments => format!("{line} with {}", counted(arguments, "argument")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_anything() {
        let rest = "S 7 8 9 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 4711 1000 2 0";
        let entry = Entry::parse(5, format!("5 (a) Z (1 2 3) {rest}").as_bytes()).unwrap();
        assert_eq!(entry.identity, Identity { pid: 5, began: 4711 });
        assert_eq!((entry.parent, entry.group, entry.session, entry.has_ended), (7, 8, 9, false));
        let of_threads = |state: &str, threads: u32| {
            let stat = format!("5 (x) {state} 7 -1 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 {threads} 0 3 0");
            let entry = Entry::parse(5, &[b"5 (\xff) ", &stat.as_bytes()[6..]].concat()).unwrap();
            assert_eq!(entry.identity.began, 3);
            entry.has_ended
        };
        assert!(of_threads("Z", 1) && of_threads("Z", 0) && of_threads("X", 0));
        assert!(!of_threads("Z", 2), "the first thread alone has ended");
        assert!(!of_threads("S", 1));
        for bad in [&b""[..], b"5 (a", b"5 (a) S 1"] {
            assert!(Entry::parse(5, bad).is_none());
        }
    }

    #[test]
    fn this_process_is_found_under_its_parent() {
        let (own, table) = (std::process::id(), Table::read());
        let parent = table.get(own).unwrap().parent;
        assert!(table.below([parent]).contains(&own));
        assert!(!table.below([own]).contains(&parent));
        assert!(command(own).contains("asynctask"), "{}", command(own));
    }

    /// A `cat` that has begun to run: what the kernel shows of a program that is being executed is still empty.
    pub(in crate::process) fn running(command: &mut std::process::Command) -> std::process::Child {
        use std::{
            io::{Read, Write},
            process::Stdio,
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn who_cannot_be_read_may_live() {
        let own = Entry::read(std::process::id()).unwrap().identity;
        assert!(!is_gone(own));
        assert!(is_gone(Identity { began: own.began + 1, ..own }), "the number is another's");
        let mut child = running(std::process::Command::new("cat").arg("-"));
        let began = Entry::read(child.id()).unwrap().identity;
        assert!(!is_gone(began));
        assert_eq!(command(child.id()), "cat with 1 argument");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(began));
    }

    #[test]
    fn who_ends_while_the_tree_is_read_may_have_passed_its_place_on() {
        use std::io::{BufRead as _, BufReader};
        let end = |pid: u32| kill(Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
        // The last program waits for none of its children.
        let script = "sleep 1000 & echo $!; sh -c 'sleep 1000 & echo $!; wait' & exec sleep 1000";
        let mut root = std::process::Command::new("bash");
        let mut root = root.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let numbers = BufReader::new(root.stdout.take().unwrap()).lines().take(2);
        let numbers: Vec<u32> = numbers.map(|line| line.unwrap().parse().unwrap()).collect();
        let [first, below_second] = numbers[..] else { panic!("two numbers") };
        let Entry { identity, parent, .. } = Entry::read(below_second).unwrap();
        while command(root.id()) != "sleep with 1 argument" {}
        end(first);
        while !is_gone(Entry::read(first).unwrap().identity) {}

        let read = |before: &Table, left_out: u32| Table::read_below(root.id(), before, |pid| pid == left_out).unwrap();
        let early = read(&Table::default(), 0);
        let later = read(&early, 0);
        let these = later.below([root.id()]);
        let are_whole = (early.is_whole(&these), later.is_whole(&these));
        let without = read(&early, parent).below([root.id()]);
        end(below_second);
        while !is_gone(identity) {}
        let is_whole_still = later.is_whole(&these);
        root.kill().unwrap();
        root.wait().unwrap();
        assert_eq!(these, HashSet::from([parent, below_second]));
        assert_eq!(
            are_whole,
            (false, true),
            "one had ended, perhaps while the first was read, and surely before the second"
        );
        assert!(without.is_empty(), "{without:?}");
        assert!(!is_whole_still);
    }

    #[test]
    fn so_many_threads_are_looked_at_and_no_more() {
        let own = std::process::id();
        let mut looks = 1;
        assert!(children_within(own, &mut looks).is_some());
        assert_eq!(looks, 0);
        assert_eq!(children_within(own, &mut looks), Some(Vec::new()), "none is left to be looked at");
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = b"XA=1\0A=2\0\0=\0B=\xff\0";
        assert_eq!(variable(environment, "A"), Some("2"));
        assert_eq!(variable(environment, "B"), None);
        assert_eq!(variable(environment, "C"), None);
    }
}
