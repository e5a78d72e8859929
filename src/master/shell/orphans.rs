//! What workers leave running when they end, and what was left by a master that is no more.
//!
//! Whose end was in order (the core knows) leaves what it wants, but for its process group. Of every other end the core hears
//! when nothing of it runs any more: then its task is settled, and its key is free. What could not be ended in
//! [`PATIENCE`] is named in the log, in the status and in the dead letter.
//!
//! The looking and the waiting is done by a thread, and only where the kernel says that there is somebody to look for.

use std::{
    collections::HashMap,
    mem,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    logging::{Level, Logger},
    master::{
        MASTER, Shell,
        core::event::{self, Ended, Event, WorkerId},
    },
    process::{
        self, Identity, Left, Mark, Marker, Trace,
        orphans::{self, runs},
        predecessors::{self, Fate},
        reap::GroupSignal,
    },
    transport::Uri,
};

/// How long a task's verdict waits for the end of what its worker left.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a start waits for the end of what another master left.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// What a thread found out of one worker: which number its death has, and what runs on.
pub(in crate::master) type Swept = (u64, Vec<Left>);

/// Deaths, and what runs on after them.
#[derive(Debug)]
pub(in crate::master) struct Orphans {
    marker: Option<Marker>,
    /// By what each worker's processes are known.
    traces: HashMap<WorkerId, (Option<Mark>, Vec<Identity>)>,
    swept: mpsc::UnboundedSender<Swept>,
    /// Deaths out of order, in this turn.
    fallen: Vec<Death>,
    /// Those whose processes are being ended, by number.
    held: Vec<(u64, Death)>,
    deaths: u64,
    /// What ran on, for the status.
    left: Vec<(String, Left)>,
}

/// A worker that was waited for and of which the core is to hear.
#[derive(Debug)]
pub(in crate::master) struct Death {
    pub(in crate::master) id: WorkerId,
    pub(in crate::master) pid: u32,
    pub(in crate::master) slot: String,
    pub(in crate::master) ended: Ended,
}

impl Orphans {
    /// Makes this process the one that orphans come to, and ends what an earlier master left that worked the same.
    pub(in crate::master) fn new(
        uri: &Uri,
        application: &str,
        logger: &Logger,
        swept: mpsc::UnboundedSender<Swept>,
    ) -> Self {
        if let Err(error) = orphans::adopt_orphans() {
            let text = format!("what leaves its worker's process group cannot be ended with it: {error}");
            logger.line(Level::Warning, MASTER, &text);
        }
        let marker = Marker::new(home(uri, application));
        // Nobody else ever worked what is in the memory of this process.
        if let Some(marker) = marker.as_ref().filter(|_| !matches!(uri, Uri::Localmem(_))) {
            end_predecessors(marker, logger);
        }
        Self {
            marker,
            traces: HashMap::new(),
            swept,
            fallen: Vec::new(),
            held: Vec::new(),
            deaths: 0,
            left: Vec::new(),
        }
    }

    /// For a worker that is to be started.
    pub(in crate::master) fn mark(&mut self, id: WorkerId) -> Option<Mark> {
        let mark = self.marker.as_mut().map(Marker::mark);
        self.traces.insert(id, (mark.clone(), Vec::new()));
        mark
    }

    /// It is going to be killed: once it is dead, its tree cannot be seen any more.
    pub(in crate::master) fn remember_below(&mut self, id: WorkerId, pid: u32) {
        if let Some((_, below)) = self.traces.get_mut(&id) {
            *below = orphans::descendants(pid);
        }
    }

    /// By what its processes are known; nothing more will come of it.
    pub(in crate::master) fn trace_of(&mut self, id: WorkerId) -> (Option<Mark>, Vec<Identity>) {
        self.traces.remove(&id).unwrap_or_default()
    }
}

impl Shell {
    /// Signals a worker's process, and its group.
    pub(in crate::master) fn signal(&mut self, id: WorkerId, signal: event::Signal) {
        let Some(pid) = self.worker(id).map(|worker| worker.pid) else { return };
        let signal = match signal {
            event::Signal::Terminate => GroupSignal::Terminate,
            event::Signal::Kill => {
                self.orphans.remember_below(id, pid);
                GroupSignal::Kill
            }
        };
        if let Err(error) = process::kill_group(pid, signal) {
            self.logger.line(Level::Error, MASTER, &format!("cannot signal process {pid}: {error}"));
        }
    }

    /// A worker was waited for, and everything that it said is read. The core is told now, or after what it left was ended.
    pub(in crate::master) fn fell(&mut self, death: Death) {
        if self.core.ended_in_order(death.id, &death.ended.exit) {
            self.orphans.trace_of(death.id);
            self.handle(Event::Exited { worker: death.id, ended: death.ended });
        } else {
            self.orphans.fallen.push(death);
        }
    }

