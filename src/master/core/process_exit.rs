//! The core's chapter on exits of processes: why a process ended, and what that means for the tasks that it had.
//!
//! A death is an exit without a reported end; the exit code does not decide. What the process held is settled
//! here, each task once, with the evidence.

use std::time::Duration;

use super::{
    Core,
    event::{Ended, WorkerId},
    ledger::End,
    left_running::tell_left,
    state::{
        in_flight::{InFlight, Withdrawn},
        pending_verdict::PendingVerdict,
        pool,
        slot::{KillReason, Life, Phase, State},
        timers::Owner,
    },
    status::{metrics, slots},
};
use crate::{
    logging::Level,
    task::{Exit, Settlement},
};

/// After a life of this length, or one finished task, the restart delay starts from its first value again.
const SOUND_LIFE: Duration = Duration::from_secs(10);
/// A worker that dies of TERM or INT may have got it together with us: its verdict waits this long for our stop.
const VERDICT_PATIENCE: Duration = Duration::from_millis(500);

impl Core {
    /// A process was reaped.
    pub(super) fn exited(&mut self, worker: WorkerId, ended: Ended) {
        if !self.is_current(worker) {
            return;
        }
        let slot = worker.slot;
        self.hand_back_of(slot);
        let State::Alive(mut life) = std::mem::replace(&mut self.slots[slot].state, State::Empty) else { return };
        if let Phase::LeftProcesses { was } = life.phase {
            life.phase = *was;
        }
        self.relist(slot);
        if !self.slots[slot].wanted {
            self.pools[self.slots[slot].queue].leaving.retain(|other| *other != slot);
        }
        let is_outcome = self.is_once(slot) && life.gives_outcome(&ended.exit);
        self.slots[slot].last_exit = Some(slots::last_exit(&life, &ended, is_outcome));
        for task in life.in_flight.iter() {
            self.left_worker(task);
        }
        self.telling_ended(life.telling.take());
        self.storing_ended(life.id);
        self.take_back_unread(slot, &mut life, &ended);
        if is_outcome {
            self.once_ended(slot, &life, &ended);
            return;
        }
        if self.stop.is_stopping() || !self.slots[slot].wanted {
            let index = self.slots[slot].queue;
            self.ended_in_stop(slot, life, &ended);
            self.renew_credit(index);
            self.dispatch(index);
            return;
        }
        self.count_restart(slot, metrics::cause(&life));
        self.slots[slot].restarts += 1;
        // What is given back for the sake of a neighbour that was withdrawn has not failed.
        let for_one = matches!(&life.phase, Phase::Killed(reason) if reason.is_withdrawal());
        let has_failed = |task: &&InFlight| match task.withdrawn {
            Some(how) => how == Withdrawn::Cancelled,
            None => !for_one,
        };
        self.slots[slot].failed += life.in_flight.iter().filter(has_failed).count() as u64;
        let from_outside =
            matches!(&ended.exit, Exit::Signal { signal, .. } if signal == "SIGKILL" || signal == "SIGTERM");
        match (&life.phase, life.in_flight.is_empty()) {
            // Nothing is known of what it would have become.
            (Phase::Starting { .. }, _) if from_outside => {
                self.tell_death(slot, &life, &ended, "before it was ready");
                self.wait_before_restart(slot);
            }
            _ if !life.was_ready => {
                self.slots[slot].failed_starts += 1;
                if self.tells_failed_start(slot) {
                    self.tell_death(slot, &life, &ended, "before it was ready");
                }
                match life.phase {
                    Phase::Killed(KillReason::StartLimit) => self.started_late(slot),
                    // Or broken in a way that we noticed first.
                    _ => self.failed_start(slot, None),
                }
            }
            (_, true) => {
                self.tell_death(slot, &life, &ended, "while idle");
                if life.tasks > 0 || self.now.at.since(life.spawned_at) >= SOUND_LIFE {
                    self.slots[slot].failures = 0;
                }
                self.wait_before_restart(slot);
                // What it had not read made room.
                self.dispatch(self.slots[slot].queue);
            }
            (_, false) => self.died_at_work(slot, life, ended),
        }
    }

