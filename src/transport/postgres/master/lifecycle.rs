//! The session for work: built, used, lost, built anew, closed.
//!
//! ```text
//! none ── something needs it ──> connecting ── up ──> up ── lost ──> down ── pause ──> connecting
//! ```

use std::{rc::Rc, time::Duration};

use tokio::sync::mpsc;

use super::{
    actor::{Actor, Change, Pause},
    attach::{self, Connected, Wanted},
    notes::Note,
    step::StepResult,
};
use crate::{
    backoff::Backoff,
    clock::Instant,
    plural::counted,
    task::QueueIndex,
    transport::{
        Error, Event,
        postgres::connect::{
            fault::{Fault, Kind},
            session::{Heard, Session},
        },
    },
};

/// Between two tries to connect, after the first, which is made at once.
const REBUILD: Backoff = Backoff { first: Duration::from_millis(100), factor: 2.0, longest: Duration::from_secs(5) };
/// Between two tries of a step that the server cannot store now.
const STEP_AGAIN: Backoff = REBUILD;
/// A step that fails with a fault that passes by itself is tried so often without a pause.
const AT_ONCE: u32 = 3;

/// The session for work.
pub(super) enum Work {
    /// Nothing needs one.
    None,
    /// One is being built.
    Connecting { failures: u32 },
    /// It is up.
    Up { session: Rc<Session>, heard: mpsc::UnboundedReceiver<Heard> },
    /// It is gone.
    Down { again_at: Instant, failures: u32 },
}

impl Work {
    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn session(&self) -> Option<Rc<Session>> {
        match self {
            Self::Up { session, .. } => Some(Rc::clone(session)),
            _ => None,
        }
    }

    pub(super) const fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Down { again_at, .. } => Some(*again_at),
            _ => None,
        }
    }

    /// What is heard next.
    pub(super) async fn hear(&mut self) -> Heard {
        match self {
            Self::Up { heard, .. } => {
                heard.recv().await.unwrap_or_else(|| Heard::Ended("the connection was closed".to_owned()))
            }
            _ => std::future::pending().await,
        }
    }
}

impl Actor {
    /// Begins to build the session for work, if there is none.
    pub(super) fn need_work(&mut self) {
        if self.work.is_none() && self.refused.is_none() {
            self.connect(0);
        }
    }

    fn connect(&mut self, failures: u32) {
        let queues = match &self.attach {
            Some(setups) => setups.iter().map(|setup| setup.name.clone()).collect(),
            None => self.claimer.attached.queues().map(|(_, queue)| queue.content.setup.name.clone()).collect(),
        };
        let wanted = Wanted {
            address: Rc::clone(&self.address),
            name: Rc::clone(&self.name),
            owner: self.is_master.then_some(self.claimer.owner),
            passive: self.passive && self.attach.is_some(),
            queues,
            ids: Rc::clone(&self.ids),
        };
        let (notes, within) = (self.notes.clone(), self.address.dead_after * 2);
        tokio::task::spawn_local(async move {
            let connected = tokio::time::timeout(within, attach::connect(&wanted)).await;
            let late = |_| Err(Fault::new(Kind::Broken, "the server does not answer"));
            drop(notes.send(Note::Connected(connected.unwrap_or_else(late).map(Box::new))));
        });
        self.work = Work::Connecting { failures };
    }

    /// A try to build it has ended.
    pub(super) fn connected(&mut self, result: Result<Box<Connected>, Fault>) {
        let Work::Connecting { failures } = self.work else { return };
        let connected = match result {
            Ok(connected) => *connected,
            Err(fault) => return self.not_connected(&fault, failures + 1),
        };
        let Connected { session, heard, owner, is_same, queues, seen, judges_in } = connected;
        self.work = Work::Up { session: Rc::new(session), heard };
        let now = self.clock.now().at;
        self.look_at = now;
        (self.waits, self.pause) = (false, None);
        if !self.is_master {
            return;
        }
        self.judge.wait(now + judges_in);
        self.sessions += 1;
        self.claimer.begin_session(owner, is_same);
        if let Some(setups) = self.attach.take() {
            // Nothing is in hand yet, so nothing of it can be stopped.
            self.seen = seen;
            for (index, setup) in setups.into_iter().enumerate() {
                let id = queues.get(&setup.name).copied().unwrap_or(0);
                self.claimer.add(QueueIndex(index), setup, id);
            }
            self.claimer.holds_back = true;
        } else {
            for queue in self.claimer.attached.queues_mut() {
                let id = queues.get(&queue.content.setup.name);
                queue.content.id = id.copied().unwrap_or(queue.content.id);
            }
        }
        self.tell(Event::Noticed { within: Some(self.address.dead_after) });
        self.tell(Event::Attached { session: self.sessions });
    }

