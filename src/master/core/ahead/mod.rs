//! The core's chapter on tasks sent ahead: a worker that does short tasks has the next ones already when it ends one.
//!
//! ```text
//! waiting ── sent ahead ──> behind the one in hand ── the one before ended ──> begun
//!    ^                         │
//!    └── returned, or its worker died ──────┘
//! ```
//!
//! A worker does its tasks in their order and tells each end before it begins the next. So the first task without an outcome is
//! the one in hand: a death is blamed on it alone, and its time limit counts from the outcome before it. The others are not
//! begun: they use no attempt, whatever becomes of their worker.
//!
//! None may wait behind a long one while another worker could do it, and none may be begun that is not to be. So they are
//! recalled when the one in hand takes longer than [`LONG`], and by everything that ends or changes the work on a queue.
//! How many are sent is [`Pool::most_ahead`](super::state::pool::Pool::most_ahead).

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{
    Core,
    event::{Action, WorkerId},
    state::{
        in_flight::InFlight,
        pool,
        slot::{KillReason, Phase, Recall},
        task_durations,
        timers::Owner,
    },
};
use crate::{frames, limits, logging::Level, plural::counted, task::Settlement, text};

/// When the task in hand is older than this, those behind it are recalled.
const LONG: Duration = Duration::from_millis(5);
/// A worker that has not answered a recall by then is sent nothing ahead any more. Protocol 1 gives it 50 ms; the rest is for a
/// machine that is overloaded.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

impl Core {
    // Sending.

    /// The slot that takes a task of this id beyond the one in hand: each in turn, until they are full. None while there is a limit
    /// over all queues, since each place is another queue's, too.
    pub(super) fn seat_ahead(&mut self, index: usize, id: &str) -> Option<usize> {
        let pool = &self.pools[index];
        // For a lost task, a worker is to hold nothing soon.
        if pool.takes_ahead.is_empty()
            || self.owes_result(index)
            || self.plan.max_in_hand.is_some()
            || self.stop.is_stopping()
        {
            return None;
        }
        let (most, now) = (self.pools[index].most_ahead(), self.now.at);
        while let Some(slot) = self.pools[index].takes_ahead.pop_front() {
            let left = self.tasks_left(slot);
            // Behind a long one it would be recalled at once.
            let is_fit = self.slots[slot].process().is_some_and(|life| {
                let is_long = life.in_flight.first().is_some_and(|task| task.begun_at + LONG <= now);
                life.has_room_ahead(most, left) && !is_long && !life.in_flight.contains(id)
            });
            if is_fit {
                self.pools[index].takes_ahead.push_back(slot);
                return Some(slot);
            }
            // It is listed again with its next outcome.
            self.slots[slot].listed_ahead = false;
        }
        None
    }

    /// How many tasks the process of a slot may do before it is renewed.
    fn tasks_left(&self, slot: usize) -> u64 {
        let most = self.pools[self.slots[slot].queue].plan.settings.recycle.max_tasks;
        match (most, self.slots[slot].process()) {
            (_, Some(life)) if life.recycling => 0,
            (Some(most), Some(life)) => ((most as f64 * life.recycle_jitter).ceil() as u64).saturating_sub(life.tasks),
            _ => u64::MAX,
        }
    }

    /// Adds a slot to its pool's list of slots that can be sent tasks ahead, once half of its room is free: so they are sent several
    /// at a time, with one write. Takes it out when its worker takes no more tasks.
    pub(super) fn list_ahead(&mut self, slot: usize) {
        let here = &mut self.slots[slot];
        let pool = &mut self.pools[here.queue];
        let working = here.process().filter(|life| matches!(life.phase, Phase::Working { .. }));
        let Some(life) = working.filter(|life| life.ahead > 0) else {
            if std::mem::take(&mut here.listed_ahead) {
                pool.takes_ahead.retain(|other| *other != slot);
            }
            return;
        };
        let most = pool.most_ahead().min(life.ahead);
        let has_room = most > 0 && life.in_flight.ahead() <= most / 2 && !life.in_flight.is_empty();
        if has_room && !std::mem::replace(&mut here.listed_ahead, true) {
            pool.takes_ahead.push_back(slot);
        }
    }

