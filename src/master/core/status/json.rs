//! The status of a run: for `asynctask status` as JSON, for the service manager and the log as a line. Nothing here changes anything.

use serde_json::{Map, Value, json};

use crate::{
    master::core::{
        Core,
        state::{
            in_flight::InFlight,
            pool::{self, Standing},
            slot::{Phase, Slot},
        },
    },
    plural::counted,
    systemd,
};

impl Core {
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

    pub(in crate::master::core) fn status(&self) -> Value {
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
    pub(in crate::master::core) fn shown(&self) -> impl Iterator<Item = (usize, Vec<&Slot>)> {
        let mut slots: Vec<Vec<&Slot>> = vec![Vec::new(); self.pools.len()];
        for slot in self.slots.iter().filter(|slot| slot.is_shown()) {
            slots[slot.queue].push(slot);
        }
        let there = |index: &usize| self.pools[*index].standing != Standing::Vacant;
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
            "paused": self.paused_status(index),
            "worked_alone": pool.worked_alone(),
            "stuck": pool.stuck.shown(self.now.at),
            "in_hand": pool.in_hand + pool.waiting.len(),
            "done": pool.done(),
            "slots": slots.iter().map(|slot| self.slot_status(slot)).collect::<Vec<Value>>(),
        })
    }

    pub(in crate::master::core) fn queue_state(&self, index: usize) -> &'static str {
        let pool = &self.pools[index];
        if self.stop.is_stopping() || !pool.is_member() {
            "draining"
        } else if pool.trouble.is_some() {
            "unavailable"
        } else if pool.state == pool::State::Running {
            if pool.is_paused() { "paused" } else { "running" }
        } else {
            "parked"
        }
    }

    fn slot_status(&self, slot: &Slot) -> Value {
        let life = slot.process();
        let task = life.and_then(|life| life.in_flight.first()).map(|task| self.task_status(task));
        let begun = life.into_iter().flat_map(|life| life.in_flight.iter()).filter(|task| task.begun);
        let tasks: Vec<Value> = begun.map(|task| self.task_status(task)).collect();
        json!({
            "slot": slot.name,
            "pid": life.and_then(|life| life.pid),
            "state": slot.state_word(),
            "uptime_seconds": life.map(|life| self.now.at.since(life.spawned_at).as_secs_f64()),
            "task": task,
            "tasks": tasks,
            "ahead": life.map_or(0, |life| life.in_flight.ahead()),
            "done": slot.done,
            "failed": slot.failed,
            "restarts": slot.restarts,
            "last_exit": slot.last_exit,
            "rss_bytes": Value::Null,
        })
    }
    fn task_status(&self, task: &InFlight) -> Value {
        json!({
            "id": task.id(),
            "attempt": task.delivery.task.attempts.saturating_add(1),
            "job": task.place().map(|place| &place.job),
            "step": task.place().map(|place| &place.step),
            "age_seconds": self.now.at.since(task.begun_at).as_secs_f64(),
            "progress": task.progress.as_ref().map(|progress| json!({ "percent": progress.0, "note": progress.1 })),
        })
    }
}
