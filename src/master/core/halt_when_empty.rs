//! The core's chapter on halting when empty: whether there is nothing left to do, here and in the transport.

use std::time::Duration;

use super::{
    Core,
    event::Action,
    state::{pool, timers::Owner},
};
use crate::{
    jobs::record::Record,
    logging::{Level, MASTER},
};

/// On a broker: quiet for this long, and the end is worth asking for.
const LASTING: Duration = Duration::from_millis(150);
/// Quiet for this long, and it is said what is waited for.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// All is done but what an unavailable queue holds: until it is looked again.
const UNAVAILABLE_AGAIN: Duration = Duration::from_secs(1);

impl Core {
    /// In halt mode: if nothing is in our hands and everybody is idle, asks the transport whether that is all.
    pub(super) fn check_empty(&mut self) {
        if !self.plan.halt_when_empty || self.surveying || !self.is_attached() || !self.is_quiet() {
            return;
        }
        // Between two tasks it is quiet for a moment. Where asking costs something, a lasting quiet is waited for.
        let lasting = if self.plan.remember.is_some() { LASTING } else { Duration::ZERO };
        let since = match self.quiet {
            Some((serial, since)) if serial == self.serial => since,
            _ => self.now.at,
        };
        self.quiet = Some((self.serial, since));
        if self.now.at.since(since) < lasting {
            self.timers.arm(Owner::Survey, since + lasting);
            return;
        }
        self.surveying = true;
        let jobs = (!self.plan.pipelines.is_empty()).then(|| self.plan.application.clone());
        self.actions.push(Action::Survey { serial: self.serial, jobs });
    }

    /// Nothing was to be done here for a while, and something is left: perhaps jobs wait for others.
    fn tell_waits(&mut self) {
        let is_long =
            self.quiet.is_some_and(|(serial, since)| serial == self.serial && self.now.at.since(since) >= TOLD_AFTER);
        if is_long && !self.plan.pipelines.is_empty() && self.told_waits != Some(self.serial) {
            self.told_waits = Some(self.serial);
            self.actions.push(Action::TellWaitedFor);
        }
    }

    fn is_quiet(&self) -> bool {
        self.in_hand == 0
            && self.pending_verdicts.is_empty()
            && self.all_settled()
            && !self.has_lost()
            && self.reload.is_none()
            && self.pools.iter().all(|pool| pool.waiting.is_empty() && pool.state == pool::State::Running)
            && self.slots.iter().all(|slot| slot.is_at_rest() || self.is_dispensable(slot))
    }

    /// The transport answered. The answer counts only if nothing happened here since it was asked.
    pub(super) fn surveyed(&mut self, serial: u64, empty: bool, stranded: &[Record], again_in: Duration) {
        if self.stop.is_stopping() || !self.surveying {
            return;
        }
        let still = serial == self.serial && self.is_quiet();
        if empty && still {
            self.surveying = false;
            let waits = self.waits_for_queue();
            if self.plan.scheduler && waits.is_none() {
                // A moment that fired until now is work; one that comes later is not. The queues are read again.
                self.plan.scheduler = false;
                self.log(Level::Debug, || format!("{MASTER} stops its scheduler: nothing is left to do"));
                self.actions.push(Action::StopScheduler);
                self.serial += 1;
                return;
            }
            match waits {
                None => self.end_empty(stranded),
                // All that can be done is done.
                Some(limit) if limit > self.now.at => {
                    self.surveying = true;
                    self.timers.arm(Owner::Survey, limit.min(self.now.at + UNAVAILABLE_AGAIN));
                }
                Some(_) => self.end_without(),
            }
        } else if serial == self.serial && !empty {
            self.tell_waits();
            self.timers.arm(Owner::Survey, self.now.at + again_in);
        } else {
            self.surveying = false;
        }
    }
}
