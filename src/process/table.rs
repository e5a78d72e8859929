//! The processes of this machine, as far as `/proc` shows them.
//!
//! A number alone names no process: it is given again when the process is gone. With the moment at which its process began,
//! it is not.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use crate::redact::masked;

/// Longest command that is told, in characters.
const COMMAND: usize = 120;

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
    /// It has ended and was not waited for yet.
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
        let has_ended = matches!(fields.next()?, "Z" | "X" | "x");
        // Of who is outside of our namespace, or has none, the numbers are 0 or -1.
        let mut number = || fields.next().map(|field| field.parse::<u32>().unwrap_or_default());
        let (parent, group, session) = (number()?, number()?, number()?);
        // proc_pid_stat(5): `starttime` is the 22nd field, `session` the 6th.
        let began = fields.nth(15)?.parse().ok()?;
        Some(Self { identity: Identity { pid, began }, parent, group, session, has_ended })
    }
}

/// All processes that live at one moment, or nearly: it is read one by one.
#[derive(Debug, Default)]
pub(super) struct Table(HashMap<u32, Entry>);

impl Table {
    /// Reads it; empty where there is no `/proc`.
    pub(super) fn read() -> Self {
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        Self(numbers.filter_map(|pid| Some((pid, Entry::read(pid).filter(|entry| !entry.has_ended)?))).collect())
    }

    /// The process that has this number now.
    pub(super) fn get(&self, pid: u32) -> Option<&Entry> {
        self.0.get(&pid)
    }

    /// Each of them.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    /// All that descend from these, and they themselves as far as they are here.
    pub(super) fn below(&self, roots: impl IntoIterator<Item = u32>) -> HashSet<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in self.0.values() {
            children.entry(entry.parent).or_default().push(entry.identity.pid);
        }
        let mut found = HashSet::new();
        let mut next: Vec<u32> = roots.into_iter().collect();
        while let Some(pid) = next.pop() {
            if found.insert(pid) {
                next.extend(children.get(&pid).into_iter().flatten());
            }
        }
        found.retain(|pid| self.0.contains_key(pid));
        found
    }
}

/// Children of a process; `None` where the kernel does not tell them (`CONFIG_PROC_CHILDREN`).
///
/// Of this very process it is exact in the thread that waits for children: nobody leaves the list but by that. Of others it is
/// what it was at about this moment.
pub(super) fn children(pid: u32) -> Option<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
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
    fs::read(format!("/proc/{pid}/environ")).ok()
}

/// One of them, if it is text.
pub(super) fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a str> {
    let value = |pair: &'a [u8]| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    str::from_utf8(environment.split(|byte| *byte == 0).find_map(value)?).ok()
}

/// What a process was called with, for people: short, on one line, without passwords.
pub(super) fn command(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words).replace('\0', " ");
    let text = if text.trim().is_empty() {
        fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
    } else {
        masked(&text).into_owned()
    };
    let shown = |letter: char| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
    let mut line: String = text.trim().chars().take(COMMAND).map(shown).collect();
    if text.trim().chars().nth(COMMAND).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_anything() {
        let rest = "S 7 8 9 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 4711 1000 2 0";
        let entry = Entry::parse(5, format!("5 (a) Z (1 2 3) {rest}").as_bytes()).unwrap();
        assert_eq!(entry.identity, Identity { pid: 5, began: 4711 });
        assert_eq!((entry.parent, entry.group, entry.session, entry.has_ended), (7, 8, 9, false));
        assert!(Entry::parse(5, b"5 (\xff) Z 7 -1 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 3 0").unwrap().has_ended);
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

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = b"XA=1\0A=2\0\0=\0B=\xff\0";
        assert_eq!(variable(environment, "A"), Some("2"));
        assert_eq!(variable(environment, "B"), None);
        assert_eq!(variable(environment, "C"), None);
    }
}
