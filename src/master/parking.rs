//! The core's chapter on queues that are left alone for a while: parked, tried with one task, and worked again.
//!
//! A parked queue may never keep a delivery, which others could do meanwhile; and a pause may never end in a stop.

use super::{core::Core, pool, slot::State, timers::Owner};
use crate::{error::Code, logging::Level, task::Settlement};

impl Core {
    /// Stops working a queue for a while. What waits goes back, and its workers are left alone.
    pub(super) fn park(&mut self, index: usize, cause: pool::Cause) {
        let pause = self.pools[index].park(self.now.at, cause);
        self.reload_moved();
        let why = match cause {
            pool::Cause::Starts => "its workers cannot be started",
            pool::Cause::Tasks => "too many of its tasks crashed or timed out in a row",
        };
        let queue = self.pools[index].name().to_owned();
        let seconds = pause.as_secs_f64();
        self.log(Level::Error, || format!("Queue {queue} is parked for {seconds} s: {why}"));
        self.give_back(index);
        self.timers.arm(Owner::Queue(index), self.now.at + pause);
        if self.plan.halt_when_empty {
            self.end_badly(Code::Refused, format!("queue {queue} is parked: {why}"));
        } else if self.pools.iter().filter(|pool| pool.is_member()).all(pool::Pool::is_hopeless) {
            self.end_badly(Code::Unavailable, "all queues are parked".to_owned());
        }
    }

    /// Releases what was delivered and not begun.
    pub(super) fn give_back(&mut self, index: usize) {
        self.renew_credit(index);
        for delivery in self.pools[index].waiting.take_all() {
            self.settle(delivery.handle, None, Settlement::Release);
        }
    }

    /// After the pause: one process and one task, to see whether the queue is well.
    pub(super) fn begin_trial(&mut self, index: usize) {
        let queue = self.pools[index].name().to_owned();
        self.log(Level::Info, || format!("Queue {queue} is tried again"));
        let slots = self.pools[index].slots.clone();
        let alive = slots.iter().any(|slot| self.slots[*slot].peek().is_some());
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
