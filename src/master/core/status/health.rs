//! Health: what keeps tasks from being done. Nothing here changes anything.

use std::time::Duration;

use serde_json::{Value, json};

use crate::master::core::{
    Core,
    state::{pool, slot::Phase},
};

/// Waiting tasks beside idle workers for this long are a sign that nothing is consumed.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(5);

impl Core {
    /// Tasks in the hands of workers.
    #[must_use]
    pub const fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// What keeps tasks from being done. That tasks are delivered is for the shell to add, which sees the depths.
    pub(in crate::master::core) fn health(&self) -> Value {
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
            && pool.worked_alone().is_none()
            && !pool.is_paused()
            && !pool.free.is_empty()
            && pool.waiting.is_empty()
            && pool.rate.is_none()
            && self.plan.max_in_hand.is_none_or(|limit| self.in_hand < limit)
            && self.now.at.since(pool.delivered_at) > DELIVERY_PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::{
        config::Queue,
        master::core::{
            event::{Action, Event, Plan, QueuePlan},
            fixture::{attached, delivered, delivery, ready, tell_at},
        },
        task::{Delivery, Task},
    };

    #[test]
    fn a_queue_whose_task_runs_alone_is_not_said_to_get_nothing() {
        let hungry = |deliveries| {
            let settings = Queue { processes: 2, ..Queue::new("foo", "kind") };
            let mut core = Core::new(Plan::of(vec![QueuePlan::of(settings)]));
            let mut events = vec![Event::Begun, attached(1)];
            while let Some(event) = events.pop() {
                for action in tell_at(&mut core, Duration::ZERO, event) {
                    if let Action::Spawn { worker, .. } = action {
                        let spawned = Event::Spawned { worker, pid: 4711 + u32::try_from(worker.slot).unwrap() };
                        events.extend([ready(worker, 1), spawned]);
                    }
                }
            }
            let Delivery { task, .. } = delivery(1, None);
            let task = Arc::new(Task { deliveries, ..Task::clone(&task) });
            tell_at(&mut core, Duration::ZERO, delivered(Delivery { task, ..delivery(1, None) }));
            tell_at(&mut core, Duration::from_mins(1), Event::DeadlinePassed);
            let health = core.health();
            assert_eq!(health["problems"], Value::Array(Vec::new()));
            (health["hungry"].clone(), core.status()["queues"]["foo"]["worked_alone"].clone())
        };
        assert_eq!(hungry(2), (json!(["foo"]), Value::Null));
        assert_eq!(hungry(3), (json!([]), json!("1")));
    }
}
