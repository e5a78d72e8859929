//! Worker processes that have ended, with what they leave running.
//!
//! An end that is in order (the core decides) leaves its other processes alone, but for its process group. Of every other end the
//! core hears when nothing of it runs any more: then its task is settled, and its key is free. What could not be ended in
//! [`PATIENCE`] is named in the log, in the status and in the dead letter.
//!
//! The looking and the waiting is done by a thread, and only where the kernel says that there is something to look for.

use std::{mem, rc::Rc, time::Duration};

use serde_json::{Value, json};

use super::{
    orphans::{ExitedWorker, OrphansEnded},
    state::Shell,
};
use crate::{
    logging::{Level, MASTER},
    master::core::event::{self, Ended, Event, WorkerId},
    process::{
        self, Left, Trace,
        orphans::{self, runs},
        reap::GroupSignal,
    },
};

/// How long a task's verdict waits for the end of what its worker left.
const PATIENCE: Duration = Duration::from_secs(2);

impl Shell {
    pub(super) fn reap(&mut self) {
        loop {
            let (pids, page) = (&self.pids, self.page.as_ref());
            match process::next_exit(|pid| pids.contains_key(&pid) || page.is_some_and(|page| page.is_of(pid))) {
                Ok(Some(ended)) => match page.filter(|page| page.is_of(ended.pid)) {
                    Some(page) => page.ended(ended.exit),
                    None => self.reaped(ended),
                },
                Ok(None) => break,
                Err(error) => {
                    self.logger.line(Level::Error, MASTER, &format!("cannot wait for workers: {error}"));
                    break;
                }
            }
        }
        self.end_orphans();
    }

    fn reaped(&mut self, ended: process::Ended) {
        let Some(id) = self.pids.remove(&ended.pid) else { return };
        self.stopped.remove(&ended.pid);
        // Of a process that could not be watched nothing is here: the core was told that it did not start.
        let Some(worker) = self.worker(id).map(Rc::clone) else { return };
        let output_tail = worker.drain();
        // What it said before its end comes first. What the core sends it for that is not read any more.
        self.take_inbox();
        let unread = worker.ended_unread();
        self.workers[id.slot] = None;
        let oom = self.oom.claim(&ended.exit, worker.oom_before);
        let max_rss_bytes = ended.own_peak(worker.master_peak_bytes);
        let cpu_seconds = Some(ended.cpu_seconds);
        let (pid, exit, left_running, written) = (ended.pid, ended.exit, Vec::new(), worker.written());
        let ended = Ended { exit, max_rss_bytes, cpu_seconds, oom, output_tail, unread, left_running, written };
        self.exited(ExitedWorker { id, pid, slot: worker.slot().to_owned(), ended });
    }

    /// Signals a worker's process, and its group.
    pub(super) fn signal(&mut self, id: WorkerId, signal: event::Signal) {
        // What was to be said before it comes before it.
        self.flush_frames();
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
    pub(super) fn exited(&mut self, exited: ExitedWorker) {
        if self.core.ended_in_order(exited.id, &exited.ended.exit) {
            self.orphans.trace_of(exited.id);
            self.handle(Event::Exited { worker: exited.id, ended: exited.ended });
        } else {
            self.orphans.out_of_order.push(exited);
        }
    }

    /// All that have ended were waited for: those that ended out of order are told, unless they left something.
    pub(super) fn end_orphans(&mut self) {
        let out_of_order = mem::take(&mut self.orphans.out_of_order);
        if out_of_order.is_empty() {
            return;
        }
        let pids = &self.pids;
        if !orphans::has_orphans(|pid| pids.contains_key(&pid)) {
            for exited in out_of_order {
                self.orphans.trace_of(exited.id);
                self.handle(Event::Exited { worker: exited.id, ended: exited.ended });
            }
            return;
        }
        let mut numbers = Vec::new();
        let mut traces = Vec::new();
        for exited in out_of_order {
            self.orphans.last_number += 1;
            let number = self.orphans.last_number;
            let (mark, below) = self.orphans.trace_of(exited.id);
            traces.push(Trace { worker: exited.pid, mark: mark.map(|mark| mark.of(exited.pid)), below });
            numbers.push(number);
            let id = exited.id;
            self.orphans.waiting.push((number, exited));
            self.handle(Event::LeftProcesses(id));
        }
        let (sender, all) = (self.orphans.ended.clone(), numbers.clone());
        let thread = std::thread::Builder::new().name("orphans".to_owned()).spawn(move || {
            orphans::end(traces, PATIENCE, |position, left| {
                // The master may have ended.
                let _ = sender.send((numbers[position], left));
            });
        });
        if let Err(error) = thread {
            self.logger.line(Level::Error, MASTER, &format!("cannot look for what workers left: {error}"));
            for number in all {
                self.orphans_ended((number, Vec::new()));
            }
        }
    }

    /// What a worker left is gone, or cannot be ended.
    pub(super) fn orphans_ended(&mut self, (number, left): OrphansEnded) {
        // What has ended since is of no interest any more.
        self.orphans.left.retain(|(_, left)| runs(left.process));
        let Some(position) = self.orphans.waiting.iter().position(|(other, _)| *other == number) else { return };
        let (_, mut exited) = self.orphans.waiting.swap_remove(position);
        for left in left {
            let text = format!("{} (pid {}) ended; left running: {left}", exited.slot, exited.pid);
            self.logger.line(Level::Error, MASTER, &text);
            exited.ended.left_running.push(left.to_string());
            self.orphans.left.push((exited.slot.clone(), left));
        }
        self.handle(Event::Exited { worker: exited.id, ended: exited.ended });
    }

    /// Adds to a status what could not be ended and still runs.
    pub(super) fn add_left_running(&self, status: &mut Value) {
        let left = self.orphans.left.iter().filter(|(_, left)| runs(left.process));
        let shown = |(slot, left): &(String, Left)| json!({ "slot": slot, "pid": left.process.pid, "command": left.command, "why": left.why });
        status["left_running"] = left.map(shown).collect();
    }
}
