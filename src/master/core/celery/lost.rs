//! Results of lost tasks: a task that became a dead letter without a worker that could report on it has a result all the same, so
//! that nobody waits for it for ever.
//!
//! ```text
//! dead letter stored ── an application's ──> waits ── a worker holds nothing ── lost ──> told ── reported ──> stored
//!         └── any other kind's ──> sent to the producer's queue                            └── 10 s: killed
//! ```
//!
//! It follows the dead letter and is never waited for by it. While a backend is away, tasks go on: between two results a worker
//! does a task, and after a failure there is a pause. What cannot be told, because a worker ends over it, or because too many wait, is
//! said in the log.

use std::{sync::Arc, time::Duration};

use super::super::{
    Core,
    event::{Action, WorkerId},
    state::{
        celery::{Lost, WorkedBy},
        slot::{KillReason, Phase, Telling},
        timers::Owner,
    },
};
use crate::{
    celery::result,
    frames::{self, celery::LostFrame},
    logging::Level,
    plural::counted,
    properties::Properties,
    task::{Delivery, Failure, Reason, Settlement},
    text,
};

/// How long a worker may take to store the result of a lost task.
const REPORT_LIMIT: Duration = Duration::from_secs(10);
/// Times that a result is tried to be stored.
const TRIES: u32 = 10;
/// After a failure no result of the queue is tried for so long, twice as long after each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
const GONE: &str = "its queue is not worked any more";

impl Core {
    /// What is to be told of a task once its dead letter is stored.
    pub(in crate::master::core) fn lost_of(&self, delivery: &Delivery, settlement: &Settlement) -> Option<Box<Lost>> {
        self.pools[delivery.queue.0].celery.as_ref()?;
        let Settlement::Dead(failure) = settlement else { return None };
        let was_run = failure.in_hand_seconds.is_some();
        let limit = (failure.reason == Reason::Timeout).then(|| self.time_limit_of(delivery.queue.0, &delivery.task));
        Some(Box::new(Lost {
            task: Arc::clone(&delivery.task),
            reason: failure.reason,
            error: text::first_line(&failure.error).to_owned(),
            detail: failure.detail.clone(),
            reported: is_reported(failure),
            was_run,
            time_limit: limit.flatten(),
            tries: 0,
        }))
    }

    /// A task is dropped unrun, and no dead letter says so: who waits for its result is told.
    pub(in crate::master::core) fn tell_dropped(&mut self, delivery: &Delivery, error: String) {
        let lost = Lost {
            task: Arc::clone(&delivery.task),
            reason: Reason::Cancelled,
            error,
            detail: String::new(),
            reported: false,
            was_run: false,
            time_limit: None,
            tries: 0,
        };
        self.lost_stored(delivery.queue.0, lost);
    }

    /// The dead letter of a task is stored.
    pub(in crate::master::core) fn lost_stored(&mut self, index: usize, lost: Lost) {
        self.tell_lost_event(index, &lost);
        let Some(celery) = &self.pools[index].celery else { return };
        match celery.worked_by {
            WorkedBy::Plain => self.reply_lost(&lost),
            WorkedBy::Application(_) | WorkedBy::Unknown if lost.reported => {}
            WorkedBy::Application(_) | WorkedBy::Unknown => self.result_is_owed(index, lost),
        }
    }

    /// A lost task waits for a worker that stores its result.
    pub(super) fn result_is_owed(&mut self, index: usize, lost: Lost) {
        if self.stop.is_stopping() {
            self.not_told(&lost.task.id, "the master is stopping");
            return;
        }
        if self.pools[index].celery.is_none() {
            return;
        }
        // Any worker of the kind will do.
        let kind = self.pools[index].plan.settings.kind.clone();
        let of_kind = |slot: &usize| {
            let pool = &self.pools[self.slots[*slot].queue];
            pool.celery.is_some() && pool.plan.settings.kind == kind
        };
        let slot = (0..self.slots.len()).filter(of_kind).find(|slot| self.may_tell(*slot));
        let slot = slot.filter(|_| !self.pauses_telling(index));
        if slot.is_none() && !self.pools[index].is_member() {
            self.not_told(&lost.task.id, GONE);
            return;
        }
        let dropped = self.pools[index].celery.as_mut().map_or(0, |celery| celery.push_lost(lost));
        if dropped > 0 {
            let queue = self.pools[index].name().to_owned();
            self.log(Level::Warning, || {
                format!(
                    "Queue {queue}: results of {} are not stored: too many wait for a worker",
                    counted(dropped, "lost task")
                )
            });
        }
        self.serial += 1;
        if let Some(slot) = slot {
            self.tell_lost(index, slot);
        }
    }

