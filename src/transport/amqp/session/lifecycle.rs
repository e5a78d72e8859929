//! The lives of a session: building one, giving it up, trying again, closing.
//!
//! ```text
//! Idle ──> Connecting ── built ──> Up ── anything broke ──> Waiting ── backoff ──> Connecting
//!              └── refused for good (password, virtual host) ──> Refused
//! ```
//!
//! A session is given up as a whole: after an error on one channel the library's streams fall silent, so nothing of it
//! may be used again. Its number is in every note of its tasks, and a note of an earlier one is never acted on. The
//! backoff grows over sessions that end within ten seconds, too: a broker that takes connections and drops them would
//! otherwise be asked again each second by every node.

use std::{rc::Rc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::task::JoinSet;

use super::{
    actor::Engine,
    connections::{Built, Session},
    state::{Note, Notes, State, Up},
    unavailable::spread,
};
use crate::{
    backoff::Backoff,
    clock::Instant,
    task::{Handle, QueueIndex, Settlement},
    transport::{
        Error, Event, Reply, Request,
        amqp::{
            publish::{outbox::Store, publisher, undeliverable::Untaken},
            queues::topology::Fault,
        },
    },
};

pub(crate) const AGAIN: Backoff =
    Backoff { first: Duration::from_secs(1), factor: 2.0, longest: Duration::from_secs(30) };
/// A session that ends earlier counts as another failure in a row.
const STEADY: Duration = Duration::from_secs(10);
/// A broker that sends no heartbeats is given this long to find out that an old connection is dead.
const UNNOTICED: Duration = Duration::from_mins(2);
/// What a close may take for settlements, and then for the connections; 5 s together.
const CLOSING: Duration = Duration::from_secs(4);
const HANGING_UP: Duration = Duration::from_millis(900);

/// A close that is under way.
pub(crate) struct Closing {
    pub(crate) by: Instant,
    pub(crate) reply: Option<Reply<()>>,
}

impl Engine {
    /// Begins to build a session.
    pub(crate) fn connect(&mut self) {
        self.tries += 1;
        let (number, address, notes) = (self.tries, Rc::clone(&self.address), self.notes.clone());
        let (attachment, natures) = (self.still_attached(), Rc::clone(&self.natures));
        let first = self.sessions == 0;
        self.state = State::Connecting { number };
        self.waits(format!("a connection to {}", self.address.shown()));
        tokio::task::spawn_local(async move {
            let built = Box::new(Session::build(number, address, attachment, natures, first).await);
            let _ = notes.send(Note::Built { number, built });
        });
    }

    /// A session stands.
    pub(crate) fn up(&mut self, built: Built) {
        let now = self.clock.now().at;
        let intakes = self.intakes(built.channels, now);
        let session = built.session;
        let noticed = session.noticed_within();
        let mut tasks = JoinSet::new();
        let watch = tasks.spawn_local(watch(Rc::clone(&session), self.notes.clone()));
        let (notes, stuck) = (self.notes.clone(), Rc::clone(&self.stuck));
        let store = Store { session: Rc::clone(&session), notes, stuck, full: Rc::default() };
        self.untaken = Untaken::default();
        self.state = State::Up(Box::new(Up {
            session,
            store,
            intakes,
            open: self.parted.extract_if(|_, open| open.accepted && !open.is_loose).collect(),
            moving: Vec::new(),
            tasks,
            watch,
            sweep: None,
            lease: None,
            sending: FuturesUnordered::new(),
            since: now,
        }));
        tracing::debug!(target: "asynctask::amqp", "a session with {} stands", self.address.shown());
        if self.address.succeeded() {
            self.tell(Event::Connected(self.address.shown().to_owned()));
        }
        self.stuck.borrow_mut().clear();
        self.horizon.borrow_mut().session_began(now, noticed.unwrap_or(UNNOTICED));
        self.rejoin();
        if self.attachment.is_some() {
            self.sessions += 1;
            self.tell(Event::Noticed { within: noticed });
            self.tell(Event::Attached { session: self.sessions });
            for (queue, fault) in built.refused {
                self.set_aside(queue, fault, 2, Vec::new());
            }
            for queue in built.unasked {
                let cause = "it is opened beside the others, of which one gives no answer";
                self.set_aside(queue, Fault::Late(cause.to_owned()), 1, Vec::new());
            }
            self.open_due(now);
            self.watch_dead_letters();
            self.lease();
        } else {
            self.failures = 0;
            self.waits(format!("an answer of {}", self.address.shown()));
        }
        for request in std::mem::take(&mut self.waiting) {
            self.work(request);
        }
    }

    /// What was accepted in an earlier session is in hand in this one; what was decided about it meanwhile is done.
    fn rejoin(&mut self) {
        let State::Up(up) = &mut self.state else { return };
        let mut decided = Vec::new();
        for (handle, open) in &mut up.open {
            let intake = &mut up.intakes[open.queue];
            intake.in_hand += 1;
            intake.accepted += 1;
            (open.acknowledged, open.settling) = (true, false);
            decided.extend(open.last.take().map(|settlement| (*handle, settlement)));
        }
        self.settle(decided);
    }

    /// Between sessions only accepted deliveries are anybody's: theirs is settled in the next one. A master that has not
    /// heard of the end yet may accept even now; its task, which comes again, is then known to it.
    pub(crate) fn settle_after_all(&mut self, handle: Handle, settlement: Settlement) {
        let Some(open) = self.parted.get_mut(&handle).filter(|open| open.last.is_none()) else { return };
        match settlement {
            // Another settlement of it was under way and is void.
            Settlement::Accept if open.settling => {}
            Settlement::Accept => open.accepted = true,
            settlement if open.accepted => open.last = Some(settlement),
            _ => {}
        }
    }

    /// A session could not be built.
    pub(crate) fn not_built(&mut self, error: Error) {
        // At each address of a cluster once, before anybody waits.
        let Err(error) = self.address.failed(error) else { return self.connect() };
        for request in std::mem::take(&mut self.waiting) {
            refuse(request, &error);
        }
        if self.attachment.is_none() {
            self.state = State::Idle;
        } else if self.sessions == 0 && matches!(error, Error::Refused { .. } | Error::NoSuchQueue { .. }) {
            self.tell(Event::Refused(error.clone()));
            self.state = State::Refused(error);
        } else {
            self.again(error, false);
        }
    }

    /// Gives the session up.
    pub(crate) fn broken(&mut self, cause: &str) {
        let State::Up(mut up) = std::mem::replace(&mut self.state, State::Idle) else { return };
        let now = self.clock.now().at;
        let in_hand: usize = up.intakes.iter().map(|intake| intake.ackers.len()).sum();
        self.horizon.borrow_mut().session_ended(in_hand as u64);
        for joining in self.joining.values_mut() {
            joining.until.get_or_insert(now);
        }
        if self.lease_held.replace(false) {
            self.tell(Event::LeaseLost);
        }
        self.interrupt_survey();
        self.sweeps.interrupted(now);
        // Nothing but this process holds what was accepted, and the master may accept until it hears of the end.
        self.parted = std::mem::take(&mut up.open);
        // Whoever waits for an answer from one of these is told as it is dropped.
        up.tasks.abort_all();
        if now.since(up.since) >= STEADY {
            self.failures = 0;
        }
        let session = Rc::clone(&up.session);
        tokio::task::spawn_local(async move { session.close(HANGING_UP).await });
        if self.attachment.is_some() {
            let error = self.address.lost(cause);
            self.address.turn();
            self.again(error, self.failures < self.address.others());
        }
        self.let_go();
    }

    fn again(&mut self, error: Error, at_once: bool) {
        self.failures = self.failures.saturating_add(1);
        let again_in = if at_once { Duration::ZERO } else { spread(AGAIN.delay(self.failures)) };
        self.state = State::Waiting { until: self.clock.now().at + again_in, error: error.clone() };
        self.tell(Event::Lost { error, again_in });
    }

    /// Begins to close: what was asked is still settled, for a while.
    pub(crate) fn close(&mut self, reply: Option<Reply<()>>) {
        self.closing = Some(Closing { by: self.clock.now().at + CLOSING, reply });
        self.requests.close();
        self.release_lease();
        for queue in self.credits.keys().copied().collect::<Vec<_>>() {
            self.credit(QueueIndex(queue), 0);
        }
    }

    /// Whether a close has nothing left to wait for.
    pub(crate) fn is_done(&self, closing: &Closing) -> bool {
        match &self.state {
            _ if closing.by <= self.clock.now().at => true,
            State::Up(up) => {
                up.sending.is_empty()
                    && up.open.values().all(|open| !open.settling)
                    && up
                        .intakes
                        .iter()
                        .all(|intake| intake.back.is_empty() && intake.passing == 0 && !intake.switching)
            }
            // A client's requests may still be served.
            State::Connecting { .. } => self.waiting.is_empty(),
            State::Idle | State::Waiting { .. } | State::Refused(_) => true,
        }
    }

    /// Ends as a killed process would.
    pub(crate) async fn drop_all(self) {
        if let State::Up(up) = self.state {
            drop(up.tasks);
            up.session.close(HANGING_UP).await;
        }
    }

    /// Closes the connections and answers.
    pub(crate) async fn hang_up(mut self) {
        if let State::Up(up) = &mut self.state {
            up.watch.abort();
            up.sweep.iter().for_each(tokio::task::AbortHandle::abort);
            // Submits and the like that are still under way.
            let mut left = std::mem::take(&mut up.tasks);
            let finish = async { while left.join_next().await.is_some() {} };
            let by = self.closing.as_ref().map_or(Duration::ZERO, |closing| closing.by.since(self.clock.now().at));
            // What the broker has not taken by now it will not take soon.
            let by = if up.session.publisher.blocked() { Duration::ZERO } else { by };
            let _ = tokio::time::timeout(by, finish).await;
            futures_util::future::join(up.session.close(HANGING_UP), self.counting.close(HANGING_UP)).await;
        }
        if let Some(Closing { reply: Some(reply), .. }) = self.closing.take() {
            let _ = reply.send(Ok(()));
        }
    }
}

/// Hears what the broker says about the publishing connection: that it blocks it, and its end (that of the consuming
/// one is heard by its consumers).
async fn watch(session: Rc<Session>, notes: Notes) {
    loop {
        let connection = session.publisher.connection();
        let mut events = connection.events_listener();
        while connection.status().connected() {
            match events.next().await {
                Some(lapin::Event::ConnectionBlocked(reason)) => {
                    let text = publisher::held_up(&reason);
                    session.publisher.hold_up(Some(reason));
                    let _ = notes.send(Note::Warning(format!("{text}; they wait")));
                    let _ = notes.send(Note::Waits(text));
                }
                Some(lapin::Event::ConnectionUnblocked) => {
                    session.publisher.hold_up(None);
                    let _ = notes.send(Note::Waits("an answer of the broker, which takes tasks again".to_owned()));
                }
                Some(_) => {}
                None => break,
            }
        }
        if Rc::ptr_eq(&connection, &session.publisher.connection()) {
            let cause = "the publishing connection ended".to_owned();
            let _ = notes.send(Note::Broken { session: session.number, cause });
            return;
        }
    }
}

/// Answers a request that cannot be done.
pub(crate) fn refuse(request: Request, error: &Error) {
    match request {
        Request::Submit { reply, .. } => drop(reply.send(Err(error.clone()))),
        Request::Purge { reply, .. } | Request::Delete { reply, .. } => drop(reply.send(Err(error.clone()))),
        Request::Depths { reply, .. } => drop(reply.send(Err(error.clone()))),
        Request::Ready { reply, .. } => drop(reply.send(Err(error.clone()))),
        Request::WalkDead { reply, .. } => drop(reply.send(Err(error.clone()))),
        _ => {}
    }
}
