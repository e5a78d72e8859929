//! Starts: how many at once, whose turn it is, and what follows from those that fail.

use std::{collections::BTreeSet, time::Duration};

use asynctask::{master::core::event::WorkerId, task::Exit};

use super::{child::Child, observer::is_signal, simulation::Simulation};

/// A line that stood still so long gives one place more, to a queue that has none.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was seen of starts.
#[derive(Debug)]
pub(crate) struct Starting {
    /// A worker of this queue was ready once.
    pub(crate) is_proven: Vec<bool>,
    /// These could not be made.
    pub(crate) not_made: BTreeSet<WorkerId>,
    /// Starts failed there since the last worker that was ready, by queue and name of the slot.
    failed: BTreeSet<(usize, String)>,
    /// How many died at work and were perhaps not replaced yet.
    pub(crate) died_at_work: Vec<u32>,
    /// Its last failed start was one that took too long, after another one had been ready.
    was_late: Vec<bool>,
    /// When a process was last started.
    last_at: Option<Duration>,
    /// Since when the queue has no process, and none was tried.
    nobody_since: Vec<Option<Duration>>,
}

impl Starting {
    pub(crate) fn new(queues: usize) -> Self {
        Self {
            is_proven: vec![false; queues],
            not_made: BTreeSet::new(),
            failed: BTreeSet::new(),
            died_at_work: vec![0; queues],
            was_late: vec![false; queues],
            last_at: None,
            nobody_since: vec![None; queues],
        }
    }
}

impl Starting {
    /// Whether the start before this one failed, too.
    pub(crate) fn has_failed(&self, child: &Child) -> bool {
        !child.ready && self.failed.contains(&(child.queue, child.name.clone()))
    }

    pub(crate) fn is_ready(&mut self, queue: usize, name: &str) {
        self.is_proven[queue] = true;
        self.failed.remove(&(queue, name.to_owned()));
    }
}

impl Child {
    /// Whether it has a place among those that start.
    fn is_starting(&self) -> bool {
        let has_ended = self.killed_at.is_some() || self.faulted || self.hung_up || self.said_bye || self.dismissed;
        !(self.is_once || self.ready || has_ended || self.dead_at.is_some())
    }
}

impl Simulation {
    /// A process is about to be started: is it its turn?
    pub(crate) fn may_start(&mut self, queue: usize) -> Result<(), String> {
        let starting = self.children.values().filter(|child| child.is_starting());
        let of_queue = starting.clone().filter(|child| child.queue == queue).count();
        let count = starting.count();
        let observer = &mut self.observer.starting;
        let stands = observer.last_at.is_none_or(|last| last + PATIENCE <= self.now);
        let died_at_work = observer.died_at_work[queue] > 0;
        observer.died_at_work[queue] = observer.died_at_work[queue].saturating_sub(1);
        (observer.last_at, observer.nobody_since[queue]) = (Some(self.now), None);
        if count < self.settings.plan.starts_at_once || (stands && (of_queue == 0 || died_at_work)) {
            return Ok(());
        }
        Err(format!("one of q{queue} is started beside {count}, {of_queue} of them of this queue"))
    }

    /// A queue with an open slot gets a process, or one is tried, in bounded time.
    pub(crate) fn check_starts(&mut self) -> Result<(), String> {
        let bound = self.settings.plan.supervisor.restart.longest + PATIENCE * 6;
        for queue in 0..self.settings.queues.len() {
            let is_open = self.observer.reloads.is_member(queue)
                && !self.observer.parked[queue]
                && !self.settings.queues[queue].is_once
                && self.children.values().all(|child| child.queue != queue);
            if !is_open {
                self.observer.starting.nobody_since[queue] = None;
                continue;
            }
            let since = *self.observer.starting.nobody_since[queue].get_or_insert(self.now);
            if since + bound < self.now {
                return Err(format!("nobody is started for q{queue} since {since:?}"));
            }
        }
        Ok(())
    }

    /// One that was to replace a worker that is well counts for nothing, nor does one beside others that are up.
    pub(crate) fn failed_start(&mut self, slot: usize, queue: usize, name: &str) {
        self.observer.starting.failed.insert((queue, name.to_owned()));
        let mut others = self.children.values().filter(|child| child.queue == queue);
        let is_alone = !others.any(|child| child.ready && child.killed_at.is_none());
        self.observer.starting.was_late[queue] = false;
        if is_alone && !self.observer.operator.successors.contains(&slot) && self.observer.stopping_at.is_none() {
            self.observer.starts_in_a_row[queue] += 1;
        }
    }

    /// A process ended: was that a failed start?
    pub(crate) fn ended(&mut self, worker: WorkerId, child: &Child, exit: &Exit) {
        let from_outside = child.killed_at.is_none() && is_signal(exit, &["SIGKILL", "SIGTERM"]);
        self.observer.starting.died_at_work[child.queue] += u32::from(!child.hands.is_empty());
        // Killed for being late, and then scaled away, before its end was seen.
        let scaled_away = child.number > self.observer.operator.processes[child.queue];
        if !child.ready {
            self.observer.starting.failed.insert((child.queue, child.name.clone()));
        }
        if !child.ready && !from_outside && !child.dismissed && !scaled_away {
            self.failed_start(worker.slot, child.queue, &child.name);
            let was_well = !child.faulted && !child.hung_up && !child.said_bye;
            let was_late = child.killed_at.is_some() && was_well;
            self.observer.starting.was_late[child.queue] = was_late && self.observer.starting.is_proven[child.queue];
        }
    }

    /// A queue is said to be without hope: none of its workers may be up.
    pub(crate) fn may_be_said(&self, message: &str) -> Result<(), String> {
        let is_parked = message.ends_with("its workers cannot be started");
        let is_ended = message.starts_with("worker kind ") && message.ends_with(" could not be started");
        if !(is_parked || is_ended) {
            return Ok(());
        }
        for (queue, late) in self.observer.starting.was_late.iter().enumerate() {
            if !message.contains(&format!("ueue q{queue} ")) {
                continue;
            }
            if *late && is_parked && !self.settings.plan.halt_when_empty {
                return Err(format!("\"{message}\" because of one that took too long"));
            }
            let up = |child: &&Child| {
                let is_of_old = child.number > self.observer.operator.processes[queue];
                child.queue == queue && !child.is_once && child.is_well() && !is_of_old
            };
            if let Some(child) = self.children.values().find(up) {
                return Err(format!("\"{message}\" with {child:?}"));
            }
        }
        Ok(())
    }
}
