//! The session for work: built, used, lost, built anew, closed.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{
    actor::Actor,
    asked::Ledger,
    attach::{self, Connected, Wanted},
    notes::Note,
    wake,
    work::Work,
};
use crate::{
    backoff::Backoff,
    task::QueueIndex,
    transport::{
        Error, Event,
        postgres::connect::{
            fault::{Fault, Kind},
            session::Session,
        },
    },
};

/// Between two tries to connect, after the first, which is made at once.
const REBUILD: Backoff = Backoff { first: Duration::from_millis(100), factor: 2.0, longest: Duration::from_secs(5) };

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
        let within = self.address.dead_after.saturating_sub(Duration::from_secs(2));
        let closing = Arc::clone(&self.closing);
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
            for index in credits {
                self.claimer.attached.set_credit(index, 0);
            }
            while self.claimer.has_work(self.clock.now().at) && self.step(&session).await {}
        }
        let (is_master, owner) = (self.is_master && self.sessions > 0, self.claimer.owner);
        let left = if is_master { self.over_work(&session, attach::leave(&session, owner)).await } else { None };
        let is_watched = left.is_some()
            || self.lease.as_ref().is_some_and(|lease| lease.held)
            || self.ledger.as_ref().is_some_and(Ledger::is_held);
        self.work = Work::None;
        if let Some(session) = Rc::into_inner(session) {
            session.close().await;
        }
        if is_watched {
            // Others are woken after our locks are free, because one of them may wait for the lease or the ledger.
            self.wake.members();
        }
    }

    /// Wakes others for the last time.
    pub(super) async fn tell_last(&mut self) {
        let Some(due) = self.wake.due() else { return };
        let now = self.clock.now().at.max(due);
        if let Some(sql) = self.wake.take(now, &attach::channel(&self.address.schema)) {
            let woken = self.side.ask(async |session| wake::send(session, &sql).await);
            let _ = tokio::time::timeout(Duration::from_secs(1), woken).await;
        }
    }
}

/// A queue that is absent, where none may be made.
fn absent_queue(fault: &Fault) -> Option<Error> {
    let queue = fault.cause.strip_prefix("queue \"")?.strip_suffix("\" does not exist")?;
    Some(Error::NoSuchQueue { queue: queue.to_owned() })
}
