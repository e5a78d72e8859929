//! The core's chapter on handing out: which delivery goes to which worker, and which goes to none.
//!
//! What was delivered waits in its pool until a worker has a seat, or takes tasks ahead, the rate is open and, with `-m`, a place among all
//! queues is free. A task that cannot or must not be run is settled here without having been begun.
//!
//! This is the path of every task, so it may never look at all slots or all queues: it takes the ends of lists. And it
//! may never hand the same id twice to one process, whose outcomes could not be told apart.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::{
    Core,
    event::{Action, Once},
    state::timers::Owner,
    verdict,
};
use crate::{
    frames::{self, Payload, TaskFrame},
    logging::Level,
    payload::Body,
    properties::Properties,
    redact::redact,
    task::{Accepts, Delivery, Reason, Task},
    text,
};

/// A payload in the log is cut at this length, like a worker's lines.
const LOGGED_PAYLOAD: usize = 64 * 1024;

/// How a task goes to its worker.
enum Handed {
    /// In a frame.
    Frame(Vec<u8>),
    /// As a process of its own.
    Process(Once),
}

impl Core {
    /// Hands out what waits in a queue, as far as seats, limits and the rate allow. With a limit over all queues, those
    /// that wait for a place get one task each in turn, so that a busy queue keeps none waiting; a task costs the same
    /// however many queues there are.
    pub(super) fn dispatch(&mut self, index: usize) {
        let Some(limit) = self.plan.max_in_hand else {
            while self.hand_out_one(index) {}
            self.tell_idle(index);
            return self.note_free_seat(index);
        };
        self.line_up(index);
        while self.in_hand + self.locks.asked() < limit
            && let Some(next) = self.turns.pop_front()
        {
            self.pools[next].in_line = false;
            // What cannot be handed out now is looked at when a seat or the rate opens.
            if self.hand_out_one(next) {
                self.line_up(next);
            }
        }
        self.tell_idle(index);
        self.note_free_seat(index);
    }

    fn line_up(&mut self, index: usize) {
        if self.pools[index].waiting.has_next() && !std::mem::replace(&mut self.pools[index].in_line, true) {
            self.turns.push_back(index);
        }
    }

    /// Whether a delivery of this queue was handed out, or refused.
    fn hand_out_one(&mut self, index: usize) -> bool {
        if !self.may_dispatch(index) {
            return false;
        }
        let Some(delivery) = self.pools[index].waiting.next() else { return false };
        // Its key was asked for when the order came.
        if self.is_revoked(&delivery) {
            return true;
        }
        if let Some((reason, error)) = self.objection(index, &delivery) {
            self.refuse(&delivery, reason, error);
            return true;
        }
        let id = &delivery.task.id;
        let slot = match self.seat_for(index, id).or_else(|| self.seat_ahead(index, id)) {
            Some(slot) if !self.is_rate_limited(index) => slot,
            _ => {
                self.pools[index].waiting.put_back(delivery);
                return false;
            }
        };
        let Some(delivery) = self.admit(index, delivery) else { return true };
        match self.lock(index, delivery) {
            Ok(Some(delivery)) => self.begin_task(index, slot, delivery),
            Ok(None) => {}
            Err(delivery) => {
                self.pools[index].waiting.put_back(delivery);
                return false;
            }
        }
        true
    }

    /// The slot that takes a task: the one used last, if it listens for all we know. Never one that holds a task with the
    /// same id, because its outcomes could not be told apart.
    fn seat_for(&self, index: usize, id: &str) -> Option<usize> {
        let holds = |slot: &usize| self.slots[*slot].process().is_some_and(|life| life.in_flight.contains(id));
        let may = self.pools[index].free.iter().rev().copied().filter(|slot| !holds(slot));
        let listens = |slot: &usize| self.slots[*slot].process().is_some_and(|life| life.pinged.is_none());
        may.clone().find(listens).or_else(|| may.clone().next())
    }

    fn may_dispatch(&self, index: usize) -> bool {
        let pool = &self.pools[index];
        let has_room = !pool.free.is_empty() || !pool.takes_ahead.is_empty();
        pool.waiting.has_next() && has_room && pool.may_begin() && !self.stop.is_stopping()
    }

    /// Why a delivery is not to be run at all.
    fn objection(&self, index: usize, delivery: &Delivery) -> Option<(Reason, String)> {
        let limit = self.pools[index].plan.settings.max_deliveries;
        verdict::objection(&delivery.task, limit, self.now.wall)
    }

