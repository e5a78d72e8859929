//! The poll that an attached transport makes once a second, for what no datagram tells: tasks whose datagram was lost, files that
//! were replaced, masters that died.
//!
//! It may never be left out while a transport is attached: a datagram may be lost, and a dead master sends none.

use std::time::Duration;

use super::owner::{self, OwnerLocks};
use crate::{
    clock::Clock,
    transport::{
        Error, Event,
        sqlite::{
            actor::Actor,
            file::{clock_offset::Clocks, database::Database, error::file_error, housekeeping::Step},
        },
    },
};

/// The time between two polls.
const POLL_EVERY: Duration = Duration::from_secs(1);

impl Actor {
    /// Another master stored a task or an entry, or gave back tasks, the lease or the ledger, or stopped what is in hand.
    pub(crate) fn on_peer_wakeup(&mut self) {
        if let Some(claimer) = &mut self.claimer {
            claimer.recheck_all();
        }
        self.try_lease();
        self.try_ledger();
        if let Err(error) = self.tell_stopped() {
            self.failed(&error);
        }
    }

    /// Whether polls are needed.
    pub(crate) fn polls(&self) -> bool {
        self.claimer.is_some() || self.lease.as_ref().is_some_and(|lease| !lease.held) || self.ledger.is_some()
    }

    /// An error if a file that we opened is no longer the one that others open under its name.
    fn check_files(&self) -> Result<(), Error> {
        for file in self.database.iter().map(Database::file).chain(self.owner_locks.iter().map(OwnerLocks::identity)) {
            if !file.is_in_place() {
                return Err(file_error(&file.path, "it was removed or replaced while it was in use"));
            }
        }
        Ok(())
    }

    /// Makes the poll that is due.
    pub(crate) fn poll_tick(&mut self) {
        self.poll_at = self.clock.now().at + POLL_EVERY;
        if self.refused.is_some() || !self.polls() {
            return;
        }
        if let Err(error) = self.check_files() {
            return self.refuse(error);
        }
        self.try_lease();
        self.try_ledger();
        if let Err(error) = self.try_poll_tick() {
            self.failed(&error);
        }
    }

    /// Follows the wall clock if it was set.
    pub(crate) fn check_clocks(&mut self) -> rusqlite::Result<()> {
        let (Some(claimer), Some(database)) = (&mut self.claimer, &mut self.database) else { return Ok(()) };
        // Kept before the first check: where that fails, the next one tells what it has done.
        let clocks = match &mut self.clocks {
            Some(clocks) => clocks,
            none => none.insert(Clocks::begin(database)?),
        };
        let seen = clocks.check(database, Clock::reading())?;
        if seen.moved > 0 {
            claimer.recheck_all();
            self.peers.wake(&self.path, claimer.others.iter().copied());
        }
        let lines = [seen.warning.map(Event::Warning), seen.notice.map(Event::Notice)];
        lines.into_iter().flatten().for_each(|line| self.tell(line));
        Ok(())
    }

    fn try_poll_tick(&mut self) -> rusqlite::Result<()> {
        self.check_clocks()?;
        let (Some(claimer), Some(database)) = (&mut self.claimer, &mut self.database) else { return Ok(()) };
        let version = database.data_version()?;
        let changed = self.data_version != version;
        if changed {
            claimer.recheck_all();
            claimer.others = owner::owners(database.read())?;
            claimer.others.retain(|other| *other != claimer.owner);
            self.data_version = version;
        }
        let is_idle = !std::mem::take(&mut self.wrote_something) && !changed;
        let reading = Clock::reading();
        let may_delete = self.clocks.as_ref().is_some_and(|clocks| clocks.may_delete(reading));
        let step = Step { may_delete, is_idle };
        let kept = self.housekeeping.step(database, &self.path, &self.lock_timeout, reading.wall, step)?;
        if kept.thawed {
            claimer.recheck_all();
        }
        for line in kept.deleted {
            self.tell(Event::Notice(line));
        }
        if let Some(warning) = kept.warning {
            self.tell(Event::Warning(warning));
        }
        self.reclaim_from_dead_masters()?;
        if changed {
            self.tell_stopped()?;
            self.return_orphans()?;
        }
        Ok(())
    }
}
