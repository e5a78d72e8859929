//! The actor: one task that owns all state of the transport.
//!
//! It waits for the first of a request, a note from work it has started, a delivery, a written acknowledgement, or a
//! deadline, and never waits inside for the broker: whatever takes an answer runs beside it as a task of the session
//! and reports by a [`Note`]. When the session ends, those tasks end with it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    task::Poll,
};

use futures_util::Stream as _;
use tokio::sync::mpsc;

use super::{
    connections::Attachment,
    note::Note,
    state::{AcksWritten, Actor, State, Up},
};
use crate::{
    clock::{Clock, Instant, Now},
    task::{Handle, QueueIndex},
    transport::{
        Cancelled, Error, Event, Events, Request,
        amqp::{
            broker_error::Fault,
            connect::address::Address,
            consume::{
                acks,
                consumer::{ConsumedQueue, Polled},
            },
            dead_letters::sweep_schedule::SweepSchedule,
            publish::undeliverable::{PublishReport, RefusedMessages},
            queues::{counts::DepthCounter, foreign_queues::ForeignQueues},
        },
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
        let (notes, incoming_notes) = mpsc::unbounded_channel();
        let (address, clock) = (Rc::new(address), Clock::start());
        let warnings = notes.clone();
        let warn = move |text| drop(warnings.send(Note::Warning(text)));
        Self {
            depth_counter: Rc::new(DepthCounter::new(Rc::clone(&address), clock)),
            address,
            events,
            clock,
            foreign_queues: Rc::new(ForeignQueues::new(warn)),
            notes,
            state: State::Idle,
            attachment: None,
            accepted_between_sessions: HashMap::new(),
            credits: BTreeMap::new(),
            queue_changes: BTreeMap::new(),
            channel_numbers: 0,
            leaving: BTreeSet::new(),
            in_transit: Rc::default(),
            application: None,
            surveying: None,
            waiting_requests: Vec::new(),
            incoming_notes,
            requests,
            unanswered_queues: Rc::default(),
            refused_messages: RefusedMessages::default(),
            builds: 0,
            sessions: 0,
            failures: 0,
            consumer_tags: 0,
            closing: None,
            lease_held: Rc::default(),
            sweeps: SweepSchedule::default(),
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
                Wakeup::Polled(queue, Polled::Messages(messages)) => self.arrived(queue, messages),
                Wakeup::Polled(queue, Polled::Ended(fault)) => self.ended(queue, fault),
                Wakeup::AcksWritten(sent) => self.acks_written(sent),
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
        // Read once: a queue that rests at one moment and not at the next would be forgotten between them.
        let clock = self.clock.now();
        let now = clock.at;
        let late = self.next_deadline(clock).map(|at| at.since(now));
        let closing = self.closing.is_some();
        let Self { requests, incoming_notes, state, .. } = self;
        let poll = std::future::poll_fn(|context| {
            let State::Up(up) = &mut *state else { return Poll::Pending };
            if let Poll::Ready(Some(sent)) = std::pin::Pin::new(&mut up.sending).poll_next(context) {
                return Poll::Ready(Wakeup::AcksWritten(sent));
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
                let acks = up.queues.dirty().any(ConsumedQueue::waits).then(|| now.at + acks::MAX_ACK_DELAY);
                let early = up.queues.dirty().flat_map(|consumed| &consumed.nearly_due).map(|(due, _)| *due).min();
                let deferred = up.queues.poll_deferred_until(now.at);
                let stale = up.queues.dirty().filter_map(ConsumedQueue::stale_at).min();
                let sweep = self.sweeps.next_at();
                [acks, early, deferred, stale, self.opens_at(), sweep].into_iter().flatten().min()
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
        let now = self.clock.now().at;
        if let State::Waiting { until, .. } = &self.state
            && *until <= now
            && self.closing.is_none()
        {
            self.connect();
        }
        self.open_due(now);
        self.flush_moves();
        self.release_due();
        self.refresh_kept(now);
        self.begin_survey();
        self.begin_sweep();
        self.remove_drained();
        let all = self.closing.is_some();
        let State::Up(up) = &mut self.state else { return };
        // What has ended keeps its memory until it is taken out.
        while up.tasks.try_join_next().is_some() {}
        let Up { session, queues, sending, tasks, .. } = &mut **up;
        queues.each_dirty(|queue, consumed| {
            for (tag, handle) in consumed.acceptable() {
                consumed.acks.ended(tag, now);
                consumed.settled_tags.insert(tag, Some(handle));
            }
            if let Some(mut batch) = consumed.batch(now, all) {
                let handles = std::mem::take(&mut batch.handles);
                let number = consumed.number;
                sending.push(Box::pin(
                    async move { AcksWritten { queue, number, written: batch.write().await, handles } },
                ));
            }
            if let Some(switch) = consumed.switch(&self.foreign_queues) {
                self.consumer_tags += 1;
                let tag = format!("asynctask-{}-{}", std::process::id(), self.consumer_tags);
                let (notes, session, prefetch) = (self.notes.clone(), session.number, switch.prefetch);
                let number = consumed.number;
                tasks.spawn_local(async move {
                    let _ = notes.send(match switch.run(tag).await {
                        Ok(consumer) => Note::Switched { session, queue, number, consumer, prefetch },
                        Err(error) => Note::Ended { session, queue, number, fault: Fault::of(&error) },
                    });
                });
            }
        });
        queues.clear_dirty();
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
            Request::Lock { handle, .. } => self.lock(handle),
            Request::Survey { serial } => self.survey(serial),
            Request::KnownQueues { reply } => drop(reply.send(Ok(Vec::new()))),
            // It lies in messages that are in the hands of the scheduler.
            Request::ScheduleMemory { reply, .. } => drop(reply.send(Ok(None))),
            // A broker hands out the oldest task of a queue and finds none by its id.
            Request::Cancel { reply, .. } => drop(reply.send(Ok(Cancelled::Impossible))),
            Request::Lease { application } => {
                self.application = Some(application);
                self.lease();
            }
            Request::Fire { schedule, moment, task } => self.fire(schedule, moment, task),
            Request::ReleaseLease => self.release_lease(),
            Request::Close { reply } => self.close(Some(reply)),
            request @ (Request::Submit { .. }
            | Request::Depths { .. }
            | Request::Ready { .. }
            | Request::WalkDead { .. }
            | Request::Purge { .. }
            | Request::Delete { .. }) => {
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
        let State::Up(up) = &mut self.state else { return };
        let Some(consumed) = up.queues.get_mut(queue.0) else { return };
        let credit = if consumed.leaving { 0 } else { credit };
        self.in_transit.borrow_mut().moved_at = self.clock.now().at;
        consumed.credit = credit;
        if credit == 0 {
            self.give_back(queue.0);
        }
        self.hand_out();
    }

    fn note(&mut self, note: Note) {
        let current = match &self.state {
            State::Up(up) => Some(up.session.number),
            _ => None,
        };
        match note {
            Note::Surveyed { serial, empty, again_in } => self.surveyed(serial, empty, again_in),
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
            Note::Broken { session, cause } => {
                if current == Some(session) {
                    self.session_lost(&cause);
                }
            }
            Note::Opened { session, number, queue, opened } => self.opened(session, number, queue, opened),
            Note::Switched { session, queue, number, consumer, prefetch } => {
                if let Some(consumed) = self.consumed_queue(session, queue, number) {
                    consumed.switched(consumer, prefetch);
                    self.in_transit.borrow_mut().moved_at = self.clock.now().at;
                }
            }
            Note::Ended { session, queue, number, fault } => {
                if self.consumed_queue(session, queue, number).is_some() {
                    self.ended(queue, fault);
                }
            }
            Note::PublishReport { session, queue, to, report } if current == Some(session) => {
                self.publish_reported(queue, to, report);
            }
            Note::Copied { session, handle, is_dead } if current == Some(session) => self.copied(handle, is_dead),
            Note::Swept { session, swept } if current == Some(session) => {
                self.sweeps.ended(&swept, self.clock.now().at);
            }
            Note::FollowedUp { session, handle } if current == Some(session) => self.followed_up(handle),
            Note::Passed { session, queue, number, tag } => {
                if self.consumed_queue(session, queue, number).is_some() {
                    self.passed(queue, tag);
                }
            }
            Note::Unstorable { session, handle, error } if current == Some(session) => self.unstorable(handle, error),
            Note::Copied { .. }
            | Note::Swept { .. }
            | Note::FollowedUp { .. }
            | Note::Unstorable { .. }
            | Note::PublishReport { .. } => {}
        }
    }

    /// These are settled for good; their credit is free.
    pub(crate) fn settled(&mut self, handles: Vec<Handle>) {
        let State::Up(up) = &mut self.state else { return };
        for handle in &handles {
            // An acceptance is answered too, and the delivery stays open.
            if let Some(open) = up.open.get(handle)
                && open.settling
                && (!open.accepted || open.acknowledged)
            {
                let consumed = &mut up.queues[open.queue];
                consumed.in_hand -= 1;
                consumed.accepted -= u32::from(open.accepted);
                up.open.remove(handle);
            } else if let Some(open) = up.open.get_mut(handle) {
                open.acknowledged = true;
            }
        }
        self.in_transit.borrow_mut().moved_at = self.clock.now().at;
        if !handles.is_empty() {
            self.emit(Event::Settled(handles));
        }
        self.hand_out();
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn publish_reported(&mut self, queue: usize, to: String, report: PublishReport) {
        if !self.credits.contains_key(&queue) {
            return;
        }
        if let Some((tasks, cause)) = self.refused_messages.note(queue, &to, report) {
            let error = Error::NotStored { queue: to.clone(), cause };
            self.emit(Event::Stuck { queue: QueueIndex(queue), by: to, error, tasks });
        }
    }
}
