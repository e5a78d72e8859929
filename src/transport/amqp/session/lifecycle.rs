//! Building a session, giving it up, trying again, closing. The states are drawn in
//! [the module's page](super).

use std::{collections::HashSet, rc::Rc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::task::JoinSet;

use super::{
    connections::{BuiltSession, Session},
    note::{Note, Notes, SessionNote},
    pauses::{REBUILD_BACKOFF, with_jitter},
    state::{Actor, Closing, State},
    up::{Fetching, Superseded, Up},
};
use crate::{
    task::{Handle, QueueIndex, Settlement},
    transport::{
        Error, Event, Reply, Request,
        amqp::{
            broker_error::Fault,
            connect::own_connection::DISCONNECT_TIMEOUT,
            publish::{outbox::Outbox, publisher, replies::Replies, undeliverable::RefusedMessages},
        },
    },
};

/// A session that ends earlier counts as another failure in a row.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// A broker that sends no heartbeats is given this long to find out that an old connection is dead.
const LOSS_NOTICED_WITHIN: Duration = Duration::from_mins(2);
/// What a close may take for settlements; with what the connections may take then, 5 s together.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

impl Actor {
    /// Begins to build a session.
    pub(crate) fn connect(&mut self) {
        self.builds += 1;
        let (number, address, notes) = (self.builds, Rc::clone(&self.shared.address), self.shared.notes.clone());
        let (attachment, foreign_queues) = (self.still_attached(), Rc::clone(&self.shared.foreign_queues));
        let first = self.sessions == 0;
        self.state = State::Connecting { number };
        self.report_waiting(format!("a connection to {}", self.shared.address.shown()));
        tokio::task::spawn_local(async move {
            let built = Box::new(Session::build(number, address, attachment, foreign_queues, first).await);
            let _ = notes.send(Note::Built { number, built });
        });
    }

    /// A session stands.
    pub(crate) fn session_built(&mut self, built: BuiltSession) {
        let now = self.now().at;
        let queues = self.consumed_queues(built.channels, now);
        let session = built.session;
        let noticed = session.noticed_within();
        let mut tasks = JoinSet::new();
        let watch = tasks.spawn_local(watch(Rc::clone(&session), self.shared.notes.clone()));
        let (replies, sending) = Replies::new(Rc::clone(&session), self.shared.notes.clone());
        let answering = tasks.spawn_local(sending);
        let (notes, unanswered_queues) = (self.shared.notes.clone(), Rc::clone(&self.unanswered_queues));
        let outbox = Outbox { session: Rc::clone(&session), notes, unanswered_queues, full_queues: Rc::default() };
        self.state = State::Up(Box::new(Up {
            shared: Rc::clone(&self.shared),
            session,
            outbox,
            queues,
            open: self
                .earlier_deliveries
                .extract_if(|_, open| open.state.is_accepted() && !open.lost_channel)
                .collect(),
            moving: Vec::new(),
            tasks,
            watch,
            sweep: None,
            lease: None,
            ledger: None,
            ledger_of: None,
            sending: FuturesUnordered::new(),
            replies,
            answering,
            refused_messages: RefusedMessages::default(),
            subscribed: HashSet::new(),
            fetching: Fetching::default(),
            superseded: Superseded::default(),
            is_client: self.attachment.is_none(),
            since: now,
        }));
        tracing::debug!(target: "asynctask::amqp", "a session with {} stands", self.shared.address.shown());
        if self.shared.address.succeeded() {
            self.emit(Event::Connected(self.shared.address.shown().to_owned()));
        }
        self.unanswered_queues.borrow_mut().clear();
        self.shared.in_transit.borrow_mut().session_began(now, noticed.unwrap_or(LOSS_NOTICED_WITHIN));
        let decided = self.state.up().map(Up::resume_accepted).unwrap_or_default();
        self.settle(decided);
        if self.attachment.is_some() {
            self.sessions += 1;
            self.emit(Event::Noticed { within: noticed });
            self.emit(Event::Attached { session: self.sessions });
            for (queue, fault) in built.refused {
                self.mark_unavailable(queue, fault, 2, Vec::new());
            }
            for queue in built.unasked {
                let cause = "it is opened beside the others, of which one gives no answer";
                self.mark_unavailable(queue, Fault::TimedOut(cause.to_owned()), 1, Vec::new());
            }
            self.open_due(now);
            self.watch_dead_letters();
            self.lease();
            self.listen_again();
        } else {
            self.failures = 0;
            self.report_waiting(format!("an answer of {}", self.shared.address.shown()));
        }
        self.begin_ledger();
        let waiting = std::mem::take(&mut self.waiting_requests);
        if let Some(up) = self.state.up() {
            for request in waiting {
                up.serve(request);
            }
        }
    }

    /// Between sessions only accepted deliveries are open: what is decided is done in the next one. A master that has not
    /// heard of the end yet may accept even now; its task, which comes again, is then known to it.
    pub(crate) fn settle_while_disconnected(&mut self, handle: Handle, settlement: Settlement) {
        let Some(open) = self.earlier_deliveries.get_mut(&handle).filter(|open| open.unstored_settlement.is_none())
        else {
            return;
        };
        match settlement {
            // Another settlement of it was under way and is void.
            Settlement::Accept if open.state.is_settling() => {}
            Settlement::Accept => open.state.keep_accepted(),
            settlement if open.state.is_accepted() => open.unstored_settlement = Some(settlement),
            _ => {}
        }
    }

    /// A session could not be built.
    pub(crate) fn build_failed(&mut self, error: Error) {
        // At each address of a cluster once, before the first pause.
        let Err(error) = self.shared.address.failed(error) else { return self.connect() };
        for request in std::mem::take(&mut self.waiting_requests) {
            refuse(request, &error);
        }
        if self.attachment.is_none() {
            self.state = State::Idle;
        } else if self.sessions == 0 && matches!(error, Error::Refused { .. } | Error::NoSuchQueue { .. }) {
            self.emit(Event::Refused(error.clone()));
            self.state = State::Refused(error);
        } else {
            self.schedule_rebuild(error, false);
        }
    }

    /// Gives the session up.
    pub(crate) fn session_lost(&mut self, cause: &str) {
        let State::Up(mut up) = std::mem::replace(&mut self.state, State::Idle) else { return };
        let now = self.now().at;
        let in_hand: usize = up.queues.iter().map(|consumed| consumed.ackers.len()).sum();
        self.shared.in_transit.borrow_mut().session_ended(in_hand as u64);
        for change in self.queue_changes.values_mut() {
            change.until.get_or_insert(now);
        }
        if self.lease_held.replace(false) {
            self.emit(Event::LeaseLost);
        }
        if self.ledger_held.replace(false) {
            self.emit(Event::LedgerLost);
        }
        self.interrupt_survey();
        self.sweeps.interrupted(now);
        // Nothing but this process holds what was accepted, and the master may accept until it hears of the end.
        self.earlier_deliveries = std::mem::take(&mut up.open);
        // The guards of replies answer as their tasks are dropped.
        up.tasks.abort_all();
        if now.since(up.since) >= STABLE_AFTER {
            self.failures = 0;
        }
        let session = Rc::clone(&up.session);
        tokio::task::spawn_local(async move { session.close(DISCONNECT_TIMEOUT).await });
        if self.attachment.is_some() {
            let error = self.shared.address.lost(cause);
            self.shared.address.turn();
            self.schedule_rebuild(error, self.failures < self.shared.address.others());
        }
        self.remove_drained();
    }

    fn schedule_rebuild(&mut self, error: Error, at_once: bool) {
        self.failures = self.failures.saturating_add(1);
        let again_in = if at_once { Duration::ZERO } else { with_jitter(REBUILD_BACKOFF.delay(self.failures)) };
        self.state = State::Waiting { until: self.now().at + again_in, error: error.clone() };
        self.emit(Event::Lost { error, again_in });
    }

    /// Begins to close: what was asked is still settled, for a while.
    pub(crate) fn close(&mut self, reply: Option<Reply<()>>) {
        self.closing = Some(Closing { by: self.now().at + CLOSE_TIMEOUT, reply });
        self.requests.close();
        self.release_lease();
        self.release_ledger();
        for queue in self.credits.keys().copied().collect::<Vec<_>>() {
            self.credit(QueueIndex(queue), 0);
        }
    }

    /// Whether a close has nothing left to wait for.
    pub(crate) fn is_done(&self, closing: &Closing) -> bool {
        match &self.state {
            _ if closing.by <= self.now().at => true,
            State::Up(up) => up.is_settled(),
            // A client's requests may still be served.
            State::Connecting { .. } => self.waiting_requests.is_empty(),
            State::Idle | State::Waiting { .. } | State::Refused(_) => true,
        }
    }

    /// Ends as a killed process would.
    pub(crate) async fn abandon(self) {
        if let State::Up(up) = self.state {
            drop(up.tasks);
            up.session.close(DISCONNECT_TIMEOUT).await;
        }
    }

    /// Closes the connections and answers.
    pub(crate) async fn disconnect(mut self) {
        let now = self.now().at;
        if let Some(up) = self.state.up() {
            up.watch.abort();
            up.answering.abort();
            up.sweep.iter().for_each(tokio::task::AbortHandle::abort);
            // Submits and the like that are still under way.
            let mut left = std::mem::take(&mut up.tasks);
            let finish = async { while left.join_next().await.is_some() {} };
            let by = self.closing.as_ref().map_or(Duration::ZERO, |closing| closing.by.since(now));
            // What the broker has not taken by now it will not take soon.
            let by = if up.session.publisher.blocked() { Duration::ZERO } else { by };
            let _ = tokio::time::timeout(by, finish).await;
            futures_util::future::join(
                up.session.close(DISCONNECT_TIMEOUT),
                self.shared.depth_counter.close(DISCONNECT_TIMEOUT),
            )
            .await;
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
                    let text = publisher::blocked_text(&reason);
                    session.publisher.set_blocked_reason(Some(reason));
                    let _ = notes.send(Note::Warning(format!("{text}; they wait")));
                    let _ = notes.send(Note::Waits(text));
                }
                Some(lapin::Event::ConnectionUnblocked) => {
                    session.publisher.set_blocked_reason(None);
                    let _ = notes.send(Note::Waits("an answer of the broker, which takes tasks again".to_owned()));
                }
                Some(_) => {}
                None => break,
            }
        }
        if Rc::ptr_eq(&connection, &session.publisher.connection()) {
            let cause = "the publishing connection ended".to_owned();
            let _ = notes.send(SessionNote::Broken { cause }.of(session.number));
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
        Request::Order { reply, .. } => drop(reply.send(Err(error.clone()))),
        Request::Jobs { reply, .. } => drop(reply.send(Err(error.clone()))),
        _ => {}
    }
}
