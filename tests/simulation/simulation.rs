//! One history: the core, its children, its transport and the people around it, in virtual time.
//!
//! Time jumps to the next step or to the core's own deadline. The checks stand beside what they check:
//! those on actions in `actions`, those on time passing in `observer`, those on settlements in `ledger`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use asynctask::{
    clock::{Instant, Now},
    exit_code::Code,
    master::{
        Core, Passed,
        core::event::{Action, Event, WorkerId},
    },
    transport,
};

use super::{
    broker::{Broker, Effect, Message, Next, Place},
    celery_queues::Told,
    child::{Act, Beside, Child},
    keys::Keys,
    ledger::Ledger,
    observer::Observer,
    operator::SETTLED,
    parked_before::BEGINNING,
    rng::Rng,
    settings::Settings,
};

/// A history longer than this in events or in virtual time will not end by itself.
const MOST_EVENTS: u32 = 60_000;
/// An unavailable queue is not tried again sooner: what never gets well must not fill a history.
const SHORTEST_OUTAGE: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_hours(4);

/// What is going to happen.
#[derive(Debug)]
pub(crate) enum Step {
    Tell(transport::Event),
    Broker {
        session: u32,
        effect: Effect,
    },
    /// A message's delay is over.
    Due(u64),
    Child {
        worker: WorkerId,
        act: Act,
    },
    Arrive,
    /// So many tasks come to one queue.
    Burst(usize, u32),
    Lose,
    /// A queue cannot be worked any more; it is tried again.
    QueueFault,
    Retry(usize),
    Command,
    /// Somebody cancels a task that was sent ahead.
    CancelBehind,
    Reload,
    ResumeAll,
    Measured(WorkerId, u64),
    Restore,
    Stop,
    HaltLimit,
    Pause,
    /// A job is stopped; a frozen one is thawed.
    StopJob,
    Thaw(String),
}

pub(crate) struct Simulation {
    pub(crate) settings: Settings,
    pub(crate) core: Core,
    pub(crate) rng: Rng,
    pub(crate) broker: Broker,
    pub(crate) ledger: Ledger,
    pub(crate) keys: Keys,
    pub(crate) children: BTreeMap<WorkerId, Child>,
    pub(crate) observer: Observer,
    /// The master's running time: what it does not notice of its pauses is in it.
    pub(crate) now: Duration,
    /// Pauses that it noticed.
    pub(crate) lost: Duration,
    /// Whose limits have passed, while they are judged.
    pub(crate) judged: Option<Passed>,
    pub(crate) agenda: BTreeMap<(Duration, u64), Step>,
    sequence: u64,
    events: u64,
    pub(crate) tokens: u64,
    /// The time of what a worker does on its own side of the socket, also while the master does not run.
    pub(crate) beside: Option<Duration>,
    /// Channels keep their order.
    pub(crate) last_told: Duration,
    pub(crate) last_asked: Duration,
    last_id: Option<String>,
    pub(crate) stops: u32,
    pub(crate) halted: Option<Code>,
    /// The last of what happened, if anybody wants to read it.
    pub(crate) trace: Option<VecDeque<String>>,
}

