//! Requests that are answered at once: submits, counts, purges, walks among dead letters.
//!
//! A request that only reads never makes the file.

use std::{collections::BTreeSet, sync::Arc};

use rusqlite::Connection;

use super::{
    dead_letters, dead_page, depth,
    reader::{CountQuery, Reader},
};
use crate::{
    clock::Clock,
    membership::ledger_of,
    plural,
    transport::{
        DeadQueue, Error, Extent, Visitor, Walked,
        sqlite::{
            actor::Actor,
            file::{
                database::{Database, Synchronous},
                error::{Fault, cause, file_error, may_be_committed},
                schema::QueueIds,
            },
            jobs::entries,
            peers::owner,
            tasks::{purge, submit},
        },
    },
};

/// Why a transaction failed.
pub(crate) struct WriteError {
    pub(crate) error: Error,
    /// Nothing of it is stored; else it may be in the file.
    is_undone: bool,
}

impl Actor {
    /// Stores all submits that wait, in one transaction, and answers each.
    pub(crate) fn store_submits(&mut self) {
        if self.submits.is_empty() {
            return;
        }
        let submits = std::mem::take(&mut self.submits);
        let tasks = || submits.iter().flat_map(|(tasks, _)| tasks);
        let told: BTreeSet<&str> = tasks().filter_map(|task| ledger_of(&task.queue)).collect();
        let is_entries = tasks().all(|task| ledger_of(&task.queue).is_some());
        // News that nobody waits for may be lost, with the power as well.
        let is_awaited = !is_entries || submits.iter().any(|(_, reply)| !reply.is_closed());
        let synchronous = if is_awaited { Synchronous::Full } else { Synchronous::Normal };
        let stored = self.write_so(synchronous, |transaction, ids| {
            let now = Clock::wall();
            for task in tasks() {
                submit::insert(transaction, ids, now, task)?;
            }
            if is_entries { entries::coordinators(transaction, told) } else { owner::owners(transaction) }
        });
        let (answer, is_undone) = match stored {
            Ok(owners) => {
                self.wake_all(owners);
                (Ok(()), true)
            }
            Err(unwritten) => (Err(unwritten.error), unwritten.is_undone),
        };
        for (tasks, reply) in submits {
            drop(reply.send(answer.clone().map_err(|cause| {
                if is_undone {
                    return cause;
                }
                let extent = Extent { unknown: std::iter::once(0..tasks.len()).collect(), ..Extent::default() };
                Error::Unsubmitted { extent, cause: Box::new(cause) }
            })));
        }
    }

    /// After tasks were stored: this master and all others look for what is due.
    pub(crate) fn wake_all(&mut self, mut owners: Vec<i64>) {
        if let Some(claimer) = &mut self.claimer {
            claimer.recheck_all();
            owners.retain(|owner| *owner != claimer.owner);
        }
        self.wrote_something = true;
        self.peers.wake(&self.path, owners);
    }

    /// Runs a transaction whose error is an answer, and which survives a loss of power.
    pub(crate) fn write<T>(
        &mut self,
        step: impl FnOnce(&Connection, &mut QueueIds) -> rusqlite::Result<T>,
    ) -> Result<T, WriteError> {
        self.write_so(Synchronous::Full, step)
    }

    fn write_so<T>(
        &mut self,
        synchronous: Synchronous,
        step: impl FnOnce(&Connection, &mut QueueIds) -> rusqlite::Result<T>,
    ) -> Result<T, WriteError> {
        if let Some(refused) = &self.refused {
            return Err(WriteError { error: refused.clone(), is_undone: true });
        }
        match self.open_database() {
            Ok(database) => database
                .write(synchronous, step)
                .map_err(|error| WriteError { error: database.error(&error), is_undone: !may_be_committed(&error) }),
            Err(fault) => Err(WriteError { error: self.error(fault), is_undone: true }),
        }
    }

    fn error(&self, fault: Fault) -> Error {
        match fault {
            Fault::Final(error) => error,
            Fault::Sqlite(error) => file_error(&self.path, cause(&self.path, &error)),
        }
    }

