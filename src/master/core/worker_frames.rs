//! The core's chapter on what workers say: ready, outcomes, progress, and words that break the protocol.

use std::{sync::Arc, time::Duration};

use super::{
    Core,
    event::{Action, Signal, WorkerId},
    ledger::End,
    state::{
        in_flight::InFlight,
        pool,
        slot::{KillReason, Phase},
    },
};
use crate::{
    frames::{FromWorker, PROTOCOL, Ready},
    limits,
    logging::Level,
    outcome::{FollowUp, Report},
    plural::counted,
    text,
};

/// Longest name of a worker in the log, in characters.
const NAME_LENGTH: usize = 100;

/// Longest message of a worker, in bytes; what is longer by any byte is cut when it is written, and says so.
pub(super) const MESSAGE_LENGTH: usize = 64 * 1024;

/// A worker that closed its socket or said bye has this long to end.
const END_PATIENCE: Duration = Duration::from_secs(1);

impl Core {
    /// A frame of a worker.
    pub(super) fn said(&mut self, worker: WorkerId, frame: FromWorker) {
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        // It was killed and what it held is settled at its exit: nothing it said in between counts.
        if matches!(life.phase, Phase::Killed(_) | Phase::LeftProcesses { .. }) {
            return;
        }
        match frame {
            FromWorker::Ready(ready) => self.became_ready(worker, &ready),
            FromWorker::Outcome { id, outcome } => self.reported(worker, &id, outcome),
            FromWorker::Accept { id } => self.accepted(worker, &id),
            FromWorker::Progress { id, percent, mut note } => {
                text::bound(&mut note, limits::NOTE);
                match life.in_flight.get_mut(&id) {
                    Some(task) => task.progress = Some((percent, note)),
                    // A thread that reports progress may be late for its own task's outcome.
                    None => self.ignored(worker, "progress", &id),
                }
            }
            FromWorker::Log { level, message } => {
                self.log_as(worker.slot, level, || text::one_line(&message, MESSAGE_LENGTH));
            }
            FromWorker::Bye if !life.in_flight.is_empty() => {
                let held = life.in_flight.len();
                self.faulted(worker, format!("bye with {} in hand", counted(held, "task")));
            }
            FromWorker::Bye => {
                life.said_bye = true;
                life.end_due = Some(self.now.at + END_PATIENCE);
                self.relist(worker.slot);
                self.arm_slot(worker.slot);
            }
            FromWorker::Returned { ids } => self.returned(worker, &ids),
            FromWorker::Reported { id, stored } => self.told_lost(worker, &id, stored),
            FromWorker::Controlled { ticket } => self.controlled(worker, ticket),
            FromWorker::Pong { n } => {
                // The answer to a ping that was forgotten meanwhile means nothing.
                life.pinged.take_if(|pinged| *pinged == n);
            }
            FromWorker::Unknown(name) => {
                let slot = self.slots[worker.slot].name.clone();
                self.log(Level::Debug, || format!("{slot} sent a frame of an unknown kind, \"{name}\"; ignored"));
            }
        }
    }

    fn became_ready(&mut self, worker: WorkerId, ready: &Ready) {
        if ready.protocol != PROTOCOL {
            let spoken = ready.protocol;
            self.faulted(worker, format!("it speaks protocol {spoken}, this master speaks {PROTOCOL}"));
            return;
        }
        let index = self.slots[worker.slot].queue;
        let settings = &self.pools[index].plan.settings;
        let seats = ready.concurrency.clamp(1, settings.concurrency.max(1)) as usize;
        let queue = settings.name.clone();
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        match life.phase {
            Phase::Starting { .. } => {}
            // Told to go before it was ready.
            Phase::Leaving | Phase::Interrupted { .. } | Phase::Killed(_) | Phase::LeftProcesses { .. } => return,
            Phase::Working { .. } => {
                self.faulted(worker, "it said ready twice".to_owned());
                return;
            }
        }
        life.phase = Phase::Working { seats };
        life.was_ready = true;
        life.wants_properties = ready.wants.properties;
        life.wants_celery = ready.wants.celery;
        // Of several at once, no first one is the one in hand, whatever the queue lets it have.
        life.ahead = if ready.concurrency > 1 { 0 } else { ready.ahead as usize };
        let name = ready.name.as_deref().map(printable).filter(|name| !name.is_empty());
        if let Some(name) = name {
            self.slots[worker.slot].log_name = Arc::from(name);
        }
        self.tell_log_level(worker.slot);
        self.celery_ready(worker, ready);
        self.log_as(worker.slot, Level::Info, || format!("Starting; queue={queue}"));
        let unknown = &ready.wants.unknown;
        if !unknown.is_empty() {
            self.log_as(worker.slot, Level::Debug, || {
                format!("It wants what this master does not know: {}", unknown.join(", "))
            });
        }
        if !std::mem::replace(&mut self.pools[index].proven, true) {
            self.update_ready();
        }
        self.start_succeeded(worker.slot);
        self.first_ready_at.get_or_insert(self.now.at);
        if matches!(self.pools[index].state, pool::State::Trial { cause: pool::Cause::Starts, .. }) {
            self.work_again(index);
            self.log(Level::Info, || format!("Queue {queue} is worked again"));
            self.refill(index);
        }
        self.take_over(worker.slot);
        self.look_at_all_ahead(index);
        self.arm_slot(worker.slot);
        self.look_at_lost(worker.slot);
        self.relist(worker.slot);
        self.renew_credit(index);
        self.dispatch(index);
    }

