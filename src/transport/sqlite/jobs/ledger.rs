//! The ledger of an application, as its one coordinator holds it: a lock on a byte of the file beside the database for as long as its
//! process lives, an epoch in the file, entries that it is told, steps that it stores.
//!
//! A step is kept until it is stored, as settlements are: what may pass is tried again, and never answered with an error.

use std::time::Duration;

use super::{
    advance,
    asked::{Held, Ledger},
    entries, records,
    undone::Undone,
};
use crate::{
    clock::{Clock, Instant},
    jobs::{
        entry_list::LONGEST_LIST,
        record::{Advance, Frozen, JobFilter, Record, StoredEntry},
    },
    transport::{
        Error, Event,
        sqlite::{
            actor::Actor,
            file::{database::Synchronous, error::Fault},
            peers::owner::{self, ledger_byte},
        },
    },
};

/// Entries that are told and not folded, and their bytes, at most.
const OUTSTANDING: (usize, usize) = (1024, 1 << 20);
/// Where so many bytes of entries were new, the next are looked for after this: then a step, which writes the whole state of each job
/// that it changes, folds more of them.
const BUSY: (usize, Duration) = (4096, Duration::from_millis(5));

/// Epoch, open jobs, what is frozen beside them.
type Taken = (u64, Vec<Record>, Vec<Frozen>);

impl Actor {
    /// Asks for the ledger of an application now, and with each poll until it is held.
    pub(crate) fn ask_ledger(&mut self, application: String) {
        self.release_ledger();
        self.ledger = Some(Ledger { application, held: None });
        self.try_ledger();
        if self.ledger.as_ref().is_some_and(|ledger| ledger.held.is_none()) {
            self.tell(Event::LedgerRefused);
        }
    }

    /// Takes the ledger, if it was asked for and is free.
    pub(crate) fn try_ledger(&mut self) {
        let Some(ledger) = self.ledger.as_ref().filter(|ledger| ledger.held.is_none()) else { return };
        let application = ledger.application.clone();
        match self.take_ledger(&application) {
            Ok(None) => {}
            Ok(Some((epoch, jobs, frozen))) => {
                let held = Held { epoch, ..Held::default() };
                self.ledger = Some(Ledger { application, held: Some(held) });
                self.wrote_something = true;
                self.tell(Event::LedgerHeld { epoch, jobs, frozen });
            }
            Err(Fault::Sqlite(error)) => self.failed(&error),
            Err(Fault::Final(error)) => self.refuse(error),
        }
    }

    fn take_ledger(&mut self, application: &str) -> Result<Option<Taken>, Fault> {
        if self.refused.is_some() {
            return Ok(None);
        }
        self.open_database()?;
        let byte = ledger_byte(application);
        let locked = self.open_owner_locks()?.try_lock(byte);
        // An error is not another coordinator, for which one waits.
        if !locked.map_err(|error| owner::lock_error(&self.path, &error))? {
            return Ok(None);
        }
        let owner = self.claimer.as_ref().map_or(0, |claimer| claimer.owner);
        let begun = self.open_database().and_then(|database| {
            Ok(database.write(Synchronous::Normal, |transaction, _| {
                let epoch = advance::begin_epoch(transaction, application, owner)?;
                let jobs = records::open(transaction, application)?;
                Ok((epoch, jobs, records::frozen(transaction, application)?))
            })?)
        });
        if begun.is_err()
            && let Some(owner_locks) = &self.owner_locks
        {
            owner_locks.unlock(byte);
        }
        begun.map(Some)
    }

    /// Gives the ledger back, and wakes the masters, which may wait for it.
    pub(crate) fn release_ledger(&mut self) {
        let Some(ledger) = self.ledger.take().filter(Ledger::is_held) else { return };
        if let Some(owner_locks) = &self.owner_locks {
            owner_locks.unlock(ledger_byte(&ledger.application));
        }
        if let Some(database) = &self.database {
            let owners = owner::owners(database.read()).unwrap_or_default();
            let ours = self.claimer.as_ref().map(|claimer| claimer.owner);
            self.peers.wake(&self.path, owners.into_iter().filter(|owner| Some(*owner) != ours));
        }
    }

    /// Notes a step of the coordinator for the next transaction.
    pub(crate) fn advance_ledger(&mut self, advance: Box<Advance>) {
        let cause = match self.ledger.as_mut().and_then(|ledger| ledger.held.as_mut()) {
            None => "this process does not hold the ledger",
            Some(Held { advance: Some(_), .. }) => "the step before is not stored yet",
            Some(held) => {
                held.advance = Some(advance);
                return;
            }
        };
        let result = Err(Error::Jobs { cause: cause.to_owned() });
        self.tell(Event::Advanced { serial: advance.serial, revived: 0, result });
    }

