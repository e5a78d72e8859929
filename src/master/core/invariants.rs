//! The core's chapter on what must hold after each event, whatever happened: it reads all of the state and changes none of it.
//!
//! Debug builds check after each event while the core is small, and after one of [`EVERY`] events when it is not; the simulation
//! checks after each one.

use std::collections::{BTreeSet, HashSet};

use super::{
    Core,
    state::{
        in_flight::Withdrawn,
        pool::{self, Pool, Standing},
        slot::{Phase, Recall, Slot, State},
        stop::Stop,
        timers::Owner,
    },
};
use crate::{clock::Instant, task::Handle};

/// With more slots and tasks than [`SMALL`], a debug build checks after one of so many events.
#[cfg(debug_assertions)]
const EVERY: u64 = 64;
#[cfg(debug_assertions)]
const SMALL: usize = 64;
/// No queue has more credit than this, or than it has seats and tasks in flight.
const MOST_CREDIT: u32 = 512;

impl Core {
    /// Whether the state is one that can be.
    ///
    /// # Errors
    /// What is wrong with it.
    #[doc(hidden)]
    pub fn invariants(&self) -> Result<(), String> {
        if matches!(self.stop, Stop::Over) {
            return Ok(());
        }
        self.tasks_agree()?;
        self.handles_stand_once()?;
        self.queues_agree()?;
        self.celery_agrees()?;
        self.nothing_void_is_begun()?;
        self.deadlines_are_armed()?;
        self.counts_agree()
    }

    /// The same in a debug build, which ends with a panic if it is not so.
    #[cfg(debug_assertions)]
    pub(super) fn debug_check(&mut self) {
        self.events += 1;
        let is_small = self.slots.len() + self.in_hand + self.unsettled.len() <= SMALL;
        if (is_small || self.events.is_multiple_of(EVERY))
            && let Err(wrong) = self.invariants()
        {
            debug_assert!(false, "the core is in a state that cannot be: {wrong}");
        }
    }

    /// Counts, bytes, ids and the index by identity are those of the tasks in flight. The first of a process is begun. A slot is listed
    /// exactly while it has a seat.
    fn tasks_agree(&self) -> Result<(), String> {
        let mut in_hand = vec![0; self.pools.len()];
        let mut identities = 0;
        for (position, slot) in self.slots.iter().enumerate() {
            let name = &slot.name;
            if slot.listed != slot.has_seat() {
                return Err(format!("{name} has a seat: {}, is listed: {}", slot.has_seat(), slot.listed));
            }
            let Some(life) = slot.process() else { continue };
            if life.id.slot != position || life.id.life != slot.life {
                return Err(format!("{name} holds process {:?}", life.id));
            }
            life.in_flight.check().map_err(|wrong| format!("{name}: {wrong}"))?;
            // One that is killed begins nothing any more.
            let is_killed = matches!(life.phase, Phase::Killed(_) | Phase::LeftProcesses { .. });
            if !is_killed && !life.in_flight.is_empty() && life.in_flight.ahead() == life.in_flight.len() {
                return Err(format!("{name} has {} tasks, and none is begun", life.in_flight.len()));
            }
            in_hand[slot.queue] += life.in_flight.len();
            for task in life.in_flight.iter() {
                if task.slot != position || task.delivery.queue.0 != slot.queue {
                    return Err(format!("task {} in {name} is of slot {}", task.id(), task.slot));
                }
                if let Some(identity) = task.delivery.identity.filter(|_| task.accepted || !task.held) {
                    identities += 1;
                    if !self.in_flight.places(identity).any(|place| place == (position, task.number)) {
                        return Err(format!("task {} in {name} is not found by its identity", task.id()));
                    }
                }
            }
        }
        if self.in_flight.len() != identities {
            return Err(format!(
                "{identities} tasks in flight may be redelivered, {} are indexed",
                self.in_flight.len()
            ));
        }
        for (pool, in_hand) in self.pools.iter().zip(&in_hand) {
            if pool.in_hand != *in_hand {
                return Err(format!("{} has {in_hand} tasks in flight and counts {}", pool.name(), pool.in_hand));
            }
        }
        let all: usize = in_hand.iter().sum();
        if self.in_hand == all {
            Ok(())
        } else {
            Err(format!("{all} tasks are in flight, {} are counted", self.in_hand))
        }
    }