    /// The outcome of a task: settled, and the worker is free again.
    fn reported(&mut self, worker: WorkerId, id: &str, outcome: Report) {
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        let is_begun = life.in_flight.get_mut(id).map(|task| task.begun);
        let Some(task) = is_begun.filter(|begun| *begun).and_then(|_| life.in_flight.take(id)) else {
            let why = if is_begun.is_some() { "before that of the task before it" } else { "which it does not hold" };
            self.faulted(worker, format!("an outcome of task \"{id}\", {why}"));
            return;
        };
        life.tasks += 1;
        life.told_last = false;
        let pid = life.pid;
        self.set_log_subject(&task.delivery.task);
        self.slots[worker.slot].failures = 0;
        let took = self.left_worker(&task);
        let outcome = self.checked(outcome, &task.delivery.task);
        if let Report::Done { submit, .. } = &outcome {
            self.tell_unknown(submit);
        }
        self.log_outcome(worker.slot, &outcome);
        self.count_for_breaker(&task, matches!(outcome, Report::Error { .. } | Report::Retry { .. }));
        // Of a cancelled one, that is told once it is a dead letter.
        if task.withdrawn.is_none() {
            self.celery_reported(&task, worker.slot, &outcome, took);
        }
        self.tell_withdrawn(&task);
        let attempt = self.attempt(&task.delivery, pid, Some(took));
        let settlement = match task.withdrawn {
            // It was sent ahead, and its worker began and ended it before it was recalled.
            Some(how) => attempt.withdrawn(how),
            None => attempt.told(outcome),
        };
        let slot = Some(worker.slot);
        let note = self.ended(&End { delivery: &task.delivery, took, settlement: &settlement, slot });
        self.settle(&task, settlement, note, slot);
        let index = task.delivery.queue.0;
        self.check_recycle(worker);
        self.begin_next(worker.slot);
        self.look_at_lost(worker.slot);
        self.relist(worker.slot);
        self.release_retired(worker);
        self.renew_credit(index);
        self.dispatch(index);
        self.note_backlog(worker.slot);
    }

    pub(super) fn log_outcome(&mut self, slot: usize, outcome: &Report) {
        match outcome {
            Report::Done { .. } => self.log_as(slot, Level::Debug, || "Processing complete".to_owned()),
            Report::Error { error, detail, .. } => self.log_as(slot, Level::Error, || {
                let mut text = format!("An unhandled exception occurred while processing the payload\n{error}");
                if !detail.is_empty() {
                    text.push('\n');
                    text.push_str(detail.trim_end());
                }
                text
            }),
            Report::Retry { error, .. } => {
                self.log_as(slot, Level::Debug, || format!("Retry asked for: {error}"));
            }
            Report::Snooze { delay, .. } => {
                let seconds = delay.as_secs_f64();
                self.log_as(slot, Level::Debug, || format!("Snoozed for {seconds:.1} s"));
            }
            Report::DeadLetter { error, .. } => {
                self.log_as(slot, Level::Error, || format!("The payload cannot be processed\n{error}"));
            }
            Report::Malformed { error } => {
                self.log_as(slot, Level::Error, || format!("The payload is malformed\n{error}"));
            }
        }
    }

    /// Counts an outcome for the queue's breaker.
    pub(super) fn count_for_breaker(&mut self, task: &InFlight, is_error: bool) {
        let index = task.delivery.queue.0;
        if is_error && self.pools[index].plan.settings.breaker.errors {
            self.count_failure(index, task.id());
            return;
        }
        let pool = &mut self.pools[index];
        pool.failure_streak.reset();
        if let pool::State::Trial { .. } = pool.state {
            let queue = pool.name().to_owned();
            self.work_again(index);
            self.log(Level::Info, || format!("Queue {queue} is worked again"));
            self.refill(index);
        }
    }