    /// The database, if there is one with something in it.
    pub(crate) fn database_if_exists(&mut self) -> Result<Option<&mut Database>, Error> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        if self.database.is_none() {
            self.database =
                Database::open_existing(&self.path, &self.lock_timeout).map_err(|fault| self.error(fault))?;
        }
        Ok(self.database.as_mut())
    }

    /// Counts. An attached transport counts on another thread, because a long backlog would hold up claims.
    pub(crate) fn count(&mut self, question: CountQuery) {
        if self.claimer.is_none() || self.refused.is_some() {
            let database = self.database_if_exists().map(|database| database.map(|database| &*database));
            return question.answer(database);
        }
        if self.reader.is_none() {
            // Where no thread can be started, this one counts.
            self.reader = Reader::start(&self.path).ok();
        }
        match &self.reader {
            Some(reader) => reader.ask(question),
            None => question.answer(Ok(self.database.as_ref())),
        }
    }

    /// Before somebody looks through dead letters by their causes. Without room for that those without one are left out.
    pub(crate) fn fill_causes(&mut self, queue: &str) {
        if let Ok(Some(database)) = self.database_if_exists() {
            let _ = dead_page::fill_causes(database, queue);
        }
    }

    /// The names of all queues.
    pub(crate) fn known_queues(&mut self) -> Result<Vec<String>, Error> {
        let Some(database) = self.database_if_exists()? else { return Ok(Vec::new()) };
        depth::names(database.read()).map_err(|error| database.error(&error))
    }

    /// Deletes what is ready and delayed in a queue.
    pub(crate) fn purge(&mut self, queue: &str) -> Result<u64, Error> {
        let absent = || Error::NoSuchQueue { queue: queue.to_owned() };
        let database = self.database_if_exists()?.ok_or_else(absent)?;
        let purged = purge::purge(database, queue).map_err(|error| database.error(&error))?.ok_or_else(absent)?;
        self.after_removal(purged.told);
        Ok(purged.tasks)
    }

    /// Tasks were removed where they waited: the coordinators of their jobs are told.
    pub(crate) fn after_removal(&mut self, told: bool) {
        if told && let Some(database) = &self.database {
            let owners = owner::owners(database.read()).unwrap_or_default();
            self.wake_all(owners);
        }
    }

    /// Deletes a queue.
    pub(crate) fn delete(&mut self, queue: &str) -> Result<u64, Error> {
        let absent = || Error::NoSuchQueue { queue: queue.to_owned() };
        let database = self.database_if_exists()?.ok_or_else(absent)?;
        match purge::delete(database, queue).map_err(|error| database.error(&error))?.ok_or_else(absent)? {
            purge::Deleted::All(deleted) => {
                self.after_removal(deleted.told);
                Ok(deleted.tasks)
            }
            purge::Deleted::Held(held) => {
                Err(Error::InUse { queue: queue.to_owned(), cause: format!("{} in hand", plural::are(held, "task")) })
            }
        }
    }

    /// Walks among dead letters.
    pub(crate) fn walk(&mut self, queue: &DeadQueue, visit: Visitor) -> Result<Walked, Error> {
        let (clock, waker, lock_timeout) = (self.clock, Arc::clone(&self.waker), Arc::clone(&self.lock_timeout));
        let wait = dead_letters::VisitorWait { clock, waker: &waker, lock_timeout: &lock_timeout };
        let Some(database) = self.database_if_exists()? else { return Ok(Walked::default()) };
        let mut walked = Walked::default();
        let result = match dead_letters::walk(database, &wait, queue, visit, &mut walked) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Closed),
            Err(error) => Err(database.error(&error)),
        };
        // A coordinator may have to hear of what was removed.
        if walked.retried + walked.removed > 0 {
            let owners = owner::owners(database.read()).unwrap_or_default();
            self.wake_all(owners);
        }
        result.map(|()| walked).map_err(|cause| Error::unfinished(walked, 0, cause))
    }
}
