//! The core's chapter on credit: how many tasks of a queue the transport may deliver. It never asks for credit that the queue has
//! already, and raises none while no session stands.
//!
//! The number is `Pool::wanted_credit`, in `state::pool`, or 0 in a stop. A session or a queue that is lost lowers it to 1 where it
//! was more, in `transport_events` and `unavailable`.

use super::{
    Core,
    event::Action,
    state::{in_flight::InFlight, pool::FirstDelivery, task_durations, timers::Owner},
};
use crate::task::QueueIndex;

impl Core {
    /// Asks for the credit that a queue should have, if that has changed.
    pub(super) fn renew_credit(&mut self, index: usize) {
        let wanted = if self.stop.is_stopping() { 0 } else { self.pools[index].wanted_credit(self.outliving(index)) };
        if wanted != self.pools[index].credit && self.attached && self.pools[index].registration.is_registered {
            self.ask_credit(index, wanted);
        }
    }

    /// Tasks in hand that take credit although nobody's seat is theirs: those of processes that were told to go, and
    /// those accepted in an earlier session, which are looked for only while the credit is otherwise 1.
    pub(super) fn outliving(&self, index: usize) -> u32 {
        let pool = &self.pools[index];
        let in_flight = |slot: &usize| self.slots[*slot].process().map_or(0, |life| life.in_flight.len());
        let mut count: usize = pool.leaving.iter().map(in_flight).sum();
        if pool.first != FirstDelivery::Passed {
            let lives = pool.slots.iter().filter_map(|slot| self.slots[*slot].process());
            let of_old = |task: &&InFlight| task.accepted && task.session < pool.since;
            count += lives.flat_map(|life| life.in_flight.iter()).filter(of_old).count();
        }
        count as u32
    }

    pub(super) fn renew_credits(&mut self) {
        for index in 0..self.pools.len() {
            self.renew_credit(index);
        }
    }

    pub(super) fn ask_credit(&mut self, index: usize, credit: u32) {
        self.pools[index].credit = credit;
        self.actions.push(Action::Credit { queue: QueueIndex(index), credit });
    }

    /// With credit raised for short tasks: if none ended for a while, they are not short any more, and what
    /// waits here beyond the free seats is given back, for others to take, and what workers have and have not begun is recalled.
    pub(super) fn notice_lull(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        if pool.credit <= pool.seats() {
            return;
        }
        let lull_at = pool.durations.ended_at + task_durations::LULL;
        let has_ahead = |slot: &usize| self.slots[*slot].process().is_some_and(|life| life.in_flight.ahead() > 0);
        if pool.in_hand == 0 || (pool.waiting.is_empty() && !pool.slots.iter().any(has_ahead)) {
            return;
        }
        if lull_at > self.now.at {
            self.timers.arm(Owner::Queue(index), lull_at);
            return;
        }
        pool.durations.lulled();
        self.give_back(index);
    }
}
