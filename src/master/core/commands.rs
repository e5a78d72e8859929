//! The core's chapter on commands: what a person changes while it runs, and what a person is shown.
//!
//! Each command gets exactly one answer, and that says what was begun, not what it led to: nobody may hold up the core
//! by waiting. One that changes something is noted in the log with who gave it, and is refused in a stop, which nothing
//! takes back.
//!
//! A cancelled task is a mark on the task, not on its worker: the worker is killed for it, and whatever else that worker
//! was being killed for, the task becomes a dead letter `cancelled`. Its neighbours in the same process did nothing
//! wrong and are given back with no attempt used, as in a stop.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Core,
    event::Action,
    state::{
        pool,
        slot::{KillReason, Phase, Slot},
    },
    verdict,
};
use crate::{
    control::types::{Answer, Command},
    frames,
    logging::Level,
    plural::counted,
    systemd,
    task::Reason,
};

/// Waiting tasks beside idle workers for this long are a sign that nothing is consumed.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(5);

impl Core {
    /// A command of a person. What it starts goes out as actions; the answer says what that is.
    pub(super) fn commanded(&mut self, number: u64, command: Command, by: &str) {
        if command.changes() {
            self.log(Level::Info, || format!("{by} asks: {}", in_words(&command)));
        }
        let answer = if self.stop.is_stopping() && command.changes() && !matches!(command, Command::Stop { .. }) {
            Some(Answer::refused("the master is stopping"))
        } else {
            self.obey(number, command)
        };
        if let Some(answer) = answer {
            self.actions.push(Action::Answer { number, answer });
        }
    }

    /// Does it. `None`: the answer comes when the transport has had its say.
    fn obey(&mut self, number: u64, command: Command) -> Option<Answer> {
        let done = match command {
            Command::Status {} => return Some(Answer::Done(self.status())),
            Command::Health {} => return Some(Answer::Done(self.health())),
            Command::Cancel { id } => return self.cancel(number, &id),
            Command::Pause { queue } => self.with_queue(&queue, Self::pause),
            Command::Resume { queue } => self.with_queue(&queue, Self::resume),
            Command::Unpark { queue } => self.with_queue(&queue, Self::unpark),
            Command::Scale { queue, processes } => self.with_queue(&queue, |core, index| core.scale(index, processes)),
            Command::Restart { queue: Some(queue) } => self.with_queue(&queue, |core, index| Ok(core.restart(index))),
            Command::Restart { queue: None } => {
                for index in (0..self.pools.len()).filter(|index| self.pools[*index].is_member()).collect::<Vec<_>>() {
                    self.restart(index);
                }
                Ok("all workers are being renewed, one of a queue after the other".to_owned())
            }
            Command::Stop { now: false } => {
                self.stop_asked();
                Ok("stopping".to_owned())
            }
            Command::Stop { now: true } => {
                self.interrupt_asked();
                Ok("stopping; tasks in hand are interrupted".to_owned())
            }
            // The timer is beside the core, too.
            Command::Schedules {} => Err("there are no schedules here".to_owned()),
            // Whoever drives the core reads the settings; without them there is nothing to read.
            Command::Reload { .. } => Err("there are no settings to be read again".to_owned()),
            Command::LogLevel { level } => self.change_log_level(&level),
        };
        Some(done.map_or_else(Answer::refused, Answer::said))
    }