    /// Stores the step that the coordinator has asked for. Gives whether there was one. After an error it is still to be stored.
    pub(crate) fn store_advance(&mut self) -> rusqlite::Result<bool> {
        let Some(Ledger { application, held: Some(held) }) = &mut self.ledger else { return Ok(false) };
        let (Some(advance), Some(database)) = (held.advance.as_deref(), &mut self.database) else { return Ok(false) };
        let of = (application.as_str(), held.epoch);
        let written = database.write(Synchronous::Normal, |transaction, ids| {
            let stored = advance::store(transaction, ids, of, Clock::wall(), advance)?;
            Ok((stored, owner::owners(transaction)?))
        });
        let undone = match written {
            Ok((stored, owners)) => {
                for entry in &advance.entries {
                    held.outstanding.remove(entry);
                }
                let serial = advance.serial;
                held.advance = None;
                self.wrote_something = true;
                if let Some(claimer) = &mut self.claimer
                    && stored.claimable
                {
                    claimer.recheck_all();
                }
                let ours = self.claimer.as_ref().map(|claimer| claimer.owner);
                if stored.is_news {
                    self.peers.wake(&self.path, owners.into_iter().filter(|owner| Some(*owner) != ours));
                }
                self.tell(Event::Advanced { serial, revived: stored.revived, result: Ok(()) });
                self.tell_stopped()?;
                return Ok(true);
            }
            Err(error) => Undone::of(error)?,
        };
        let serial = advance.serial;
        held.advance = None;
        match undone {
            Undone::Conflict(cause) => {
                let result = Err(Error::Jobs { cause });
                self.tell(Event::Advanced { serial, revived: 0, result });
            }
            Undone::NotOurs => {
                let application = application.clone();
                self.release_ledger();
                self.ledger = Some(Ledger { application, held: None });
                self.tell(Event::LedgerLost);
            }
        }
        Ok(true)
    }

    /// Tells the coordinator of entries that are new.
    pub(crate) fn tell_entries(&mut self) -> rusqlite::Result<()> {
        let Some(Ledger { application, held: Some(held) }) = &mut self.ledger else { return Ok(()) };
        let Some(database) = &self.database else { return Ok(()) };
        let now = self.clock.now().at;
        if held.rests_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        held.rests_until = None;
        let rows = OUTSTANDING.0.saturating_sub(held.outstanding.len());
        let bytes = OUTSTANDING.1.saturating_sub(held.outstanding.values().sum());
        if rows == 0 || bytes == 0 {
            return Ok(());
        }
        let entries = entries::after(database.read(), application, held.told, (rows, bytes))?;
        held.told = entries.last().map_or(held.told, |entry| entry.id.0 as i64);
        // One that is longer than a list is rare, and holds up no other.
        let counted = |entry: &StoredEntry| (entry.id, entry.body.len().min(LONGEST_LIST));
        held.outstanding.extend(entries.iter().map(counted));
        if entries.iter().map(|entry| entry.body.len()).sum::<usize>() >= BUSY.0 {
            held.rests_until = Some(now + BUSY.1);
        }
        if !entries.is_empty() {
            self.tell(Event::Entries(entries));
        }
        Ok(())
    }

    /// The next entries are told however short ago others were.
    pub(crate) const fn tell_entries_at_once(&mut self) {
        if let Some(Ledger { held: Some(held), .. }) = &mut self.ledger {
            held.rests_until = None;
        }
    }

    /// When entries are looked for again.
    pub(crate) fn next_entries(&self) -> Option<Instant> {
        self.ledger.as_ref()?.held.as_ref()?.rests_until
    }

    /// Tells this master of rounds that are void, and of jobs that are frozen, since it was told the last time.
    pub(crate) fn tell_stopped(&mut self) -> rusqlite::Result<()> {
        let (Some(_), Some(database)) = (&self.claimer, &self.database) else { return Ok(()) };
        let (void, frozen) = self.stopped_seen.new_ones(database.read())?;
        if !void.is_empty() || !frozen.is_empty() {
            self.tell(Event::JobsStopped { void, frozen });
        }
        Ok(())
    }

    /// The jobs that a filter holds, and what is frozen beside jobs.
    pub(crate) fn jobs(&mut self, application: &str, filter: &JobFilter) -> Result<(Vec<Record>, Vec<Frozen>), Error> {
        let Some(database) = self.database_if_exists()? else { return Ok((Vec::new(), Vec::new())) };
        let read = || -> rusqlite::Result<_> {
            let snapshot = database.read().unchecked_transaction()?;
            Ok((
                records::find(&snapshot, application, Clock::wall(), filter)?,
                records::frozen(&snapshot, application)?,
            ))
        };
        read().map_err(|error| database.error(&error))
    }
}
