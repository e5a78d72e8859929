//! The core's chapter on a transport that stands and stores nothing: a full disk, a lock that is not given back, a broker
//! that confirms nothing.
//!
//! A master that serves waits for as long as it takes, and says so in its health. A run that halts when empty may never wait
//! for ever: it ends as it does where the transport is out of reach.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{
    Core,
    state::{stall::UNREACHABLE_LIMIT, timers::Owner},
};
use crate::{clock::Instant, exit_code::Code, transport};

impl Core {
    /// The transport can store nothing for now.
    pub(super) fn stalled(&mut self, error: &transport::Error) {
        self.stall.told.get_or_insert_with(|| (self.now.at, error.to_string())).1 = error.to_string();
        self.watch_stall(self.now.at);
    }

    /// It can again.
    pub(super) fn resumed(&mut self) {
        self.stall.told = None;
        self.stall.moved_at = self.now.at;
    }

    /// From nothing owed to something.
    pub(super) fn first_unsettled(&mut self) {
        self.stall.moved_at = self.now.at;
        self.watch_stall(self.now.at);
    }

    /// In a stop the limit says nothing any more: the end has limits of its own.
    fn watch_stall(&mut self, since: Instant) {
        if self.plan.halt_when_empty && !self.stop.is_stopping() {
            self.timers.arm(Owner::Stall, since + UNREACHABLE_LIMIT);
        }
    }

    /// In halt mode: ends the run if nothing was stored for too long.
    pub(super) fn look_at_stall(&mut self) {
        let told_at = self.stall.told.as_ref().map(|(at, _)| *at);
        let unsettled_since = (self.is_attached() && !self.all_settled()).then_some(self.stall.moved_at);
        let Some(since) = [told_at, unsettled_since].into_iter().flatten().min() else { return };
        if self.now.at.since(since) < UNREACHABLE_LIMIT {
            return self.watch_stall(since);
        }
        if !self.stop.is_stopping() {
            let stuck = || self.stuck_cause().map(|cause| format!(": {cause}"));
            let cause = self.stall.problem().is_none().then(stuck).flatten().unwrap_or_else(|| self.stall.cause());
            let seconds = Duration::as_secs(&UNREACHABLE_LIMIT);
            self.end_badly(Code::Unavailable, format!("the transport has stored nothing for {seconds} s{cause}"));
        }
    }
}