    /// Whether a worker holds nothing and stores results.
    pub(in crate::master::core) fn may_tell(&self, slot: usize) -> bool {
        self.slots[slot].process().is_some_and(|life| {
            life.wants_celery
                && life.telling.is_none()
                && life.end_due.is_none()
                && life.in_flight.is_empty()
                && matches!(life.phase, Phase::Working { .. })
        })
    }

    /// Whether a result of this queue could not be stored a moment ago.
    fn pauses_telling(&self, index: usize) -> bool {
        let until = self.pools[index].celery.as_ref().and_then(|celery| celery.tells_again_at);
        until.is_some_and(|at| at > self.now.at)
    }

    /// Whether a lost task of a queue waits for a worker now.
    pub(in crate::master::core) fn owes_result(&self, index: usize) -> bool {
        self.pools[index].celery.as_ref().is_some_and(|celery| celery.lost() > 0) && !self.pauses_telling(index)
    }

    /// A worker may hold nothing now: it is told of a lost task of its queue before it gets another task, but not of two in a row.
    pub(in crate::master::core) fn look_at_lost(&mut self, slot: usize) {
        let index = self.slots[slot].queue;
        let told_last = self.slots[slot].process().is_some_and(|life| life.told_last);
        if !told_last && self.owes_result(index) && self.may_tell(slot) {
            self.tell_lost(index, slot);
        }
    }

    /// Workers that no task could be handed to have time for lost ones.
    pub(in crate::master::core) fn tell_idle(&mut self, index: usize) {
        if !self.owes_result(index) {
            return;
        }
        for slot in self.pools[index].slots.clone() {
            if self.owes_result(index) && self.may_tell(slot) {
                self.tell_lost(index, slot);
            }
        }
    }

    fn tell_lost(&mut self, index: usize, slot: usize) {
        while let Some(lost) = self.pools[index].celery.as_mut().and_then(|celery| celery.next_lost()) {
            let task = &lost.task;
            let frame = frames::celery::lost(&LostFrame {
                id: &task.id,
                queue: self.pools[index].name(),
                reason: lost.reason.as_str(),
                error: &lost.error,
                time_limit: lost.time_limit,
                body: &task.body,
                headers: &task.headers,
                properties: task.properties.as_deref().unwrap_or(Properties::NONE),
            });
            match frame {
                Ok(frame) => return self.send_lost(index, slot, lost, frame),
                Err(_) => self.not_told(&task.id, "its headers are too large"),
            }
        }
    }

    fn send_lost(&mut self, index: usize, slot: usize, lost: Lost, frame: Vec<u8>) {
        let until = self.now.at + REPORT_LIMIT;
        let Some(life) = self.slots[slot].process_mut() else { return };
        life.telling = Some(Telling { lost, queue: index, until });
        life.told_last = true;
        life.pinged = None;
        life.last_sent = None;
        let worker = life.id;
        self.actions.push(Action::Send { worker, frame });
        self.relist(slot);
        self.arm_slot(slot);
    }

