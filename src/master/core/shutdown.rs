//! The core's chapter on ending: stopping on request, when all is done, and because nothing can be done.
//!
//! ```text
//! Running ─ stop, or all empty ─> Draining ─ 2nd stop, grace over ─> Interrupting ─ 3rd stop, 2 s ─> Killing
//! ```
//!
//! Only upwards: a stronger stop is never undone by a weaker one. Every state but `Running` has a deadline, so an
//! end comes in bounded time even if every child is deaf and the transport never answers.

use std::time::Duration;

use super::{
    Core,
    event::{Action, Event, Signal, WorkerId},
    state::{
        settlements::AtRisk,
        slot::{KillReason, Phase, State},
        stop::{End, Stop},
        timers::Owner,
    },
};
use crate::{
    exit_code::Code,
    frames::{self, HaltReason},
    logging::Level,
    transport,
};

/// From SIGTERM to SIGKILL.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(2);
/// How long the end waits for killed processes to be reaped.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// The last settlements are waited for as long as the grace goes, and at least this long.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

impl Core {
    /// A person or the service manager wants an end: each time one step further.
    pub(super) fn stop_asked(&mut self) {
        match &self.stop {
            Stop::Running => {
                self.say_termination();
                self.drain(Code::Ok, None, HaltReason::Stop);
            }
            Stop::Draining(_) => self.interrupt(),
            Stop::Interrupting(_) => {
                self.kill_all();
                // Only storing is waited for, and somebody has waited long enough.
                if self.all_workers_exited() {
                    self.finish();
                }
            }
            Stop::Killing(_) if self.all_workers_exited() => self.finish(),
            Stop::Killing(_) | Stop::Closing(_) | Stop::Over => {}
        }
    }

    /// A person wants an end now: what is in hand is interrupted.
    pub(super) fn interrupt_asked(&mut self) {
        if matches!(self.stop, Stop::Running) {
            self.stop_asked();
        }
        self.interrupt();
    }

    /// Ends a run that cannot go on, with an explanation.
    pub(super) fn end_badly(&mut self, code: Code, error: String) {
        if self.stop.is_stopping() {
            return;
        }
        let text = error.clone();
        self.log(Level::Error, || text);
        self.say_termination();
        self.drain(code, Some(error), HaltReason::Stop);
    }

    /// The time limit of a halt-mode run passed.
    pub(super) fn halt_timed_out(&mut self) {
        self.end_badly(Code::HaltTimeout, "the time limit of the run passed before everything was done".to_owned());
    }

    fn say_termination(&mut self) {
        if self.plan.scheduler {
            self.log(Level::Debug, || "Termination received; shutting down scheduler".to_owned());
            self.actions.push(Action::StopScheduler);
            self.log(Level::Debug, || "Scheduler dead".to_owned());
        }
        self.log(Level::Debug, || "Termination received; shutting down children".to_owned());
    }

    /// Takes no more tasks, gives back what was not begun, and lets workers finish what they hold.
    pub(super) fn drain(&mut self, code: Code, error: Option<String>, reason: HaltReason) {
        let until = self.now.at + self.plan.supervisor.grace;
        self.stop = Stop::Draining(End { code, error, until, interrupted: false, last_until: None });
        self.ends_for = Some(reason);
        self.timers.arm(Owner::Stop, until);
        self.abandon_reload();
        if reason == HaltReason::Empty {
            // Nothing is left anywhere that could come again.
            self.void_outcomes.forget();
        }
        self.void_outcomes.forget_old(self.now.at);
        self.serial += 1;
        for index in 0..self.pools.len() {
            self.give_back(index);
        }
        self.judge_pending(true);
        self.drop_lost();
        for slot in 0..self.slots.len() {
            self.dismiss(slot, reason);
        }
    }

    pub(super) fn dismiss(&mut self, slot: usize, reason: HaltReason) {
        if self.is_once(slot) && self.slots[slot].process().is_some() {
            self.dismiss_once(slot, reason);
            return;
        }
        let Some(life) = self.slots[slot].process_mut() else {
            self.slots[slot].state = State::Empty;
            return;
        };
        let worker = life.id;
        match life.phase {
            // It holds nothing and may never listen.
            Phase::Starting { .. } => self.kill_worker(worker, KillReason::Stop),
            Phase::Working { .. } => {
                life.phase = Phase::Leaving;
                life.last_sent = None;
                self.recall(slot);
                self.relist(slot);
                if reason == HaltReason::Empty {
                    self.log_as(slot, Level::Info, || "No tasks found in queue".to_owned());
                }
                self.actions.push(Action::Send { worker, frame: frames::halt(reason) });
            }
            Phase::Leaving | Phase::Interrupted { .. } | Phase::Killed(_) | Phase::LeftProcesses { .. } => {}
        }
    }

    /// Takes back by force what workers hold: programs may clean up for two seconds.
    fn interrupt(&mut self) {
        let kill_at = self.now.at + INTERRUPT_PATIENCE;
        if !matches!(self.stop, Stop::Draining(_)) {
            return;
        }
        let Stop::Draining(mut end) = std::mem::replace(&mut self.stop, Stop::Over) else { return };
        (end.until, end.last_until) = (kill_at, None);
        self.stop = Stop::Interrupting(end);
        self.timers.arm(Owner::Stop, kill_at);
        for slot in 0..self.slots.len() {
            let is_program = self.pools[self.slots[slot].queue].plan.is_program;
            let Some(life) = self.slots[slot].process_mut() else { continue };
            if matches!(life.phase, Phase::Killed(_) | Phase::LeftProcesses { .. }) {
                continue;
            }
            life.phase = Phase::Interrupted { kill_at };
            let worker = life.id;
            self.relist(slot);
            self.arm_slot(slot);
            if is_program {
                self.actions.push(Action::Signal { worker, signal: Signal::Terminate });
            }
        }
    }

