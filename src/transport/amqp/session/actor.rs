//! The actor: one task that owns all state of the transport.
//!
//! It waits for the first of a request, a note from work it has started, a delivery, a written acknowledgement, or a
//! deadline, and never waits inside for the broker: whatever takes an answer runs beside it as a task of the session
//! and reports by a [`Note`]. When the session ends, those tasks end with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    task::Poll,
};

use futures_util::Stream as _;
use tokio::sync::mpsc;

use super::{
    connections::Attachment,
    note::{Note, SessionNote},
    shared::Shared,
    state::{Actor, State},
    up::{AcksWritten, OpenDeliveries},
};
use crate::{
    clock::{Instant, Now},
    task::{Handle, QueueIndex, Settlement},
    transport::{
        Cancelled, Event, Events, Request,
        amqp::{
            connect::address::Address, consume::consumer::Polled, dead_letters::sweep_schedule::SweepSchedule,
            publish::replies::Answer,
        },
        dead_page::DeadFound,
    },
};

enum Wakeup {
    Request(Option<Request>),
    Note(Note),
    Polled(usize, Polled),
    AcksWritten(AcksWritten),
    Deadline,
}

impl Actor {
    pub(crate) fn new(address: Address, events: Events, requests: mpsc::UnboundedReceiver<Request>) -> Self {
        let (shared, incoming_notes) = Shared::new(address, events);
        Self {
            shared,
            state: State::Idle,
            attachment: None,
            earlier_deliveries: OpenDeliveries::default(),
            credits: BTreeMap::new(),
            queue_changes: BTreeMap::new(),
            channel_numbers: 0,
            leaving: BTreeSet::new(),
            application: None,
            surveying: None,
            waiting_requests: Vec::new(),
            incoming_notes,
            requests,
            unanswered_queues: Rc::default(),
            builds: 0,
            sessions: 0,
            failures: 0,
            closing: None,
            lease_held: Rc::default(),
            sweeps: SweepSchedule::default(),
            ledger: None,
            ledger_held: Rc::default(),
            ledger_patience: Rc::default(),
        }
    }

    /// Works until it is closed.
    pub(crate) async fn run(mut self) {
        loop {
            match self.next_wakeup().await {
                Wakeup::Request(Some(request)) => {
                    self.request(request);
                    // What else is there is done in one go, so that its acknowledgements go in one frame.
                    while let Ok(request) = self.requests.try_recv() {
                        self.request(request);
                    }
                }
                // Dropped, not closed: an end as that of a process, with nothing settled any more.
                Wakeup::Request(None) => return self.abandon().await,
                Wakeup::Note(note) => self.note(note),
                Wakeup::Polled(queue, polled) => self.polled(queue, polled),
                Wakeup::AcksWritten(written) => self.acks_written(written),
                Wakeup::Deadline => {}
            }
            self.advance();
            if self.closing.as_ref().is_some_and(|closing| self.is_done(closing)) {
                return self.disconnect().await;
            }
        }
    }

    /// Tells a client what its requests wait for.
    pub(crate) fn report_waiting(&self, what: String) {
        if self.attachment.is_none() {
            self.emit(Event::Waits(what));
        }
    }

    /// Waits for whatever comes first.
    async fn next_wakeup(&mut self) -> Wakeup {
        // Read once: a queue whose poll is deferred at one moment and not at the next would be forgotten between them.
        let clock = self.now();
        let now = clock.at;
        let late = self.next_deadline(clock).map(|at| at.since(now));
        let closing = self.closing.is_some();
        let Self { requests, incoming_notes, state, .. } = self;
        let poll = std::future::poll_fn(|context| {
            let Some(up) = state.up() else { return Poll::Pending };
            if let Poll::Ready(Some(written)) = std::pin::Pin::new(&mut up.sending).poll_next(context) {
                return Poll::Ready(Wakeup::AcksWritten(written));
            }
            up.queues.poll(now, context).map(|(queue, polled)| Wakeup::Polled(queue, polled))
        });
        tokio::select! {
            request = requests.recv(), if !closing => Wakeup::Request(request),
            Some(note) = incoming_notes.recv() => Wakeup::Note(note),
            wakeup = poll => wakeup,
            () = tokio::time::sleep(late.unwrap_or_default()), if late.is_some() => Wakeup::Deadline,
        }
    }