    /// A worker that ends between two tasks may find the next one in its socket already. What it never read it has not
    /// begun, and it goes back. Only for a worker that has done tasks: one that never does any must not take them for
    /// ever.
    fn take_back_unread(&mut self, slot: usize, life: &mut Life, ended: &Ended) {
        let own_end =
            matches!(life.phase, Phase::Working { .. } | Phase::Leaving | Phase::Killed(KillReason::Fault(_)));
        if !ended.unread || life.tasks == 0 || !own_end {
            return;
        }
        let is_withdrawn = |number| life.in_flight.numbered(number).is_some_and(|task| task.withdrawn.is_some());
        if life.last_sent.is_some_and(is_withdrawn) {
            return;
        }
        let Some(task) = life.last_sent.take().and_then(|number| life.in_flight.take_numbered(number)) else { return };
        let (id, name) = (task.id().to_owned(), self.slots[slot].name.clone());
        self.log(Level::Info, || format!("Task {id} was not begun: {name} ended before it read it; back in its queue"));
        self.released(&task.delivery);
        self.settle(&task, Settlement::Release, None, None);
    }

    /// A process died with tasks in its hands: each has used an attempt; the slot is filled again at once.
    fn died_at_work(&mut self, slot: usize, mut life: Life, ended: Ended) {
        self.first_ready_at.get_or_insert(self.now.at);
        let index = self.slots[slot].queue;
        match &life.phase {
            Phase::Killed(KillReason::Cancelled) => {
                self.tell_restart(slot, Level::Info, "was ended with a task that a person cancelled");
            }
            Phase::Killed(KillReason::Void) => {
                self.tell_restart(slot, Level::Info, "was ended with a task that counts for nothing any more");
            }
            _ => self.tell_restart(slot, Level::Error, "died"),
        }
        let name = self.slots[slot].name.clone();
        let by_stop_signal =
            matches!(&ended.exit, Exit::Signal { signal, .. } if signal == "SIGTERM" || signal == "SIGINT");
        if by_stop_signal && !matches!(life.phase, Phase::Killed(_)) {
            let until = self.now.at + VERDICT_PATIENCE;
            // One that was withdrawn has its verdict already.
            let is_withdrawn = |task: &InFlight| task.withdrawn.is_some();
            let (withdrawn, in_flight): (Vec<_>, Vec<_>) =
                std::mem::take(&mut life.in_flight).into_vec().into_iter().partition(is_withdrawn);
            self.judge(&withdrawn, None, life.pid, &ended, &name);
            self.pending_verdicts.push(PendingVerdict { until, in_flight, pid: life.pid, ended, slot: name });
            self.timers.arm(Owner::Verdicts, until);
        } else {
            let reason = match life.phase {
                Phase::Killed(reason) => Some(reason),
                _ => None,
            };
            self.judge(&life.in_flight.into_vec(), reason.as_ref(), life.pid, &ended, &name);
        }
        self.slots[slot].failures = 0;
        self.spawn_first(slot);
        self.renew_credit(index);
        self.dispatch(index);
    }

    /// Settles what a dead process held, as crash or time-out.
    fn judge(
        &mut self,
        in_flight: &[InFlight],
        reason: Option<&KillReason>,
        pid: Option<u32>,
        ended: &Ended,
        slot: &str,
    ) {
        for task in in_flight {
            let took = self.now.at.since(task.begun_at);
            let attempt = self.attempt(&task.delivery, pid, Some(took));
            let mut settlement = match task.withdrawn {
                Some(how) => attempt.withdrawn(how),
                None => attempt.died(reason, ended, in_flight.len()),
            };
            tell_left(&mut settlement, &ended.left_running);
            self.tell_withdrawn(task);
            if settlement != Settlement::Discard {
                let (id, what, pid) = (task.id(), in_words(&settlement), pid.unwrap_or_default());
                self.set_log_subject(&task.delivery.task);
                // The neighbour of one that was withdrawn.
                let is_unharmed = settlement == Settlement::Release && reason.is_some_and(KillReason::is_withdrawal);
                let level = if is_unharmed { Level::Info } else { Level::Error };
                self.log(level, || format!("{slot} (pid {pid}): task {id} {what}"));
            }
            let mut note = self.ended(&End { delivery: &task.delivery, took, settlement: &settlement, slot: None });
            if let (Settlement::Retry { .. }, Some(note)) = (&settlement, &mut note) {
                // The line above says it already.
                note.line = None;
            }
            self.settle(task, settlement, note, None);
        }
        // What is given back or was withdrawn has not failed.
        let given_back = reason.is_some_and(|reason| *reason == KillReason::Stop || reason.is_withdrawal());
        for task in in_flight.iter().filter(|task| task.withdrawn.is_none() && !given_back) {
            self.count_failure(task.delivery.queue.0, task.id());
        }
    }

