//! The core's chapter on queues that are left alone for a while: parked, tried with one task, and worked again.
//!
//! A parked queue may never keep a delivery, which others could do meanwhile; and a pause may never end in a stop.
//!
//! A master that serves stays, even when all its queues are parked. Only one in which no worker was ever ready ends, which costs no
//! task anything. Whoever starts it again all the same begins with what the run before knew of its parked queues: a breaker that
//! knows nothing would cost another row of dead letters at each start.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Core,
    event::{Action, ParkedQueue},
    state::{pool, slot::State, timers::Owner},
};
use crate::{clock::Instant, exit_code::Code, logging::Level, task::Settlement};

impl Core {
    /// Stops working a queue for a while. What waits goes back, and its workers are left alone.
    pub(super) fn park(&mut self, index: usize, cause: pool::Cause) {
        // What was begun before ends the same way: one parking, one line, one pause.
        if matches!(self.pools[index].state, pool::State::Parked { .. }) {
            return;
        }
        let pause = self.pools[index].park(self.now.at, cause);
        self.reload_moved();
        let why = cause.words();
        let queue = self.pools[index].name().to_owned();
        let seconds = pause.as_secs_f64();
        self.log(Level::Error, || format!("Queue {queue} is parked for {seconds} s: {why}"));
        self.give_back(index);
        self.timers.arm(Owner::Queue(index), self.now.at + pause);
        self.keep_parked();
        if self.plan.halt_when_empty {
            self.end_badly(Code::Refused, format!("queue {queue} is parked: {why}"));
        } else if self.first_ready_at.is_none() && self.members().all(pool::Pool::is_unstartable) {
            self.end_badly(Code::Unavailable, "all queues are parked".to_owned());
        }
    }

    /// The queue is worked from now on, whatever it was before.
    pub(super) fn work_again(&mut self, index: usize) {
        if std::mem::replace(&mut self.pools[index].state, pool::State::Running) != pool::State::Running {
            self.keep_parked();
        }
    }

    /// What the next run is to know. Of queues whose workers cannot be started it finds that out at no cost.
    fn keep_parked(&mut self) {
        let kept = |pool: &pool::Pool| {
            let (pause, left) = match pool.state {
                pool::State::Parked { until, pause, cause: pool::Cause::Tasks } => (pause, until.since(self.now.at)),
                pool::State::Trial { pause, cause: pool::Cause::Tasks } => (pause, Duration::ZERO),
                _ => return None,
            };
            let (queue, kind) = (pool.name().to_owned(), pool.plan.settings.kind.clone());
            Some(ParkedQueue { queue, kind, pause, until: self.now.wall.plus(left) })
        };
        let parked = self.members().filter_map(kept).collect();
        self.actions.push(Action::KeepParked(parked));
    }

    /// What the run before has left parked ([`Action::KeepParked`]), before this one begins.
    pub fn begin_with_parked(&mut self, parked: Vec<ParkedQueue>) {
        self.parked_before = parked;
    }

    /// At the beginning: what the run before has left parked stays so until its pause is over. Its workers start meanwhile, until one
    /// is ready; the pause is for tasks.
    pub(super) fn park_as_before(&mut self) {
        if self.parked_before.is_empty() {
            return;
        }
        for before in std::mem::take(&mut self.parked_before) {
            let is_same = |pool: &pool::Pool| pool.name() == before.queue && pool.plan.settings.kind == before.kind;
            let Some(index) = self.pools.iter().position(is_same) else { continue };
            let breaker = &self.pools[index].plan.settings.breaker;
            let pause = before.pause.min(breaker.longest).max(breaker.pause);
            // Whatever the wall clock shows by now.
            let left = before.until.remaining(self.now.wall).min(pause);
            let (until, cause) = (self.now.at + left, pool::Cause::Tasks);
            self.pools[index].state = pool::State::Parked { until, pause, cause };
            self.timers.arm(Owner::Queue(index), until);
            let (queue, seconds, why) = (before.queue, left.as_secs_f64(), cause.words());
            self.log(Level::Warning, || {
                format!(
                    "Queue {queue} is parked for {seconds:.1} s more, as the run before left it: {why}; \
                     `control unpark {queue}` works it at once"
                )
            });
        }
        self.keep_parked();
    }

    /// Of a parked queue: why, and when it is tried again.
    pub(super) fn parked_words(&self, index: usize) -> Option<String> {
        match self.pools[index].state {
            pool::State::Running => None,
            pool::State::Parked { until, cause, .. } => {
                let seconds = until.since(self.now.at).as_secs_f64();
                Some(format!("{}; it is tried again in {seconds:.0} s", cause.words()))
            }
            pool::State::Trial { cause, .. } => Some(format!("{}; it is being tried again", cause.words())),
        }
    }

    /// The same for programs.
    pub(super) fn parked_status(&self, index: usize) -> Value {
        let (cause, pause, until) = match self.pools[index].state {
            pool::State::Running => return Value::Null,
            pool::State::Parked { until, pause, cause } => (cause, pause, Some(until)),
            pool::State::Trial { pause, cause } => (cause, pause, None),
        };
        json!({
            "cause": cause.words(),
            "pause_seconds": pause.as_secs_f64(),
            "again_in_seconds": until.map(|until| until.since(self.now.at).as_secs_f64()),
        })
    }

    /// When all queues are parked, that and when the next one is tried: as a moment, because the status of a service is read
    /// long after it was told.
    pub(super) fn all_parked_words(&self) -> Option<String> {
        let until = |pool: &pool::Pool| match pool.state {
            pool::State::Running => None,
            pool::State::Parked { until, .. } => Some(until),
            pool::State::Trial { .. } => Some(self.now.at),
        };
        let all: Vec<Instant> = self.members().map(until).collect::<Option<_>>()?;
        let left = all.into_iter().min()?.since(self.now.at);
        if left.is_zero() {
            return Some("all queues are parked, one is being tried again".to_owned());
        }
        // Of a second, so that the same moment always reads the same.
        let moment = jiff::Timestamp::from_second((self.now.wall.plus(left).0 + 500) / 1000).unwrap_or_default();
        Some(format!("all queues are parked, next try at {moment}"))
    }

    /// Releases what was delivered and not begun; what workers have and have not begun follows when they return it.
    pub(super) fn give_back(&mut self, index: usize) {
        self.recall_queue(index);
        self.renew_credit(index);
        self.release_waiting(index);
    }

    /// What was delivered and not begun goes back to its queue.
    pub(super) fn release_waiting(&mut self, index: usize) {
        for delivery in self.pools[index].take_waiting() {
            self.settle_unheld(delivery.handle, None, Settlement::Release);
        }
    }

    /// After the pause: one process and one task, to see whether the queue is well.
    pub(super) fn begin_trial(&mut self, index: usize) {
        let queue = self.pools[index].name().to_owned();
        self.log(Level::Info, || format!("Queue {queue} is tried again"));
        let slots = self.pools[index].slots.clone();
        let alive = slots.iter().any(|slot| self.slots[*slot].process().is_some());
        if !alive && let Some(first) = slots.first() {
            self.spawn(*first);
        }
        self.renew_credit(index);
    }

    /// The queue is well: fill the slots that were left empty.
    pub(super) fn refill(&mut self, index: usize) {
        for slot in self.pools[index].slots.clone() {
            if matches!(self.slots[slot].state, State::Empty) {
                self.spawn(slot);
            }
        }
        self.renew_next(index);
        self.renew_credit(index);
    }
}
