//! The actor: one task that owns all state of the transport.
//!
//! It waits for the first of a request, a note from work it has started, a delivery, a written acknowledgement, or a
//! deadline, and never waits inside for the broker: whatever takes an answer runs beside it as a task of the session
//! and reports by a [`Note`]. When the session ends, those tasks end with it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    task::Poll,
};

use futures_util::Stream as _;
use tokio::sync::mpsc;

use super::{
    connections::Attachment,
    lifecycle::Closing,
    membership::Joining,
    state::{Note, Notes, Open, Sent, State, Up},
};
use crate::{
    clock::{Clock, Instant, Now},
    task::{Handle, QueueIndex},
    transport::{
        Cancelled, Event, Events, Request,
        amqp::{
            connect::address::Address,
            consume::{
                acks,
                consumer::{Intake, Looked},
            },
            dead_letters::sweep_schedule::Sweeps,
            publish::{outbox::Stuck, undeliverable::Untaken},
            queues::{
                counts::Counting,
                foreign_queues::Natures,
                survey::{Horizon, Pending},
                topology::Fault,
            },
        },
    },
};

/// The actor.
pub(crate) struct Engine {
    pub(crate) address: Rc<Address>,
    pub(crate) events: Events,
    pub(crate) clock: Clock,
    pub(crate) notes: Notes,
    /// What is known about queues that others have declared.
    pub(crate) natures: Rc<Natures>,
    pub(crate) state: State,
    pub(crate) attachment: Option<Attachment>,
    /// Accepted deliveries, between two sessions.
    pub(crate) parted: HashMap<Handle, Open>,
    /// Of the queues that are attached or to be added, by their index.
    pub(crate) credits: BTreeMap<usize, u32>,
    /// Queues to be added or changed.
    pub(crate) joining: BTreeMap<usize, Joining>,
    /// Counts the tries to add a queue.
    pub(crate) openings: u64,
    /// Queues that are to go.
    pub(crate) leaving: BTreeSet<usize>,
    pub(crate) horizon: Rc<RefCell<Horizon>>,
    pub(crate) counting: Rc<Counting>,
    pub(crate) application: Option<String>,
    pub(crate) surveying: Option<Pending>,
    /// Clients' requests that wait for the first session.
    pub(crate) waiting: Vec<Request>,
    pub(crate) heard: mpsc::UnboundedReceiver<Note>,
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
    pub(crate) stuck: Stuck,
    /// What the queues of this session owe and others do not take.
    pub(crate) untaken: Untaken,
    /// Counts the tries to build a session.
    pub(crate) tries: u64,
    pub(crate) sessions: u32,
    pub(crate) failures: u32,
    pub(crate) consumers: u64,
    pub(crate) closing: Option<Closing>,
    pub(crate) lease_held: Rc<Cell<bool>>,
    pub(crate) sweeps: Sweeps,
}

enum Woken {
    Asked(Option<Request>),
    Heard(Note),
    Looked(usize, Looked),
    Sent(Sent),
    Late,
}

impl Engine {
    pub(crate) fn new(address: Address, events: Events, requests: mpsc::UnboundedReceiver<Request>) -> Self {
        let (notes, heard) = mpsc::unbounded_channel();
        let (address, clock) = (Rc::new(address), Clock::start());
        Self {
            counting: Rc::new(Counting::new(Rc::clone(&address), clock)),
            address,
            events,
            clock,
            natures: Rc::new(Natures::new(notes.clone())),
            notes,
            state: State::Idle,
            attachment: None,
            parted: HashMap::new(),
            credits: BTreeMap::new(),
            joining: BTreeMap::new(),
            openings: 0,
            leaving: BTreeSet::new(),
            horizon: Rc::default(),
            application: None,
            surveying: None,
            waiting: Vec::new(),
            heard,
            requests,
            stuck: Rc::default(),
            untaken: Untaken::default(),
            tries: 0,
            sessions: 0,
            failures: 0,
            consumers: 0,
            closing: None,
            lease_held: Rc::default(),
            sweeps: Sweeps::default(),
        }
    }

