//! Coming and going: how a transport becomes a master, whose tasks it returns, and how it leaves.

use std::time::Duration;

use super::{
    actor::Actor,
    claimer::Master,
    file::{
        access,
        database::{Fault, Store, Synchronous, file_error},
        housekeeping::quick_check,
        schema,
    },
    peers::{
        owner::{self, Masters},
        wake::{self, Socket},
    },
};
use crate::{
    clock::Clock,
    plural,
    task::QueueIndex,
    transport::{Error, Event, QueueSetup, Reply},
};

/// Tries to store what is owed end after this. A lock that was being waited for when the close was asked took
/// up to 2 s before; together they stay under the 5 s after which a close is answered.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries to store what is owed at the end.
const CLOSE_PAUSE: Duration = Duration::from_millis(50);

/// A change of the queues that are attached.
pub(super) enum Change {
    Add(QueueIndex, QueueSetup),
    Remove(QueueIndex),
}

impl Actor {
    /// Opens the file, if it is not open yet, and makes it, if it is not there.
    pub(super) fn open_store(&mut self) -> Result<&mut Store, Fault> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Store::create(&self.path, &self.patience)?,
        };
        store.file().path.clone_into(&mut self.path);
        Ok(self.store.insert(store))
    }

    /// Opens the file of locks, if it is not open yet.
    pub(super) fn open_masters(&mut self) -> Result<&Masters, Fault> {
        let masters = match self.masters.take() {
            Some(masters) => masters,
            None => Masters::open(&self.path).map_err(|error| {
                let masters = owner::beside(&self.path, "masters");
                Fault::Final(file_error(&masters, access::explained(&masters, &error)))
            })?,
        };
        Ok(self.masters.insert(masters))
    }

    /// Becomes a master. After an error it goes on where it was.
    pub(super) fn try_attach(&mut self) -> Result<(), Fault> {
        let Some(setups) = self.attach.clone() else { return Ok(()) };
        if self.master.is_none() {
            self.open_store()?;
            self.open_masters()?;
            let mut master = self.enter(setups)?;
            match Socket::bind(&self.path, master.owner) {
                Ok(socket) => master.socket = Some(socket),
                Err(error) => self.tell(Event::Warning(format!(
                    "{}: no socket can be bound beside it ({error}); what others store is seen after up to a second",
                    self.path.display()
                ))),
            }
            self.master = Some(master);
        }
        self.look_at_clocks()?;
        self.return_tasks_of_the_dead()?;
        let alone = self.master.as_ref().is_some_and(|master| master.others.is_empty());
        if let Some(store) = &self.store {
            // Others that run would have noticed; a check takes a second for each half gigabyte.
            if self.unclean
                && alone
                && let Some(fault) = quick_check(store)?
            {
                return Err(Fault::Final(file_error(&self.path, format!("it is damaged: {fault}"))));
            }
            self.data_version = store.data_version()?;
        }
        self.attach = None;
        self.tell(Event::Attached { session: 1 });
        Ok(())
    }

    /// Queues are to come or go, in the order in which that is asked.
    pub(super) fn change(&mut self, change: Change) {
        self.changes.push_back(change);
        self.catch_up();
    }

    /// Adds and removes queues as asked for, once there is a master. After an error it goes on where it was.
    pub(super) fn change_queues(&mut self) -> rusqlite::Result<bool> {
        let (Some(master), Some(store)) = (&mut self.master, &mut self.store) else { return Ok(false) };
        let mut did = false;
        while let Some(change) = self.changes.front() {
            did = true;
            match change {
                Change::Add(queue, setup) => {
                    let name = &setup.name;
                    let id = store
                        .write(Synchronous::Normal, |transaction, ids| schema::queue_id(transaction, ids, name))?;
                    master.add(*queue, setup.clone(), id);
                    drop(self.events.send(Event::QueueAdded { queue: *queue }));
                }
                Change::Remove(queue) => {
                    // Otherwise it is told with the step in which nothing of it is left.
                    if !master.remove(*queue) {
                        drop(self.events.send(Event::QueueRemoved { queue: *queue }));
                    }
                }
            }
            self.changes.pop_front();
        }
        for (queue, credit) in self.credits.drain(..) {
            master.credit(queue, credit);
        }
        Ok(did)
    }

    /// Takes a number, and its lock before anybody can see the number.
    fn enter(&mut self, setups: Vec<QueueSetup>) -> Result<Master, Fault> {
        let (Some(store), Some(masters)) = (&mut self.store, &self.masters) else {
            unreachable!("both were opened by the caller");
        };
        let mut locked = Ok(true);
        let (owner, ids, others, strays) = store.write(Synchronous::Normal, |transaction, ids| {
            // Before our number is among the masters': somebody may have written it already.
            let strays = if owner::are_strays(transaction)? { owner::return_strays(transaction)? } else { 0 };
            let owner = owner::enter(transaction, Clock::wall())?;
            locked = masters.take(owner);
            let rows = setups.iter().map(|setup| schema::queue_id(transaction, ids, &setup.name));
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let mut others = owner::owners(transaction)?;
            others.retain(|other| *other != owner);
            Ok((owner, rows, others, strays))
        })?;
        let cause = match locked {
            Ok(true) => {
                self.tell_strays(strays);
                let mut master = Master::new(owner, None, setups, &ids);
                master.others = others;
                return Ok(master);
            }
            Ok(false) => "another program holds our place in it".to_owned(),
            Err(error) => format!("no lock can be had on it: {error}"),
        };
        Err(Fault::Final(file_error(&owner::beside(&self.path, "masters"), cause)))
    }

    /// Returns the tasks that are in the hands of nobody, or in no state at all: another program wrote them.
    pub(super) fn return_strays(&mut self) -> rusqlite::Result<()> {
        let (Some(master), Some(store)) = (&mut self.master, &mut self.store) else { return Ok(()) };
        if !owner::are_strays(store.read())? {
            return Ok(());
        }
        let strays = store.write(Synchronous::Normal, |transaction, _| owner::return_strays(transaction))?;
        master.look();
        self.caller.wake(&self.path, master.others.iter().copied());
        self.tell_strays(strays);
        Ok(())
    }

    fn tell_strays(&self, strays: usize) {
        if strays > 0 {
            let back = if strays == 1 { "it goes back to its queue" } else { "they go back to their queues" };
            let text = format!("{} in the hands of no master, or in no state: {back}", plural::were(strays, "task"));
            drop(self.events.send(Event::Warning(text)));
        }
    }

    /// Takes the lock of every other master that lets go of it, and returns its tasks.
    pub(super) fn return_tasks_of_the_dead(&mut self) -> rusqlite::Result<()> {
        let (Some(master), Some(store), Some(masters)) = (&mut self.master, &mut self.store, &self.masters) else {
            return Ok(());
        };
        let mut returned_any = false;
        for other in master.others.clone() {
            // No lock for a reason of the system's: the next look tries again. A number below 0 has no lock, and never had a
            // master.
            if other >= 0 && !masters.take(other).unwrap_or(false) {
                continue;
            }
            let returned = store.write(Synchronous::Normal, |transaction, _| owner::return_tasks(transaction, other));
            masters.give_back(other);
            let returned = returned?;
            master.others.retain(|one| *one != other);
            wake::remove(&self.path, other);
            self.unclean |= returned.is_some();
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
            master.look();
            self.caller.wake(&self.path, master.others.iter().copied());
        }
        Ok(())
    }

    /// The file cannot be used any more. Our locks stay: workers may still be at our tasks.
    pub(super) fn refuse(&mut self, error: Error) {
        self.tell(Event::Refused(error.clone()));
        self.refused = Some(error);
        self.master = None;
        self.changes.clear();
        self.attach = None;
        self.reader = None;
        self.store = None;
    }

    /// An orderly end.
    pub(super) fn close(mut self, reply: Reply<()>) {
        let began_at = self.clock.now().at;
        let mut wake = Vec::new();
        while let (Some(master), Some(store)) = (&mut self.master, &mut self.store) {
            match master.leave(store) {
                Ok(mut stepped) => {
                    wake = std::mem::take(&mut stepped.wake);
                    self.tell_step(stepped);
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
            wake::wait(&self.bell, None, CLOSE_PAUSE);
        }
        if self.master.is_none() && self.lease.as_ref().is_some_and(|lease| lease.held) {
            wake = self.store.as_ref().and_then(|store| owner::owners(store.read()).ok()).unwrap_or_default();
        }
        self.master = None;
        self.reader = None;
        self.store = None;
        // Others are woken when our locks are free: one of them may wait for the lease.
        self.masters = None;
        self.caller.wake(&self.path, wake);
        drop(reply.send(Ok(())));
    }
}
