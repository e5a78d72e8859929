//! The core's chapter on pings: whether a worker that holds nothing still listens.
//!
//! A worker that was stopped, or that hangs between two tasks, looks like one that waits for work, and the next task
//! would wait with it. So each `supervisor.ping` all idle workers are asked in one round: many workers wake the master
//! no more often than one. Who has not answered by the next round, or within 10 s, is killed and replaced. It holds
//! nothing, so no attempt is used.
//!
//! A busy worker owes no answer. A task that is handed out makes the ping forgotten; if that task never ends, its
//! `timeout` is what finds the worker. While a ping is open, tasks go to other workers first.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{
    Core,
    event::{Action, WorkerId},
    state::{
        slot::{KillReason, Life, Phase, Slot},
        timers::Owner,
    },
};
use crate::{frames, logging::Level};

/// Longest time for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

impl Core {
    fn answer_limit(&self) -> Duration {
        self.plan.supervisor.ping.min(ANSWER_LIMIT)
    }

    pub(super) fn begin_pings(&mut self) {
        self.pings.next_at = self.now.at + self.plan.supervisor.ping;
        self.timers.arm(Owner::Pings, self.pings.next_at);
    }

    pub(super) fn look_at_pings(&mut self) {
        // In a stop who does not listen is found by the end of the grace.
        if self.stop.is_stopping() {
            return;
        }
        let now = self.now.at;
        if let Some(due) = self.pings.answers_by
            && due <= now
        {
            self.pings.answers_by = None;
            let silent = self.silent();
            self.replace(silent);
        }
        if self.pings.answers_by.is_none() && self.pings.next_at <= now {
            self.ping_idle();
        }
        match self.pings.answers_by {
            Some(answers_by) => self.timers.arm(Owner::Answers, answers_by),
            None => self.timers.arm(Owner::Pings, self.pings.next_at),
        }
    }

    fn ping_idle(&mut self) {
        self.begin_pings();
        self.pings.number += 1;
        let n = self.pings.number;
        for slot in 0..self.slots.len() {
            // A place for one process a task is nobody to ask.
            if self.is_once(slot) {
                continue;
            }
            let Some(life) = self.slots[slot].process_mut() else { continue };
            if matches!(life.phase, Phase::Working { .. }) && life.holds_nothing() && life.end_due.is_none() {
                life.pinged = Some(n);
                life.last_sent = None;
                let worker = life.id;
                self.actions.push(Action::Send { worker, frame: frames::ping(n) });
                self.pings.answers_by = Some(self.now.at + self.answer_limit());
            }
        }
    }

    fn silent(&self) -> Vec<WorkerId> {
        let is_silent = |life: &&Life| matches!(life.phase, Phase::Working { .. }) && life.pinged.is_some();
        self.slots.iter().filter_map(Slot::process).filter(is_silent).map(|life| life.id).collect()
    }

    fn replace(&mut self, silent: Vec<WorkerId>) {
        let seconds = self.answer_limit().as_secs_f64();
        for worker in silent {
            let slot = self.slots[worker.slot].name.clone();
            self.log(Level::Error, || {
                format!("{slot} is killed: it was idle and did not answer a ping within {seconds} s")
            });
            self.kill_worker(worker, KillReason::Silent);
        }
    }
}
