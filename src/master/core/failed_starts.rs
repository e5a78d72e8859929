//! The core's chapter on starts that fail. A slot whose start fails waits by itself, longer each time. Its queue is parked
//! only when none of its workers can start: while another one is ready or has its task, there is just no room for more, or
//! one start was unlucky, and what can be done goes on.

use std::time::Duration;

use super::{
    Core,
    event::WorkerId,
    state::{
        pool,
        slot::{KillReason, Phase, Slot, State},
        start_failures::FAILED_STARTS_TO_HALT,
        timers::Owner,
    },
};
use crate::{exit_code::Code, logging::Level, metrics::counts::Cause};

/// A process for one task that has lived so much longer than one whose program could not be executed is another case.
const EXECUTED: Duration = Duration::from_secs(1);

/// How the last end in a slot begins, where no process could be made.
pub(super) const NOT_STARTED: &str = "could not be started: ";

/// A process ran, whose program could then not be executed.
pub(super) struct NotExecuted {
    pub took: Duration,
    /// That was said of the same task before.
    pub again: bool,
}

impl Core {
    /// The operating system could not make the process.
    pub(super) fn spawn_failed(&mut self, worker: WorkerId, error: &str) {
        if !self.is_current(worker) {
            return;
        }
        let slot = worker.slot;
        self.slots[slot].last_exit = Some(format!("{NOT_STARTED}{error}"));
        self.count_restart(slot, Cause::Start);
        self.tell_failed_start(slot, error);
        if self.is_once(slot) {
            self.once_not_started(slot);
        }
        self.failed_start(slot, None);
        // A task that could not be begun has left its place, and perhaps none of this queue may take it.
        self.dispatch(self.slots[slot].queue);
    }

    /// Counts a failed start of a slot, and tells it if that is not said too often.
    pub(super) fn tell_failed_start(&mut self, slot: usize, error: &str) {
        self.slots[slot].failed_starts += 1;
        if self.tells_failed_start(slot) {
            let (name, again) = (self.slots[slot].name.clone(), self.in_a_row(slot));
            self.log(Level::Error, || format!("{name} could not be started: {error}{again}"));
        }
    }

    /// Whether the last failed start of a slot is told: 1, 4, 16, 64 … in a row are, and all that end a halt-mode run.
    pub(super) fn tells_failed_start(&self, slot: usize) -> bool {
        self.is_told(self.slots[slot].failed_starts)
    }

    /// Whether the next start of a slot would be told if it failed.
    pub(super) fn tells_next_start(&self, slot: usize) -> bool {
        self.is_told(self.slots[slot].failed_starts + 1)
    }

    const fn is_told(&self, number: u32) -> bool {
        let is_power_of_four = number.is_power_of_two() && number.trailing_zeros().is_multiple_of(2);
        is_power_of_four || (self.plan.halt_when_empty && number <= FAILED_STARTS_TO_HALT)
    }

    /// How often the starts of a slot have failed, if that is worth a word.
    pub(super) fn in_a_row(&self, slot: usize) -> String {
        match self.slots[slot].failed_starts {
            0 | 1 => String::new(),
            number => format!(" ({number} failed starts in a row)"),
        }
    }

    /// A process was not ready in time.
    pub(super) fn give_up_start(&mut self, worker: WorkerId) {
        let seconds = self.plan.supervisor.start_timeout.as_secs_f64();
        if self.tells_next_start(worker.slot) {
            let slot = self.slots[worker.slot].name.clone();
            self.log(Level::Error, || format!("{slot} was not ready within {seconds} s; killed"));
        }
        self.kill_worker(worker, KillReason::StartLimit);
    }

    /// A worker of a slot is ready, or does its task.
    pub(super) fn start_succeeded(&mut self, slot: usize) {
        let index = self.slots[slot].queue;
        self.pools[index].starts.succeeded();
        let failed = std::mem::take(&mut self.slots[slot].failed_starts);
        if failed > 0 {
            let name = self.slots[slot].name.clone();
            let times = if failed == 1 { "a failed start".to_owned() } else { format!("{failed} failed starts") };
            self.log(Level::Info, || format!("{name} could be started after {times}"));
            self.count_shut(index);
        }
    }

    /// A process that was killed because it was not ready in time has ended. Where another one was ready once, that is no
    /// reason to park the queue, but a run that is to halt must not wait for it for ever.
    pub(super) fn started_late(&mut self, slot: usize) {
        if self.pools[self.slots[slot].queue].proven && !self.plan.halt_when_empty {
            self.wait_after_start(slot);
        } else {
            self.failed_start(slot, None);
        }
    }

