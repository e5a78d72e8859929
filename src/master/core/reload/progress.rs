//! How far a reload has come: which queues have their workers, which are drained, and when all of it stands.

use std::collections::BTreeMap;

use crate::{
    control::types::Answer,
    logging::Level,
    master::core::{
        Core,
        event::Action,
        failed_starts,
        state::{
            pool::{self, Pool, Request, Standing},
            reload::Reload,
            slot::Slot,
        },
    },
    task::QueueIndex,
};

/// Starts of a worker that fail before a reload is said to have failed. It goes on trying.
const PATIENCE: u32 = 3;

impl Core {
    /// Something happened that is not a matter of tasks alone.
    pub(in super::super) fn reload_moved(&mut self) {
        if let Some(reload) = &mut self.reload {
            reload.has_moved = true;
        }
    }

    /// After each event: what of a reload stands by now? Looked at only if it can be more than before, so a task costs
    /// the same with a reload under way.
    pub(in super::super) fn look_at_reload(&mut self) {
        let Some(reload) = &mut self.reload else { return };
        if !std::mem::take(&mut reload.has_moved) || self.stop.is_stopping() {
            return;
        }
        let successors = self.all_successors();
        let mut stands = true;
        for index in 0..self.pools.len() {
            if matches!(self.pools[index].standing, Standing::Draining { .. }) && self.is_drained(index) {
                let pool = &mut self.pools[index];
                if let Standing::Draining { again } = &mut pool.standing {
                    pool.standing = Standing::Leaving { again: again.take() };
                }
                self.actions.push(Action::RemoveQueue { queue: QueueIndex(index) });
            }
            if self.pools[index].is_fresh {
                let successor = successors.get(&index).copied();
                let failure = self.failure(index, successor);
                let has_all = successor.is_none() && self.has_all_workers(index);
                self.pools[index].is_fresh = failure.is_none() && !has_all;
                if let Some(failure) = failure {
                    self.problem(failure);
                }
            }
            let pool = &self.pools[index];
            // What cannot be had for now is told, and not waited for.
            let is_joining = pool.standing == Standing::Joining && pool.trouble.is_some();
            let is_still = is_joining || matches!(pool.standing, Standing::Attached | Standing::Vacant);
            stands &= is_still && !pool.is_fresh && !pool.is_requested();
        }
        let is_awaited = |pool: &Pool| self.is_attached() && pool.is_requested() && pool.is_member();
        let is_ready = !self.pools.iter().any(|pool| pool.is_fresh || is_awaited(pool));
        if let Some(reload) = &mut self.reload {
            reload.is_ready |= is_ready;
        }
        if stands {
            self.end_reload();
        }
    }

    /// Whether nothing of a queue is in anybody's hands here.
    fn is_drained(&self, index: usize) -> bool {
        let pool = &self.pools[index];
        let pending = self.pending_verdicts.iter().flat_map(|pending| &pending.in_flight);
        pool.in_hand == 0
            && pool.waiting.is_empty()
            && pool.leaving.is_empty()
            && pending.into_iter().all(|task| task.delivery.queue.0 != index)
    }

    /// Whether as many workers as wanted are ready, and none is to be renewed.
    fn has_all_workers(&self, index: usize) -> bool {
        let pool = &self.pools[index];
        let is_ready = |slot: &usize| self.slots[*slot].process().is_some_and(|life| life.was_ready);
        pool.renewals.is_empty() && pool.slots.iter().all(is_ready)
    }

    /// Whether workers of a queue are still to be renewed.
    pub(super) fn is_behind(&self, index: usize) -> bool {
        let is_successor = |slot: &Slot| slot.queue == index && slot.replaces.is_some();
        !self.pools[index].renewals.is_empty() || self.slots.iter().any(is_successor)
    }

    /// The slot by queue in which another's successor starts: a queue renews one at a time.
    fn all_successors(&self) -> BTreeMap<usize, usize> {
        let successors = self.slots.iter().enumerate().filter(|(_, slot)| slot.replaces.is_some());
        successors.map(|(position, slot)| (slot.queue, position)).collect()
    }

    /// Why the workers of a queue will not be ready soon, if that is so.
    fn failure(&self, index: usize, successor: Option<usize>) -> Option<String> {
        let pool = &self.pools[index];
        let name = pool.name();
        if pool.state != pool::State::Running {
            return Some(format!("queue {name} is parked"));
        }
        let mut slots = pool.slots.iter().copied().chain(successor).map(|slot| &self.slots[slot]);
        let slot = slots.find(|slot| slot.failures >= PATIENCE && slot.process().is_none_or(|life| !life.was_ready))?;
        let last = slot.last_exit.as_deref().unwrap_or("it could not be made");
        let last = last.strip_prefix(failed_starts::NOT_STARTED).unwrap_or(last);
        Some(format!("queue {name}: a worker cannot be started: {last}; it is tried again"))
    }

    fn end_reload(&mut self) {
        let Some(Reload { waiting, mut problems, .. }) = self.reload.take() else { return };
        let is_waiting = |pool: &&Pool| pool.is_member() && pool.registration.request != Request::None;
        let unavailable =
            self.pools.iter().filter(is_waiting).filter_map(|pool| Some((pool.name(), pool.trouble.as_ref()?)));
        problems
            .extend(unavailable.map(|(name, trouble)| format!("queue {name} is not worked yet: {}", trouble.error)));
        if problems.is_empty() {
            self.log(Level::Info, || "The reload is complete".to_owned());
        }
        for number in waiting {
            let answer = if problems.is_empty() {
                Answer::said("the new settings are in force")
            } else {
                Answer::refused(format!("not all of the new settings are in force: {}", problems.join("; ")))
            };
            self.answer(Some(number), answer);
        }
    }

    /// Whether a reload is under way that is more than tasks in hand that are being finished, or a transport that is away.
    pub(in super::super) fn is_reloading(&self) -> bool {
        self.reload.as_ref().is_some_and(|reload| !reload.is_ready)
    }
}
