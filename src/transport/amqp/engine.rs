//! The actor: one task that owns all state of the transport.
//!
//! It waits for the first of a request, a note from work it has started, a delivery, a written acknowledgement, or a
//! deadline, and never waits inside for the broker: whatever takes an answer runs beside it as a task of the session
//! and reports by a [`Note`]. When the session ends, those tasks end with it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{BuildHasher as _, Hasher as _},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use futures_util::{Stream as _, future::LocalBoxFuture, stream::FuturesUnordered};
use lapin::{BasicProperties, Consumer};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    acks,
    address::Address,
    intake::{Intake, Looked},
    lease::Lease,
    moves::{Parcel, Store, Stuck},
    owed::Owed,
    session::{Attachment, Built, Session},
    survey::{Horizon, Pending},
};
use crate::{
    backoff::Backoff,
    clock::{Clock, Instant, Now},
    task::{Handle, QueueIndex, Task},
    transport::{Error, Event, Events, Reply, Request},
};

const AGAIN: Backoff = Backoff { first: Duration::from_secs(1), factor: 2.0, longest: Duration::from_secs(30) };
/// A session that ends earlier counts as another failure in a row.
const STEADY: Duration = Duration::from_secs(10);
/// What a close may take for settlements, and then for the connections; 5 s together.
const CLOSING: Duration = Duration::from_secs(4);
const HANGING_UP: Duration = Duration::from_millis(900);

/// What work beside the actor reports to it.
pub(super) enum Note {
    /// A session was built, or could not be.
    Built { number: u64, built: Box<Result<Built, Error>> },
    /// A session cannot go on.
    Broken { session: u64, cause: String },
    /// A change of consumers is done.
    Switched { session: u64, queue: usize, consumer: Option<Consumer>, prefetch: u16 },
    /// The copy of a task is confirmed.
    Copied { session: u64, handle: Handle },
    /// The follow-up tasks of a `Done` are confirmed.
    FollowedUp { session: u64, handle: Handle },
    /// A task that the master has not seen was moved on.
    Passed { session: u64, queue: usize, tag: u64 },
    /// The readings of a survey agree.
    Surveyed { serial: u64, empty: bool, again_in: Duration },
    /// The readings of a survey were disturbed.
    Disturbed { serial: u64 },
    /// Something to be read by a person.
    Warning(String),
}

/// Where notes go.
pub(super) type Notes = mpsc::UnboundedSender<Note>;

/// A delivery in the master's hands.
pub(super) struct Open {
    pub(super) queue: usize,
    pub(super) tag: u64,
    pub(super) properties: BasicProperties,
    pub(super) task: std::sync::Arc<Task>,
    /// Removed from its queue already.
    pub(super) accepted: bool,
    /// … and the acknowledgement is written.
    pub(super) acknowledged: bool,
    /// Its settlement is under way.
    pub(super) settling: bool,
}

/// A session that stands.
pub(super) struct Up {
    pub(super) session: Rc<Session>,
    pub(super) store: Store,
    pub(super) intakes: Vec<Intake>,
    pub(super) open: HashMap<Handle, Open>,
    /// Copies to be made, gathered so that those for one queue go together.
    pub(super) moving: Vec<(Handle, Parcel)>,
    pub(super) tasks: JoinSet<()>,
    pub(super) lease: Option<Lease>,
    sending: FuturesUnordered<LocalBoxFuture<'static, Sent>>,
    since: Instant,
}

/// A batch of acknowledgements was written, or not.
struct Sent {
    queue: usize,
    handles: Vec<Handle>,
    written: bool,
}

/// Where the connections stand.
pub(super) enum State {
    /// A client without work.
    Idle,
    /// Being built.
    Connecting {
        number: u64,
    },
    Up(Box<Up>),
    /// Until the next try.
    Waiting {
        until: Instant,
        error: Error,
    },
    /// For good.
    Refused(Error),
}

/// The actor.
pub(super) struct Engine {
    pub(super) address: Rc<Address>,
    pub(super) events: Events,
    pub(super) clock: Clock,
    pub(super) notes: Notes,
    pub(super) state: State,
    pub(super) attachment: Option<Attachment>,
    pub(super) credits: Vec<u32>,
    pub(super) horizon: Rc<RefCell<Horizon>>,
    pub(super) application: Option<String>,
    pub(super) surveying: Option<Pending>,
    /// Clients' requests that wait for the first session.
    waiting: Vec<Request>,
    heard: mpsc::UnboundedReceiver<Note>,
    requests: mpsc::UnboundedReceiver<Request>,
    stuck: Stuck,
    /// Counts the tries to build a session.
    tries: u64,
    sessions: u32,
    failures: u32,
    probed: bool,
    consumers: u64,
    closing: Option<Closing>,
    lease_held: Rc<Cell<bool>>,
}

