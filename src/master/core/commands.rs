//! The core's chapter on commands: what a person changes while it runs.
//!
//! Each command gets exactly one answer, and that says what was begun, not what it led to: nobody may hold up the core
//! by waiting. One that changes something is noted in the log with who gave it, and is refused in a stop, which nothing
//! takes back.
//!
//! A cancelled task is a mark on the task, not on its worker: the worker is killed for it, and whatever else that worker
//! was being killed for, the task becomes a dead letter `cancelled`. Its neighbours in the same process did nothing
//! wrong and are given back with no attempt used, as in a stop.

use std::time::Duration;

use serde_json::Value;

use super::{
    Core,
    event::Action,
    state::{
        celery::SetLimits,
        in_flight::Withdrawn,
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
    task::Reason,
    text,
};

/// Bytes of a task's id that are named where there are several.
const NAMED: usize = 64;

impl Core {
    /// A command of a person. What it starts goes out as actions; the answer says what that is.
    pub(super) fn commanded(&mut self, number: u64, command: Command, by: &str) {
        if command.changes() {
            self.log(Level::Info, || format!("{by} asks: {}", in_words(&command)));
        }
        let answer = if self.stop.is_stopping() && command.changes() && !matches!(command, Command::Stop { .. }) {
            Some(Answer::refused("the master is stopping"))
        } else {
            self.obey(number, command, by)
        };
        if let Some(answer) = answer {
            self.actions.push(Action::Answer { number, answer });
        }
    }

    /// Does it. `None`: the answer comes when the transport has had its say.
    fn obey(&mut self, number: u64, command: Command, by: &str) -> Option<Answer> {
        let done = match command {
            Command::Status {} => return Some(Answer::Done(self.status())),
            Command::Health {} => return Some(Answer::Done(self.health())),
            Command::Events { after, most } => return Some(Answer::Done(self.recent(after, most))),
            Command::Cancel { id } => return self.cancel(number, &id),
            Command::Pause { queue, limit_ms, unkept } => {
                let limit = limit_ms.map(Duration::from_millis);
                self.with_queue(&queue, |core, index| core.pause(index, limit, !unkept, by))
            }
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
            // The timer and the settings are beside the core, too.
            Command::Schedules {} | Command::RunNow { .. } => Err("there are no schedules here".to_owned()),
            Command::Counters {} | Command::Settings {} | Command::DashboardLink {} => {
                Err("they are not kept here".to_owned())
            }
            // Whoever drives the core reads the settings; without them there is nothing to read.
            Command::Reload { .. } => Err("there are no settings to be read again".to_owned()),
            Command::CeleryView {} => return Some(Answer::Done(self.celery_view())),
            Command::CeleryEvents { wanted } => return Some(self.events_asked(wanted)),
            Command::CeleryRevoke { ids, terminate } => return Some(self.revoke_asked(&ids, terminate)),
            Command::CeleryRevokeStamped { stamps, terminate } => {
                return Some(self.revoke_stamped_asked(&stamps, terminate));
            }
            Command::CeleryStoreRevoked { ids } => return self.store_revoked(number, &ids),
            Command::CeleryTimeLimit { task, soft_ms, hard_ms } => {
                let (soft, hard) = (soft_ms.map(Duration::from_millis), hard_ms.map(Duration::from_millis));
                self.set_time_limit(&task, SetLimits { soft, hard })
            }
            Command::CeleryRateLimit { task, rate } => self.set_rate_limit(&task, &rate),
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

    fn unpark(&mut self, index: usize) -> Result<String, String> {
        if self.pools[index].state == pool::State::Running {
            return Err("it is not parked".to_owned());
        }
        self.work_again(index);
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
            task.withdrawn.get_or_insert(Withdrawn::Cancelled);
            Some((life.id, task.begun))
        });
        if let Some((worker, false)) = holder {
            self.recall(worker.slot);
            let slot = &self.slots[worker.slot].name;
            return Some(Answer::said(format!("it is taken back from its worker {slot}; it becomes a dead letter")));
        }
        if let Some((worker, true)) = holder {
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
}

fn in_words(command: &Command) -> String {
    // It may name thousands.
    if let Command::CeleryRevoke { ids, terminate } = command {
        let (tasks, first) = (counted(ids.len(), "task"), ids.iter().take(3).map(|id| text::cut(id, NAMED)));
        let first = first.collect::<Vec<_>>().join(", ");
        let (more, end) = (if ids.len() > 3 { ", …" } else { "" }, if *terminate { ", terminate" } else { "" });
        return format!("celery-revoke {tasks} ({first}{more}){end}");
    }
    if let Command::CeleryRevokeStamped { stamps, terminate } = command {
        let count: usize = stamps.values().map(Vec::len).sum();
        let headers: Vec<&str> = stamps.keys().take(3).map(|name| text::cut(name, NAMED)).collect();
        let end = if *terminate { ", terminate" } else { "" };
        return format!("celery-revoke-stamped {} ({}){end}", counted(count, "stamp"), headers.join(", "));
    }
    let text = serde_json::to_value(command).unwrap_or_default();
    let words = text.as_object().into_iter().flatten().filter_map(|(name, value)| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(true) => Some(name.clone()),
        Value::Bool(false) | Value::Null => None,
        other => Some(other.to_string()),
    });
    words.collect::<Vec<_>>().join(" ")
}
