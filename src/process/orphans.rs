//! Finds, kills and waits for the processes that a worker left running when it ended.
//!
//! A kill of its process group does not reach a process that left the group (`setsid`, a program that daemonizes). So the master
//! is a subreaper: a process that loses its parent below it becomes its child, and is found there, whatever its group and
//! session are. Its worker is known by the worker's [`Mark`], by the worker's session or group, by the tree as it was when the
//! worker was killed, or by an ancestor with one of these. A process without any of them (a daemon with an empty
//! environment, of a worker that was not killed) cannot be told from another worker's, and is left alone.
//!
//! The tree may grow while it is being killed, and a process may pass its place on to another while the tree is read (it forks and
//! ends): it is read again until no process is found in a reading during which none has ended.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::AsFd,
    time::Duration,
};

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

/// Whole readings in a row without a process, after which there is none.
const LOOKS: u32 = 5;
/// After a reading that proves nothing, in milliseconds.
const PAUSE: u8 = 1;
/// Between two looks where a process cannot be held by a descriptor.
const LOOK: Duration = Duration::from_millis(20);

/// Processes that are held by a descriptor at once, at most: the master needs its other descriptors. The rest is left to the
/// next reading.
pub(super) const HELD: usize = 64;
/// Threads below a worker of which the children are looked up before it is killed, at most: some 30 µs each, in the master's
/// own thread.
const THREADS: usize = 256;

/// Why a process runs on that could be killed.
pub(super) const NOT_ENDED: &str = "it was killed and has not ended";

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

/// All that descend from a process at this moment, as far as the kernel tells, the nearest first.
///
/// Of a tree with more than `THREADS` the rest is given up: it is known by the mark, the session or the group of the worker,
/// and lost only if it has left all three.
#[must_use]
pub fn descendants(pid: u32) -> Vec<Identity> {
    descendants_within(pid, THREADS)
}

