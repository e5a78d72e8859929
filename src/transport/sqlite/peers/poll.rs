//! What nobody is told in time: news whose datagram was lost, files that were replaced, masters that died.
//!
//! It may never be left out while a master is attached: a datagram may be lost, and the dead send none.

use std::time::Duration;

use super::owner::{self, Masters};
use crate::{
    clock::Clock,
    transport::{
        Error, Event,
        sqlite::{
            actor::Actor,
            file::{
                clock_offset::Clocks,
                database::{Store, file_error},
                housekeeping::Step,
            },
        },
    },
};

/// How often an attached transport looks for what no datagram told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Actor {
    /// Somebody stored something, or gave something back.
    pub(crate) fn look_for_news(&mut self) {
        if let Some(master) = &mut self.master {
            master.look();
        }
        self.try_lease();
    }

    /// Whether there is anything to look for.
    pub(crate) fn looks_around(&self) -> bool {
        self.master.is_some() || self.lease.as_ref().is_some_and(|lease| !lease.held)
    }

    /// Whether the files that we opened are still those that others open.
    fn check_files(&self) -> Result<(), Error> {
        for file in self.store.iter().map(Store::file).chain(self.masters.iter().map(Masters::identity)) {
            if !file.is_in_place() {
                return Err(file_error(&file.path, "it was removed or replaced while it was in use"));
            }
        }
        Ok(())
    }

    /// Once a second: what no datagram told, who died, and what should be tidied up.
    pub(crate) fn look_around(&mut self) {
        self.look_at = self.clock.now().at + LOOK_EVERY;
        if self.refused.is_some() || !self.looks_around() {
            return;
        }
        if let Err(error) = self.check_files() {
            return self.refuse(error);
        }
        self.try_lease();
        if let Err(error) = self.try_look_around() {
            self.failed(&error);
        }
    }

    /// What follows if the wall clock was set.
    pub(crate) fn look_at_clocks(&mut self) -> rusqlite::Result<()> {
        let (Some(master), Some(store)) = (&mut self.master, &mut self.store) else { return Ok(()) };
        // Kept before the first look: what that has done is said by the next one where it fails.
        let clocks = match &mut self.clocks {
            Some(clocks) => clocks,
            none => none.insert(Clocks::begin(store)?),
        };
        let seen = clocks.look(store, Clock::reading())?;
        if seen.moved > 0 {
            master.look();
            self.caller.wake(&self.path, master.others.iter().copied());
        }
        let lines = [seen.warning.map(Event::Warning), seen.notice.map(Event::Notice)];
        lines.into_iter().flatten().for_each(|line| self.tell(line));
        Ok(())
    }

    fn try_look_around(&mut self) -> rusqlite::Result<()> {
        self.look_at_clocks()?;
        let (Some(master), Some(store)) = (&mut self.master, &mut self.store) else { return Ok(()) };
        let version = store.data_version()?;
        let changed = self.data_version != version;
        if changed {
            master.look();
            master.others = owner::owners(store.read())?;
            master.others.retain(|other| *other != master.owner);
            self.data_version = version;
        }
        let is_idle = !std::mem::take(&mut self.active) && !changed;
        let reading = Clock::reading();
        let may_delete = self.clocks.as_ref().is_some_and(|clocks| clocks.may_delete(reading));
        let step = Step { may_delete, is_idle };
        let kept = self.keeping.step(store, &self.path, &self.patience, reading.wall, step)?;
        for line in kept.deleted {
            self.tell(Event::Notice(line));
        }
        if let Some(warning) = kept.warning {
            self.tell(Event::Warning(warning));
        }
        self.return_tasks_of_the_dead()?;
        if changed { self.return_strays() } else { Ok(()) }
    }
}
