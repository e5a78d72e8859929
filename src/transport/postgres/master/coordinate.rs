//! What one process of an application holds at a time: the lease of its scheduler, the ledger of its jobs. Each is a lock of the session
//! for work; it falls with that session, and is asked for again by each look.

use std::rc::Rc;

use super::{
    actor::Actor,
    asked::{HeldLedger, Lease, Ledger},
    attach::host,
};
use crate::{
    clock::Timestamp,
    jobs::record::Advance,
    task::NewTask,
    transport::{
        Error, Event, ScheduleMemory,
        postgres::{
            connect::{
                fault::{Fault, Kind},
                session::Session,
            },
            jobs::{advance, entries, records},
            keys,
            schedules::memory,
            tasks::submit,
        },
    },
};

/// Entries that are told and not folded, at most.
const OUTSTANDING: usize = 1024;

const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1)";
const UNLOCK: &str = "SELECT pg_advisory_unlock($1)";
/// Owners with processes of a host, and whether the locks of a purpose and of each owner are held. For display alone: to look at all
/// locks of the server takes its locks.
const HELD: &str = "
WITH held AS (
    SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT NULL::int, EXISTS (SELECT 1 FROM held WHERE key = $1)
UNION ALL
SELECT pid, EXISTS (SELECT 1 FROM held WHERE key = owner) FROM @.master WHERE host = $2";

impl Actor {
    fn lock(&self, purpose: &str, application: &str) -> i64 {
        keys::lock_key(&self.address.schema, purpose, application)
    }

    /// Asks for the lease of an application now, and with each look until it is held.
    pub(super) async fn ask_lease(&mut self, application: String) {
        self.release_lease().await;
        self.lease = Some(Lease { application, held: false, is_refused: false });
        self.need_work();
        self.try_lease().await;
    }

    /// Takes the lease, if it was asked for and is free.
    pub(super) async fn try_lease(&mut self) {
        let Some(session) = self.work.session() else { return };
        let Some(lease) = self.lease.as_ref().filter(|lease| !lease.held) else { return };
        let application = lease.application.clone();
        let lock = self.lock("lease", &application);
        let taken = async {
            if !session.first(TRY_LOCK, &[&lock]).await?.is_some_and(|row| row.get(0)) {
                return Ok(None);
            }
            memory::memory(&session, &application).await.map(Some)
        };
        let taken = self.over_work(&session, taken).await;
        let Some(lease) = &mut self.lease else { return };
        match taken {
            Some(Ok(Some(memory))) => {
                lease.held = true;
                self.tell(Event::LeaseHeld { memory });
            }
            Some(Ok(None)) => {
                if !std::mem::replace(&mut lease.is_refused, true) {
                    self.tell(Event::LeaseRefused);
                }
            }
            // Asked for again by the next look.
            Some(Err(_)) | None => {}
        }
    }

    /// Gives the lease back, and wakes others, which may wait for it.
    pub(super) async fn release_lease(&mut self) {
        let Some(lease) = self.lease.take().filter(|lease| lease.held) else { return };
        self.unlock("lease", &lease.application).await;
    }

    async fn unlock(&mut self, purpose: &str, application: &str) {
        let lock = self.lock(purpose, application);
        if let Some(session) = self.work.session() {
            let unlocked = async { session.rows(UNLOCK, &[&lock]).await.map(drop) };
            let _ = self.over_work(&session, unlocked).await;
            self.wake.members();
        }
    }

    /// Remembers that a schedule fired, together with its task.
    pub(super) async fn fire(
        &mut self,
        schedule: &str,
        moment: Timestamp,
        task: Option<&NewTask>,
    ) -> Result<bool, Error> {
        let lease = self.lease.as_ref().filter(|lease| lease.held);
        let (Some(application), Some(session)) = (lease.map(|lease| lease.application.clone()), self.work.session())
        else {
            return Err(self.no_session("this process is not the scheduler"));
        };
        submit::check(task.map_or(&[][..], std::slice::from_ref))?;
        let ids = Rc::clone(&self.ids);
        let fired = async {
            let known = ids.provide(&session, submit::queues(task)).await?;
            let of = (application.as_str(), schedule, moment);
            let fired = session.transaction(async |session| memory::fire(session, &known, of, task).await).await?;
            Ok((fired, known.into_values().collect::<Vec<i32>>()))
        };
        match self.over_work(&session, fired).await {
            None => Err(self.no_session("the session was lost")),
            Some(Err(fault)) => Err(fault.error(&self.address.shown)),
            Some(Ok((fired, queues))) => {
                for queue in queues {
                    self.claimer.recheck(queue, None);
                    self.wake.queue(queue, false);
                }
                Ok(fired)
            }
        }
    }

    /// Asks for the ledger of an application now, and with each look until it is held.
    pub(super) async fn ask_ledger(&mut self, application: String) {
        self.release_ledger().await;
        self.ledger = Some(Ledger { application, held: None, is_told: true, is_refused: false });
        self.need_work();
        self.try_ledger().await;
    }

    /// Takes the ledger, if it was asked for and is free.
    pub(super) async fn try_ledger(&mut self) {
        let Some(session) = self.work.session() else { return };
        let Some(ledger) = self.ledger.as_ref().filter(|ledger| !ledger.is_held()) else { return };
        let (application, owner) = (ledger.application.clone(), self.claimer.owner);
        let lock = self.lock("ledger", &application);
        let taken = async {
            if !session.first(TRY_LOCK, &[&lock]).await?.is_some_and(|row| row.get(0)) {
                return Ok(None);
            }
            session
                .transaction(async |session| {
                    let epoch = advance::begin_epoch(session, &application, owner).await?;
                    let jobs = records::open(session, &application).await?;
                    Ok(Some((epoch, jobs, records::frozen(session, &application).await?)))
                })
                .await
        };
        let taken = self.over_work(&session, taken).await;
        let Some(ledger) = &mut self.ledger else { return };
        match taken {
            Some(Ok(Some((epoch, jobs, frozen)))) => {
                ledger.held = Some(HeldLedger { epoch, ..HeldLedger::default() });
                ledger.is_told = true;
                self.tell(Event::LedgerHeld { epoch: epoch.unsigned_abs(), jobs, frozen });
            }
            Some(Ok(None)) if !std::mem::replace(&mut ledger.is_refused, true) => self.tell(Event::LedgerRefused),
            Some(Ok(None)) | None => {}
            Some(Err(_)) => self.unlock("ledger", &application).await,
        }
    }

    /// Gives the ledger back, and wakes others, which may wait for it.
    pub(super) async fn release_ledger(&mut self) {
        let Some(ledger) = self.ledger.take().filter(Ledger::is_held) else { return };
        self.unlock("ledger", &ledger.application).await;
    }

    /// Notes a step of the coordinator for the next turn.
    pub(super) fn advance_ledger(&mut self, advance: Box<Advance>) {
        let cause = match self.ledger.as_mut().and_then(|ledger| ledger.held.as_mut()) {
            None => "this process does not hold the ledger",
            Some(HeldLedger { advance: Some(_), .. }) => "the step before is not stored yet",
            Some(held) => {
                held.advance = Some(advance);
                return;
            }
        };
        let result = Err(Error::Jobs { cause: cause.to_owned() });
        self.tell(Event::Advanced { serial: advance.serial, revived: 0, result });
    }

    /// Stores the step that the coordinator has asked for. After a fault that may pass it is still to be stored.
    pub(super) async fn store_advance(&mut self, session: &Rc<Session>) {
        let Some(Ledger { application, held: Some(held), .. }) = &mut self.ledger else { return };
        let Some(advance) = held.advance.take() else { return };
        let (application, epoch, ids) = (application.clone(), held.epoch, Rc::clone(&self.ids));
        let address = Rc::clone(&self.address);
        let work = advance::store(session, &ids, &address.schema, (&application, epoch), &advance);
        let Some(stored) = self.over_work(session, work).await else { return };
        let Some(Ledger { held: Some(held), .. }) = &mut self.ledger else { return };
        let serial = advance.serial;
        match stored {
            Ok(stored) if stored.is_lost => {
                self.release_ledger().await;
                self.ledger = Some(Ledger { application, held: None, is_told: true, is_refused: true });
                self.tell(Event::LedgerLost);
            }
            Ok(stored) => {
                for entry in &advance.entries {
                    held.outstanding.remove(entry);
                }
                if let Some(ledger) = &mut self.ledger {
                    ledger.is_told = true;
                }
                if stored.claimable {
                    self.claimer.recheck_all();
                }
                if stored.is_news {
                    self.wake.members();
                }
                self.tell(Event::Advanced { serial, revived: stored.revived, result: Ok(()) });
                self.tell_stopped(session).await;
            }
            Err(fault) if fault.kind == Kind::Datum => {
                let result = Err(Error::Jobs { cause: fault.cause });
                self.tell(Event::Advanced { serial, revived: 0, result });
            }
            Err(fault) => {
                held.advance = Some(advance);
                self.ledger_failed(&fault);
            }
        }
    }

    /// A step of the coordinator is stored later.
    fn ledger_failed(&mut self, fault: &Fault) {
        self.tell(Event::Warning(format!("{}; the step is kept and tried again", fault.error(&self.address.shown))));
        self.pause_a_moment();
    }

    /// Tells the coordinator of entries that are new.
    pub(super) async fn tell_entries(&mut self, session: &Rc<Session>) {
        let Some(Ledger { application, held: Some(held), is_told, .. }) = &mut self.ledger else { return };
        let room = OUTSTANDING.saturating_sub(held.outstanding.len());
        if !*is_told || room == 0 {
            return;
        }
        let application = application.clone();
        let known: Vec<i64> = held.outstanding.iter().map(|entry| entry.0 as i64).collect();
        let found = entries::new_ones(session, &application, &known, room);
        let Some(Ok(entries)) = self.over_work(session, found).await else { return };
        let Some(Ledger { held: Some(held), is_told, .. }) = &mut self.ledger else { return };
        // More may be there, but for the bytes that are read at once.
        *is_told = !entries.is_empty();
        held.outstanding.extend(entries.iter().map(|entry| entry.id));
        if !entries.is_empty() {
            self.tell(Event::Entries(entries));
        }
    }

    /// Tells this master of rounds that are void, and of jobs that are frozen, since it was told the last time.
    pub(super) async fn tell_stopped(&mut self, session: &Rc<Session>) {
        if !self.is_master {
            return;
        }
        let mut seen = self.seen;
        let new = self.over_work(session, seen.new_ones(session)).await;
        if let Some(Ok((void, frozen))) = new {
            self.seen = seen;
            if !void.is_empty() || !frozen.is_empty() {
                self.tell(Event::JobsStopped { void, frozen });
            }
        }
    }
}

/// What is remembered of an application's schedules, and who lives.
pub(super) async fn seen(session: &Session, schema: &str, application: &str) -> Result<ScheduleMemory, Fault> {
    let moments = memory::memory(session, application).await?;
    let lock = keys::lock_key(schema, "lease", application);
    let rows = session.rows(HELD, &[&lock, &host()]).await?;
    let mut memory = ScheduleMemory { moments, ..ScheduleMemory::default() };
    for row in &rows {
        match (row.get::<_, Option<i32>>(0), row.get(1)) {
            (None, is_held) => memory.is_led = is_held,
            (Some(pid), true) => memory.masters.extend(u32::try_from(pid)),
            (Some(_), false) => {}
        }
    }
    Ok(memory)
}