    fn not_connected(&mut self, fault: &Fault, failures: u32) {
        let error = fault.unreachable(&self.address.shown);
        // Once it was up, passwords rotate and schemas come back.
        if self.sessions == 0 && fault.kind == Kind::Refused {
            return self.refuse(absent_queue(fault).unwrap_or(error));
        }
        let again_in = REBUILD.delay(failures);
        self.work = Work::Down { again_at: self.clock.now().at + again_in, failures };
        self.tell(Event::Lost { error, again_in });
    }

    /// Builds it again when its time has come.
    pub(super) fn reconnect(&mut self) {
        if let Work::Down { again_at, failures } = self.work
            && self.refused.is_none()
            && again_at <= self.clock.now().at
        {
            self.connect(failures);
        }
    }

    /// The session is gone.
    pub(super) fn lost(&mut self, cause: String) {
        if self.work.session().is_none() {
            return;
        }
        let now = self.clock.now().at;
        self.work = Work::Down { again_at: now, failures: 0 };
        self.look_at = now;
        self.claimer.lose_session();
        self.ids.forget();
        (self.is_keeper, self.pause, self.most) = (false, None, usize::MAX);
        if let Some(lease) = &mut self.lease
            && std::mem::take(&mut lease.held)
        {
            self.tell(Event::LeaseLost);
        }
        if let Some(ledger) = &mut self.ledger
            && ledger.held.take().is_some()
        {
            self.tell(Event::LedgerLost);
        }
        if self.is_master {
            let error = Error::Lost { uri: self.address.shown.clone(), cause };
            self.tell(Event::Lost { error, again_in: Duration::ZERO });
        }
    }