    /// All that have ended were waited for: those that ended out of order are told, unless they left something.
    pub(in crate::master) fn end_orphans(&mut self) {
        let fallen = mem::take(&mut self.orphans.fallen);
        if fallen.is_empty() {
            return;
        }
        let pids = &self.pids;
        if !orphans::has_orphans(|pid| pids.contains_key(&pid)) {
            for death in fallen {
                self.orphans.trace_of(death.id);
                self.handle(Event::Exited { worker: death.id, ended: death.ended });
            }
            return;
        }
        let mut numbers = Vec::new();
        let mut traces = Vec::new();
        for death in fallen {
            self.orphans.deaths += 1;
            let number = self.orphans.deaths;
            let (mark, below) = self.orphans.trace_of(death.id);
            traces.push(Trace { worker: death.pid, mark: mark.map(|mark| mark.of(death.pid)), below });
            numbers.push(number);
            let id = death.id;
            self.orphans.held.push((number, death));
            self.handle(Event::LeftProcesses(id));
        }
        let (sender, all) = (self.orphans.swept.clone(), numbers.clone());
        let thread = std::thread::Builder::new().name("orphans".to_owned()).spawn(move || {
            orphans::end(traces, PATIENCE, |position, left| {
                // The master may be gone: so is everybody who wants to know.
                let _ = sender.send((numbers[position], left));
            });
        });
        if let Err(error) = thread {
            self.logger.line(Level::Error, MASTER, &format!("cannot look for what workers left: {error}"));
            for number in all {
                self.swept((number, Vec::new()));
            }
        }
    }

    /// What a worker left is gone, or cannot be ended.
    pub(in crate::master) fn swept(&mut self, (number, left): Swept) {
        // What has ended since is of no interest any more.
        self.orphans.left.retain(|(_, left)| runs(left.process));
        let Some(position) = self.orphans.held.iter().position(|(other, _)| *other == number) else { return };
        let (_, mut death) = self.orphans.held.swap_remove(position);
        for left in left {
            let text = format!("{} (pid {}) ended; left running: {left}", death.slot, death.pid);
            self.logger.line(Level::Error, MASTER, &text);
            death.ended.left_running.push(left.to_string());
            self.orphans.left.push((death.slot.clone(), left));
        }
        self.handle(Event::Exited { worker: death.id, ended: death.ended });
    }

    /// Adds to a status what could not be ended and still runs.
    pub(in crate::master) fn show_left(&self, status: &mut Value) {
        let left = self.orphans.left.iter().filter(|(_, left)| runs(left.process));
        let shown = |(slot, left): &(String, Left)| json!({ "slot": slot, "pid": left.process.pid, "command": left.command, "why": left.why });
        status["left_running"] = left.map(shown).collect();
    }
}

/// Names what a master works, for others that work the same.
fn home(uri: &Uri, application: &str) -> String {
    let place = match uri {
        Uri::Sqlite(path) => place_of_file(path).display().to_string(),
        // Without its password.
        Uri::Amqp(_) | Uri::Localmem(_) => uri.to_string(),
    };
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"asynctask.worker");
    Uuid::new_v5(&namespace, format!("{application}\n{place}").as_bytes()).to_string()
}

/// The same before and after the file is made, from wherever it is named.
fn place_of_file(path: &Path) -> PathBuf {
    let in_folder = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(folder.canonicalize().ok()?.join(path.file_name()?))
    };
    path.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

fn end_predecessors(marker: &Marker, logger: &Logger) {
    for found in predecessors::end(marker, START_PATIENCE) {
        let (pid, master) = (found.process.pid, found.master);
        let fate = match found.fate {
            Fate::Ended => "ended".to_owned(),
            Fate::LeftAlone => "it has left its worker's process group and is left running".to_owned(),
            Fate::Refused(why) => format!("left running, as it cannot be ended: {why}"),
        };
        let text = format!(
            "pid {pid} ({}) is left of {}, of the master {master} that is no more: {fate}",
            found.command, found.slot
        );
        logger.line(Level::Warning, MASTER, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_before_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let named = link.join("tasks.db");
        let before = place_of_file(&named);
        std::fs::write(&named, "").unwrap();
        assert_eq!(before, place_of_file(&named));
        assert_eq!(before, place_of_file(&real.join("tasks.db")));
        let relative = Path::new("no such file, beside nothing");
        assert_eq!(place_of_file(relative), std::env::current_dir().unwrap().canonicalize().unwrap().join(relative));
    }
}