    /// Works until it is closed.
    pub(crate) async fn run(mut self) {
        loop {
            match self.woken().await {
                Woken::Asked(Some(request)) => {
                    self.asked(request);
                    // What else is there is done in one go, so that its acknowledgements go in one frame.
                    while let Ok(request) = self.requests.try_recv() {
                        self.asked(request);
                    }
                }
                // Dropped, not closed: an end as that of a process, with nothing settled any more.
                Woken::Asked(None) => return self.drop_all().await,
                Woken::Heard(note) => self.heard(note),
                Woken::Looked(queue, Looked::Came(messages)) => self.arrived(queue, messages),
                Woken::Looked(queue, Looked::Ended(fault)) => self.ended(queue, fault),
                Woken::Sent(sent) => self.sent(sent),
                Woken::Late => {}
            }
            self.advance();
            if self.closing.as_ref().is_some_and(|closing| self.is_done(closing)) {
                return self.hang_up().await;
            }
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        // The owner may be gone; then nobody needs to know.
        let _ = self.events.send(event);
    }

    /// Tells a client what its requests wait for.
    pub(crate) fn waits(&self, what: String) {
        if self.attachment.is_none() {
            self.tell(Event::Waits(what));
        }
    }

    /// Waits for whatever comes first.
    async fn woken(&mut self) -> Woken {
        // Read once: a queue that rests at one moment and not at the next would be forgotten between them.
        let clock = self.clock.now();
        let now = clock.at;
        let late = self.next_deadline(clock).map(|at| at.since(now));
        let closing = self.closing.is_some();
        let Self { requests, heard, state, .. } = self;
        let look = std::future::poll_fn(|context| {
            let State::Up(up) = &mut *state else { return Poll::Pending };
            if let Poll::Ready(Some(sent)) = std::pin::Pin::new(&mut up.sending).poll_next(context) {
                return Poll::Ready(Woken::Sent(sent));
            }
            up.intakes.poll(now, context).map(|(queue, looked)| Woken::Looked(queue, looked))
        });
        tokio::select! {
            request = requests.recv(), if !closing => Woken::Asked(request),
            Some(note) = heard.recv() => Woken::Heard(note),
            woken = look => woken,
            () = tokio::time::sleep(late.unwrap_or_default()), if late.is_some() => Woken::Late,
        }
    }

    fn next_deadline(&self, now: Now) -> Option<Instant> {
        let state = match &self.state {
            State::Up(up) => {
                let acks = up.intakes.stirred().any(Intake::waits).then(|| now.at + acks::PATIENCE);
                let early = up.intakes.stirred().flat_map(|intake| &intake.early).map(|(due, _)| *due).min();
                let rested = up.intakes.rests_until(now.at);
                let stale = up.intakes.stirred().filter_map(Intake::stale_at).min();
                let sweep = self.sweeps.next_at();
                [acks, early, rested, stale, self.opens_at(), sweep].into_iter().flatten().min()
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
        self.ripen();
        self.refresh_kept(now);
        self.begin_survey();
        self.begin_sweep();
        self.let_go();
        let all = self.closing.is_some();
        let State::Up(up) = &mut self.state else { return };
        // What has ended keeps its memory until it is taken out.
        while up.tasks.try_join_next().is_some() {}
        let Up { session, intakes, sending, tasks, .. } = &mut **up;
        intakes.each_stirred(|queue, intake| {
            for (tag, handle) in intake.acceptable() {
                intake.acks.ended(tag, now);
                intake.ending_tags.insert(tag, Some(handle));
            }
            if let Some(mut batch) = intake.batch(now, all) {
                let handles = std::mem::take(&mut batch.handles);
                let number = intake.number;
                sending.push(Box::pin(async move { Sent { queue, number, written: batch.write().await, handles } }));
            }
            if let Some(switch) = intake.switch(&self.natures) {
                self.consumers += 1;
                let tag = format!("asynctask-{}-{}", std::process::id(), self.consumers);
                let (notes, session, prefetch) = (self.notes.clone(), session.number, switch.prefetch);
                let number = intake.number;
                tasks.spawn_local(async move {
                    let _ = notes.send(match switch.run(tag).await {
                        Ok(consumer) => Note::Switched { session, queue, number, consumer, prefetch },
                        Err(error) => Note::Ended { session, queue, number, fault: Fault::of(&error) },
                    });
                });
            }
        });
        intakes.settle_down();
    }

    fn asked(&mut self, request: Request) {
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
        let Some(intake) = up.intakes.get_mut(queue.0) else { return };
        let credit = if intake.leaving { 0 } else { credit };
        self.horizon.borrow_mut().moved_at = self.clock.now().at;
        intake.credit = credit;
        if credit == 0 {
            self.give_back(queue.0);
        }
        self.hand_out();
    }

    fn heard(&mut self, note: Note) {
        let current = match &self.state {
            State::Up(up) => Some(up.session.number),
            _ => None,
        };
        match note {
            Note::Surveyed { serial, empty, again_in } => self.surveyed(serial, empty, again_in),
            Note::Disturbed { serial } => self.disturbed(serial),
            Note::Warning(text) => self.tell(Event::Warning(text)),
            Note::Waits(what) => self.waits(what),
            Note::Built { number, built } => {
                if matches!(self.state, State::Connecting { number: awaited } if awaited == number) {
                    match *built {
                        Ok(built) => self.up(built),
                        Err(error) => self.not_built(error),
                    }
                }
            }
            Note::Broken { session, cause } => {
                if current == Some(session) {
                    self.broken(&cause);
                }
            }
            Note::Opened { session, number, queue, opened } => self.opened(session, number, queue, opened),
            Note::Switched { session, queue, number, consumer, prefetch } => {
                if let Some(intake) = self.intake_of(session, queue, number) {
                    intake.switched(consumer, prefetch);
                    self.horizon.borrow_mut().moved_at = self.clock.now().at;
                }
            }
            Note::Ended { session, queue, number, fault } => {
                if self.intake_of(session, queue, number).is_some() {
                    self.ended(queue, fault);
                }
            }
            Note::Offered { session, queue, to, offered } if current == Some(session) => {
                self.offered(queue, to, offered);
            }
            Note::Copied { session, handle, is_dead } if current == Some(session) => self.copied(handle, is_dead),
            Note::Swept { session, swept } if current == Some(session) => {
                self.sweeps.ended(&swept, self.clock.now().at);
            }
            Note::FollowedUp { session, handle } if current == Some(session) => self.followed_up(handle),
            Note::Passed { session, queue, number, tag } => {
                if self.intake_of(session, queue, number).is_some() {
                    self.passed(queue, tag);
                }
            }
            Note::Unstorable { session, handle, error } if current == Some(session) => self.unstorable(handle, error),
            Note::Copied { .. }
            | Note::Swept { .. }
            | Note::FollowedUp { .. }
            | Note::Unstorable { .. }
            | Note::Offered { .. } => {}
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
                let intake = &mut up.intakes[open.queue];
                intake.in_hand -= 1;
                intake.accepted -= u32::from(open.accepted);
                up.open.remove(handle);
            } else if let Some(open) = up.open.get_mut(handle) {
                open.acknowledged = true;
            }
        }
        self.horizon.borrow_mut().moved_at = self.clock.now().at;
        if !handles.is_empty() {
            self.tell(Event::Settled(handles));
        }
        self.hand_out();
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }
}
