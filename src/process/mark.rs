//! The mark of a worker: a variable in its environment that all processes inherit which it starts. Processes that a worker left
//! are known by it when the worker, and perhaps its master, has ended.
//!
//! ```text
//! ASYNCTASK_WORKER=0000012345:7:912:4455:<machine>:<home>
//!                  │          │ └┬───────────────┘ └ what its master works
//!                  worker     │  └ its master: number, beginning, and where numbers mean that
//!                             └ how many that master had started by then
//! ```

use super::table::{self, Entry, Identity};
use crate::clock::boot_id;

/// The variable.
pub const MARK: &str = "ASYNCTASK_WORKER";

/// Digits of the worker's own number, which is known only when there is room for it already.
pub(super) const DIGITS: usize = 10;

/// Marks the workers of this process.
#[derive(Debug)]
pub struct Marker {
    master: Identity,
    machine: String,
    home: String,
    marked: u64,
}

impl Marker {
    /// For a master of this process that works what `home` names: letters, digits and `-`. `None` where the kernel does not
    /// say who we are (no `/proc`).
    #[must_use]
    pub fn new(home: String) -> Option<Self> {
        debug_assert!(
            home.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "home is a field of the mark: letters, digits and - alone"
        );
        let master = Entry::read(std::process::id())?.identity;
        Some(Self { master, machine: machine()?, home, marked: 0 })
    }

    /// The mark of the next worker, whose number is not known yet.
    pub fn mark(&mut self) -> Mark {
        self.marked += 1;
        let Self { master, machine, home, marked } = self;
        Mark { worker: 0, serial: *marked, master: *master, machine: machine.clone(), home: home.clone() }
    }
}

/// One worker's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Its number; 0: not known yet.
    pub(super) worker: u32,
    serial: u64,
    pub(super) master: Identity,
    machine: String,
    home: String,
}

impl Mark {
    /// The same, of the worker with this number.
    #[must_use]
    pub fn of(self, worker: u32) -> Self {
        Self { worker, ..self }
    }

    /// The variable's value.
    pub(super) fn text(&self) -> String {
        let Self { worker, serial, master, machine, home } = self;
        format!("{worker:0DIGITS$}:{serial}:{}:{}:{machine}:{home}", master.pid, master.began)
    }

    /// The mark that a process has inherited.
    pub(super) fn of_process(pid: u32) -> Option<Self> {
        Self::parse(table::variable(&table::environment(pid)?, MARK)?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(':');
        let mut field = || fields.next();
        let (worker, serial) = (field()?.parse().ok()?, field()?.parse().ok()?);
        let master = Identity { pid: field()?.parse().ok()?, began: field()?.parse().ok()? };
        let (machine, home) = (field()?.to_owned(), field()?.to_owned());
        fields.next().is_none().then_some(Self { worker, serial, master, machine, home })
    }

    /// Whether it is of a master that worked the same, here.
    pub(super) fn is_akin(&self, to: &Marker) -> bool {
        self.machine == to.machine && self.home == to.home
    }
}

/// Where a number means the same process: this start of the machine, and this namespace.
fn machine() -> Option<String> {
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let both = format!("{}.{}", boot_id()?, namespace.display());
    Some(both.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '.').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mut marker = Marker::new("home-1".to_owned()).unwrap();
        let (first, second) = (marker.mark().of(7), marker.mark().of(7));
        assert_eq!(Mark::parse(&first.text()), Some(first.clone()));
        assert_ne!(first, second, "a number that is given again is another worker's");
        assert!(first.text().starts_with("0000000007:1:"), "{}", first.text());
        assert!(first.is_akin(&marker) && !first.is_akin(&Marker::new("home-2".to_owned()).unwrap()));
        for foreign in ["", "1", "1:2:3:4:5", "x:2:3:4:5:6", "1:2:3:4:5:6:7", "-1:2:3:4:5:6"] {
            assert_eq!(Mark::parse(foreign), None, "{foreign}");
        }
    }
}
