//! The core's chapter on deadlines: what is looked at when one passes. An owner whose deadline has not come is armed again, so a
//! deadline that vanished costs one look; one that is due is never armed again unchanged, or it would be due for ever.

use super::{
    Core, Passed,
    state::{
        pool,
        slot::{Phase, Recall, State},
        stall::UNREACHABLE_LIMIT,
        timers::Owner,
    },
};
use crate::{clock::Instant, exit_code::Code};

impl Core {
    /// Whose limits will be found passed by an [`Event::DeadlinePassed`](super::event::Event::DeadlinePassed) at `now`. What these have said and done is to be
    /// told first.
    pub fn limits_passed(&mut self, now: Instant) -> Passed {
        let mut passed = Passed::default();
        let mut due = Vec::new();
        while let Some(owner) = self.timers.due_limit(now) {
            if let Owner::Slot(slot) = owner {
                // Armed for a task that has ended meanwhile, as a rule.
                if self.slot_due_at(slot).is_none_or(|at| at > now) {
                    self.arm_slot(slot);
                    continue;
                }
                passed.slots.push(slot);
            } else {
                passed.others = true;
            }
            due.push(owner);
        }
        for owner in due {
            self.timers.arm(owner, now);
        }
        passed
    }

    pub(super) fn look_at(&mut self, owner: Owner) {
        match owner {
            Owner::Slot(slot) => self.look_at_slot(slot),
            Owner::Queue(index) => self.look_at_queue(index),
            Owner::Ahead(slot) => self.look_at_ahead(slot),
            Owner::Stop => self.look_at_stop(),
            Owner::Verdicts => self.judge_pending(false),
            Owner::Pings | Owner::Answers => self.look_at_pings(),
            Owner::Stall => self.look_at_stall(),
            // Nothing but that the line is looked at, which `start_next` does after each deadline.
            Owner::Starts => {}
            // `check_quiet` asks again if it is still quiet.
            Owner::Survey => self.surveying = false,
            Owner::Outage => self.look_at_outage(),
            Owner::Restart(slot) => match self.slots[slot].state {
                State::Waiting { until } if until <= self.now.at => self.spawn(slot),
                State::Waiting { until } => self.timers.arm(owner, until),
                State::Empty | State::InLine | State::Alive(_) => {}
            },
        }
    }

    /// In halt mode the transport may not be out of reach for long.
    pub(super) fn look_at_outage(&mut self) {
        // In a stop the limit says nothing any more; armed again it would be due for ever.
        if !self.plan.halt_when_empty || self.stop.is_stopping() {
            return;
        }
        let Some(limit) = self.lost_at.map(|at| at + UNREACHABLE_LIMIT) else { return };
        if limit > self.now.at {
            self.timers.arm(Owner::Outage, limit);
            return;
        }
        let seconds = UNREACHABLE_LIMIT.as_secs();
        let cause = self.stall.cause();
        self.end_badly(Code::Unavailable, format!("the transport was out of reach for {seconds} s{cause}"));
    }

    pub(super) fn look_at_slot(&mut self, slot: usize) {
        let now = self.now.at;
        let over = |at: &Instant| *at <= now;
        match &self.slots[slot].state {
            State::Empty | State::Waiting { .. } | State::InLine => {}
            State::Alive(life) => {
                let id = life.id;
                let late = life.in_flight.overdue(now);
                match &life.phase {
                    Phase::Killed(_) | Phase::LeftProcesses { .. } => {}
                    Phase::Starting { give_up_at } if over(give_up_at) => self.give_up_start(id),
                    Phase::Interrupted { kill_at } if over(kill_at) => self.kill_for_stop(id),
                    _ if life.end_due.as_ref().is_some_and(over) => self.end_unspoken(id),
                    _ if matches!(life.recall, Recall::Pending { until } if until <= now) => self.recall_unanswered(id),
                    _ if life.telling.as_ref().is_some_and(|telling| telling.until <= now) => {
                        self.telling_timed_out(id);
                    }
                    Phase::Working { .. } | Phase::Leaving if late.is_some() => {
                        let late = late.map(|late| (late.id().to_owned(), late.limit()));
                        let (task, limit) = late.unwrap_or_default();
                        self.time_out(id, task, limit);
                    }
                    Phase::Working { .. } if self.old_at(self.slots[slot].queue, life).as_ref().is_some_and(over) => {
                        self.recycle(id, "it is old enough");
                    }
                    Phase::Starting { .. } | Phase::Working { .. } | Phase::Leaving | Phase::Interrupted { .. } => {}
                }
            }
        }
        self.arm_slot(slot);
    }

    pub(super) fn look_at_queue(&mut self, index: usize) {
        // In a stop no pause ends: armed again, its end would be due for ever.
        if let pool::State::Parked { until, pause, cause } = self.pools[index].state
            && !self.stop.is_stopping()
        {
            if until <= self.now.at {
                self.pools[index].state = pool::State::Trial { pause, cause };
                self.begin_trial(index);
            } else {
                self.timers.arm(Owner::Queue(index), until);
            }
        }
        self.end_pause_if_due(index);
        if let Some(next) = self.pools[index].waiting.release_due(self.now.at) {
            self.timers.arm(Owner::Queue(index), next);
        }
        self.notice_lull(index);
        self.dispatch(index);
    }

    /// Arms the deadline of a slot.
    pub(super) fn arm_slot(&mut self, slot: usize) {
        if let Some(at) = self.slot_due_at(slot) {
            self.timers.arm(Owner::Slot(slot), at);
        }
    }

    pub(super) fn slot_due_at(&self, slot: usize) -> Option<Instant> {
        let index = self.slots[slot].queue;
        let old_at = self.slots[slot].process().and_then(|life| self.old_at(index, life));
        [self.slots[slot].deadline(), old_at].into_iter().flatten().min()
    }
}