    /// A worker has stored the result of a lost task, or could not.
    pub(in crate::master::core) fn told_lost(&mut self, worker: WorkerId, id: &str, stored: bool) {
        let Some(life) = self.slots[worker.slot].life_of(worker) else { return };
        let Some(telling) = life.telling.take_if(|telling| telling.lost.task.id == id) else {
            return self.ignored(worker, "reported", id);
        };
        let slot = worker.slot;
        self.set_log_subject_id(id);
        if stored {
            self.log(Level::Debug, || format!("The result of lost task {id} is stored"));
            if let Some(celery) = &mut self.pools[telling.queue].celery {
                (celery.failures, celery.tells_again_at) = (0, None);
            }
        } else {
            self.not_stored(telling);
        }
        self.serial += 1;
        self.relist(slot);
        self.release_retired(worker);
        self.dispatch(self.slots[slot].queue);
    }

    /// A result could not be stored: the backend may be away. It is tried again, and no other before that; meanwhile tasks go on.
    fn not_stored(&mut self, telling: Telling) {
        let (index, now) = (telling.queue, self.now.at);
        let lost = Lost { tries: telling.lost.tries + 1, ..telling.lost };
        let goes_on = lost.tries < TRIES && !self.stop.is_stopping() && self.pools[index].is_member();
        let Some(celery) = self.pools[index].celery.as_mut().filter(|_| goes_on) else {
            self.not_told(&lost.task.id, "its worker could not store it");
            return;
        };
        celery.failures = celery.failures.saturating_add(1);
        let again_at = now + (FIRST_PAUSE * 2_u32.saturating_pow(celery.failures.min(8) - 1)).min(LONGEST_PAUSE);
        celery.tells_again_at = Some(again_at);
        celery.put_back_lost(lost);
        self.timers.arm(Owner::Queue(index), again_at);
    }

    /// It took too long.
    pub(in crate::master::core) fn telling_timed_out(&mut self, worker: WorkerId) {
        let (slot, seconds) = (self.slots[worker.slot].name.clone(), REPORT_LIMIT.as_secs());
        self.log(Level::Error, || {
            format!("{slot} is killed: it did not store the result of a lost task in {seconds} s")
        });
        self.kill_worker(worker, KillReason::Silent);
    }

    /// A process has ended that was to store the result of a lost task.
    pub(in crate::master::core) fn telling_ended(&mut self, telling: Option<Telling>) {
        if let Some(telling) = telling {
            self.not_told(&telling.lost.task.id, "the worker that was to store it has ended");
        }
    }

    /// Nobody will be told any more: the run ends.
    pub(in crate::master::core) fn drop_lost(&mut self) {
        for index in 0..self.pools.len() {
            self.drop_lost_of(index, "the master is stopping");
        }
    }

    /// Nobody will be told any more: the queue is not worked as it was.
    pub(in crate::master::core) fn drop_lost_of_gone(&mut self, index: usize) {
        self.drop_lost_of(index, GONE);
    }

    fn drop_lost_of(&mut self, index: usize, why: &str) {
        while let Some(lost) = self.pools[index].celery.as_mut().and_then(|celery| celery.next_lost()) {
            self.not_told(&lost.task.id, why);
        }
    }

    fn not_told(&mut self, id: &str, why: &str) {
        self.set_log_subject_id(id);
        self.log(Level::Warning, || format!("The result of lost task {id} is not stored: {why}"));
    }

    /// Whether a lost task waits for a worker that stores its result.
    pub(in crate::master::core) fn has_lost(&self) -> bool {
        self.members().any(|pool| pool.celery.as_ref().is_some_and(|celery| celery.lost() > 0))
    }

    /// Sends the result of a lost task of a kind that is no Celery application.
    pub(super) fn reply_lost(&mut self, lost: &Lost) {
        let ended = result::Ended::dead(lost.reason, &lost.error, &lost.detail);
        if let Some(reply) = self.reply_of(&lost.task, ended) {
            self.send_reply(reply);
        }
    }
}

/// Whether a worker reported a failure itself, and not the master about it.
fn is_reported(failure: &Failure) -> bool {
    match failure.reason {
        Reason::Error | Reason::Failed => true,
        // What no worker has seen, none has reported.
        Reason::Malformed => failure.in_hand_seconds.is_some(),
        Reason::Crash | Reason::Timeout | Reason::Expired | Reason::Deliveries | Reason::Cancelled => false,
    }
}