    /// What follows when no worker came up.
    pub(super) fn failed_start(&mut self, slot: usize, not_executed: Option<NotExecuted>) {
        let index = self.slots[slot].queue;
        self.slots[slot].state = State::Empty;
        self.relist(slot);
        if !self.slots[slot].wanted {
            self.pools[index].leaving.retain(|other| *other != slot);
            return;
        }
        // The process that it was to replace is well and goes on.
        if self.slots[slot].replaces.is_some() || self.others_are_up(index, not_executed.as_ref().map(|it| it.took)) {
            self.wait_after_start(slot);
            return;
        }
        self.pools[index].starts.failed(self.now.at);
        let (end, park) = (self.pools[index].starts.end_halt_mode(), self.pools[index].starts.park());
        if self.plan.halt_when_empty && end {
            let settings = &self.pools[index].plan.settings;
            let (kind, queue) = (settings.kind.clone(), settings.name.clone());
            self.end_badly(Code::Refused, format!("worker kind {kind} for queue {queue} could not be started"));
            return;
        }
        let on_trial = matches!(self.pools[index].state, pool::State::Trial { .. });
        let is_known = not_executed.is_some_and(|it| it.again);
        // The task may be at fault and the first of its queue for ever: the one behind it is tried before it is back.
        if on_trial && is_known && self.pools[index].starts.passes_over() {
            self.slots[slot].failures = 0;
            self.wait_after_start(slot);
            return;
        }
        self.wait_after_start(slot);
        if park || on_trial {
            self.pools[index].starts.trial_is_over();
            self.park(index, pool::Cause::Starts);
        }
    }

    /// Whether a worker of the queue is ready or busy, or a process has its task. What was executed by a wrapper that may
    /// say yet that it could not must have run for longer than the one that said so.
    fn others_are_up(&self, index: usize, took: Option<Duration>) -> bool {
        let pool = &self.pools[index];
        let is_up = |slot: &usize| {
            self.slots[*slot].process().is_some_and(|life| {
                let begun_at = life.in_flight.first().map(|task| task.begun_at);
                let is_long = |took| begun_at.is_some_and(|at| self.now.at.since(at) >= took + EXECUTED);
                matches!(life.phase, Phase::Working { .. })
                    && (!pool.plan.is_once || life.pid.is_some() && begun_at.is_some())
                    && took.is_none_or(is_long)
            })
        };
        pool.slots.iter().any(is_up)
    }

    pub(super) fn wait_before_restart(&mut self, slot: usize) {
        self.slots[slot].failures += 1;
        let delay = self.plan.supervisor.restart.delay(self.slots[slot].failures);
        let until = self.now.at + delay;
        self.slots[slot].state = State::Waiting { until };
        self.timers.arm(Owner::Restart(slot), until);
    }

    pub(super) fn wait_after_start(&mut self, slot: usize) {
        self.wait_before_restart(slot);
        self.count_shut(self.slots[slot].queue);
    }

    /// Counts the slots of a queue that take no task because they cannot be started. If all are like that, others get what
    /// waits here.
    pub(super) fn count_shut(&mut self, index: usize) {
        let pool = &self.pools[index];
        let is_shut = |slot: &&usize| {
            let slot = &self.slots[**slot];
            // A place for single processes takes its task first.
            slot.failed_starts > 0 && (!pool.plan.is_once || matches!(slot.state, State::Waiting { .. }))
        };
        let shut = pool.slots.iter().filter(is_shut).count();
        self.pools[index].shut = u32::try_from(shut).unwrap_or(u32::MAX);
        if self.pools[index].able() == 0 {
            self.give_back(index);
        } else {
            self.renew_credit(index);
        }
    }

    /// Descriptors that all slots take in this process, with so many processes of this queue: of a worker that speaks frames
    /// its socket and its output, of a process for one task its output, and the lock of its payload's folder if it has one.
    pub(super) fn descriptors(&self, of: usize, processes: u32) -> u64 {
        let members = self.pools.iter().enumerate().filter(|(index, pool)| pool.is_member() || *index == of);
        let taken = members.map(|(index, pool)| {
            let count = if index == of { processes } else { pool.processes() };
            u64::from(count) * if pool.plan.is_once && !pool.plan.payload_in_file { 1 } else { 2 }
        });
        taken.sum()
    }

    /// Why a queue cannot have so many processes, as far as that is known before they are started.
    pub(super) fn too_many_for_files(&self, index: usize, processes: u32) -> Option<String> {
        let (needed, there) = (self.descriptors(index, processes), self.plan.descriptors);
        (needed > there).then(|| {
            let others = needed - self.descriptors(index, 0);
            let queue = self.pools[index].name();
            format!(
                "{processes} processes of {queue} take {others} file descriptors, with the other queues {needed}, and the \
                 limit of open files leaves {there} for workers"
            )
        })
    }

    /// At the start and after a reload: tells if there are more slots than can be filled.
    pub(super) fn warn_of_files(&mut self) {
        let (needed, there) = (self.descriptors(usize::MAX, 0), self.plan.descriptors);
        if needed > there {
            self.log(Level::Warning, || {
                format!(
                    "The workers take {needed} file descriptors, and the limit of open files leaves {there} for them: not \
                     all of them can be started"
                )
            });
        }
    }

    /// Whether a halt need not wait for this slot: it cannot be started, and another one of its queue has nothing to do.
    pub(super) fn is_dispensable(&self, slot: &Slot) -> bool {
        let is_free = |other: &usize| self.slots[*other].failed_starts == 0 && self.slots[*other].is_idle();
        let holds_nothing = slot.process().is_none_or(|life| life.in_flight.is_empty());
        slot.failed_starts > 0 && holds_nothing && self.pools[slot.queue].slots.iter().any(is_free)
    }
}