fn descendants_within(pid: u32, mut looks: usize) -> Vec<Identity> {
    let mut found = Vec::new();
    let mut seen = HashSet::from([pid]);
    let mut next = VecDeque::from([pid]);
    while let Some(pid) = next.pop_front() {
        for child in table::children_within(pid, &mut looks).unwrap_or_default() {
            if seen.insert(child) {
                found.extend(Entry::read(child).map(|entry| entry.identity));
                next.push_back(child);
            }
        }
        if looks == 0 {
            break;
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
    let mut look = Look::default();
    while !open.is_empty() {
        let marks = open.iter().filter_map(|(_, hunt)| hunt.trace.mark.as_ref()).collect();
        look = Look::take(&look.table, &marks);
        let mut killed = Vec::new();
        let mut room = HELD;
        let mut is_whole = None;
        open.retain_mut(|(position, hunt)| {
            let found = hunt.round(&look, &mut room);
            if !found.is_empty() {
                hunt.in_vain = 0;
            } else if *is_whole.get_or_insert_with(|| look.is_whole()) {
                hunt.in_vain += 1;
            }
            // A round may be long where there is much.
            let is_over = clock.now().at >= until;
            let goes_on = hunt.in_vain < LOOKS && !is_over;
            if !goes_on {
                let runs_on = |found: &&Found| found.kill.is_none() || runs(found.process);
                told(*position, found.iter().filter(runs_on).map(Found::left).collect());
            }
            killed.extend(found.into_iter().filter_map(|found| found.kill));
            goes_on
        });
        if !open.is_empty() && !killed.is_empty() {
            wait(&killed, &clock, until);
        } else if is_whole == Some(false) {
            // Who is being executed may want this processor.
            let _ = poll(&mut [], PollTimeout::from(PAUSE));
        }
    }
}

/// What a round looks at, for all the workers: each process is read once.
#[derive(Debug, Default)]
struct Look {
    table: Table,
    /// All that descend from this process, but for workers that live and what they have started.
    below: HashSet<u32>,
    by_mark: HashMap<Mark, Vec<u32>>,
    /// By the number of the group and of the session.
    by_number: HashMap<u32, Vec<u32>>,
    /// Nobody is being executed, whose mark cannot be seen.
    is_clear: bool,
}

impl Look {
    /// For workers with these marks.
    fn take(before: &Table, marks: &HashSet<&Mark>) -> Self {
        let own = std::process::id();
        let mark = |pid| if marks.is_empty() { None } else { Mark::of_process(pid) };
        // What a worker that has ended left is not below one that lives.
        let lives = |pid| mark(pid).is_some_and(|mark| mark.worker == pid && !marks.contains(&mark));
        let table = Table::read_below(own, before, lives).unwrap_or_else(Table::read);
        let below = table.below([own]);
        let (mut by_mark, mut by_number) = (HashMap::<_, Vec<u32>>::new(), HashMap::<_, Vec<u32>>::new());
        let mut is_clear = true;
        for entry in below.iter().filter_map(|pid| table.get(*pid)) {
            let pid = entry.identity.pid;
            for number in [entry.session, entry.group] {
                by_number.entry(number).or_default().push(pid);
            }
            match mark(pid) {
                Some(mark) => by_mark.entry(mark).or_default().push(pid),
                None => is_clear &= marks.is_empty() || !table::is_being_executed(pid),
            }
        }
        Self { table, below, by_mark, by_number, is_clear }
    }

    /// Whether nobody is missing, and everybody was known.
    fn is_whole(&self) -> bool {
        self.is_clear && self.table.is_whole(&self.below)
    }
}

/// The search for what one worker left.
#[derive(Debug)]
struct Hunt {
    trace: Trace,
    /// Whose it is was known in an earlier round, or when the worker was killed.
    known: HashSet<Identity>,
    /// Rounds in a row that found no process and are no proof that there is none.
    in_vain: u32,
}

impl Hunt {
    fn new(trace: Trace) -> Self {
        Self { known: trace.below.iter().copied().collect(), trace, in_vain: 0 }
    }

    /// Kills all that are found.
    fn round(&mut self, look: &Look, room: &mut usize) -> Vec<Found> {
        let found = self.found(look).into_iter().filter_map(|pid| look.table.get(pid));
        let found: Vec<Found> = found.map(|entry| Found::kill(entry.identity, room)).collect();
        self.known.extend(found.iter().map(|found| found.process));
        found
    }

    fn found(&self, Look { table, below, by_mark, by_number, .. }: &Look) -> HashSet<u32> {
        let worker = self.trace.worker;
        // With its number given again, its group and its session are another process's, too.
        let by_number = by_number.get(&worker).filter(|_| table.get(worker).is_none());
        let by_mark = self.trace.mark.as_ref().and_then(|mark| by_mark.get(mark));
        let is_here = |known: &&Identity| {
            below.contains(&known.pid) && table.get(known.pid).is_some_and(|entry| entry.identity == **known)
        };
        let known = self.known.iter().filter(is_here).map(|known| &known.pid);
        let mut found = table.below(by_number.into_iter().chain(by_mark).flatten().chain(known).copied());
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
    kill: Option<Kill>,
}

impl Found {
    fn kill(process: Identity, room: &mut usize) -> Self {
        let command = table::command(process.pid);
        Self { process, command, kill: Kill::send(process, room) }
    }

    /// For when there is no more time.
    fn left(&self) -> Left {
        let why = match self.kill.as_ref().map(|kill| &kill.refused) {
            Some(Some(error)) => format!("it cannot be killed: {error}"),
            Some(None) => NOT_ENDED.to_owned(),
            None => "it goes on in others faster than they are found".to_owned(),
        };
        Left { process: self.process, command: self.command.clone(), why }
    }
}

/// A SIGKILL that was sent to a process.
#[derive(Debug)]
pub(super) struct Kill {
    /// The process, to wait for its end. `None`: it cannot be held, or enough others are.
    held: Option<PidFd>,
    pub(super) refused: Option<io::Error>,
}

impl Kill {
    /// Kills exactly this process, and holds it if there is room for it; `None` if it has ended.
    pub(super) fn send(process: Identity, room: &mut usize) -> Option<Self> {
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
            result => {
                let held = held.filter(|_| *room > 0);
                *room -= usize::from(held.is_some());
                Some(Self { held, refused: result.err() })
            }
        }
    }
}

/// Waits until all of these have ended, `until` at most. Those that could not be killed are waited for only if there are no
/// others. Where some are not held by a descriptor, the wait is short.
pub(super) fn wait(kills: &[Kill], clock: &Clock, until: Instant) {
    let mut waited: Vec<&Kill> = kills.iter().filter(|kill| kill.refused.is_none()).collect();
    if waited.is_empty() {
        // It may end by itself, as the others have.
        waited = kills.iter().collect();
    }
    let has_all = waited.iter().all(|kill| kill.held.is_some());
    let until = if has_all { until } else { until.min(clock.now().at + LOOK) };
    let mut held: Vec<&PidFd> = waited.iter().filter_map(|kill| kill.held.as_ref()).collect();
    loop {
        let rest = until.since(clock.now().at);
        let mut descriptors: Vec<PollFd<'_>> =
            held.iter().map(|held| PollFd::new(held.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut descriptors, PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => {}
            Ok(1..) => {
                let ended: Vec<bool> = descriptors.iter().map(|descriptor| descriptor.any().unwrap_or(true)).collect();
                let mut ended = ended.into_iter();
                held.retain(|_| !ended.next().unwrap_or(true));
                if held.is_empty() {
                    return;
                }
            }
            // Time is over, or somebody cannot be waited for: the table tells.
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_tree_is_looked_at_as_far_as_its_bound() {
        let script = "sh -c 'sleep 1000 & echo begun; wait' & wait";
        let mut shell =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let found = [0, 1, 2, 3].map(|looks| descendants_within(shell.id(), looks).len());
        let all = descendants(shell.id());
        let mut room = 1;
        let held = all.iter().map(|process| Kill::send(*process, &mut room).unwrap().held.is_some());
        let held: Vec<bool> = held.collect();
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!((found, all.len()), ([0, 1, 2, 2], 2));
        assert_eq!(held, [true, false], "one is held, both were killed");
    }
}