    /// Counts a crash or time-out, or an error where the breaker counts errors; parks the queue if it trips.
    pub(super) fn count_failure(&mut self, index: usize, id: &str) {
        let pool = &mut self.pools[index];
        let limit = pool.plan.settings.breaker.failures;
        let on_trial = matches!(pool.state, pool::State::Trial { .. });
        if matches!(pool.state, pool::State::Parked { .. }) || !pool.is_member() {
            return;
        }
        if pool.failure_streak.count(id, limit) || on_trial {
            self.park(index, pool::Cause::Tasks);
        }
    }

    /// Says, once for each, that a follow-up goes to a queue that no settings name: perhaps nobody works it. Workers may make up
    /// names without end; of so many that they are forgotten here, nothing more is said.
    pub(super) fn tell_unknown(&mut self, submit: &[FollowUp]) {
        for queue in submit.iter().filter_map(FollowUp::queue) {
            if self.submitted_to.len() >= limits::KNOWN_QUEUES || self.submitted_to.contains(queue) {
                continue;
            }
            self.submitted_to.insert(queue.to_owned());
            if let Some(text) = self.plan.names.unknown(queue) {
                self.log(Level::Warning, || format!("A task was submitted to a queue that nobody may work: {text}"));
            }
        }
    }

    /// What a worker says about a task that it does not hold, and that changes nothing.
    pub(super) fn ignored(&mut self, worker: WorkerId, frame: &str, id: &str) {
        let (slot, id) = (self.slots[worker.slot].name.clone(), text::shorten(id.to_owned(), limits::FAULT));
        self.log(Level::Debug, || format!("{slot} sent {frame} of task \"{id}\", which it does not hold; ignored"));
    }

    fn accepted(&mut self, worker: WorkerId, id: &str) {
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        let Some(task) = life.in_flight.get_mut(id) else {
            self.ignored(worker, "accept", id);
            return;
        };
        if task.delivery.task.membership.is_some() {
            // Nobody would tell its ledger if this process died.
            let id = text::shorten(id.to_owned(), limits::FAULT);
            self.log_as(worker.slot, Level::Debug, || {
                format!("Task \"{id}\" is of a job, and not accepted before its end")
            });
            return;
        }
        if !task.accepted && task.held {
            task.accepted = true;
            self.in_flight.add(task);
            let (handle, queue) = (task.delivery.handle, task.delivery.queue.0);
            self.accept(handle, queue);
        }
    }

    /// A worker broke the protocol: it ends as a crash, and nothing else it says counts.
    pub(super) fn faulted(&mut self, worker: WorkerId, fault: String) {
        if !self.is_current(worker) {
            return;
        }
        let fault = text::shorten(fault, limits::FAULT);
        let slot = self.slots[worker.slot].name.clone();
        self.log(Level::Error, || format!("{slot} broke the protocol: {fault}"));
        self.kill_worker(worker, KillReason::Fault(fault));
    }

    /// A worker's socket is closed. Its death is known from its exit alone, but it must come.
    pub(super) fn hung_up(&mut self, worker: WorkerId) {
        let due = self.now.at + END_PATIENCE;
        if let Some(life) = self.slots[worker.slot].life_of(worker) {
            life.end_due.get_or_insert(due);
            self.relist(worker.slot);
            self.arm_slot(worker.slot);
        }
    }

    /// It said bye or closed its socket and did not end.
    pub(super) fn end_unspoken(&mut self, worker: WorkerId) {
        self.kill_worker(worker, KillReason::Fault("it closed its socket and went on".to_owned()));
    }

    /// The time limit of a task passed.
    pub(super) fn time_out(&mut self, worker: WorkerId, task: String, limit: Duration) {
        let slot = self.slots[worker.slot].name.clone();
        self.log(Level::Error, || format!("{slot} is killed: task {task} ran into its time limit"));
        self.kill_worker(worker, KillReason::TimeLimit { id: task, limit });
    }

    /// Kills a process; what it holds is settled when it is reaped. The first reason stands.
    pub(super) fn kill_worker(&mut self, worker: WorkerId, reason: KillReason) {
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        if matches!(life.phase, Phase::Killed(_) | Phase::LeftProcesses { .. }) {
            return;
        }
        if matches!(life.phase, Phase::Starting { .. }) {
            self.line.may_move();
        }
        life.phase = Phase::Killed(reason);
        self.relist(worker.slot);
        self.actions.push(Action::Signal { worker, signal: Signal::Kill });
    }
}

/// A worker's name as it may stand in the log: short, and nothing in it that a terminal or a reader of lines obeys.
fn printable(name: &str) -> String {
    name.chars().filter(|letter| !text::is_unsafe(*letter)).take(NAME_LENGTH).collect()
}