    fn with_queue(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Self, usize) -> Result<String, String>,
    ) -> Result<String, String> {
        if let Some(index) = self.pools.iter().position(|pool| pool.is_member() && pool.name() == name) {
            return act(self, index);
        }
        let known: Vec<&str> = self.members().map(pool::Pool::name).collect();
        Err(format!("\"{name}\" is not a queue of this master; it works {}", known.join(", ")))
    }

    /// The queues that the settings name.
    pub(super) fn members(&self) -> impl Iterator<Item = &pool::Pool> {
        self.pools.iter().filter(|pool| pool.is_member())
    }

    fn pause(&mut self, index: usize) -> Result<String, String> {
        if std::mem::replace(&mut self.pools[index].paused, true) {
            return Err("it is paused already".to_owned());
        }
        self.give_back(index);
        Ok("paused; tasks in hand are finished".to_owned())
    }

    fn resume(&mut self, index: usize) -> Result<String, String> {
        if !std::mem::replace(&mut self.pools[index].paused, false) {
            return Err("it is not paused".to_owned());
        }
        self.serial += 1;
        self.renew_credit(index);
        Ok("resumed".to_owned())
    }

    fn unpark(&mut self, index: usize) -> Result<String, String> {
        if self.pools[index].state == pool::State::Running {
            return Err("it is not parked".to_owned());
        }
        self.pools[index].state = pool::State::Running;
        self.pools[index].failure_streak.reset();
        self.refill(index);
        Ok("worked again".to_owned())
    }

    fn change_log_level(&mut self, level: &str) -> Result<String, String> {
        let level: Level =
            level.parse().map_err(|_| format!("\"{level}\" is not a level: error, warning, info or debug"))?;
        self.plan.log_level = level;
        // Who is started from here on is told by its environment.
        self.actions.push(Action::LogLevel(level));
        for slot in 0..self.slots.len() {
            self.tell_log_level(slot);
        }
        Ok(format!("logging from {level} up"))
    }

    /// Tells a worker how much to log, once it listens. A process for one task has no socket, and ends with its task.
    pub(super) fn tell_log_level(&mut self, slot: usize) {
        let level = self.plan.log_level;
        if self.is_once(slot) {
            return;
        }
        let Some(life) = self.slots[slot].process_mut() else { return };
        if !matches!(life.phase, Phase::Working { .. }) || life.log_level == level {
            return;
        }
        life.log_level = level;
        // The last frame is no task now: if it ends without having read this one, that says nothing of a task.
        life.last_sent = None;
        let worker = life.id;
        self.actions.push(Action::Send { worker, frame: frames::log_level(level) });
    }

    /// Ends one task by hand. One that waits here is dead-lettered, one in a worker's hands with its worker. What is not
    /// here may wait in the transport, which is asked; then there is no answer yet.
    fn cancel(&mut self, number: u64, id: &str) -> Option<Answer> {
        let lives = self.slots.iter_mut().filter_map(Slot::process_mut);
        let holder = lives.into_iter().find_map(|life| {
            // Marked, so that it counts whatever the worker is being killed for already.
            let task = life.in_flight.get_mut(id)?;
            task.cancelled = true;
            Some(life.id)
        });
        if let Some(worker) = holder {
            self.kill_worker(worker, KillReason::Cancelled);
            let slot = &self.slots[worker.slot].name;
            return Some(Answer::said(format!("its worker {slot} is stopped; it becomes a dead letter")));
        }
        if self.cancel_pending(id) {
            return Some(Answer::said("its worker has just died; it becomes a dead letter"));
        }
        for index in 0..self.pools.len() {
            if let Some(delivery) = self.pools[index].waiting.take(id) {
                self.refuse(&delivery, Reason::Cancelled, verdict::CANCELLED.to_owned());
                return Some(Answer::said("it was not begun; it becomes a dead letter"));
            }
        }
        self.actions.push(Action::CancelWaiting { number, id: id.to_owned() });
        None
    }

    // What is shown.

    /// How the run stands, for the service manager.
    #[must_use]
    pub fn phase(&self) -> systemd::Phase {
        if self.stop.is_stopping() {
            systemd::Phase::Stopping
        } else if self.ran_at.is_none() {
            systemd::Phase::Starting
        } else if self.is_reloading() {
            systemd::Phase::Reloading
        } else {
            systemd::Phase::Running
        }
    }

    /// One line on how the run stands.
    #[must_use]
    pub fn headline(&self) -> String {
        let wanted = self.slots.iter().filter(|slot| slot.wanted).count();
        let working = |slot: &&Slot| slot.process().is_some_and(|life| matches!(life.phase, Phase::Working { .. }));
        let working = self.slots.iter().filter(working).count();
        let parked = self.all_parked_words().unwrap_or_else(|| {
            let parked = self.members().filter(|pool| pool.state != pool::State::Running).count();
            format!("{parked} parked")
        });
        let restarts: u64 = self.slots.iter().map(|slot| slot.restarts).sum();
        let (queues, in_hand) = (self.members().count(), self.in_hand);
        let unavailable = match self.members().filter(|pool| pool.trouble.is_some()).count() {
            0 => String::new(),
            count => format!(", {count} unavailable"),
        };
        let connected = if self.is_attached() { "" } else { ", transport not connected" };
        let draining = if self.stop.is_stopping() { "draining: " } else { "" };
        let (queues, wanted) = (counted(queues, "queue"), counted(wanted, "worker"));
        let (in_hand, restarts) = (counted(in_hand, "task"), counted(restarts, "restart"));
        format!(
            "{draining}{queues}, {working}/{wanted}, {in_hand} in hand, {parked}{unavailable}, {restarts}{connected}"
        )
    }

    fn status(&self) -> Value {
        let queues: Map<String, Value> = self
            .shown()
            .map(|(index, slots)| (self.pools[index].name().to_owned(), self.queue_status(index, &slots)))
            .collect();
        json!({
            "state": if self.stop.is_stopping() { "stopping" } else { "running" },
            "uptime_seconds": self.elapsed().as_secs_f64(),
            "transport": { "connected": self.is_attached() },
            "queues": queues,
        })
    }

    /// The queues there are, with what is shown of their slots. The slots are gone through once, however many queues
    /// there are.
    pub(super) fn shown(&self) -> impl Iterator<Item = (usize, Vec<&Slot>)> {
        let mut slots: Vec<Vec<&Slot>> = vec![Vec::new(); self.pools.len()];
        for slot in self.slots.iter().filter(|slot| slot.is_shown()) {
            slots[slot.queue].push(slot);
        }
        let there = |index: &usize| self.pools[*index].standing != pool::Standing::Vacant;
        slots.into_iter().enumerate().filter(move |(index, _)| there(index)).map(|(index, mut slots)| {
            slots.sort_by(|one, other| (one.name.len(), &one.name).cmp(&(other.name.len(), &other.name)));
            (index, slots)
        })
    }

    fn queue_status(&self, index: usize, slots: &[&Slot]) -> Value {
        let pool = &self.pools[index];
        let unavailable = pool.trouble.as_ref().map(|trouble| {
            json!({
                "error": trouble.error,
                "since_seconds": self.now.at.since(trouble.since).as_secs_f64(),
                "again_in_seconds": trouble.again_at.since(self.now.at).as_secs_f64(),
            })
        });
        json!({
            "kind": pool.plan.settings.kind,
            "state": self.queue_state(index),
            "unavailable": unavailable,
            "parked": self.parked_status(index),
            "stuck": pool.stuck.shown(self.now.at),
            "in_hand": pool.in_hand + pool.waiting.len(),
            "done": pool.done(),
            "slots": slots.iter().map(|slot| self.slot_status(slot)).collect::<Vec<Value>>(),
        })
    }

    pub(super) fn queue_state(&self, index: usize) -> &'static str {
        let pool = &self.pools[index];
        if self.stop.is_stopping() || !pool.is_member() {
            "draining"
        } else if pool.trouble.is_some() {
            "unavailable"
        } else if pool.state == pool::State::Running {
            if pool.paused { "paused" } else { "running" }
        } else {
            "parked"
        }
    }

    fn slot_status(&self, slot: &Slot) -> Value {
        let life = slot.process();
        let task = life.and_then(|life| life.in_flight.first()).map(|task| {
            json!({
                "id": task.id(),
                "age_seconds": self.now.at.since(task.begun_at).as_secs_f64(),
                "progress": task.progress.as_ref().map(|progress| json!({ "percent": progress.0, "note": progress.1 })),
            })
        });
        json!({
            "slot": slot.name,
            "pid": life.and_then(|life| life.pid),
            "state": slot.state_word(),
            "uptime_seconds": life.map(|life| self.now.at.since(life.spawned_at).as_secs_f64()),
            "task": task,
            "done": slot.done,
            "failed": slot.failed,
            "restarts": slot.restarts,
            "last_exit": slot.last_exit,
            "rss_bytes": Value::Null,
        })
    }

    /// What keeps tasks from being done. That tasks are delivered is for the shell to add, which sees the depths.
    fn health(&self) -> Value {
        let mut problems = Vec::new();
        if self.stop.is_stopping() {
            problems.push("the master is stopping".to_owned());
        }
        if !self.is_attached() {
            problems.push("no consumers are attached: the transport is not connected".to_owned());
        }
        if let Some(cause) = self.stall.problem() {
            problems.push(format!("nothing can be stored: {cause}"));
        }
        let mut ready = vec![false; self.pools.len()];
        for slot in &self.slots {
            ready[slot.queue] |= slot.process().is_some_and(|life| matches!(life.phase, Phase::Working { .. }));
        }
        for (index, pool) in self.pools.iter().enumerate().filter(|(_, pool)| pool.is_member()) {
            let name = pool.name();
            if let Some(error) = pool.stuck.problem(self.now.at) {
                problems.push(format!("tasks of queue {name} are stuck: {error}"));
            }
            if let Some(trouble) = &pool.trouble {
                problems.push(format!("queue {name} is unavailable: {}", trouble.error));
                continue;
            }
            match self.queue_state(index) {
                "parked" => {
                    let words = self.parked_words(index).unwrap_or_default();
                    problems.push(format!("queue {name} is parked: {words}"));
                }
                "running" if !ready[index] => problems.push(format!("queue {name} has no worker that is ready")),
                _ => {}
            }
        }
        // Queues where a free worker should get what waits: a backlog there means that nothing is delivered.
        let hungry: Vec<&str> = self.members().filter(|pool| self.is_hungry(pool)).map(pool::Pool::name).collect();
        json!({ "healthy": problems.is_empty(), "problems": problems, "hungry": hungry })
    }

    fn is_hungry(&self, pool: &pool::Pool) -> bool {
        pool.state == pool::State::Running
            && pool.trouble.is_none()
            && !pool.paused
            && !pool.free.is_empty()
            && pool.waiting.is_empty()
            && pool.rate.is_none()
            && self.plan.max_in_hand.is_none_or(|limit| self.in_hand < limit)
            && self.now.at.since(pool.delivered_at) > DELIVERY_PATIENCE
    }
}

fn in_words(command: &Command) -> String {
    let text = serde_json::to_value(command).unwrap_or_default();
    let words = text.as_object().into_iter().flatten().filter_map(|(name, value)| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(true) => Some(name.clone()),
        Value::Bool(false) | Value::Null => None,
        other => Some(other.to_string()),
    });
    words.collect::<Vec<_>>().join(" ")
}