    // Beginning.

    /// After an outcome or a return: the first task of a worker is begun now, if it was not.
    pub(super) fn begin_next(&mut self, slot: usize) {
        let now = self.now.at;
        let Some(first) = self.slots[slot].process().and_then(|life| life.in_flight.first()) else { return };
        let limit = self.time_limit_of(self.slots[slot].queue, &first.delivery.task);
        let Some(life) = self.slots[slot].process_mut() else { return };
        let Some(task) = life.in_flight.begin_first(now, limit) else { return };
        let delivery = task.delivery.clone();
        self.task_begun(slot, &delivery);
        if limit.is_some() {
            self.arm_slot(slot);
        }
        self.kill_if_withdrawn(slot);
    }

    /// The task in hand was withdrawn before it was begun, and was begun because the recall came too late. While an answer may come,
    /// that tells whether it was.
    fn kill_if_withdrawn(&mut self, slot: usize) {
        let Some(life) = self.slots[slot].process() else { return };
        let withdrawn = life.in_flight.first().filter(|task| task.begun).and_then(|task| task.withdrawn);
        if let Some(how) = withdrawn
            && !matches!(life.recall, Recall::Pending { .. })
        {
            let worker = life.id;
            self.kill_worker(worker, KillReason::of(how));
        }
    }

    // Taking back.

    /// Asks a worker for the tasks that it has not begun.
    pub(super) fn recall(&mut self, slot: usize) {
        let until = self.now.at + ANSWER_LIMIT;
        let Some(life) = self.slots[slot].process_mut() else { return };
        let listens = matches!(life.phase, Phase::Working { .. } | Phase::Leaving | Phase::Interrupted { .. });
        if life.in_flight.ahead() == 0 || life.recall != Recall::None || !listens {
            return;
        }
        life.recall = Recall::Pending { until };
        life.last_sent = None;
        let worker = life.id;
        self.actions.push(Action::Send { worker, frame: frames::recall() });
        self.arm_slot(slot);
    }

    /// Asks all workers of a queue.
    pub(super) fn recall_queue(&mut self, index: usize) {
        let pool = &self.pools[index];
        for slot in pool.slots.iter().chain(&pool.leaving).copied().collect::<Vec<_>>() {
            self.recall(slot);
        }
    }

    /// The answer to a recall.
    pub(super) fn returned(&mut self, worker: WorkerId, ids: &[String]) {
        let slot = worker.slot;
        let Some(life) = self.slots[slot].life_of(worker) else { return };
        if std::mem::replace(&mut life.recall, Recall::None) == Recall::None {
            if !ids.is_empty() {
                self.faulted(worker, "it returned tasks that it was not asked for".to_owned());
            }
            return;
        }
        let mut tasks = Vec::with_capacity(ids.len());
        let mut unknown = None;
        for id in ids {
            match life.in_flight.take(id) {
                Some(task) => tasks.push(task),
                None => unknown = Some(id),
            }
        }
        let index = self.slots[slot].queue;
        self.hand_back(tasks);
        if let Some(id) = unknown {
            let id = text::shorten(id.clone(), limits::FAULT);
            // What it has not begun stays so: it is handed back when the process has ended.
            self.faulted(worker, format!("it returned task \"{id}\", which it does not hold"));
            return self.dispatch(index);
        }
        self.begin_next(slot);
        self.kill_if_withdrawn(slot);
        self.look_at_lost(slot);
        self.relist(slot);
        self.release_retired(worker);
        self.renew_credit(index);
        self.dispatch(index);
        self.release_surplus(index);
    }

    /// Tasks came back, and are not short any more: those that nobody here can begin now go back to their queue, for others.
    fn release_surplus(&mut self, index: usize) {
        if self.pools[index].durations.per_seat() > 1 || self.pools[index].rate.is_some() {
            return;
        }
        self.release_waiting(index);
    }

