//! The lease of the one scheduler of an application: a lock on a byte of the file beside the database, held as long as its
//! process lives. What its holder remembers is in `memory`.

use super::memory;
use crate::{
    clock::{Clock, Timestamp},
    task::NewTask,
    transport::{
        Error, Event, ScheduleMemory,
        sqlite::{
            actor::{Actor, Lease},
            file::error::Fault,
            peers::owner::{self, lease_byte},
        },
    },
};

impl Actor {
    /// Asks for the lease of an application now, and with each poll until it is held.
    pub(crate) fn ask_lease(&mut self, application: String) {
        self.release_lease();
        self.lease = Some(Lease { application, held: false });
        self.try_lease();
        if self.lease.as_ref().is_some_and(|lease| !lease.held) {
            self.tell(Event::LeaseRefused);
        }
    }

    /// Takes the lease, if it was asked for and is free.
    pub(crate) fn try_lease(&mut self) {
        let Some(application) = self.lease.as_ref().filter(|lease| !lease.held).map(|lease| lease.application.clone())
        else {
            return;
        };
        match self.take_lease(&application) {
            Ok(None) => {}
            Ok(Some(memory)) => {
                self.lease = Some(Lease { application, held: true });
                self.tell(Event::LeaseHeld { memory });
            }
            Err(Fault::Sqlite(error)) => self.failed(&error),
            Err(Fault::Final(error)) => self.refuse(error),
        }
    }

    fn take_lease(&mut self, application: &str) -> Result<Option<Vec<(String, Timestamp)>>, Fault> {
        if self.refused.is_some() {
            return Ok(None);
        }
        self.open_database()?;
        let byte = lease_byte(application);
        let locked = self.open_owner_locks()?.try_lock(byte);
        // An error is not another scheduler, for which one waits.
        if !locked.map_err(|error| owner::lock_error(&self.path, &error))? {
            return Ok(None);
        }
        let memory = match &self.database {
            Some(database) => memory::memory(database.read(), application),
            None => Ok(Vec::new()),
        };
        if memory.is_err()
            && let Some(owner_locks) = &self.owner_locks
        {
            owner_locks.unlock(byte);
        }
        Ok(Some(memory?))
    }

    /// Gives the lease back, and wakes the masters, which may wait for it.
    pub(crate) fn release_lease(&mut self) {
        let Some(lease) = self.lease.take().filter(|lease| lease.held) else { return };
        if let Some(owner_locks) = &self.owner_locks {
            owner_locks.unlock(lease_byte(&lease.application));
        }
        let ours = self.claimer.as_ref().map(|claimer| claimer.owner);
        if let Some(database) = &self.database {
            let owners = owner::owners(database.read()).unwrap_or_default();
            self.peers.wake(&self.path, owners.into_iter().filter(|owner| Some(*owner) != ours));
        }
    }

    /// What is remembered of an application's schedules.
    pub(crate) fn schedule_memory(&mut self, application: &str) -> Result<ScheduleMemory, Error> {
        let locks = owner::OwnerLocksView::open(&self.path);
        let Some(database) = self.database_if_exists()? else { return Ok(ScheduleMemory::default()) };
        let seen = memory::memory(database.read(), application)
            .and_then(|moments| Ok((moments, owner::pids(database.read())?)))
            .map_err(|error| database.error(&error))?;
        let (mut moments, owners) = seen;
        moments.sort();
        let is_held = |byte| locks.as_ref().is_some_and(|locks| locks.is_held(byte));
        let alive = owners.into_iter().filter(|(owner, _)| is_held(*owner)).map(|(_, pid)| pid);
        Ok(ScheduleMemory { moments, is_led: is_held(lease_byte(application)), masters: alive.collect() })
    }

    /// Remembers that a schedule fired, together with its task.
    pub(crate) fn fire(&mut self, schedule: &str, moment: Timestamp, task: Option<&NewTask>) -> Result<bool, Error> {
        let Some(application) = self.lease.as_ref().filter(|lease| lease.held).map(|lease| lease.application.clone())
        else {
            let uri = format!("sqlite:{}", self.path.display());
            return Err(Error::Lost { uri, cause: "this process is not the scheduler".to_owned() });
        };
        let written = self.write(|transaction, ids| {
            let what = (application.as_str(), schedule, moment);
            let stored = memory::fire(transaction, ids, what, Clock::wall(), task)?;
            Ok((stored, owner::owners(transaction)?))
        });
        let (stored, owners) = written.map_err(|unwritten| unwritten.error)?;
        if stored && task.is_some() {
            self.wake_all(owners);
        }
        Ok(stored)
    }
}