struct Closing {
    by: Instant,
    reply: Option<Reply<()>>,
}

enum Woken {
    Asked(Option<Request>),
    Heard(Note),
    Looked(usize, Looked),
    Sent(Sent),
    Late,
}

impl Engine {
    pub(super) fn new(address: Address, events: Events, requests: mpsc::UnboundedReceiver<Request>) -> Self {
        let (notes, heard) = mpsc::unbounded_channel();
        Self {
            address: Rc::new(address),
            events,
            clock: Clock::start(),
            notes,
            state: State::Idle,
            attachment: None,
            credits: Vec::new(),
            horizon: Rc::default(),
            application: None,
            surveying: None,
            waiting: Vec::new(),
            heard,
            requests,
            stuck: Rc::default(),
            tries: 0,
            sessions: 0,
            failures: 0,
            probed: false,
            consumers: 0,
            closing: None,
            lease_held: Rc::default(),
        }
    }

    /// Works until it is closed.
    pub(super) async fn run(mut self) {
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
                Woken::Looked(_, Looked::Broken(cause)) => self.broken(&cause),
                Woken::Sent(sent) => self.sent(sent),
                Woken::Late => {}
            }
            self.advance();
            if self.closing.as_ref().is_some_and(|closing| self.is_done(closing)) {
                return self.hang_up().await;
            }
        }
    }

    pub(super) fn tell(&self, event: Event) {
        // The owner may be gone; then nobody needs to know.
        let _ = self.events.send(event);
    }

    /// Waits for whatever comes first.
    async fn woken(&mut self) -> Woken {
        let late = self.next_deadline().map(|at| at.since(self.clock.now().at));
        let closing = self.closing.is_some();
        let Self { requests, heard, state, .. } = self;
        let look = std::future::poll_fn(|context| {
            let State::Up(up) = &mut *state else { return Poll::Pending };
            if let Poll::Ready(Some(sent)) = std::pin::Pin::new(&mut up.sending).poll_next(context) {
                return Poll::Ready(Woken::Sent(sent));
            }
            for (queue, intake) in up.intakes.iter_mut().enumerate() {
                if let Poll::Ready(looked) = intake.poll(context) {
                    return Poll::Ready(Woken::Looked(queue, looked));
                }
            }
            Poll::Pending
        });
        tokio::select! {
            request = requests.recv(), if !closing => Woken::Asked(request),
            Some(note) = heard.recv() => Woken::Heard(note),
            woken = look => woken,
            () = tokio::time::sleep(late.unwrap_or_default()), if late.is_some() => Woken::Late,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let acks = match &self.state {
            State::Up(up) if up.intakes.iter().any(Intake::waits) => Some(self.clock.now().at + acks::PATIENCE),
            State::Waiting { until, .. } => Some(*until),
            _ => None,
        };
        let early = match &self.state {
            State::Up(up) => up.intakes.iter().flat_map(|intake| &intake.early).map(|(due, _)| *due).min(),
            _ => None,
        };
        let now = self.clock.now();
        let early = early.map(|due| now.at + due.remaining(now.wall));
        let closing = self.closing.as_ref().map(|closing| closing.by);
        let survey = self.surveying.as_ref().filter(|pending| pending.waits()).map(|pending| pending.by);
        acks.into_iter().chain(early).chain(closing).chain(survey).min()
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
        self.flush_moves();
        self.ripen();
        self.begin_survey();
        let all = self.closing.is_some();
        let State::Up(up) = &mut self.state else { return };
        for (queue, intake) in up.intakes.iter_mut().enumerate() {
            for (tag, handle) in intake.acceptable() {
                intake.acks.ended(tag, now);
                intake.ending_tags.insert(tag, Some(handle));
            }
            if let Some(mut batch) = intake.batch(now, all) {
                let handles = std::mem::take(&mut batch.handles);
                up.sending.push(Box::pin(async move { Sent { queue, written: batch.write().await, handles } }));
            }
            if let Some(switch) = intake.switch() {
                self.consumers += 1;
                let tag = format!("asynctask-{}-{}", std::process::id(), self.consumers);
                let (notes, session, prefetch) = (self.notes.clone(), up.session.number, switch.prefetch);
                up.tasks.spawn_local(async move {
                    let _ = notes.send(match switch.run(tag).await {
                        Ok(consumer) => Note::Switched { session, queue, consumer, prefetch },
                        Err(error) => Note::Broken { session, cause: super::address::said(&error) },
                    });
                });
            }
        }
    }

    fn asked(&mut self, request: Request) {
        match request {
            Request::Attach { queues, passive } => self.attach(Attachment { queues, passive }),
            Request::Credit { queue, credit } => self.credit(queue, credit),
            Request::Settle(settlements) => self.settle(settlements),
            Request::Survey { serial } => self.survey(serial),
            Request::KnownQueues { reply } => drop(reply.send(Ok(Vec::new()))),
            Request::Lease { application } => {
                self.application = Some(application);
                self.lease();
            }
            Request::Fire { schedule, moment, task } => self.fire(schedule, moment, task),
            Request::ReleaseLease => self.release_lease(),
            Request::Close { reply } => self.close(Some(reply)),
            request @ (Request::Submit { .. } | Request::Depths { .. } | Request::WalkDead { .. }) => {
                self.serve(request)
            }
        }
    }

    /// Requests that need a session and are answered by a reply.
    fn serve(&mut self, request: Request) {
        let error = match &mut self.state {
            State::Up(up) if up.session.stands() || self.attachment.is_some() => return self.work(request),
            // A client's connection ended while nobody used it.
            State::Up(_) | State::Idle => {
                self.waiting.push(request);
                return self.connect();
            }
            State::Connecting { .. } if self.failures == 0 => return self.waiting.push(request),
            State::Connecting { .. } => self.address.lost("it is being connected again"),
            State::Waiting { error, .. } | State::Refused(error) => error.clone(),
        };
        refuse(request, &error);
    }

    fn attach(&mut self, attachment: Attachment) {
        self.credits = vec![0; attachment.queues.len()];
        self.attachment = Some(attachment);
        self.connect();
    }

    fn credit(&mut self, queue: QueueIndex, credit: u32) {
        if let Some(wanted) = self.credits.get_mut(queue.0) {
            *wanted = credit;
        }
        let State::Up(up) = &mut self.state else { return };
        let Some(intake) = up.intakes.get_mut(queue.0) else { return };
        self.horizon.borrow_mut().moved_at = self.clock.now().at;
        intake.credit = credit;
        if credit == 0 {
            // What the master never saw must not be kept from others.
            let early = intake.early.drain(..).map(|(_, held)| held);
            intake.back.extend(intake.held.drain(..).chain(early).map(|held| (held.tag, None)));
        }
        self.hand_out();
    }

    fn connect(&mut self) {
        self.tries += 1;
        let (number, address, notes) = (self.tries, Rc::clone(&self.address), self.notes.clone());
        let (attachment, probe) = (self.attachment.clone(), !self.probed);
        self.state = State::Connecting { number };
        tokio::task::spawn_local(async move {
            let built = Box::new(Session::build(number, address, attachment, probe).await);
            let _ = notes.send(Note::Built { number, built });
        });
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
            Note::Switched { session, queue, consumer, prefetch } => {
                if let State::Up(up) = &mut self.state
                    && up.session.number == session
                {
                    up.intakes[queue].switched(consumer, prefetch);
                    self.horizon.borrow_mut().moved_at = self.clock.now().at;
                }
            }
            Note::Copied { session, handle } if current == Some(session) => self.copied(handle),
            Note::FollowedUp { session, handle } if current == Some(session) => self.followed_up(handle),
            Note::Passed { session, queue, tag } if current == Some(session) => self.passed(queue, tag),
            Note::Copied { .. } | Note::FollowedUp { .. } | Note::Passed { .. } => {}
        }
    }

    fn up(&mut self, built: Built) {
        let now = self.clock.now().at;
        let setups = self.attachment.as_ref().map(|attachment| attachment.queues.clone()).unwrap_or_default();
        let parts = setups.into_iter().zip(built.channels).zip(&self.credits);
        let intakes = parts.map(|((setup, channel), credit)| Intake::new(setup, channel, *credit)).collect();
        let session = built.session;
        let store = Store { session: Rc::clone(&session), notes: self.notes.clone(), stuck: Rc::clone(&self.stuck) };
        self.state = State::Up(Box::new(Up {
            session,
            store,
            intakes,
            open: HashMap::new(),
            moving: Vec::new(),
            tasks: JoinSet::new(),
            lease: None,
            sending: FuturesUnordered::new(),
            since: now,
        }));
        self.horizon.borrow_mut().session_began(now, self.address.heartbeat());
        if self.attachment.is_some() {
            self.probed = true;
            for queue in built.classic {
                self.tell(Event::Warning(format!(
                    "queue \"{queue}\" is a classic queue; a quorum queue is safer and faster here"
                )));
            }
            self.sessions += 1;
            self.tell(Event::Attached { session: self.sessions });
            self.lease();
        } else {
            self.failures = 0;
        }
        for request in std::mem::take(&mut self.waiting) {
            self.work(request);
        }
    }

    fn not_built(&mut self, error: Error) {
        for request in std::mem::take(&mut self.waiting) {
            refuse(request, &error);
        }
        if self.attachment.is_none() {
            self.state = State::Idle;
        } else if self.sessions == 0 && matches!(error, Error::Refused { .. } | Error::NoSuchQueue { .. }) {
            self.tell(Event::Refused(error.clone()));
            self.state = State::Refused(error);
        } else {
            self.again(error);
        }
    }

    /// Gives the session up.
    pub(super) fn broken(&mut self, cause: &str) {
        let State::Up(mut up) = std::mem::replace(&mut self.state, State::Idle) else { return };
        let now = self.clock.now().at;
        let in_hand: usize = up.intakes.iter().map(|intake| intake.ackers.len()).sum();
        self.horizon.borrow_mut().session_ended(in_hand as u64);
        if self.lease_held.replace(false) {
            self.tell(Event::LeaseLost);
        }
        self.interrupt_survey();
        // Whoever waits for an answer from one of these is told as it is dropped.
        up.tasks.abort_all();
        if now.since(up.since) >= STEADY {
            self.failures = 0;
        }
        let session = Rc::clone(&up.session);
        tokio::task::spawn_local(async move { session.close(HANGING_UP).await });
        if self.attachment.is_some() {
            self.again(self.address.lost(cause));
        }
    }

    fn again(&mut self, error: Error) {
        self.failures = self.failures.saturating_add(1);
        let pause = AGAIN.delay(self.failures);
        // Up to a fifth longer, so that the masters of a fleet do not come all at once.
        let random = std::hash::RandomState::new().build_hasher().finish() % 1024;
        let again_in = pause + pause.mul_f64(random as f64 / 5120.0);
        self.state = State::Waiting { until: self.clock.now().at + again_in, error: error.clone() };
        self.tell(Event::Lost { error, again_in });
    }

    fn sent(&mut self, sent: Sent) {
        let State::Up(up) = &mut self.state else { return };
        if !sent.written {
            return self.broken("the channel of a delivery is closed");
        }
        up.intakes[sent.queue].sending = false;
        self.settled(sent.handles);
    }

    /// These are settled for good; their credit is free.
    pub(super) fn settled(&mut self, handles: Vec<Handle>) {
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

    fn close(&mut self, reply: Option<Reply<()>>) {
        self.closing = Some(Closing { by: self.clock.now().at + CLOSING, reply });
        self.requests.close();
        self.release_lease();
        for queue in 0..self.credits.len() {
            self.credit(QueueIndex(queue), 0);
        }
    }

    fn is_done(&self, closing: &Closing) -> bool {
        match &self.state {
            _ if closing.by <= self.clock.now().at => true,
            State::Up(up) => {
                up.sending.is_empty()
                    && up.open.values().all(|open| !open.settling)
                    && up.intakes.iter().all(|intake| intake.back.is_empty() && !intake.switching)
            }
            // A client's requests may still be served.
            State::Connecting { .. } => self.waiting.is_empty(),
            State::Idle | State::Waiting { .. } | State::Refused(_) => true,
        }
    }

    async fn drop_all(self) {
        if let State::Up(up) = self.state {
            drop(up.tasks);
            up.session.close(HANGING_UP).await;
        }
    }

    async fn hang_up(mut self) {
        if let State::Up(up) = &mut self.state {
            // Submits and the like that are still under way.
            let mut left = std::mem::take(&mut up.tasks);
            let finish = async { while left.join_next().await.is_some() {} };
            let by = self.closing.as_ref().map_or(Duration::ZERO, |closing| closing.by.since(self.clock.now().at));
            let _ = tokio::time::timeout(by, finish).await;
            up.session.close(HANGING_UP).await;
        }
        if let Some(Closing { reply: Some(reply), .. }) = self.closing.take() {
            let _ = reply.send(Ok(()));
        }
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// The cell that says whether we are the scheduler.
    pub(super) fn lease_flag(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.lease_held)
    }

    /// A promise to answer, kept even if the session ends.
    pub(super) fn owed<T>(&self, reply: Reply<T>) -> Owed<T> {
        Owed::new(reply, self.address.lost("it ended while the answer was awaited"))
    }
}

/// Answers a request that cannot be done.
fn refuse(request: Request, error: &Error) {
    match request {
        Request::Submit { reply, .. } => drop(reply.send(Err(error.clone()))),
        Request::Depths { reply, .. } => drop(reply.send(Err(error.clone()))),
        Request::WalkDead { reply, .. } => drop(reply.send(Err(error.clone()))),
        _ => {}
    }
}
