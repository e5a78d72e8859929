//! Finds and kills processes that were left running by workers of a master that has ended.
//!
//! A killed master's workers die with it; the processes that they started do not, and would run on beside the next run of the
//! same tasks. Their marks name the worker. A process that is still in its worker's process group did not stay on purpose: the
//! rest of that group is killed at an orderly end. A process that has left the group may be a daemon that a task was to start; it
//! is only named.
//!
//! Never touched: processes of a master that lives, or that works other queues; of another start of the machine or another
//! namespace, where the numbers mean nothing; processes of other users, whose environment cannot be read.

use std::{collections::HashMap, time::Duration};

use super::{
    mark::{Mark, Marker},
    orphans::{self, Kill},
    table::{self, Entry, Identity, Table},
};
use crate::clock::{Clock, Instant};

/// A process that was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub process: Identity,
    /// What it is called with.
    pub command: String,
    /// The slot of its worker, `foo[1]`.
    pub slot: String,
    /// The number of the master that is no more.
    pub master: u32,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a process that was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was killed.
    Ended,
    /// It runs on: it has left its worker's group.
    LeftAlone,
    /// It runs on, for this reason.
    Refused(String),
}

/// Ends what was left of masters that worked the same, and tells of it. Blocks until all is gone, at most this long.
#[must_use]
pub fn end(marker: &Marker, limit: Duration) -> Vec<Found> {
    let clock = Clock::start();
    let until = Instant::default() + limit;
    let mut found: HashMap<Identity, Found> = HashMap::new();
    loop {
        let table = Table::read();
        let mut kills = Vec::new();
        let mut room = orphans::HELD;
        let mut goes_on = false;
        for entry in table.entries() {
            let Some(mark) = left(entry, marker) else { continue };
            let process = entry.identity;
            let is_of_group = entry.group == mark.worker && entry.session == mark.worker;
            // Its name is read before it is gone.
            let story = story(entry, &mark);
            if !is_of_group && process.pid != mark.worker {
                found.insert(process, story);
                continue;
            }
            // Gone by now, it may have passed its place on.
            goes_on = true;
            let Some(kill) = Kill::send(process, &mut room) else { continue };
            let fate = kill.refused.as_ref().map_or(Fate::Ended, |error| Fate::Refused(error.to_string()));
            kills.push(kill);
            found.insert(process, Found { fate, ..story });
        }
        if !goes_on || clock.now().at >= until {
            break;
        }
        if !kills.is_empty() {
            orphans::wait(&kills, &clock, until);
        }
    }
    let mut found: Vec<Found> = found.into_values().collect();
    for found in &mut found {
        if found.fate == Fate::Ended && orphans::runs(found.process) {
            found.fate = Fate::Refused(orphans::NOT_ENDED.to_owned());
        }
    }
    found.sort_by_key(|found| (found.master, found.process.pid));
    found
}

/// The mark of a process that belonged to a master like ours, which is no more.
///
/// The master is looked up after its mark was read, not in the table: one that began while that was read may be missing there
/// beside its workers.
fn left(entry: &Entry, marker: &Marker) -> Option<Mark> {
    let pid = entry.identity.pid;
    if pid == std::process::id() {
        return None;
    }
    let mark = Mark::of_process(pid).filter(|mark| mark.is_akin(marker))?;
    table::is_gone(mark.master).then_some(mark)
}

/// As far as nothing was done about it.
fn story(entry: &Entry, mark: &Mark) -> Found {
    let pid = entry.identity.pid;
    let environment = table::environment(pid).unwrap_or_default();
    let slot = table::variable(&environment, "ASYNCTASK_SLOT").unwrap_or("?").escape_debug().to_string();
    Found {
        process: entry.identity,
        command: table::command(pid),
        slot,
        master: mark.master.pid,
        fate: Fate::LeftAlone,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::{mark::MARK, table::tests::running};

    #[test]
    fn a_worker_is_left_once_its_own_master_is_gone() {
        let mut marker = Marker::new("home-1".to_owned()).unwrap();
        let mark = marker.mark();
        let mut gone = mark.clone();
        gone.master.began += 1;
        for (mark, is_left) in [(mark, false), (gone, true)] {
            let mut child = running(Command::new("cat").env(MARK, mark.text()));
            let entry = Entry::read(child.id()).unwrap();
            let left = left(&entry, &marker);
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(left, is_left.then_some(mark));
        }
    }
}