    /// Each delivery is in one place: it waits, is in flight, has a pending verdict, or is settled and not answered.
    fn handles_stand_once(&self) -> Result<(), String> {
        let waiting = self.pools.iter().flat_map(|pool| pool.waiting.handles());
        let in_flight = self.slots.iter().filter_map(Slot::process).flat_map(|life| life.in_flight.iter());
        let pending = self.pending_verdicts.iter().flat_map(|pending| &pending.in_flight);
        let held = in_flight.chain(pending).filter(|task| task.held).map(|task| task.delivery.handle);
        let mut seen: HashSet<Handle> = HashSet::new();
        for handle in waiting.chain(held).chain(self.unsettled.handles()) {
            if !seen.insert(handle) {
                return Err(format!("{handle:?} is in two places"));
            }
        }
        for handle in self.notes.keys() {
            if self.unsettled.get(*handle).is_none() {
                return Err(format!("something is to be said of {handle:?}, which is not settled or was answered"));
            }
        }
        self.locks.check()
    }

    fn queues_agree(&self) -> Result<(), String> {
        for (index, pool) in self.pools.iter().enumerate() {
            let name = pool.name();
            let free: BTreeSet<usize> = pool.free.iter().copied().collect();
            let listed = |slot: &usize| self.slots[*slot].listed && self.slots[*slot].queue == index;
            if free.len() != pool.free.len() || !free.iter().all(listed) {
                return Err(format!("{name}: its list of free slots is {:?}", pool.free));
            }
            let ahead: BTreeSet<usize> = pool.takes_ahead.iter().copied().collect();
            let lists = |slot: &Slot| slot.queue == index && slot.listed_ahead;
            if ahead.len() != pool.takes_ahead.len()
                || ahead.len() != self.slots.iter().filter(|slot| lists(slot)).count()
            {
                return Err(format!("{name}: its list of slots that take tasks ahead is {:?}", pool.takes_ahead));
            }
            let slots = pool.slots.iter().chain(&pool.leaving);
            if slots.copied().any(|slot| self.slots[slot].queue != index) {
                return Err(format!("{name} has a slot of another queue"));
            }
            let seats =
                u32::try_from(pool.slots.len()).unwrap_or(u32::MAX).saturating_mul(pool.plan.settings.concurrency);
            let outliving = u32::try_from(pool.in_hand).unwrap_or(u32::MAX);
            let most = if self.attached { MOST_CREDIT.max(seats.saturating_add(outliving)).max(1) } else { 1 };
            if pool.credit > most {
                return Err(format!("{name} has credit {}, at most {most}", pool.credit));
            }
            if pool.in_line != self.turns.contains(&index) {
                return Err(format!("{name} waits for its turn: {}", pool.in_line));
            }
            if pool.standing == Standing::Vacant && (pool.in_hand > 0 || !pool.waiting.is_empty()) {
                return Err(format!("{name} is not there and has tasks"));
            }
        }
        let listed = self.slots.iter().filter(|slot| slot.listed).count();
        let free: usize = self.pools.iter().map(|pool| pool.free.len()).sum();
        if listed == free { Ok(()) } else { Err(format!("{listed} slots are listed as free, {free} are in the lists")) }
    }

    /// Who stores the result of a lost task does nothing else, and none waits beside a worker that could be told of it. A task that is
    /// held back by its name's rate has its turn some day.
    fn celery_agrees(&self) -> Result<(), String> {
        for (position, slot) in self.slots.iter().enumerate() {
            let Some(life) = slot.process() else { continue };
            if life.telling.is_some() && !(life.wants_celery && life.in_flight.is_empty() && life.was_ready) {
                return Err(format!("{} is told of a lost task and is not one for that, or has tasks", slot.name));
            }
            let pool = &self.pools[slot.queue];
            // After a failure there is a pause.
            let lost = pool.celery.as_ref().filter(|celery| celery.tells_again_at.is_none());
            let lost = lost.map_or(0, |celery| celery.lost());
            if lost > 0 && self.may_tell(position) {
                return Err(format!(
                    "{lost} lost tasks of {} wait beside {}, which holds nothing",
                    pool.name(),
                    slot.name
                ));
            }
        }
        for (index, pool) in self.pools.iter().enumerate() {
            if let Some(celery) = &pool.celery {
                celery.check()?;
                if celery.lost() > 0 && (self.stop.is_stopping() || !pool.is_member()) {
                    return Err(format!("lost tasks of {} wait, and nobody will be told of them", pool.name()));
                }
            }
            let unbegun = |slot: &Slot| -> Vec<Handle> {
                let tasks = slot.process().into_iter().flat_map(|life| life.in_flight.iter());
                tasks.filter(|task| !task.begun).map(|task| task.delivery.handle).collect()
            };
            let is_here = |handle: Handle| {
                pool.waiting.handles().any(|other| other == handle)
                    || self.slots.iter().filter(|slot| slot.queue == index).any(|slot| unbegun(slot).contains(&handle))
            };
            pool.waiting.rates.check(is_here).map_err(|wrong| format!("{}: {wrong}", pool.name()))?;
        }
        Ok(())
    }

