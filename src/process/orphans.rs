//! What a worker left running when it ended: found, killed, and waited for.
//!
//! A kill of its process group does not reach who left the group (`setsid`, a program that daemonizes). So the master is a
//! subreaper: whoever loses its parent below it becomes its child, and is found there, whatever it did to its group and its
//! session. Whose it is, is known by the worker's [`Mark`], by the worker's session or group, by the tree as it was when the
//! worker was killed, or by an ancestor of which that is known. Who has done away with all of that (a daemon with an empty
//! environment, of a worker that nobody killed) cannot be told from another worker's, and is left alone.
//!
//! The tree may grow while it is being killed: it is looked at again until nobody is found.

use std::{collections::HashSet, io, os::fd::AsFd, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl::set_child_subreaper,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use super::{
    mark::Mark,
    pidfd::PidFd,
    table::{self, Entry, Identity, Table},
};
use crate::clock::{Clock, Instant};

/// Looks in a row that find nobody, after which there is nobody. One at whose end all children are still there counts for two.
const LOOKS: u32 = 10;
/// Between two looks where a process cannot be held by a descriptor.
const LOOK: Duration = Duration::from_millis(20);

/// By what the processes of a worker that has ended are known.
#[derive(Debug)]
pub struct Trace {
    /// Its number, which was also its group and its session.
    pub worker: u32,
    /// Its mark, if it had one.
    pub mark: Option<Mark>,
    /// What was below it when it was killed: [`descendants`].
    pub below: Vec<Identity>,
}

/// A process that runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub process: Identity,
    /// What it is called with.
    pub command: String,
    /// Why it could not be ended.
    pub why: String,
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid {} ({}): {}", self.process.pid, self.command, self.why)
    }
}

/// Has this process inherit whoever below it loses its parent.
///
/// # Errors
/// What the kernel says: one before 3.4 cannot do it.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(true)?)
}

/// Whether this process has a child that is no worker, or that cannot be known. Cheap; in the thread that waits for children.
pub fn has_orphans(is_worker: impl Fn(u32) -> bool) -> bool {
    table::children(std::process::id()).is_none_or(|children| children.into_iter().any(|pid| !is_worker(pid)))
}

/// All that descend from a process at this moment, as far as the kernel tells.
#[must_use]
pub fn descendants(pid: u32) -> Vec<Identity> {
    let mut found = Vec::new();
    let mut seen = HashSet::from([pid]);
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        for child in table::children(pid).unwrap_or_default() {
            if seen.insert(child) {
                found.extend(Entry::read(child).map(|entry| entry.identity));
                next.push(child);
            }
        }
    }
    found
}

/// Whether this very process is still there, and has not ended.
#[must_use]
pub fn runs(process: Identity) -> bool {
    Entry::read(process.pid).is_some_and(|entry| entry.identity == process && !entry.has_ended)
}

/// Kills what these workers left, and waits for it, at most this long. `told` gets the position of each and what of it
/// could not be ended, as soon as that is known.
///
/// Blocks. The workers have been waited for; this process goes on waiting for its children elsewhere.
pub fn end(traces: Vec<Trace>, limit: Duration, mut told: impl FnMut(usize, Vec<Left>)) {
    let clock = Clock::start();
    let until = Instant::default() + limit;
    let mut open: Vec<(usize, Hunt)> = traces.into_iter().map(Hunt::new).enumerate().collect();
    while !open.is_empty() {
        let children = table::children(std::process::id()).unwrap_or_default();
        let table = Table::read();
        let below = table.below([std::process::id()]);
        let is_over = clock.now().at >= until;
        let mut killed = Vec::new();
        let mut is_whole = None;
        open.retain_mut(|(position, hunt)| {
            let found = hunt.round(&table, &below);
            if found.is_empty() {
                // A child that has ended since may have passed its place on to one that was not seen; and while others are
                // waited for beside us, the kernel's list of children may skip one.
                let look = || children.iter().all(|pid| Entry::read(*pid).is_some_and(|entry| !entry.has_ended));
                hunt.in_vain += if *is_whole.get_or_insert_with(look) { 2 } else { 1 };
            } else {
                hunt.in_vain = 0;
            }
            let goes_on = hunt.in_vain < LOOKS && !is_over;
            if !goes_on {
                told(*position, found.iter().map(Found::left).collect());
            }
            killed.extend(found.into_iter().filter_map(|found| found.blow));
            goes_on
        });
        if !open.is_empty() && !killed.is_empty() {
            wait(&killed, &clock, until);
        }
    }
}