impl Simulation {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let settings = Settings::draw(seed);
        let mut core = Core::new(settings.plan.clone());
        core.begin_with_parked(settings.parked_before.clone());
        let names = settings.queues.iter().map(|queue| queue.settings.name.clone()).collect();
        let mut broker = Broker::new(&settings.plan, names, &settings.transport);
        broker.removes_void = settings.jobs.as_ref().is_some_and(|jobs| jobs.removes_void);
        Self {
            core,
            rng: Rng::new(!seed),
            broker,
            ledger: Ledger { is_forgetful: settings.plan.remember.is_none(), ..Ledger::default() },
            keys: Keys::default(),
            children: BTreeMap::new(),
            observer: Observer::new(&settings),
            now: Duration::ZERO,
            lost: Duration::ZERO,
            judged: None,
            agenda: BTreeMap::new(),
            sequence: 0,
            events: 0,
            tokens: 0,
            beside: None,
            last_told: Duration::ZERO,
            last_asked: Duration::ZERO,
            last_id: None,
            stops: 0,
            halted: None,
            trace: traced.then(VecDeque::new),
            settings,
        }
    }

    pub(crate) fn at(&self) -> Instant {
        Instant::from_start(self.now)
    }

    pub(crate) fn clock(&self) -> Now {
        Now { at: self.at(), wall: BEGINNING.plus(self.now + self.lost) }
    }

    pub(crate) fn faults_are_over(&self) -> bool {
        self.now >= self.settings.faults_end_at
    }

    pub(crate) fn after(&mut self, delay: Duration, step: Step) {
        self.sequence += 1;
        self.agenda.insert((self.beside.unwrap_or(self.now) + delay, self.sequence), step);
    }

    pub(crate) fn acts(&mut self, worker: WorkerId, acts: Vec<(Duration, Act)>) {
        let has_line = self.children.get(&worker).is_some_and(|child| child.line.is_some());
        for (delay, act) in acts {
            let act = if has_line && act.is_heard() { Act::Beside(Beside::Write(Box::new(act))) } else { act };
            self.after(delay, Step::Child { worker, act });
        }
    }

    pub(crate) fn note(&mut self, what: &str, value: &dyn std::fmt::Debug) {
        let now = self.now.as_secs_f64();
        if let Some(trace) = &mut self.trace {
            let mut line = format!("{now:>12.6} {what} {value:?}");
            if line.len() > 420 {
                line = line.chars().take(420).collect();
            }
            trace.push_back(line);
            while trace.len() > 60 {
                trace.pop_front();
            }
        }
    }

    /// Runs the history to its end.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.fill_agenda();
        self.feed(Event::Begun)?;
        self.check_begun_parked()?;
        let mut deadlines_now = 0;
        for _ in 0..MOST_EVENTS {
            if self.halted.is_some() {
                return self.after_halt();
            }
            let deadline = self.core.next_deadline().map(Instant::since_start);
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let is_behind = self.is_behind();
            let at = match (deadline, next) {
                (_, Some(next)) if is_behind => next,
                (Some(deadline), Some(next)) => deadline.min(next),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => return Err("nothing will ever happen again, and the run has not ended".to_owned()),
            };
            if at > LONGEST {
                return Err(format!("the run has not ended in {} h", LONGEST.as_secs() / 3600));
            }
            deadlines_now = if at > self.now { 0 } else { deadlines_now };
            self.now = self.now.max(at);
            // What came in a pause is taken first, as the shell does.
            if !is_behind && deadline.is_some_and(|deadline| deadline <= at) {
                deadlines_now += 1;
                if deadlines_now > 200 {
                    return Err("deadlines pass without end at one moment".to_owned());
                }
                self.judged = Some(self.core.limits_passed(self.at()));
                self.feed(Event::DeadlinePassed)?;
                self.judged = None;
                if self.core.next_deadline().is_some_and(|next| next < self.at()) && self.halted.is_none() {
                    return Err("a deadline in the past is left".to_owned());
                }
            } else if let Some(((at, _), step)) = self.agenda.pop_first() {
                self.perform_step(at, step)?;
            }
            if self.halted.is_none() {
                self.pump();
                self.check_moment()?;
            }
        }
        Err("the run has not ended in many events".to_owned())
    }

    fn fill_agenda(&mut self) {
        let faults_end_at = self.settings.faults_end_at;
        for _ in 0..self.settings.arrivals {
            let late = self.rng.chance(600);
            let at = if late {
                Duration::from_micros(self.rng.between(0, faults_end_at.as_micros() as u64))
            } else {
                Duration::ZERO
            };
            self.after(at, Step::Arrive);
        }
        if let Some(queue) = self.settings.short_queue() {
            for (at, count) in self.settings.bursts.clone() {
                self.after(at, Step::Burst(queue, count));
            }
        }
        for at in self.settings.stops.clone() {
            self.after(at, Step::Stop);
        }
        if let Some(at) = self.settings.halt_limit {
            self.after(at, Step::HaltLimit);
        }
        // A run that nothing else ends is ended by somebody.
        if !self.settings.plan.halt_when_empty {
            let last = if self.settings.commands + self.settings.reloads > 0 {
                SETTLED + Duration::from_secs(1)
            } else {
                Duration::from_secs(40)
            };
            self.after(faults_end_at + last, Step::Stop);
        }
        for _ in 0..self.settings.commands {
            let at = Duration::from_micros(self.rng.between(0, faults_end_at.as_micros() as u64));
            self.after(at, Step::Command);
        }
        for _ in 0..self.settings.reloads {
            let at = Duration::from_micros(self.rng.between(0, faults_end_at.as_micros() as u64));
            self.after(at, Step::Reload);
        }
        if self.settings.reloads > 0 {
            self.after(faults_end_at, Step::Reload);
        }
        if let Some(queue_faults) = self.settings.transport.queue_faults {
            let first = self.rng.micros(queue_faults);
            self.after(first, Step::QueueFault);
        }
        for _ in 0..self.settings.pauses {
            let at = Duration::from_micros(self.rng.between(0, faults_end_at.as_micros() as u64));
            self.after(at, Step::Pause);
        }
        self.after(faults_end_at, Step::ResumeAll);
        for _ in 0..self.settings.jobs.as_ref().map_or(0, |jobs| jobs.stops) {
            let at = Duration::from_micros(self.rng.between(0, faults_end_at.as_micros() as u64));
            self.after(at, Step::StopJob);
        }
        if self.settings.jobs.is_some() {
            for (at, _) in self.settings.bursts.clone() {
                for _ in 0..3 {
                    let soon = self.rng.micros((0, 500_000));
                    self.after(at + soon, Step::StopJob);
                }
            }
        }
        let first = self.rng.micros(self.settings.transport.outage);
        self.after(first.min(Duration::from_secs(20)), Step::Restore);
        if self.settings.transport.refuses {
            let error = transport::Error::Refused { uri: "amqp://there".to_owned(), cause: "password".to_owned() };
            self.after(Duration::ZERO, Step::Tell(transport::Event::Refused(error)));
        }
    }

    fn perform_step(&mut self, at: Duration, step: Step) -> Result<(), String> {
        match step {
            Step::Tell(event) => {
                self.heard(&event);
                self.feed(Event::Transport(event))
            }
            Step::Broker { session, effect } => {
                // The worst moment to submit something: between a reading and its answer.
                if matches!(effect, Effect::Survey(_)) && !self.faults_are_over() && self.rng.chance(200) {
                    let soon = self.rng.micros((1, 100_000));
                    self.after(soon, Step::Arrive);
                }
                // What is asked of the transport is not lost on the way; what it asks of the broker is.
                let is_asked = matches!(
                    effect,
                    Effect::Credit(..) | Effect::Store(..) | Effect::Lock(_) | Effect::Add(..) | Effect::RemoveQueue(_)
                );
                if self.is_stuck() && matches!(effect, Effect::Store(..)) {
                    return Ok(());
                }
                if is_asked || (session == self.broker.session && self.broker.is_up) {
                    // Another master may have the key.
                    self.broker.keys_held_elsewhere =
                        if self.faults_are_over() { 0 } else { self.settings.transport.keys_held_elsewhere };
                    self.broker.unstorable =
                        if self.faults_are_over() { 0 } else { self.settings.transport.unstorable };
                    let next = self.broker.effect(effect, self.now, &mut self.rng);
                    self.follow(next);
                }
                Ok(())
            }
            Step::Due(number) => {
                if let Some(message) = self.broker.messages.get_mut(&number)
                    && message.place == Place::Delayed
                {
                    message.place = Place::Ready;
                }
                Ok(())
            }
            Step::Child { worker, act: Act::Beside(act) } => {
                self.beside = Some(at);
                self.line_acts(worker, act);
                self.beside = None;
                Ok(())
            }
            Step::Child { worker, act } => self.child_acts(worker, act),
            Step::Arrive => {
                let queues = self.settings.queues.len() as u64;
                let queue = self.rng.between(0, queues - 1) as usize;
                self.arrive(queue);
                Ok(())
            }
            Step::Burst(queue, count) => {
                (0..count).for_each(|_| self.arrive(queue));
                Ok(())
            }
            Step::Lose => {
                self.lose();
                Ok(())
            }
            Step::QueueFault => {
                self.fail_queue();
                Ok(())
            }
            Step::Retry(index) => {
                self.retry(index);
                Ok(())
            }
            Step::Restore => {
                if !self.settings.transport.refuses {
                    let (event, decided) = self.broker.restore();
                    self.tell(event);
                    for event in self.broker.join_waiting() {
                        self.tell(event);
                    }
                    self.follow(decided.into_iter().map(Next::Then).collect());
                    if let Some(losses) = self.settings.transport.losses {
                        let after = self.rng.micros(losses);
                        self.after(after, Step::Lose);
                    }
                }
                Ok(())
            }
            Step::Command => self.order(),
            Step::CancelBehind => self.cancel_behind(),
            Step::Reload => self.reload(),
            Step::ResumeAll => self.resume_all(),
            Step::Measured(worker, bytes) => self.feed(Event::Measured { worker, bytes }),
            Step::Stop => {
                if !self.is_stuck() {
                    self.check_converged()?;
                }
                self.stops += 1;
                self.observer.stop_asked(self.now);
                self.feed(Event::StopAsked)
            }
            Step::Pause => {
                self.pause();
                Ok(())
            }
            Step::StopJob => {
                self.stop_job();
                Ok(())
            }
            Step::Thaw(job) => {
                self.broker.frozen.remove(&job);
                Ok(())
            }
            Step::HaltLimit => {
                self.observer.stopping(self.now);
                self.feed(Event::HaltTimedOut)
            }
        }
    }

    fn lose(&mut self) {
        if self.faults_are_over() || !self.broker.is_up {
            return;
        }
        let outage = self.rng.micros(self.settings.transport.outage);
        let (event, back) = self.broker.lose(outage);
        self.tell(event);
        for number in back {
            let delay = self.rng.micros(self.settings.transport.return_delay);
            self.after(delay, Step::Due(number));
        }
        self.after(outage, Step::Restore);
    }

    /// One queue is in trouble, perhaps.
    fn fail_queue(&mut self) {
        let Some(queue_faults) = self.settings.transport.queue_faults.filter(|_| !self.faults_are_over()) else {
            return;
        };
        if let Some((event, back)) = self.broker.fail(&mut self.rng) {
            self.tell(event);
            for number in back {
                let delay = self.rng.micros(self.settings.transport.return_delay);
                self.after(delay, Step::Due(number));
            }
        }
        let next = self.rng.micros(queue_faults);
        self.after(next, Step::QueueFault);
    }

    fn retry(&mut self, index: usize) {
        let queues_recover = self.settings.transport.queues_recover && (self.faults_are_over() || self.rng.chance(600));
        if let Some(event) = self.broker.retry(index, queues_recover) {
            self.tell(event);
        }
    }

    fn arrive(&mut self, queue: usize) {
        let faults = &self.settings.transport;
        let serial = self.rng.next() >> 40;
        let mut id = Some(format!("task-{serial}"));
        if self.rng.chance(faults.without_id) {
            id = None;
        } else if self.rng.chance(faults.duplicate_ids) && self.last_id.is_some() {
            id.clone_from(&self.last_id);
        }
        let key = if self.rng.chance(faults.without_key) {
            "null".to_owned()
        } else {
            let is_short = self.settings.short_queue() == Some(queue);
            self.rng.between_u32(0, if is_short { 10_000 } else { 2 }).to_string()
        };
        let is_malformed = self.rng.chance(faults.malformed_bodies);
        let told = Told::draw(&self.settings, queue, serial, &mut self.rng);
        let faults = &self.settings.transport;
        let body = if is_malformed {
            // Two of one id and one body could not be told apart.
            format!("not JSON {serial}")
        } else if let Some(told) = &told {
            told.body(serial, &key)
        } else {
            format!("{{\"n\":{serial},\"k\":{key}}}")
        };
        let soon = Duration::from_millis(self.rng.between(0, 3_000));
        let expires_at = self.rng.chance(faults.expiring).then(|| self.clock().wall.plus(soon));
        let deliveries = if self.rng.chance(faults.often_delivered) { self.rng.between_u32(1, 22) } else { 0 };
        self.last_id.clone_from(&id);
        let origin = 1_000_000 + u64::from(self.rng.between_u32(0, u32::MAX));
        let came_at = Some(self.now);
        let membership = if told.is_none() { self.draw_place(queue) } else { None };
        let message = Message {
            origin,
            queue,
            id,
            body: body.into_bytes(),
            attempts: 0,
            deliveries,
            redelivered: deliveries > 0,
            uncounted: false,
            headers: asynctask::task::Headers::default(),
            first_failed_at: None,
            expires_at,
            place: Place::Ready,
            came_at,
            told,
            membership,
        };
        self.observer.origins.push(origin);
        self.broker.put(message);
    }

    /// Lets the transport deliver what the credit allows.
    fn pump(&mut self) {
        for event in self.broker.remove_idle_queues() {
            self.tell(event);
        }
        let deliveries = self.broker.pump(&mut self.rng);
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            let number = self.broker.handles[&delivery.handle];
            let message = &self.broker.messages[&number];
            self.ledger.delivered(number, message, &delivery);
            if message.uncounted { &mut again } else { &mut fresh }.push(delivery);
        }
        if !again.is_empty() {
            self.tell(transport::Event::CameAgain(again));
        }
        if !fresh.is_empty() {
            self.tell(transport::Event::Delivered(fresh));
        }
    }

    /// Has an event told, after those before it.
    pub(crate) fn tell(&mut self, event: transport::Event) {
        if let transport::Event::QueueUnavailable { queue, .. } = &event {
            let pause = self.rng.micros(self.settings.transport.queue_outage).max(SHORTEST_OUTAGE);
            self.after(pause, Step::Retry(queue.0));
        }
        let latency = self.rng.micros(self.settings.transport.latency);
        self.last_told = self.last_told.max(self.now + latency);
        self.after(self.last_told.saturating_sub(self.now), Step::Tell(event));
    }

    /// Asks the transport, after what was asked before.
    pub(crate) fn ask(&mut self, effect: Effect) {
        let latency = self.rng.micros(self.settings.transport.latency);
        self.last_asked = self.last_asked.max(self.now + latency);
        let session = self.broker.session;
        self.after(self.last_asked.saturating_sub(self.now), Step::Broker { session, effect });
    }

    fn follow(&mut self, next: Vec<Next>) {
        for next in next {
            match next {
                Next::Tell(event) => self.tell(event),
                Next::Due(number, delay) => self.after(delay, Step::Due(number)),
                Next::Then(effect) => {
                    let mut delay = self.rng.micros(self.settings.transport.latency);
                    if matches!(effect, Effect::Answer(_)) {
                        delay += self.rng.micros((0, 600_000));
                    }
                    let session = self.broker.session;
                    self.after(delay, Step::Broker { session, effect });
                }
            }
        }
    }

    /// Gives an event to the core and performs what it asks for.
    pub(crate) fn feed(&mut self, event: Event) -> Result<(), String> {
        self.note(">", &event);
        let mut actions: Vec<Action> = Vec::new();
        let clock = self.clock();
        let before = self.counts_before(&event);
        self.core.handle(clock, event, &mut actions);
        // A debug build looks at a small core after each event by itself.
        self.events += 1;
        if !cfg!(debug_assertions) || self.events.is_multiple_of(8) {
            self.core.invariants()?;
        }
        self.counts_after(before);
        for action in actions {
            match &action {
                Action::Send { worker, frame } => self.note("    < Send", &(worker, String::from_utf8_lossy(frame))),
                action => self.note("    <", action),
            }
            self.perform(action)?;
        }
        for event in std::mem::take(&mut self.observer.pending) {
            self.feed(event)?;
        }
        Ok(())
    }
}