    /// What is of a void round waits for no worker, and is withdrawn from the one that has it. One that was withdrawn and is begun
    /// has a worker that is being ended, or is asked for it.
    fn nothing_void_is_begun(&self) -> Result<(), String> {
        if let Some(delivery) = self.pools.iter().flat_map(|pool| pool.waiting.iter()).find(|of| self.is_void(&of.task))
        {
            return Err(format!("task {} of a void round waits", delivery.task.id));
        }
        let pending = self.pending_verdicts.iter().flat_map(|pending| &pending.in_flight);
        let lives = || self.slots.iter().filter_map(Slot::process);
        let mut tasks = lives().flat_map(|life| life.in_flight.iter()).chain(pending);
        if let Some(task) =
            tasks.find(|task| self.is_void(&task.delivery.task) && task.withdrawn != Some(Withdrawn::Void))
        {
            return Err(format!("task {} of a void round is not withdrawn", task.id()));
        }
        for life in lives() {
            let is_ending = matches!(life.phase, Phase::Killed(_) | Phase::LeftProcesses { .. })
                || matches!(life.recall, Recall::Pending { .. });
            let begun = life.in_flight.iter().find(|task| task.begun && task.withdrawn.is_some());
            if let Some(task) = begun.filter(|_| !is_ending) {
                return Err(format!("task {} was withdrawn, and its worker goes on with it", task.id()));
            }
        }
        Ok(())
    }

    /// Whatever ends by itself is looked at in time.
    fn deadlines_are_armed(&self) -> Result<(), String> {
        let armed = |owner: Owner, at: Option<Instant>| {
            // One that has passed is armed for this moment, while what came before it is told: see `limits_passed`.
            let by = |at: Instant| at.max(self.now.at);
            let is_armed = at.is_none_or(|at| self.timers.armed(owner).is_some_and(|armed| armed <= by(at)));
            if is_armed { Ok(()) } else { Err(format!("{owner:?} is due at {at:?} and not armed by then")) }
        };
        for (position, slot) in self.slots.iter().enumerate() {
            armed(Owner::Slot(position), slot.deadline())?;
            if let State::Waiting { until } = slot.state {
                armed(Owner::Restart(position), Some(until))?;
            }
        }
        armed(Owner::Verdicts, self.pending_verdicts.iter().map(|pending| pending.until).min())?;
        if let Stop::Draining(end) | Stop::Interrupting(end) | Stop::Killing(end) = &self.stop {
            armed(Owner::Stop, Some(end.last_until.unwrap_or(end.until)))?;
        }
        // In a stop no pause ends.
        if self.stop.is_stopping() {
            return Ok(());
        }
        for (index, pool) in self.pools.iter().enumerate() {
            if let pool::State::Parked { until, .. } = pool.state {
                armed(Owner::Queue(index), Some(until))?;
            }
            armed(Owner::Queue(index), pool.pause.as_ref().and_then(|pause| pause.until))?;
            armed(Owner::Queue(index), pool.waiting.rates.next_due())?;
        }
        Ok(())
    }

    /// The run has done at least what its queues have: those that are gone take their counts with them.
    fn counts_agree(&self) -> Result<(), String> {
        let sum = |of: fn(&Pool) -> u64| self.pools.iter().map(of).sum::<u64>();
        let tally = self.tally;
        for (what, run, queues) in [
            ("processed", tally.processed, sum(Pool::done)),
            ("retried", tally.retried, sum(|pool| pool.counts.retried.iter().sum())),
            ("dead-lettered", tally.dead_lettered, sum(|pool| pool.counts.dead.iter().sum())),
        ] {
            if run < queues {
                return Err(format!("{run} tasks {what} in all, {queues} in the queues"));
            }
        }
        Ok(())
    }
}
