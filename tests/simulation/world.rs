//! One history: the core, its children, its transport and the people around it, in virtual time.
//!
//! Time jumps to the next happening or to the core's own deadline. The checks stand beside what they check:
//! those on actions in `actions`, those on time passing in `watch`, those on settlements in `ledger`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use asynctask::{
    clock::{Instant, Now, Timestamp},
    error::Code,
    master::{
        Core, Passed,
        core::event::{Action, Event, WorkerId},
    },
    transport,
};

use super::{
    broker::{Broker, Effect, Message, Next, Place},
    child::{Act, Child},
    dice::Dice,
    keys::Keys,
    ledger::Ledger,
    orders::SETTLED,
    settings::Settings,
    watch::Watch,
};

/// A history longer than this in events or in virtual time will not end by itself.
const MOST_EVENTS: u32 = 60_000;
/// An unavailable queue is not tried again sooner: what never gets well must not fill a history.
const SHORTEST_TROUBLE: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_hours(4);

/// What is going to happen.
#[derive(Debug)]
pub(crate) enum Happening {
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
    Lose,
    /// A queue cannot be worked any more; it is tried again.
    Trouble,
    Retry(usize),
    Order,
    Reload,
    ResumeAll,
    Measured(WorkerId, u64),
    Restore,
    Stop,
    HaltLimit,
    Pause,
}

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) core: Core,
    pub(crate) dice: Dice,
    pub(crate) broker: Broker,
    pub(crate) ledger: Ledger,
    pub(crate) keys: Keys,
    pub(crate) children: BTreeMap<WorkerId, Child>,
    pub(crate) watch: Watch,
    /// The master's running time: what it does not notice of its pauses is in it.
    pub(crate) now: Duration,
    /// Pauses that it noticed.
    pub(crate) lost: Duration,
    /// Whose limits have passed, while they are judged.
    pub(crate) judged: Option<Passed>,
    pub(crate) agenda: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    pub(crate) tokens: u64,
    /// Channels keep their order.
    pub(crate) last_told: Duration,
    pub(crate) last_asked: Duration,
    last_id: Option<String>,
    pub(crate) stops: u32,
    pub(crate) halted: Option<Code>,
    /// The last of what happened, if anybody wants to read it.
    pub(crate) trace: Option<VecDeque<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let settings = Settings::draw(seed);
        Self {
            core: Core::new(settings.plan.clone()),
            dice: Dice::new(!seed),
            broker: Broker::new(
                &settings.plan,
                settings.queues.iter().map(|queue| queue.settings.name.clone()).collect(),
                &settings.transport,
            ),
            ledger: Ledger { is_forgetful: settings.plan.remember.is_none(), ..Ledger::default() },
            keys: Keys::default(),
            children: BTreeMap::new(),
            watch: Watch::new(&settings),
            now: Duration::ZERO,
            lost: Duration::ZERO,
            judged: None,
            agenda: BTreeMap::new(),
            sequence: 0,
            tokens: 0,
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
        Now { at: self.at(), wall: Timestamp(1_700_000_000_000).plus(self.now + self.lost) }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.now >= self.settings.calm_at
    }

    pub(crate) fn after(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((self.now + delay, self.sequence), happening);
    }

    pub(crate) fn acts(&mut self, worker: WorkerId, acts: Vec<(Duration, Act)>) {
        for (delay, act) in acts {
            self.after(delay, Happening::Child { worker, act });
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
        self.set_out();
        self.feed(Event::Begun)?;
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
            } else if let Some((_, happening)) = self.agenda.pop_first() {
                self.happen(happening)?;
            }
            if self.halted.is_none() {
                self.pump();
                self.check_moment()?;
            }
        }
        Err("the run has not ended in many events".to_owned())
    }

    fn set_out(&mut self) {
        let calm = self.settings.calm_at;
        for _ in 0..self.settings.arrivals {
            let late = self.dice.chance(600);
            let at = if late {
                Duration::from_micros(self.dice.between(0, calm.as_micros() as u64))
            } else {
                Duration::ZERO
            };
            self.after(at, Happening::Arrive);
        }
        for at in self.settings.stops.clone() {
            self.after(at, Happening::Stop);
        }
        if let Some(at) = self.settings.halt_limit {
            self.after(at, Happening::HaltLimit);
        }
        // A run that nothing else ends is ended by somebody.
        if !self.settings.plan.halt_when_empty {
            let last = if self.settings.orders + self.settings.reloads > 0 {
                SETTLED + Duration::from_secs(1)
            } else {
                Duration::from_secs(40)
            };
            self.after(calm + last, Happening::Stop);
        }
        for _ in 0..self.settings.orders {
            let at = Duration::from_micros(self.dice.between(0, calm.as_micros() as u64));
            self.after(at, Happening::Order);
        }
        for _ in 0..self.settings.reloads {
            let at = Duration::from_micros(self.dice.between(0, calm.as_micros() as u64));
            self.after(at, Happening::Reload);
        }
        if self.settings.reloads > 0 {
            self.after(calm, Happening::Reload);
        }
        if let Some(troubles) = self.settings.transport.troubles {
            let first = self.dice.micros(troubles);
            self.after(first, Happening::Trouble);
        }
        for _ in 0..self.settings.pauses {
            let at = Duration::from_micros(self.dice.between(0, calm.as_micros() as u64));
            self.after(at, Happening::Pause);
        }
        self.after(calm, Happening::ResumeAll);
        let first = self.dice.micros(self.settings.transport.outage);
        self.after(first.min(Duration::from_secs(20)), Happening::Restore);
        if self.settings.transport.refuses {
            let error = transport::Error::Refused { uri: "amqp://there".to_owned(), cause: "password".to_owned() };
            self.after(Duration::ZERO, Happening::Tell(transport::Event::Refused(error)));
        }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Tell(event) => {
                self.heard(&event);
                self.feed(Event::Transport(event))
            }
            Happening::Broker { session, effect } => {
                // The worst moment to submit something: between a reading and its answer.
                if matches!(effect, Effect::Survey(_)) && !self.is_calm() && self.dice.chance(200) {
                    let soon = self.dice.micros((1, 100_000));
                    self.after(soon, Happening::Arrive);
                }
                // What is asked of the transport is not lost on the way; what it asks of the broker is.
                let is_asked = matches!(
                    effect,
                    Effect::Credit(..) | Effect::Store(..) | Effect::Lock(_) | Effect::Add(..) | Effect::LetGo(_)
                );
                if self.is_stuck() && matches!(effect, Effect::Store(..)) {
                    return Ok(());
                }
                if is_asked || (session == self.broker.session && self.broker.is_up) {
                    // Another master may have the key.
                    self.broker.elsewhere = if self.is_calm() { 0 } else { self.settings.transport.elsewhere };
                    self.broker.unstorable = if self.is_calm() { 0 } else { self.settings.transport.unstorable };
                    let next = self.broker.effect(effect, self.now, &mut self.dice);
                    self.follow(next);
                }
                Ok(())
            }
            Happening::Due(number) => {
                if let Some(message) = self.broker.messages.get_mut(&number)
                    && message.place == Place::Delayed
                {
                    message.place = Place::Ready;
                }
                Ok(())
            }
            Happening::Child { worker, act } => self.child_acts(worker, act),
            Happening::Arrive => {
                self.arrive();
                Ok(())
            }
            Happening::Lose => {
                self.lose();
                Ok(())
            }
            Happening::Trouble => {
                self.trouble();
                Ok(())
            }
            Happening::Retry(index) => {
                self.retry(index);
                Ok(())
            }
            Happening::Restore => {
                if !self.settings.transport.refuses {
                    let (event, decided) = self.broker.restore();
                    self.tell(event);
                    for event in self.broker.join_waiting() {
                        self.tell(event);
                    }
                    self.follow(decided.into_iter().map(Next::Then).collect());
                    if let Some(losses) = self.settings.transport.losses {
                        let after = self.dice.micros(losses);
                        self.after(after, Happening::Lose);
                    }
                }
                Ok(())
            }
            Happening::Order => self.order(),
            Happening::Reload => self.reload(),
            Happening::ResumeAll => self.resume_all(),
            Happening::Measured(worker, bytes) => self.feed(Event::Measured { worker, bytes }),
            Happening::Stop => {
                if !self.is_stuck() {
                    self.check_converged()?;
                }
                self.stops += 1;
                self.watch.stop_asked(self.now);
                self.feed(Event::StopAsked)
            }
            Happening::Pause => {
                self.pause();
                Ok(())
            }
            Happening::HaltLimit => {
                self.watch.stopping(self.now);
                self.feed(Event::HaltTimedOut)
            }
        }
    }

    fn lose(&mut self) {
        if self.is_calm() || !self.broker.is_up {
            return;
        }
        let outage = self.dice.micros(self.settings.transport.outage);
        let (event, back) = self.broker.lose(outage);
        self.tell(event);
        for number in back {
            let delay = self.dice.micros(self.settings.transport.return_delay);
            self.after(delay, Happening::Due(number));
        }
        self.after(outage, Happening::Restore);
    }

    /// One queue is in trouble, perhaps.
    fn trouble(&mut self) {
        let Some(troubles) = self.settings.transport.troubles.filter(|_| !self.is_calm()) else { return };
        if let Some((event, back)) = self.broker.fail(&mut self.dice) {
            self.tell(event);
            for number in back {
                let delay = self.dice.micros(self.settings.transport.return_delay);
                self.after(delay, Happening::Due(number));
            }
        }
        let next = self.dice.micros(troubles);
        self.after(next, Happening::Trouble);
    }

    fn retry(&mut self, index: usize) {
        let mends = self.settings.transport.mends && (self.is_calm() || self.dice.chance(600));
        if let Some(event) = self.broker.retry(index, mends) {
            self.tell(event);
        }
    }

    fn arrive(&mut self) {
        let weather = &self.settings.transport;
        let queues = self.settings.queues.len() as u64;
        let serial = self.dice.next() >> 40;
        let mut id = Some(format!("task-{serial}"));
        if self.dice.chance(weather.nameless) {
            id = None;
        } else if self.dice.chance(weather.twins) && self.last_id.is_some() {
            id.clone_from(&self.last_id);
        }
        let key = if self.dice.chance(weather.keyless) { "null".to_owned() } else { self.dice.small(0, 2).to_string() };
        let body = if self.dice.chance(weather.nonsense) {
            // Two of one id and one body could not be told apart.
            format!("not JSON {serial}")
        } else {
            format!("{{\"n\":{serial},\"k\":{key}}}")
        };
        let soon = Duration::from_millis(self.dice.between(0, 3_000));
        let expires_at = self.dice.chance(weather.expiring).then(|| self.clock().wall.plus(soon));
        let deliveries = if self.dice.chance(weather.worn) { self.dice.small(1, 22) } else { 0 };
        self.last_id.clone_from(&id);
        let origin = 1_000_000 + u64::from(self.dice.small(0, u32::MAX));
        let queue = self.dice.between(0, queues - 1) as usize;
        let came_at = Some(self.now);
        let message = Message {
            origin,
            queue,
            id,
            body: body.into_bytes(),
            attempts: 0,
            deliveries,
            redelivered: deliveries > 0,
            uncounted: false,
            expires_at,
            place: Place::Ready,
            came_at,
        };
        self.watch.origins.push(origin);
        self.broker.put(message);
    }

    /// Lets the transport deliver what the credit allows.
    fn pump(&mut self) {
        for event in self.broker.let_go() {
            self.tell(event);
        }
        let deliveries = self.broker.pump(&mut self.dice);
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            let message =
                self.broker.messages.iter().find(|(_, message)| message.place == Place::InHand(delivery.handle));
            let (number, message) = message.expect("a delivered message is in hand");
            self.ledger.delivered(*number, message, &delivery);
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
    fn tell(&mut self, event: transport::Event) {
        if let transport::Event::QueueUnavailable { queue, .. } = &event {
            let pause = self.dice.micros(self.settings.transport.trouble).max(SHORTEST_TROUBLE);
            self.after(pause, Happening::Retry(queue.0));
        }
        let latency = self.dice.micros(self.settings.transport.latency);
        self.last_told = self.last_told.max(self.now + latency);
        self.after(self.last_told.saturating_sub(self.now), Happening::Tell(event));
    }

    /// Asks the transport, after what was asked before.
    pub(crate) fn ask(&mut self, effect: Effect) {
        let latency = self.dice.micros(self.settings.transport.latency);
        self.last_asked = self.last_asked.max(self.now + latency);
        let session = self.broker.session;
        self.after(self.last_asked.saturating_sub(self.now), Happening::Broker { session, effect });
    }

    fn follow(&mut self, next: Vec<Next>) {
        for next in next {
            match next {
                Next::Tell(event) => self.tell(event),
                Next::Due(number, delay) => self.after(delay, Happening::Due(number)),
                Next::Then(effect) => {
                    let mut delay = self.dice.micros(self.settings.transport.latency);
                    if matches!(effect, Effect::Answer(_)) {
                        delay += self.dice.micros((0, 600_000));
                    }
                    let session = self.broker.session;
                    self.after(delay, Happening::Broker { session, effect });
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
        self.counts_after(before);
        for action in actions {
            match &action {
                Action::Send { worker, frame } => self.note("    < Send", &(worker, String::from_utf8_lossy(frame))),
                action => self.note("    <", action),
            }
            self.perform(action)?;
        }
        for event in std::mem::take(&mut self.watch.pending) {
            self.feed(event)?;
        }
        Ok(())
    }
}
