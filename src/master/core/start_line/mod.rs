//! The core's chapter on who is started next: of workers that speak frames, only so many start at once.
//!
//! ```text
//! spawn ──> in line ── a place is free ──> starting ── ready, failed, killed: the place is free again
//! ```
//!
//! A process that starts keeps a core busy while its program loads. Thirty of them at once on two cores are all ready after
//! fifteen times as long as one, and then all of them are over their limit. So they start a few at a time, and each limit
//! counts from its own start.
//!
//! A worker that died at work is replaced before all others. The next place is of the queue that has the fewest; so one
//! whose workers hang does not keep the others waiting. Should all places hang, one more is given each [`PATIENCE`]: to who
//! died at work, or to a queue that has none.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use super::{
    Core,
    event::{Action, WorkerId},
    state::{
        pool,
        slot::{Life, Phase, Slot, State},
        stall::UNREACHABLE_LIMIT,
        timers::Owner,
    },
};
use crate::{logging::Level, task::QueueIndex};

/// How long all places may be taken, and none become free, before there is one more.
const PATIENCE: Duration = Duration::from_secs(1);

impl Core {
    /// The run begins: all slots stand in line.
    pub(super) fn begin(&mut self) {
        self.begun_at = self.now.at;
        self.warn_of_files();
        self.park_as_before();
        self.pause_as_before();
        for pool in 0..self.pools.len() {
            for slot in self.pools[pool].slots.clone() {
                self.spawn(slot);
            }
        }
        self.begin_pings();
        if self.plan.halt_when_empty {
            self.lost_at = Some(self.now.at);
            self.timers.arm(Owner::Outage, self.now.at + UNREACHABLE_LIMIT);
        }
    }

    /// Has a slot filled with a new process, when its turn has come.
    pub(super) fn spawn(&mut self, slot: usize) {
        self.fill(slot, false);
    }

    /// The same before all others.
    pub(super) fn spawn_first(&mut self, slot: usize) {
        self.fill(slot, true);
    }

    fn fill(&mut self, slot: usize, first: bool) {
        if !self.may_be_filled(slot) {
            return;
        }
        if self.is_once(slot) {
            self.open_place(slot);
            if self.slots[slot].failed_starts > 0 {
                self.count_shut(self.slots[slot].queue);
            }
            return;
        }
        if matches!(self.slots[slot].state, State::InLine) {
            return;
        }
        self.slots[slot].state = State::InLine;
        let line = &mut self.line;
        line.may_move();
        if first { &mut line.first } else { line.others.entry(self.slots[slot].queue).or_default() }.push_back(slot);
    }

    /// Whether a process may be started in a slot; empties it otherwise.
    fn may_be_filled(&mut self, slot: usize) -> bool {
        let index = self.slots[slot].queue;
        if self.stop.is_stopping() || !self.slots[slot].wanted {
            self.slots[slot].state = State::Empty;
            return false;
        }
        // In a pause that the run before began, whether its workers start at all is not known.
        let is_unproven = |cause| cause == pool::Cause::Tasks && !self.pools[index].proven;
        if let pool::State::Parked { until, cause, .. } = self.pools[index].state
            && !is_unproven(cause)
        {
            self.slots[slot].state = State::Empty;
            self.postpone_renewal(slot);
            self.timers.arm(Owner::Queue(index), until);
            return false;
        }
        true
    }

    /// After each event: starts who may start by now, if the event was one by which that can have changed.
    pub(super) fn start_next(&mut self) {
        if !std::mem::take(&mut self.line.may_move) {
            return;
        }
        if self.line.first.is_empty() && self.line.others.is_empty() {
            return;
        }
        let (slots, now) = (&self.slots, self.now.at);
        let is_starting = |id: &WorkerId| {
            slots[id.slot].process().is_some_and(|life| life.id == *id && matches!(life.phase, Phase::Starting { .. }))
        };
        let before = self.line.starting.len();
        self.line.starting.retain(is_starting);
        if self.line.starting.len() < before {
            self.line.moved_at = now;
        }
        loop {
            self.leave_line();
            let Some(slot) = self.take_turn() else { break };
            if self.may_be_filled(slot) && !self.is_needless(slot) {
                self.start(slot);
            }
        }
        // Nothing else may happen that makes their turn come.
        if !self.line.first.is_empty() || self.line.others.keys().any(|index| self.places_of(*index) == 0) {
            self.timers.arm(Owner::Starts, self.line.moved_at + PATIENCE);
        }
    }

    /// Whether a replacement has nobody to replace any more: that one has died while this one waited, and is started
    /// again as the settings are now.
    fn is_needless(&mut self, slot: usize) -> bool {
        let is_working = |old: usize| {
            let life = self.slots[old].process();
            life.is_some_and(|life| matches!(life.phase, Phase::Working { .. } | Phase::Starting { .. }))
        };
        if self.slots[slot].replaces.is_none_or(is_working) {
            return false;
        }
        let here = &mut self.slots[slot];
        (here.state, here.wanted, here.replaces) = (State::Empty, false, None);
        self.renew_next(self.slots[slot].queue);
        true
    }

    /// Takes those out of the front of the line who do not wait any more.
    fn leave_line(&mut self) {
        let slots = &self.slots;
        let is_gone = |slot: &usize| !matches!(slots[*slot].state, State::InLine);
        let leave = |line: &mut VecDeque<usize>| {
            while line.front().is_some_and(is_gone) {
                line.pop_front();
            }
        };
        leave(&mut self.line.first);
        self.line.others.retain(|_, line| {
            leave(line);
            !line.is_empty()
        });
    }

    /// How many processes of a queue are starting.
    fn places_of(&self, index: usize) -> usize {
        self.line.starting.iter().filter(|id| self.slots[id.slot].queue == index).count()
    }

    /// The slot that is to be filled next, if one may be.
    fn take_turn(&mut self) -> Option<usize> {
        let has_room = self.line.starting.len() < self.plan.starts_at_once;
        let is_overdue = self.line.moved_at + PATIENCE <= self.now.at;
        if !self.line.first.is_empty() && (has_room || is_overdue) {
            return self.line.first.pop_front();
        }
        let served = self.line.served;
        let turn = |index: &usize| (self.places_of(*index), *index <= served, *index);
        let (places, _, index) = self.line.others.keys().map(turn).min()?;
        let may_start = has_room || is_overdue && places == 0;
        if !may_start {
            return None;
        }
        self.line.served = index;
        self.line.others.get_mut(&index)?.pop_front()
    }

    /// Starts a process in a slot.
    fn start(&mut self, slot: usize) {
        let index = self.slots[slot].queue;
        let give_up_at = self.now.at + self.plan.supervisor.start_timeout;
        let recycle_jitter = 1.0 - 0.1 * self.random();
        let here = &mut self.slots[slot];
        here.life += 1;
        let id = WorkerId { slot, life: here.life };
        let life = Life::new(id, self.now.at, self.plan.log_level, Phase::Starting { give_up_at });
        here.state = State::Alive(Life { recycle_jitter, ..life });
        self.line.starting.push(id);
        self.line.moved_at = self.now.at;
        let settings = &self.pools[index].plan.settings;
        if self.tells_next_start(slot) {
            let (kind, queue) = (settings.kind.clone(), settings.name.clone());
            self.log(Level::Info, || format!("Launching {kind} to work on queue {queue}"));
        }
        let Slot { name, .. } = &self.slots[slot];
        let (name, launch) = (name.clone(), self.pools[index].plan.launch);
        self.actions.push(Action::Spawn { worker: id, slot: name, queue: QueueIndex(index), launch });
        self.arm_slot(slot);
    }
}