    /// Whether the rate window is closed; then the queue is looked at when it opens.
    fn is_rate_limited(&mut self, index: usize) -> bool {
        let now = self.now.at;
        let pool = &mut self.pools[index];
        let Some(window) = &mut pool.rate else { return false };
        let Some(opens_at) = window.closed_until(now) else { return false };
        let told = std::mem::replace(&mut window.told, true);
        self.timers.arm(Owner::Queue(index), opens_at);
        if !told {
            let queue = pool.name().to_owned();
            let seconds = opens_at.since(now).as_secs_f64();
            self.log(Level::Debug, || format!("Rate limited on queue {queue}, sleeping for {seconds:.6} seconds"));
        }
        true
    }

    fn begin_task(&mut self, index: usize, slot: usize, delivery: Delivery) {
        let made = if self.is_once(slot) {
            self.once_for(index, slot, &delivery).map(Handed::Process)
        } else {
            self.frame_of(index, slot, &delivery).map(Handed::Frame)
        };
        let handed = match made {
            Ok(handed) => handed,
            Err(error) => {
                self.refuse(&delivery, Reason::Malformed, error);
                return;
            }
        };
        let size = match &handed {
            Handed::Frame(frame) => frame.len(),
            Handed::Process(_) => 0,
        };
        let worker = self.enter_in_flight(index, slot, delivery, size);
        match handed {
            Handed::Frame(frame) => self.actions.push(Action::Send { worker, frame }),
            Handed::Process(once) => self.spawn_once(worker, index, once),
        }
    }

    /// The frame of a task.
    fn frame_of(&self, index: usize, slot: usize, delivery: &Delivery) -> Result<Vec<u8>, String> {
        let task = &delivery.task;
        let wanted = self.slots[slot].process().is_some_and(|life| life.wants_properties);
        let plan = &self.pools[index].plan;
        let of_celery = self.pools[index].celery.is_some();
        let wants_body = of_celery && self.slots[slot].process().is_some_and(|life| life.wants_celery);
        let text = match (self.celery_payload(index, slot, task)?, plan.accepts) {
            (Some(text), _) => Some(Cow::Owned(text)),
            (None, Accepts::Json) if !wants_body => Some(Body::from(&**task).json(plan.settings.unwrap)?),
            (None, _) => None,
        };
        let payload = text.as_deref().map_or(Payload::Bytes(&task.body), Payload::Json);
        let length = text.as_deref().map_or(task.body.len(), str::len);
        let mut frame = Vec::with_capacity(length + 192);
        let written = frames::task(
            &TaskFrame {
                id: &task.id,
                queue: &plan.settings.name,
                attempt: task.attempts.saturating_add(1),
                max_attempts: plan.settings.retry.max_attempts,
                payload,
                headers: &task.headers,
                properties: wanted.then(|| task.properties.as_deref().unwrap_or(Properties::NONE)),
                deadline: self.time_limit_of(index, task),
                job: task.membership.as_deref(),
                memo: task.memo.as_ref(),
            },
            &mut frame,
        );
        written.map_err(|fault| fault.to_string())?;
        Ok(frame)
    }

    /// The `Got payload` line of a task that is begun. That of a process of its own says what it gets on its stdin.
    pub(super) fn log_payload(&mut self, slot: usize, task: &Task) {
        if self.plan.log_level < Level::Debug || self.is_once(slot) {
            return;
        }
        let plan = &self.pools[self.slots[slot].queue].plan;
        let message = match plan.accepts {
            _ if plan.settings.protocol.is_celery() => {
                format!("Got payload: {}", cut(&redact(&Self::celery_in_words(task))))
            }
            Accepts::Json => {
                let text = Body::from(task).json(plan.settings.unwrap).unwrap_or_default();
                format!("Got payload: {}", cut(&redact(&text)))
            }
            Accepts::Bytes => format!("Got payload: {} bytes", task.body.len()),
        };
        self.set_log_subject(task);
        self.log_as(slot, Level::Debug, || message);
    }
}

/// A payload as far as it is logged. Of one with addresses in it, cut what is masked: half an address is none, and would
/// keep its password.
pub(super) fn cut(text: &str) -> &str {
    text::cut(text, LOGGED_PAYLOAD)
}