    /// Judges what waited for a stop: as crash when none came, as released when one did.
    pub(super) fn judge_pending(&mut self, stopping: bool) {
        let now = self.now.at;
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending_verdicts)
            .into_iter()
            .partition(|pending| stopping || pending.until <= now);
        self.pending_verdicts = later;
        if stopping && !due.is_empty() {
            self.stop.interrupted_tasks();
        }
        for pending in due {
            let PendingVerdict { in_flight, pid, ended, slot, .. } = pending;
            self.judge(&in_flight, stopping.then_some(&KillReason::Stop), pid, &ended, &slot);
        }
        if let Some(next) = self.pending_verdicts.iter().map(|pending| pending.until).min() {
            self.timers.arm(Owner::Verdicts, next);
        }
    }

    /// Ends a task by hand whose worker's death is not judged yet. Whether there was one.
    pub(super) fn cancel_pending(&mut self, id: &str) -> bool {
        for index in 0..self.pending_verdicts.len() {
            let pending = &mut self.pending_verdicts[index];
            let Some(position) = pending.in_flight.iter().position(|task| task.id() == id) else {
                continue;
            };
            let mut task = pending.in_flight.remove(position);
            task.withdrawn.get_or_insert(Withdrawn::Cancelled);
            let (pid, ended, slot) = (pending.pid, pending.ended.clone(), pending.slot.clone());
            self.judge(&[task], None, pid, &ended, &slot);
            return true;
        }
        false
    }

    /// A process ended while we stop: what it still held is released, unless it died of its own fault.
    fn ended_in_stop(&mut self, slot: usize, life: Life, ended: &Ended) {
        let by_stop = match (&life.phase, &ended.exit) {
            (Phase::Interrupted { .. }, _) => true,
            (Phase::Killed(reason), _) => *reason == KillReason::Stop,
            (_, Exit::Signal { signal, .. }) => signal == "SIGTERM" || signal == "SIGINT",
            _ => false,
        };
        if life.in_flight.is_empty() {
            if !matches!(life.phase, Phase::Starting { .. } | Phase::Killed(_)) {
                self.log_as(slot, Level::Info, || "Terminating".to_owned());
            }
            return;
        }
        let name = self.slots[slot].name.clone();
        let own = match life.phase {
            Phase::Killed(reason) => Some(reason),
            _ => None,
        };
        let reason = if by_stop { Some(KillReason::Stop) } else { own };
        self.judge(&life.in_flight.into_vec(), reason.as_ref(), life.pid, ended, &name);
        if by_stop {
            self.stop.interrupted_tasks();
        }
    }

    /// Logs the first line of an end, and how it came. It says "restarting" only if the slot is filled again: not while the queue is parked.
    fn tell_restart(&mut self, slot: usize, level: Level, how: &str) {
        let pool = &self.pools[self.slots[slot].queue];
        let (queue, parked) = (pool.name().to_owned(), matches!(pool.state, pool::State::Parked { .. }));
        let next = if parked { "not restarted while the queue is parked" } else { "restarting..." };
        self.log(level, || format!("Worker for queue {queue} {how}; {next}"));
    }

    fn tell_death(&mut self, slot: usize, life: &Life, ended: &Ended, when: &str) {
        self.tell_restart(slot, Level::Error, "died");
        let (name, pid) = (self.slots[slot].name.clone(), life.pid.unwrap_or_default());
        let exit = &ended.exit;
        let last = ended.output_tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        let again = self.in_a_row(slot);
        self.log(Level::Error, || {
            let said = if last.is_empty() { String::new() } else { format!("; its last line: {last}") };
            format!("{name} (pid {pid}): {exit} {when}{said}{again}")
        });
        if !life.was_ready && matches!(exit, Exit::Code { code: 0 }) {
            self.log(Level::Error, || format!("{name}: does it daemonize? A worker stays in the foreground"));
        }
    }
}

fn in_words(settlement: &Settlement) -> String {
    match settlement {
        Settlement::Retry { after, failure } => {
            format!("is retried in {:.1} s ({}: {})", after.as_secs_f64(), failure.reason.as_str(), failure.error)
        }
        Settlement::Dead(failure) => format!("is to be dead-lettered ({}: {})", failure.reason.as_str(), failure.error),
        Settlement::Release => "is back in its queue, no attempt used".to_owned(),
        Settlement::Done { .. }
        | Settlement::Accept
        | Settlement::Pass
        | Settlement::Snooze { .. }
        | Settlement::Discard => "is settled".to_owned(),
    }
}