/// The search for what one worker left.
#[derive(Debug)]
struct Hunt {
    trace: Trace,
    /// Whose it is was known in an earlier round, or when the worker was killed.
    known: HashSet<Identity>,
    /// Rounds in a row that found nobody and are no proof that there is nobody.
    in_vain: u32,
}

impl Hunt {
    fn new(trace: Trace) -> Self {
        Self { known: trace.below.iter().copied().collect(), trace, in_vain: 0 }
    }

    /// Kills all that are found.
    fn round(&mut self, table: &Table, below: &HashSet<u32>) -> Vec<Found> {
        let found = self.found(table, below).into_iter().filter_map(|pid| table.get(pid));
        let found: Vec<Found> = found.map(|entry| Found::strike(entry.identity)).collect();
        self.known.extend(found.iter().map(|found| found.process));
        found
    }

    fn found(&self, table: &Table, below: &HashSet<u32>) -> HashSet<u32> {
        let worker = self.trace.worker;
        // With its number given again, its group and its session are somebody else's, too.
        let is_free = table.get(worker).is_none();
        let is_its = |entry: &&Entry| {
            let by_number = is_free && (entry.session == worker || entry.group == worker);
            let by_mark = || self.trace.mark.is_some() && Mark::of_process(entry.identity.pid) == self.trace.mark;
            by_number || self.known.contains(&entry.identity) || by_mark()
        };
        let entries = table.entries().filter(|entry| below.contains(&entry.identity.pid));
        let mut found = table.below(entries.filter(is_its).map(|entry| entry.identity.pid));
        found.remove(&std::process::id());
        found
    }
}

/// A process of a worker that has ended.
#[derive(Debug)]
struct Found {
    process: Identity,
    command: String,
    /// `None`: it was gone.
    blow: Option<Blow>,
}

impl Found {
    fn strike(process: Identity) -> Self {
        let command = table::command(process.pid);
        Self { process, command, blow: Blow::strike(process) }
    }

    /// For when there is no more time.
    fn left(&self) -> Left {
        let why = match self.blow.as_ref().map(|blow| &blow.refused) {
            Some(Some(error)) => format!("it cannot be killed: {error}"),
            Some(None) => "it was killed and has not ended".to_owned(),
            None => "it goes on in others faster than they are found".to_owned(),
        };
        Left { process: self.process, command: self.command.clone(), why }
    }
}

/// A process that was sent SIGKILL.
#[derive(Debug)]
pub(super) struct Blow {
    /// To wait for its end.
    held: Option<PidFd>,
    pub(super) refused: Option<io::Error>,
}

impl Blow {
    /// Kills exactly this process; `None` if it has ended.
    pub(super) fn strike(process: Identity) -> Option<Self> {
        let held = match PidFd::open(process.pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return None,
            held => held.ok(),
        };
        // What is held now need not be what was found before.
        if !runs(process) {
            return None;
        }
        let result = match &held {
            Some(held) => held.kill(),
            None => kill(Pid::from_raw(process.pid.cast_signed()), Signal::SIGKILL).map_err(io::Error::from),
        };
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
            result => Some(Self { held, refused: result.err() }),
        }
    }
}

/// Waits until all of these have ended, but for who cannot be killed where there are others; until then at most.
pub(super) fn wait(blows: &[Blow], clock: &Clock, until: Instant) {
    let mut waited: Vec<&Blow> = blows.iter().filter(|blow| blow.refused.is_none()).collect();
    if waited.is_empty() {
        // It may end by itself, as the others have.
        waited = blows.iter().collect();
    }
    let has_all = waited.iter().all(|blow| blow.held.is_some());
    loop {
        let rest = until.since(clock.now().at);
        let rest = if has_all { rest } else { rest.min(LOOK) };
        let mut descriptors: Vec<PollFd<'_>> = waited
            .iter()
            .filter_map(|blow| Some(PollFd::new(blow.held.as_ref()?.as_fd(), PollFlags::POLLIN)))
            .collect();
        match poll(&mut descriptors, PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => {}
            Ok(1..) if has_all => {
                let ended: Vec<bool> = descriptors.iter().map(|descriptor| descriptor.any().unwrap_or(true)).collect();
                let mut ended = ended.into_iter();
                waited.retain(|_| !ended.next().unwrap_or(true));
                if waited.is_empty() {
                    return;
                }
            }
            // Time is over, or somebody cannot be waited for: the table tells.
            Ok(_) | Err(_) => return,
        }
    }
}