    /// Does something over the session for work, bounded in time: a server that does not answer is given up before others may think
    /// that we are gone. `None`: there is no session, or it was lost over it.
    pub(super) async fn over_work<T>(
        &mut self,
        session: &Rc<Session>,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Option<Result<T, Fault>> {
        let within = self.address.dead_after - Duration::from_secs(2);
        let closing = std::sync::Arc::clone(&self.closing);
        let result = tokio::select! {
            biased;
            result = work => result,
            () = tokio::time::sleep(within) => Err(Fault::new(Kind::Broken, "the server does not answer")),
            () = closing.ended() => Err(Fault::new(Kind::Broken, "the transport is closed")),
        };
        match result {
            Err(fault) if fault.kind == Kind::Broken || session.is_closed() => {
                self.lost(fault.cause);
                None
            }
            result => Some(result),
        }
    }

    /// Runs the steps that are to be run, unless the pause after a failure is not over.
    pub(super) async fn advance(&mut self) {
        self.reconnect();
        if self.refused.is_some() {
            return;
        }
        self.change_queues().await;
        loop {
            let Some(session) = self.work.session() else { return };
            let now = self.clock.now().at;
            if self.pause.is_some_and(|pause| pause.again_at > now) {
                return;
            }
            self.store_advance(&session).await;
            self.tell_entries(&session).await;
            if self.is_master && !(self.release_others(&session).await && self.step(&session).await) {
                return;
            }
            self.begin_survey();
            if self.work.session().is_none() {
                return;
            }
            self.tell_others(&session).await;
            if !self.is_master || !self.claimer.has_work(self.clock.now().at) || !self.requests.is_empty() {
                return;
            }
        }
    }

    /// What is in our hands since an earlier session, of queues that were removed since, goes back. Gives whether it goes on.
    async fn release_others(&mut self, session: &Rc<Session>) -> bool {
        if !std::mem::take(&mut self.claimer.may_hold_others) {
            return true;
        }
        let (owner, queues) = (self.claimer.owner, self.claimer.queue_ids());
        let released = async { session.run(attach::RELEASE_OTHERS, &[&owner, &queues]).await };
        match self.over_work(session, released).await {
            Some(Ok(_)) => true,
            Some(Err(fault)) => {
                self.claimer.may_hold_others = true;
                self.step_failed(session, fault)
            }
            None => false,
        }
    }

    /// One step. Gives whether it goes on.
    async fn step(&mut self, session: &Rc<Session>) -> bool {
        let mut claimer = std::mem::take(&mut self.claimer);
        let (ids, clock, most) = (Rc::clone(&self.ids), self.clock, self.most);
        let has_work = claimer.has_work(clock.now().at);
        let work = async {
            let mut result = StepResult { removed: claimer.attached.take_drained(), ..StepResult::default() };
            if has_work {
                let removed = std::mem::take(&mut result.removed);
                result = claimer.step(session, &ids, &clock, most).await?;
                result.removed.splice(0..0, removed);
            }
            Ok(result)
        };
        let stepped = self.over_work_apart(session, work).await;
        self.claimer = claimer;
        match stepped {
            Ok(result) => {
                if has_work {
                    (self.pause, self.most) = (None, self.most.saturating_mul(2));
                }
                self.tell_step(result);
            }
            Err(fault) => return self.step_failed(session, fault),
        }
        let mut claimer = std::mem::take(&mut self.claimer);
        let clock = self.clock;
        let work = async {
            if !claimer.take_out(session).await? {
                claimer.ask_next_due(session, &clock).await?;
            }
            Ok(())
        };
        let asked = self.over_work_apart(session, work).await;
        self.claimer = claimer;
        match asked {
            Ok(()) => true,
            Err(fault) => self.step_failed(session, fault),
        }
    }

    /// As [`over_work`](Self::over_work), for what has taken the claimer out of the actor.
    async fn over_work_apart<T>(
        &self,
        session: &Rc<Session>,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let within = self.address.dead_after - Duration::from_secs(2);
        let result = tokio::select! {
            biased;
            result = work => result,
            () = tokio::time::sleep(within) => Err(Fault::new(Kind::Broken, "the server does not answer")),
            () = self.closing.ended() => Err(Fault::new(Kind::Broken, "the transport is closed")),
        };
        result.map_err(|fault| if session.is_closed() { Fault { kind: Kind::Broken, ..fault } } else { fault })
    }

    /// Sends the events of a step: settlements first, because the credit of the deliveries comes from them.
    fn tell_step(&mut self, result: StepResult) {
        result.stored.into_iter().for_each(|handle| self.tell(Event::Stored(handle)));
        if !result.settled.is_empty() {
            self.tell(Event::Settled(result.settled));
        }
        for (handle, held_by) in result.locked {
            self.tell(Event::Locked { handle, held_by });
        }
        for deliveries in result.delivered {
            self.tell(Event::Delivered(deliveries));
        }
        self.claimer.may_hold_others |= self.sessions > 1 && !result.removed.is_empty();
        for queue in result.removed {
            self.tell(Event::QueueRemoved { queue });
        }
        if result.stale > 0 {
            let count = counted(result.stale, "settlement");
            self.tell(Event::Warning(format!("{count} came too late: the tasks had been taken back")));
        }
        if self.judge.others > 0 {
            for (queue, may_be_old) in result.claimable {
                self.wake.queue(queue, may_be_old);
            }
        }
        self.ledgers_were_told(result.told.iter().map(String::as_str));
    }

    /// A step failed. Gives whether it is tried again at once.
    fn step_failed(&mut self, session: &Rc<Session>, fault: Fault) -> bool {
        let failures = self.pause.map_or(0, |pause| pause.failures) + 1;
        match fault.kind {
            Kind::Broken => {
                self.lost(fault.cause);
                return false;
            }
            // A table is gone: the schema is made again, or the server says why not.
            Kind::Refused => {
                self.lost(fault.cause);
                return false;
            }
            Kind::Datum if self.claimer.pending.len().min(self.most) > 1 => {
                self.most = self.claimer.pending.len().min(self.most) / 2;
                return true;
            }
            Kind::Datum if !self.claimer.pending.is_empty() => {
                self.most = 1;
                self.give_up_first(&fault);
                return true;
            }
            Kind::Again if failures <= AT_ONCE => {}
            Kind::Again | Kind::Later | Kind::Datum => {
                if self.pause.is_none_or(|pause| pause.failures <= AT_ONCE) {
                    let stalled = fault.error(&self.address.shown);
                    self.tell(Event::Warning(format!("{stalled}; what must be stored is kept and tried again")));
                    self.tell(Event::Stalled(stalled));
                }
            }
        }
        let _ = session;
        let is_now = fault.kind == Kind::Again && failures <= AT_ONCE;
        let wait = if is_now { Duration::ZERO } else { STEP_AGAIN.delay(failures) };
        self.pause = Some(Pause { again_at: self.clock.now().at + wait, failures });
        is_now
    }

    /// The first of the pending settlements can never be stored as it is.
    fn give_up_first(&mut self, fault: &Fault) {
        let one = self.claimer.pending.remove(0);
        let queue = self.claimer.attached.reopen(one.handle);
        let error = Error::NotStored { queue: String::new(), cause: fault.cause.clone() };
        match queue {
            Some(queue) => {
                let (handle, task) = (one.handle, one.task);
                self.tell(Event::Unstorable { handle, queue, task, error });
            }
            None => self.tell(Event::Warning(format!("a settlement cannot be stored: {error}"))),
        }
    }

    /// Adds and removes queues as asked for, once the transport is attached.
    pub(super) async fn change_queues(&mut self) {
        if !self.is_master || self.sessions == 0 {
            return;
        }
        while let Some(change) = self.changes.front() {
            match change {
                Change::Add(queue, setup) => {
                    let Some(session) = self.work.session() else { return };
                    let (queue, setup) = (*queue, setup.clone());
                    let ids = Rc::clone(&self.ids);
                    let name = setup.name.clone();
                    let provided = self.over_work(&session, ids.provide(&session, [name.as_str()])).await;
                    let Some(provided) = provided else { return };
                    match provided {
                        Ok(ids) => {
                            let id = ids.get(name.as_str()).copied().unwrap_or(0);
                            self.claimer.add(queue, setup, id);
                            self.tell(Event::QueueAdded { queue });
                        }
                        Err(fault) => {
                            self.step_failed(&session, fault);
                            return;
                        }
                    }
                }
                Change::Remove(queue) => {
                    let queue = *queue;
                    // One that is attached is announced by the step after which nothing of it is open.
                    if !self.claimer.attached.remove(queue) {
                        self.tell(Event::QueueRemoved { queue });
                    }
                }
            }
            self.changes.pop_front();
        }
        for (queue, credit) in std::mem::take(&mut self.credits) {
            self.claimer.attached.set_credit(queue, credit);
        }
    }

    /// The transport cannot be used any more.
    pub(super) fn refuse(&mut self, error: Error) {
        self.tell(Event::Refused(error.clone()));
        self.refused = Some(error);
        self.work = Work::None;
        self.changes.clear();
        self.attach = None;
    }

    /// Ends in order: stores pending settlements, gives all deliveries back uncounted.
    pub(super) async fn leave(&mut self) {
        let Some(session) = self.work.session() else { return };
        if self.is_master && self.sessions > 0 {
            for queue in self.claimer.attached.queues_mut() {
                queue.content.reclaims = false;
            }
            let credits: Vec<_> = self.claimer.attached.queues().map(|(index, _)| index).collect();
            credits.into_iter().for_each(|index| self.claimer.attached.set_credit(index, 0));
            while self.claimer.has_work(self.clock.now().at) && self.step(&session).await {}
        }
        let (is_master, owner) = (self.is_master && self.sessions > 0, self.claimer.owner);
        let left = if is_master { self.over_work(&session, attach::leave(&session, owner)).await } else { None };
        let is_watched = left.is_some()
            || self.lease.as_ref().is_some_and(|lease| lease.held)
            || self.ledger.as_ref().is_some_and(super::coordinate::Ledger::is_held);
        self.work = Work::None;
        if let Some(session) = Rc::into_inner(session) {
            session.close().await;
        }
        if is_watched {
            // Others are woken after our locks are free, because one of them may wait for the lease or the ledger.
            let sql = format!("NOTIFY {}, 'm'", attach::channel(&self.address.schema));
            let woken = self.side.ask(async |session| session.batch(&sql).await);
            let _ = tokio::time::timeout(Duration::from_secs(1), woken).await;
        }
    }
}

/// A queue that is absent, where none may be made.
fn absent_queue(fault: &Fault) -> Option<Error> {
    let queue = fault.cause.strip_prefix("queue \"")?.strip_suffix("\" does not exist")?;
    Some(Error::NoSuchQueue { queue: queue.to_owned() })
}