    fn next_deadline(&self, now: Now) -> Option<Instant> {
        let state = match &self.state {
            State::Up(up) => {
                let beside = [self.opens_at(), self.sweeps.next_at()].into_iter().flatten();
                up.next_deadline(now.at).into_iter().chain(beside).min()
            }
            State::Waiting { until, .. } => Some(*until),
            State::Idle | State::Connecting { .. } | State::Refused(_) => None,
        };
        let closing = self.closing.as_ref().map(|closing| closing.by);
        let survey = self.surveying.as_ref().filter(|pending| pending.waits()).map(|pending| pending.by);
        state.into_iter().chain(closing).chain(survey).min()
    }

    /// Does what is due: the next try to connect, acknowledgements, changes of credit.
    fn advance(&mut self) {
        let now = self.now().at;
        if let State::Waiting { until, .. } = &self.state
            && *until <= now
            && self.closing.is_none()
        {
            self.connect();
        }
        self.open_due(now);
        if let Some(up) = self.state.up() {
            up.flush_moves();
            up.release_due(now);
            up.refresh_kept(now);
            up.fetch_frozen();
        }
        self.begin_survey();
        self.begin_sweep();
        self.remove_drained();
        let all = self.closing.is_some();
        if let Some(up) = self.state.up() {
            up.advance(now, all);
        }
    }

    fn polled(&mut self, queue: usize, polled: Polled) {
        match polled {
            Polled::Messages(messages) => {
                if let Some(up) = self.state.up() {
                    up.arrived(queue, messages);
                }
            }
            Polled::Ended(fault) => self.ended(queue, fault),
        }
    }

    fn acks_written(&mut self, written: AcksWritten) {
        let queue = written.queue;
        if let Some(Err(fault)) = self.state.up().map(|up| up.acks_written(written)) {
            self.ended(queue, fault);
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Attach { queues, passive } => {
                self.attach(Attachment { queues: queues.into_iter().enumerate().collect(), passive });
            }
            Request::AddQueue { queue, setup } => self.add_queue(queue.0, setup),
            Request::RemoveQueue { queue } => self.remove_queue(queue.0),
            Request::Credit { queue, credit } => self.credit(queue, credit),
            Request::Settle(settlements) => self.settle(settlements),
            Request::Lock { handle, .. } => self.state.up().into_iter().for_each(|up| up.lock(handle)),
            Request::Survey { serial, jobs } => self.survey(serial, jobs),
            Request::KnownQueues { reply } => drop(reply.send(Ok(Vec::new()))),
            // It lies in messages that are in the hands of the scheduler.
            Request::ScheduleMemory { reply, .. } => drop(reply.send(Ok(None))),
            // A broker has no index of what lies in a queue.
            Request::DeadGroups { reply, .. } => drop(reply.send(Ok(None))),
            Request::DeadPage { reply, .. } => drop(reply.send(Ok(None))),
            Request::DeadLetter { reply, .. } => drop(reply.send(Ok(DeadFound::Impossible))),
            // A broker hands out the oldest task of a queue and finds none by its id.
            Request::Cancel { reply, .. } => drop(reply.send(Ok(Cancelled::Impossible))),
            Request::Lease { application } => {
                self.application = Some(application);
                self.lease();
            }
            Request::Fire { schedule, moment, task } => self.fire(schedule, moment, task),
            // Without a session it is not sent.
            Request::Reply { queue, correlation_id, body } => {
                let answer = Answer { queue, correlation_id, body };
                if let Some(up) = self.state.up() {
                    up.replies.take(answer);
                }
            }
            Request::Protocols { queues } => {
                let known = &self.shared.foreign_queues.celery;
                for (queue, protocol) in &queues {
                    known.set(queue, protocol);
                }
            }
            Request::ReleaseLease => self.release_lease(),
            Request::Ledger { application } => {
                self.listen(&application);
                self.ask_ledger(application);
            }
            Request::Advance(advance) => self.advance_ledger(*advance),
            Request::ReleaseLedger => self.release_ledger(),
            Request::Close { reply } => self.close(Some(reply)),
            request @ (Request::Submit { .. }
            | Request::Depths { .. }
            | Request::Ready { .. }
            | Request::WalkDead { .. }
            | Request::Purge { .. }
            | Request::Delete { .. }
            | Request::Order { .. }
            | Request::Jobs { .. }) => {
                self.serve(request);
            }
        }
    }

