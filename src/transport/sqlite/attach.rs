//! Attaching and closing: how a transport registers as a master, returns the tasks of dead ones, and unregisters.
//!
//! The lock of an owner number is taken before the number can be seen in the file, and is given back after the row is gone: a
//! number whose lock is free never belongs to a master that lives.

use std::time::Duration;

use super::{
    actor::{Actor, Change},
    claimer::Claimer,
    file::{
        access,
        database::{Database, Synchronous},
        error::{Fault, file_error},
        housekeeping::quick_check,
        paths::beside,
        schema,
    },
    jobs::{asked::Ledger, stopped::Seen},
    peers::{
        owner::{self, OwnerLocks},
        wake::{self, Socket},
    },
};
use crate::{
    clock::Clock,
    plural,
    transport::{Error, Event, QueueSetup, Reply},
};

/// At a close, tries to store pending settlements end after this. The wait for a lock that was under way when the close was asked
/// for takes up to 2 s before; together they stay below the 5 s after which a close is answered.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries to store pending settlements at a close.
const CLOSE_PAUSE: Duration = Duration::from_millis(50);

impl Actor {
    /// Opens the database if it is not open yet, and makes it if there is none.
    pub(super) fn open_database(&mut self) -> Result<&mut Database, Fault> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::open_or_create(&self.path, &self.lock_timeout)?,
        };
        database.file().path.clone_into(&mut self.path);
        Ok(self.database.insert(database))
    }

    /// Opens the file of locks, if it is not open yet.
    pub(super) fn open_owner_locks(&mut self) -> Result<&OwnerLocks, Fault> {
        let owner_locks = match self.owner_locks.take() {
            Some(owner_locks) => owner_locks,
            None => OwnerLocks::open(&self.path).map_err(|error| {
                let owner_locks = beside(&self.path, "masters");
                Fault::Final(file_error(&owner_locks, access::explained(&owner_locks, &error)))
            })?,
        };
        Ok(self.owner_locks.insert(owner_locks))
    }

    /// Attaches. After an error the next call goes on where this one stopped.
    pub(super) fn try_attach(&mut self) -> Result<(), Fault> {
        let Some(setups) = self.attach.clone() else { return Ok(()) };
        if self.claimer.is_none() {
            self.open_database()?;
            self.open_owner_locks()?;
            let mut claimer = self.register(setups)?;
            match Socket::bind(&self.path, claimer.owner) {
                Ok(socket) => claimer.socket = Some(socket),
                Err(error) => self.tell(Event::Warning(format!(
                    "{}: no socket can be bound beside it ({error}); what others store is seen after up to a second",
                    self.path.display()
                ))),
            }
            self.claimer = Some(claimer);
        }
        self.check_clocks()?;
        self.reclaim_from_dead_masters()?;
        let alone = self.claimer.as_ref().is_some_and(|claimer| claimer.others.is_empty());
        if let Some(database) = &self.database {
            // Not while other masters use the file: a check takes a second for each half gigabyte.
            if self.found_dead_master
                && alone
                && let Some(fault) = quick_check(database)?
            {
                return Err(Fault::Final(file_error(&self.path, format!("it is damaged: {fault}"))));
            }
            self.data_version = database.data_version()?;
            // Nothing is in hand yet, so nothing of it can be stopped.
            self.stopped_seen = Seen::all(database.read())?;
        }
        self.attach = None;
        self.tell(Event::Attached { session: 1 });
        Ok(())
    }

    /// Notes a change of the attached queues; they are done in the order of the requests.
    pub(super) fn change(&mut self, change: Change) {
        self.changes.push_back(change);
        self.flush();
    }

    /// Adds and removes queues as asked for, once the transport is attached. After an error the next call goes on where this one
    /// stopped.
    pub(super) fn change_queues(&mut self) -> rusqlite::Result<bool> {
        let (Some(claimer), Some(database)) = (&mut self.claimer, &mut self.database) else { return Ok(false) };
        let mut did = false;
        while let Some(change) = self.changes.front() {
            did = true;
            match change {
                Change::Add(queue, setup) => {
                    let name = &setup.name;
                    let id = database
                        .write(Synchronous::Normal, |transaction, ids| schema::queue_id(transaction, ids, name))?;
                    claimer.add(*queue, setup.clone(), id);
                    drop(self.events.send(Event::QueueAdded { queue: *queue }));
                }
                Change::Remove(queue) => {
                    // One that is attached is announced by the step after which nothing of it is open.
                    if !claimer.remove(*queue) {
                        drop(self.events.send(Event::QueueRemoved { queue: *queue }));
                    }
                }
            }
            self.changes.pop_front();
        }
        for (queue, credit) in self.credits.drain(..) {
            claimer.set_credit(queue, credit);
        }
        Ok(did)
    }

    /// Takes an owner number, and its lock before the number can be seen by others.
    fn register(&mut self, setups: Vec<QueueSetup>) -> Result<Claimer, Fault> {
        let (Some(database), Some(owner_locks)) = (&mut self.database, &self.owner_locks) else {
            unreachable!("both were opened by the caller");
        };
        let mut locked = Ok(true);
        let (owner, ids, others, orphans) = database.write(Synchronous::Normal, |transaction, ids| {
            // Before our number is in use: another program may have written it into rows already.
            let orphans = if owner::any_orphans(transaction)? { owner::return_orphans(transaction)? } else { 0 };
            let owner = owner::register(transaction, Clock::wall())?;
            locked = owner_locks.try_lock(owner);
            let rows = setups.iter().map(|setup| schema::queue_id(transaction, ids, &setup.name));
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let mut others = owner::owners(transaction)?;
            others.retain(|other| *other != owner);
            Ok((owner, rows, others, orphans))
        })?;
        let cause = match locked {
            Ok(true) => {
                self.warn_of_orphans(orphans);
                let mut claimer = Claimer::new(owner, None, setups, &ids);
                claimer.others = others;
                return Ok(claimer);
            }
            Ok(false) => "another program holds our place in it".to_owned(),
            Err(error) => format!("no lock can be had on it: {error}"),
        };
        Err(Fault::Final(file_error(&beside(&self.path, "masters"), cause)))
    }

    /// Returns the tasks of owners that never were, and those in a state that is none: another program wrote them.
    pub(super) fn return_orphans(&mut self) -> rusqlite::Result<()> {
        let (Some(claimer), Some(database)) = (&mut self.claimer, &mut self.database) else { return Ok(()) };
        if !owner::any_orphans(database.read())? {
            return Ok(());
        }
        let orphans = database.write(Synchronous::Normal, |transaction, _| owner::return_orphans(transaction))?;
        claimer.recheck_all();
        self.peers.wake(&self.path, claimer.others.iter().copied());
        self.warn_of_orphans(orphans);
        Ok(())
    }

    fn warn_of_orphans(&self, orphans: usize) {
        if orphans > 0 {
            let back = if orphans == 1 { "it goes back to its queue" } else { "they go back to their queues" };
            let text = format!("{} in the hands of no master, or in no state: {back}", plural::were(orphans, "task"));
            drop(self.events.send(Event::Warning(text)));
        }
    }

    /// Returns the tasks of every other master whose lock can be taken: it is dead.
    pub(super) fn reclaim_from_dead_masters(&mut self) -> rusqlite::Result<()> {
        let (Some(claimer), Some(database), Some(owner_locks)) =
            (&mut self.claimer, &mut self.database, &self.owner_locks)
        else {
            return Ok(());
        };
        let mut returned_any = false;
        for other in claimer.others.clone() {
            // A lock that fails for another reason is tried again by the next poll. A number below 0 has no lock, and never had
            // a master.
            if other >= 0 && !owner_locks.try_lock(other).unwrap_or(false) {
                continue;
            }
            let returned =
                database.write(Synchronous::Normal, |transaction, _| owner::return_tasks(transaction, other));
            owner_locks.unlock(other);
            let returned = returned?;
            claimer.others.retain(|one| *one != other);
            wake::remove(&self.path, other);
            self.found_dead_master |= returned.is_some();
            if let Some(count) = returned.filter(|count| *count > 0) {
                returned_any = true;
                let back = match count {
                    1 => "1 of its tasks goes back to its queue".to_owned(),
                    count => format!("{count} of its tasks go back to their queues"),
                };
                let text = format!("master {other} ended without leaving: {back}");
                drop(self.events.send(Event::Warning(text)));
            }
        }
        if returned_any {
            claimer.recheck_all();
            self.peers.wake(&self.path, claimer.others.iter().copied());
        }
        Ok(())
    }

    /// The file cannot be used any more. Our locks are kept, because workers may still run our tasks.
    pub(super) fn refuse(&mut self, error: Error) {
        self.tell(Event::Refused(error.clone()));
        self.refused = Some(error);
        self.claimer = None;
        self.changes.clear();
        self.attach = None;
        self.reader = None;
        self.database = None;
    }

    /// Ends in order: stores pending settlements, gives all deliveries back uncounted, and answers.
    pub(super) fn close(mut self, reply: Reply<()>) {
        let began_at = self.clock.now().at;
        let mut wake = Vec::new();
        while let (Some(claimer), Some(database)) = (&mut self.claimer, &mut self.database) {
            match claimer.leave(database) {
                Ok(mut result) => {
                    wake = std::mem::take(&mut result.wake);
                    self.tell_step(result);
                    break;
                }
                Err(error) => {
                    let late = self.clock.now().at.since(began_at) > CLOSE_WITHIN;
                    self.failed(&error);
                    if late || self.refused.is_some() {
                        break;
                    }
                }
            }
            wake::wait(&self.waker, None, CLOSE_PAUSE);
        }
        let holds_lock =
            self.lease.as_ref().is_some_and(|lease| lease.held) || self.ledger.as_ref().is_some_and(Ledger::is_held);
        if self.claimer.is_none() && holds_lock {
            wake = self.database.as_ref().and_then(|database| owner::owners(database.read()).ok()).unwrap_or_default();
        }
        self.claimer = None;
        self.reader = None;
        self.database = None;
        // Other masters are woken after our locks are free, because one of them may wait for the lease or the ledger.
        self.owner_locks = None;
        self.peers.wake(&self.path, wake);
        drop(reply.send(Ok(())));
    }
}