    /// The patience with an interrupted process is over.
    pub(super) fn kill_for_stop(&mut self, worker: WorkerId) {
        self.kill_worker(worker, KillReason::Stop);
    }

    fn kill_all(&mut self) {
        let until = self.now.at + LAST_PATIENCE;
        let (Stop::Draining(mut end) | Stop::Interrupting(mut end)) = std::mem::replace(&mut self.stop, Stop::Over)
        else {
            return;
        };
        (end.until, end.last_until) = (until, None);
        self.stop = Stop::Killing(end);
        self.timers.arm(Owner::Stop, until);
        for slot in 0..self.slots.len() {
            if let Some(life) = self.slots[slot].process_mut() {
                let worker = life.id;
                self.kill_worker(worker, KillReason::Stop);
            }
        }
    }

    /// A deadline of the end passed.
    pub(super) fn look_at_stop(&mut self) {
        let now = self.now.at;
        let Some(end) = self.stop.end() else { return };
        let due = end.last_until.unwrap_or(end.until);
        if due > now {
            self.timers.arm(Owner::Stop, due);
            return;
        }
        match &self.stop {
            _ if self.all_workers_exited() => self.finish(),
            Stop::Draining(_) => self.interrupt(),
            Stop::Interrupting(_) => self.kill_all(),
            Stop::Killing(_) => {
                self.log(Level::Error, || "Killed workers did not end; they are left to the system".to_owned());
                self.leave_running();
            }
            Stop::Running | Stop::Closing(_) | Stop::Over => {}
        }
    }

    fn all_workers_exited(&self) -> bool {
        self.slots.iter().all(|slot| slot.process().is_none())
    }

    /// After each event: is there nothing left to do, or nobody left to end?
    pub(super) fn check_quiet(&mut self) {
        if matches!(self.stop, Stop::Running) {
            self.check_empty();
            return;
        }
        if matches!(self.stop, Stop::Closing(_) | Stop::Over) || !self.all_workers_exited() {
            return;
        }
        // Without a session nothing is settled but what was accepted before, which the next session would store.
        let awaits = if self.is_attached() { !self.all_settled() } else { self.unsettled.at_risk(AtRisk::Task) > 0 };
        if !awaits {
            self.finish();
            return;
        }
        let soon = self.now.at + STORE_PATIENCE;
        let stuck: u64 = self.members().map(|pool| pool.stuck.tasks()).sum();
        let last = match &self.stop {
            // A run that ends because nothing is stored has waited for that already, and a queue that is full stays so.
            Stop::Draining(end) if end.code != Code::Unavailable && stuck < self.unsettled.len() as u64 => {
                end.until.max(soon)
            }
            _ => soon,
        };
        if let Some(end) = self.stop.end()
            && end.last_until.is_none()
        {
            end.last_until = Some(last);
            self.timers.arm(Owner::Stop, last);
        }
    }

    /// Nobody is left. What is not stored by now is tried once more with the transport's end.
    fn finish(&mut self) {
        let end = match std::mem::replace(&mut self.stop, Stop::Over) {
            Stop::Draining(end) | Stop::Interrupting(end) | Stop::Killing(end) => end,
            other @ (Stop::Running | Stop::Closing(_) | Stop::Over) => {
                self.stop = other;
                return;
            }
        };
        if self.loss().is_none() {
            self.end(end);
            return;
        }
        self.stop = Stop::Closing(end);
        self.actions.push(Action::Close);
    }

    /// While the transport is closed.
    pub(super) fn closing(&mut self, event: Event) {
        match event {
            Event::Transport(
                event @ (transport::Event::Stored(_) | transport::Event::Settled(_) | transport::Event::Warning(_)),
            ) => self.transport_event(event),
            Event::Closed => {
                if let Stop::Closing(end) = std::mem::replace(&mut self.stop, Stop::Over) {
                    self.end(end);
                }
            }
            _ => {}
        }
    }

    /// Says how the run ended.
    fn end(&mut self, mut end: End) {
        if let Some(loss) = self.loss() {
            let text = loss.clone();
            self.log(Level::Error, || text);
            end.interrupted = true;
            end.error.get_or_insert(loss);
        }
        let halted = self.plan.halt_when_empty && end.code == Code::Ok && end.error.is_none();
        if end.interrupted && end.code == Code::Ok {
            end.code = Code::Interrupted;
        }
        if halted {
            self.log(Level::Info, || "All workers halted; closing down...".to_owned());
        } else {
            self.log(Level::Debug, || "Children dead".to_owned());
        }
        if self.plan.halt_when_empty {
            let summary = self.summary();
            self.log(Level::Info, || summary);
        }
        self.log(Level::Info, || "Complete".to_owned());
        self.actions.push(Action::Halt { code: end.code, error: end.error });
    }

    /// Whether the run ends when all queues are empty.
    pub(in crate::master) const fn halts_when_empty(&self) -> bool {
        self.plan.halt_when_empty
    }

    /// Whether a run that was to halt when empty has ended otherwise.
    pub(in crate::master) const fn was_stopped(&self) -> bool {
        self.plan.halt_when_empty && !matches!(self.ends_for, Some(HaltReason::Empty))
    }

    fn summary(&self) -> String {
        let tally = self.tally;
        format!(
            "{} processed, {} failed, {} retried, {} dead-lettered in {:.1} s",
            tally.processed,
            tally.failed,
            tally.retried,
            tally.dead_lettered,
            self.elapsed().as_secs_f64()
        )
    }
}