    /// Tasks of one worker have left it without having been begun. Those that may be done here are next; the others go back to their
    /// queue. No attempt is used.
    pub(super) fn hand_back(&mut self, tasks: Vec<InFlight>) {
        self.serial += 1;
        let Some(index) = tasks.first().map(|task| task.delivery.queue.0) else { return };
        // What waits here is looked at again, however late it came back.
        self.timers.arm(Owner::Queue(index), self.now.at + task_durations::LULL);
        let takes_deliveries = self.takes_deliveries(index);
        for task in tasks.into_iter().rev() {
            self.pools[index].in_hand -= 1;
            self.in_hand -= 1;
            self.in_flight.remove(&task);
            let stays_here = takes_deliveries && task.withdrawn.is_none() && !task.goes_back;
            let waits_again = task.held && !task.accepted && stays_here;
            if !waits_again {
                self.left_its_rate(&task.delivery);
            }
            if !stays_here {
                self.no_longer_suspect(&task.delivery);
            }
            if task.held && !task.accepted && self.is_revoked(&task.delivery) {
                continue;
            }
            if let Some(how) = task.withdrawn {
                self.settle_withdrawn_unbegun(&task, how);
            } else if !task.held {
                // It comes again by itself.
                self.locks.let_go(task.delivery.handle);
            } else if task.accepted {
                self.released(&task.delivery);
                self.settle(&task, Settlement::Release, None, None);
            } else if waits_again {
                self.pools[index].waiting.put_back(task.delivery);
            } else {
                self.settle_unheld(task.delivery.handle, None, Settlement::Release);
            }
        }
    }

    /// What a process that has ended had not begun is handed out again.
    pub(super) fn hand_back_of(&mut self, slot: usize) {
        let Some(life) = self.slots[slot].process_mut() else { return };
        let tasks = life.in_flight.take_ahead();
        if tasks.is_empty() {
            return;
        }
        let (count, name) = (tasks.len(), self.slots[slot].name.clone());
        self.log(Level::Info, || {
            let (tasks, were) = (counted(count, "task"), if count == 1 { "was" } else { "were" });
            format!("{tasks} that {name} had {were} not begun, and used no attempt")
        });
        self.hand_back(tasks);
    }

    // Looks.

    /// The task in hand of a worker that has others may be taking long.
    pub(super) fn look_at_ahead(&mut self, slot: usize) {
        let Some(life) = self.slots[slot].process().filter(|life| life.in_flight.ahead() > 0) else { return };
        let Some(first) = life.in_flight.first() else { return };
        let long_at = first.begun_at + LONG;
        if long_at > self.now.at {
            self.timers.arm(Owner::Ahead(slot), long_at);
        } else if self.pools[self.slots[slot].queue].slots.len() > 1 {
            self.recall(slot);
        }
    }

    /// A worker more is ready, which may be the first beside those that have tasks ahead.
    pub(super) fn look_at_all_ahead(&mut self, index: usize) {
        for slot in self.pools[index].slots.clone() {
            self.look_at_ahead(slot);
        }
    }

    /// A recall was not answered in time.
    pub(super) fn recall_unanswered(&mut self, worker: WorkerId) {
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        life.recall = Recall::Late;
        life.ahead = 0;
        let (name, count) = (self.slots[worker.slot].name.clone(), ANSWER_LIMIT.as_secs());
        self.log(Level::Warning, || {
            format!("{name} did not answer a recall within {count} s; no more tasks are sent to it ahead")
        });
        self.kill_if_withdrawn(worker.slot);
    }

    /// Whether tasks of a queue may be begun here, now or later.
    pub(super) fn takes_deliveries(&self, index: usize) -> bool {
        let pool = &self.pools[index];
        !(self.stop.is_stopping()
            || pool.is_paused()
            || pool.standing != pool::Standing::Attached
            || matches!(pool.state, pool::State::Parked { .. }))
    }
}
