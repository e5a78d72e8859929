//! A turn: what is pending is stored and what is due is claimed, in steps, until nothing is left to do or something else is asked for.

use std::{rc::Rc, time::Duration};

use super::{
    actor::Actor,
    asked::{Change, Pause},
    attach,
    step::StepResult,
};
use crate::{
    backoff::Backoff,
    plural::counted,
    transport::{
        Error, Event,
        postgres::connect::{
            fault::{Fault, Kind},
            session::Session,
        },
    },
};

/// Between two tries of a step that the server cannot store now.
const STEP_AGAIN: Backoff = Backoff { first: Duration::from_millis(100), factor: 2.0, longest: Duration::from_secs(5) };
/// A step that fails with a fault that passes by itself is tried so often without a pause.
const AT_ONCE: u32 = 3;

impl Actor {
    /// Runs the steps that are to be run, unless the pause after a failure is not over.
    pub(super) async fn advance(&mut self) {
        self.reconnect();
        if self.refused.is_some() {
            return;
        }
        if self.work.is_none() {
            return self.tell_others_beside();
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
    pub(super) async fn step(&mut self, session: &Rc<Session>) -> bool {
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
        let within = self.address.dead_after.saturating_sub(Duration::from_secs(2));
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
            // Or a table is gone: the schema is made again, or the server says why not.
            Kind::Broken | Kind::Refused => {
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
}
