//! The core's chapter on queues that the transport cannot work for now: refused or lost by the broker, while the others
//! are worked as before.
//!
//! To its handles this is what a lost session is to all of them. The transport tries again by itself and says when it
//! has succeeded; nothing here may wait for it, except that a run that is to halt when all is done does not end well
//! without the queue: it does what the others have, waits [`UNREACHABLE_LIMIT`], and says which queue it was.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Core,
    state::{
        pool::{self, Pool, Standing, Trouble},
        stall::UNREACHABLE_LIMIT,
    },
};
use crate::{clock::Instant, exit_code::Code, logging::Level, task::Handle, transport};

impl Core {
    pub(super) fn queue_unavailable(
        &mut self,
        index: usize,
        error: &transport::Error,
        again_in: Duration,
        void: &[Handle],
    ) {
        if self.pools[index].trouble.is_none() || !void.is_empty() {
            self.void(index, void);
        }
        if !self.pools[index].is_member() || self.stop.is_stopping() {
            // It is not opened again, so nobody says when what was settled there begins to age.
            self.memory_ages();
        }
        // One that the transport has not been asked to let go of may be wanted again.
        let is_kept = self.pools[index].is_member() || matches!(self.pools[index].standing, Standing::Draining { .. });
        if !is_kept || self.stop.is_stopping() {
            return;
        }
        let (error, now) = (error.to_string(), self.now.at);
        let pool = &mut self.pools[index];
        let known = pool.trouble.take();
        let is_news = known.as_ref().is_none_or(|known| known.error != error);
        let since = known.map_or(now, |known| known.since);
        pool.trouble = Some(Trouble { since, error: error.clone(), again_at: now + again_in });
        let name = pool.name().to_owned();
        let seconds = again_in.as_secs_f64();
        if is_news {
            self.log(Level::Warning, || format!("Queue {name} is unavailable: {error}; it is tried again and again"));
        } else {
            self.log(Level::Debug, || format!("Queue {name} is still unavailable; again in {seconds:.1} s"));
        }
        if is_news && self.members().count() > 1 && self.members().all(|pool| pool.trouble.is_some()) {
            self.log(Level::Error, || "No queue can be worked: all of them are unavailable".to_owned());
        }
        self.reload_moved();
    }

    /// These handles of a queue are no more: what waits comes again, what is in hand is adopted when it does, and what was
    /// settled is remembered.
    fn void(&mut self, index: usize, void: &[Handle]) {
        self.void_outcomes.session_lost(self.now.at, Some(index));
        let settlements = self.unsettled.queue_lost(index, void);
        self.void_settlements(settlements);
        (self.serial, self.epoch) = (self.serial + 1, self.epoch + 1);
        let pool = &mut self.pools[index];
        (pool.since, pool.first) = (self.epoch, pool::FirstDelivery::Awaited);
        if let Some(memory) = self.memory.as_mut().filter(|_| pool.delivered_at != Instant::default()) {
            // What was settled of late is perhaps not known to the broker, and comes again however late that is.
            memory.lost();
        }
        let void: BTreeSet<Handle> = void.iter().copied().collect();
        for delivery in pool.take_waiting() {
            self.locks.let_go(delivery.handle);
        }
        self.void_in_flight(Some((index, &void)));
        self.recall_queue(index);
        if self.pools[index].credit > 1 {
            self.ask_credit(index, 1);
        }
    }

    /// What was settled ages from now on, unless a queue is to be opened again.
    pub(super) fn memory_ages(&mut self) {
        let opens = !self.stop.is_stopping() && self.members().any(|pool| pool.trouble.is_some());
        if let Some(memory) = self.memory.as_mut().filter(|_| self.attached && !opens) {
            memory.attached(self.now.at);
        }
    }

    /// The transport works a queue that it could not.
    pub(super) fn available_again(&mut self, index: usize) {
        let Some(trouble) = self.pools[index].trouble.take() else { return };
        self.memory_ages();
        self.void_outcomes.session_began(self.now.at);
        let name = self.pools[index].name().to_owned();
        let seconds = self.now.at.since(trouble.since).as_secs_f64();
        self.log(Level::Info, || format!("Queue {name} is available again, after {seconds:.1} s"));
        self.serial += 1;
        self.renew_credit(index);
    }

    /// The queue that has been unavailable longest.
    pub(super) fn worst_trouble(&self) -> Option<(&Pool, &Trouble)> {
        let troubles = self.members().filter_map(|pool| Some((pool, pool.trouble.as_ref()?)));
        troubles.min_by_key(|(_, trouble)| trouble.since)
    }

    /// In halt mode, with nothing left to do but what cannot be done: until when that is waited for. `None`: there is no such.
    pub(super) fn waits_for_queue(&self) -> Option<Instant> {
        let unavailable = self.worst_trouble().map(|(_, trouble)| trouble.since + UNREACHABLE_LIMIT);
        unavailable.into_iter().chain(self.waits_for_stuck()).min()
    }

    /// Ends a run that has done all that it could.
    pub(super) fn end_without(&mut self) {
        let Some((pool, trouble)) = self.worst_trouble() else { return self.end_stuck() };
        let (name, error, seconds) = (pool.name(), &trouble.error, UNREACHABLE_LIMIT.as_secs());
        let text = format!("queue {name} was unavailable for {seconds} s: {error}");
        self.end_badly(Code::Unavailable, text);
    }
}
