//! The core's chapter on what workers have left to do: whether somebody waits for what is done next. It tells the loop around the
//! core how many outcomes it may take in one turn, and how many settlements may go together.

use super::{
    Core,
    state::backlog::{Backlog, MANY},
};

impl Core {
    /// Whether every worker that has ended a task since the last call has at least 16 more. Resets it.
    pub fn take_has_backlog(&mut self) -> bool {
        std::mem::take(&mut self.demand.backlog) == Backlog::Deep
    }

    /// Whether a queue with a free seat was left without a task for it since the last call. Resets it.
    pub fn take_seat_waits(&mut self) -> bool {
        std::mem::take(&mut self.demand.seat_waits)
    }

    /// After an outcome and what it led to: notes whether this worker has many tasks ahead.
    pub(super) fn note_backlog(&mut self, slot: usize) {
        let has_many = self.slots[slot].process().is_some_and(|life| life.in_flight.ahead() >= MANY);
        self.demand.backlog =
            if has_many && self.demand.backlog != Backlog::Shallow { Backlog::Deep } else { Backlog::Shallow };
    }

    /// After a look at what waits: a seat of this queue may be free all the same.
    pub(super) fn note_free_seat(&mut self, index: usize) {
        self.demand.seat_waits |= !self.pools[index].free.is_empty();
    }
}
