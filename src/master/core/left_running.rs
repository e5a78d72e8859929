//! The core's chapter on what processes leave running when they end.
//!
//! A task that is told to be killed has nothing running: its verdict comes when all is gone that its process left, or when it
//! is known what cannot be ended. Until then the process is [`Phase::LeftProcesses`]: it takes nothing, nothing is sent to it, and its
//! tasks keep their keys. Whoever ends in order may leave a daemon behind, and often is to.

use super::{
    Core,
    event::WorkerId,
    ledger::End,
    state::slot::{Life, Phase, State},
};
use crate::{
    limits,
    logging::Level,
    task::{Exit, Settlement},
    text,
};

impl Core {
    /// Whether a process that has just ended did so as it was to: nothing that it left belongs to a task any more.
    #[must_use]
    pub fn ended_in_order(&self, worker: WorkerId, exit: &Exit) -> bool {
        let Some(slot) = self.slots.get(worker.slot) else { return true };
        let State::Alive(life) = &slot.state else { return true };
        if life.id != worker {
            return true;
        }
        if self.is_once(worker.slot) {
            return life.gives_outcome(exit);
        }
        let went = matches!(life.phase, Phase::Leaving) && *exit == Exit::Code { code: 0 };
        let was_killed = matches!(life.phase, Phase::Killed(_));
        !was_killed && life.in_flight.is_empty() && (life.said_bye || went)
    }

    /// A process is dead, and what it left is being ended.
    pub(super) fn left_processes(&mut self, worker: WorkerId) {
        if self.is_current(worker) {
            self.hand_back_of(worker.slot);
        }
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        debug_assert!(!matches!(life.phase, Phase::LeftProcesses { .. }), "a process ends once");
        let was = std::mem::replace(&mut life.phase, Phase::Leaving);
        life.phase = Phase::LeftProcesses { was: Box::new(was) };
        self.relist(worker.slot);
        // What it had not begun is for others, and never for itself.
        self.dispatch(self.slots[worker.slot].queue);
    }

    /// The patience of a stop is over: whoever was killed and did not end runs on without us, or what it left does, and its
    /// tasks go back.
    pub(super) fn leave_running(&mut self) {
        for slot in 0..self.slots.len() {
            let State::Alive(life) = std::mem::replace(&mut self.slots[slot].state, State::Empty) else { continue };
            // Who has ended was waited for: its number may be another's.
            let has_ended = matches!(life.phase, Phase::LeftProcesses { .. });
            let (id, pid, in_flight) = (life.id, life.pid.unwrap_or_default(), life.in_flight);
            self.relist(slot);
            self.telling_ended(life.telling);
            self.storing_ended(id);
            let name = self.slots[slot].name.clone();
            let (of_slot, of_task) = if has_ended {
                (
                    format!("what {name} left, which is still being ended"),
                    "what it left is still being ended".to_owned(),
                )
            } else {
                let of_slot = format!("pid {pid} of {name}, which was killed and has not ended");
                (of_slot, format!("pid {pid}: it was killed and has not ended"))
            };
            self.log(Level::Error, || format!("left running: {of_slot}"));
            if !in_flight.is_empty() {
                self.stop.interrupted_tasks();
            }
            for task in in_flight.into_vec() {
                self.left_worker(&task);
                self.set_log_subject(&task.delivery.task);
                let id = task.id().to_owned();
                if let Some(how) = task.withdrawn {
                    self.tell_withdrawn(&task);
                    let mut settlement = self.attempt(&task.delivery, Some(pid), None).withdrawn(how);
                    tell_left(&mut settlement, std::slice::from_ref(&of_task));
                    let (delivery, took) = (&task.delivery, std::time::Duration::ZERO);
                    let note = self.ended(&End { delivery, took, settlement: &settlement, slot: None });
                    self.settle(&task, settlement, note, None);
                    continue;
                }
                self.log(Level::Error, || {
                    format!("{name} (pid {pid}): task {id} is back in its queue, no attempt used")
                });
                self.released(&task.delivery);
                self.settle(&task, Settlement::Release, None, None);
            }
        }
    }
}

impl Life {
    /// Whether this end of a process for one task says what became of the task. A signal, a kill of ours, and a process that
    /// gave up when it was interrupted are judged as deaths.
    pub(super) fn gives_outcome(&self, exit: &Exit) -> bool {
        let Exit::Code { code } = *exit else { return false };
        match self.phase {
            Phase::Killed(_) | Phase::LeftProcesses { .. } => false,
            Phase::Interrupted { .. } => code == 0,
            Phase::Starting { .. } | Phase::Working { .. } | Phase::Leaving => true,
        }
    }
}

/// Says in a dead letter what runs on.
pub(super) fn tell_left(settlement: &mut Settlement, left: &[String]) {
    let (Settlement::Retry { failure, .. } | Settlement::Dead(failure)) = settlement else { return };
    for process in left {
        if !failure.detail.is_empty() {
            failure.detail.push('\n');
        }
        failure.detail.push_str("left running: ");
        failure.detail.push_str(process);
    }
    text::bound(&mut failure.detail, limits::DETAIL);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        config::Queue,
        master::core::{
            Core,
            event::{Action, Event, Plan, QueuePlan},
            fixture::{WORKER, attached, delivered, delivery, ready, tell_at},
        },
    };

    /// What is logged by a stop whose patience ends while what a worker left is being ended, or (`false`) the worker itself.
    fn logged_by_stop(has_ended: bool) -> Vec<String> {
        let settings = Queue { processes: 1, ..Queue::new("foo", "kind") };
        let queue = QueuePlan::of(settings);
        let mut events = vec![
            Event::Begun,
            attached(1),
            Event::Spawned { worker: WORKER, pid: 4711 },
            ready(WORKER, 1),
            delivered(delivery(1, None)),
        ];
        events.extend(has_ended.then_some(Event::LeftProcesses(WORKER)));
        events.extend([Event::StopAsked, Event::StopAsked, Event::StopAsked]);
        events.extend([Event::DeadlinePassed, Event::DeadlinePassed, Event::DeadlinePassed]);
        let mut core = Core::new(Plan::of(vec![queue]));
        let mut logged = Vec::new();
        for (number, event) in events.into_iter().enumerate() {
            // A second each, and then as long as any patience.
            let at = Duration::from_secs(if number < 9 { number as u64 } else { number as u64 * 3600 });
            logged.extend(tell_at(&mut core, at, event).into_iter().filter_map(|action| match action {
                Action::Log { message, .. } if message.contains("left running") => Some(message),
                _ => None,
            }));
        }
        logged
    }

    #[test]
    fn no_number_is_told_of_who_was_waited_for() {
        assert_eq!(logged_by_stop(false), ["left running: pid 4711 of foo[1], which was killed and has not ended"]);
        assert_eq!(logged_by_stop(true), ["left running: what foo[1] left, which is still being ended"]);
    }
}