    fn attach(&mut self, attachment: Attachment) {
        self.credits = attachment.queues.keys().map(|queue| (*queue, 0)).collect();
        self.attachment = Some(attachment);
        self.connect();
    }

    /// Changes a queue's credit.
    pub(crate) fn credit(&mut self, queue: QueueIndex, credit: u32) {
        if let Some(wanted) = self.credits.get_mut(&queue.0).filter(|_| !self.leaving.contains(&queue.0)) {
            *wanted = credit;
        }
        if let Some(up) = self.state.up() {
            up.set_credit(queue.0, credit);
        }
    }

    /// Settlements of the master. Between sessions only accepted deliveries are open.
    pub(crate) fn settle(&mut self, settlements: Vec<(Handle, Settlement)>) {
        self.shared.moved(self.now().at);
        if let Some(up) = self.state.up() {
            return up.settle(settlements, &mut self.earlier_deliveries);
        }
        for (handle, settlement) in settlements {
            self.settle_while_disconnected(handle, settlement);
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Surveyed { serial, empty, stranded, again_in } => self.surveyed(serial, empty, stranded, again_in),
            Note::Disturbed { serial } => self.disturbed(serial),
            Note::Warning(text) => self.emit(Event::Warning(text)),
            Note::Waits(what) => self.report_waiting(what),
            Note::Built { number, built } => {
                if matches!(self.state, State::Connecting { number: awaited } if awaited == number) {
                    match *built {
                        Ok(built) => self.session_built(built),
                        Err(error) => self.build_failed(error),
                    }
                }
            }
            Note::OfSession { session, note } => self.session_note(session, *note),
        }
    }

    /// A note of an earlier session is never acted on, nor one of a channel that its queue has no more.
    fn session_note(&mut self, session: u64, note: SessionNote) {
        let now = self.now().at;
        let Some(up) = self.state.up().filter(|up| up.session.number == session) else { return };
        match note {
            SessionNote::Broken { cause } => self.session_lost(&cause),
            SessionNote::Opened { number, queue, opened } => self.opened(number, queue, opened),
            SessionNote::Switched { queue, number, consumer, prefetch } => {
                if let Some(consumed) = up.channel_of(queue, number) {
                    consumed.switched(consumer, prefetch);
                    up.narrow(queue);
                    self.shared.moved(now);
                }
            }
            SessionNote::Ended { queue, number, fault } => {
                if up.channel_of(queue, number).is_some() {
                    self.ended(queue, fault);
                }
            }
            SessionNote::Copied { handle, is_dead } => {
                if let Some(open) = up.open.get(&handle).filter(|_| is_dead) {
                    let dead = &up.queues[open.queue].setup.dead;
                    self.sweeps.stored(&dead.name, dead.keep, now);
                }
                up.copied(handle);
            }
            SessionNote::Swept { swept } => self.sweeps.ended(&swept, now),
            SessionNote::FollowedUp { handle } => up.copy_stored(handle),
            SessionNote::Unstorable { handle, error } => up.unstorable(handle, error),
            SessionNote::PublishReport { queue, to, report } => up.publish_reported(queue, to, report),
            SessionNote::Replied => {}
            SessionNote::Stopped { application, said } => up.heard_stopped(&application, said),
            SessionNote::Fetched => up.fetching.under_way = false,
            SessionNote::Superseded { rounds, queues } => up.supersede(rounds, queues),
            SessionNote::SupersededRemoved => up.superseded_removed(),
            SessionNote::HandsSeen { queue, number, tag, hands } => {
                if up.channel_of(queue, number).is_some() {
                    up.hands_seen(queue, tag, hands);
                }
            }
            SessionNote::Passed { queue, number, tag } => {
                if up.channel_of(queue, number).is_some() {
                    up.passed(queue, tag);
                }
            }
        }
    }
}
