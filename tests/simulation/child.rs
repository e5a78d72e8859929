//! Worker processes: what they do once started, handed a task, told to halt, or signalled. All of them may
//! misbehave; a killed one dies soon, but not at once.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use asynctask::{
    clock::Instant,
    frames::{FromWorker, PROTOCOL, Ready, Wants, celery::Application},
    logging::Level,
    outcome::{FollowUp, Report, Target},
    task::{Exit, Handle, Task},
};

use super::{
    celery::Telling,
    jobs::of_member,
    line::{Line, Received},
    rng::Rng,
    settings::Settings,
};

/// Microseconds of work where tasks are short, and of a long one among them.
const SHORT_WORK: (u64, u64) = (20, 900);
const LONG_WORK: (u64, u64) = (5_200, 25_000);

/// One process.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a record of what was seen, not a state machine")]
pub(crate) struct Child {
    pub(crate) queue: usize,
    /// Of its slot.
    pub(crate) name: String,
    /// Of that slot.
    pub(crate) number: u32,
    /// It was started for one task, and is judged by its exit status.
    pub(crate) is_once: bool,
    /// What was started.
    pub(crate) launch: usize,
    pub(crate) spawned_at: Instant,
    pub(crate) ready: bool,
    pub(crate) seats: usize,
    /// What it says of itself when it is ready.
    pub(crate) announced: Announced,
    /// What it tells of the Celery application that it runs, if it does.
    pub(crate) application: Option<Application>,
    /// Whether its queue was Celery's when it was started.
    pub(crate) is_of_celery: bool,
    /// The lost task whose result it is to store.
    pub(crate) telling: Option<Telling>,
    /// What the master has sent and has heard no end of. Those beyond its seats are sent ahead.
    pub(crate) hands: Vec<Hand>,
    /// Its own side of the socket, if it takes tasks ahead.
    pub(crate) line: Option<Line>,
    /// When it was told to give back what it has not begun, and has not answered.
    pub(crate) recalled_at: VecDeque<Instant>,
    /// Tasks behind the one in hand at the last recall.
    pub(crate) asked_back: usize,
    /// It left a recall unanswered for too long.
    pub(crate) ignored_recall: bool,
    /// Outcomes that it told.
    pub(crate) told: u64,
    pub(crate) killed_at: Option<Instant>,
    /// It broke the protocol, and the core was told.
    pub(crate) faulted: bool,
    pub(crate) hung_up: bool,
    pub(crate) said_bye: bool,
    /// It goes when its hands are empty.
    pub(crate) leaving: bool,
    /// It was asked to leave, whether it heard or not.
    pub(crate) dismissed: bool,
    /// Since when it is to leave and holds nothing.
    pub(crate) spare_since: Option<Instant>,
    /// It got a SIGTERM.
    pub(crate) interrupted: bool,
    /// It was killed for the sake of a cancelled task.
    pub(crate) cancelled: bool,
    /// It does nothing since then, nor hears anything but SIGKILL.
    pub(crate) frozen_at: Option<Instant>,
    /// When it was asked whether it listens, and since then neither answered nor got a task.
    pub(crate) pinged_at: Option<Instant>,
    /// Hears SIGKILL alone.
    pub(crate) deaf: bool,
    /// It is dead since then, and what it left is being ended.
    pub(crate) dead_at: Option<Instant>,
}

/// A task in its hands.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    /// Names this run of a task among all.
    pub(crate) token: u64,
    pub(crate) handle: Handle,
    /// The number of its message.
    pub(crate) message: u64,
    pub(crate) id: String,
    pub(crate) identity: Option<u64>,
    pub(crate) task: Arc<Task>,
    /// Since when it is in hand and not only sent ahead, as far as the master knows.
    pub(crate) begun_at: Option<Instant>,
    pub(crate) due_at: Option<Instant>,
    /// Its handle was not made void by a lost session.
    pub(crate) held: bool,
    /// Somebody cancelled it.
    pub(crate) cancelled: bool,
    /// It is of a void round, as the core knows.
    pub(crate) dropped: bool,
}

/// What a child does, at its time.
#[derive(Debug)]
pub(crate) enum Act {
    Say(FromWorker),
    /// An outcome of this run, if it still is in its hands.
    Tell(u64, Report),
    Accept(u64),
    /// Says that it has stored the result of the lost task of this id.
    Report(String),
    SendGarbage,
    HangUp,
    Bye,
    /// Stops, if it holds nothing.
    Freeze,
    Exit(Exit),
    /// What it left is gone, or cannot be ended.
    Swept(Exit),
    /// The master hears that these are not begun.
    Return(Vec<String>),
    /// What it does on its own side of the socket.
    Beside(Beside),
}

/// What a child with a line does, of which the master hears later, or never.
#[derive(Debug)]
pub(crate) enum Beside {
    Receive(Received),
    /// Begins the first of its line.
    Begin,
    /// Takes out what it has not begun, and says so.
    Answer,
    /// Does this; the master hears of it once it has read it.
    Write(Box<Act>),
}

impl Act {
    /// Whether the master hears of it through the socket, or from the end of the process after that.
    pub(crate) const fn is_heard(&self) -> bool {
        match self {
            Self::Say(_)
            | Self::Tell(..)
            | Self::Accept(_)
            | Self::Report(_)
            | Self::SendGarbage
            | Self::HangUp
            | Self::Bye
            | Self::Exit(_)
            | Self::Return(_) => true,
            Self::Freeze | Self::Swept(_) | Self::Beside(_) => false,
        }
    }
}

pub(crate) fn signal(name: &str) -> Exit {
    Exit::Signal { signal: name.to_owned(), core_dumped: false }
}

/// What a process says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Announced {
    /// Tasks that it does at once.
    pub(crate) concurrency: u32,
    /// Tasks that it takes beyond those.
    pub(crate) ahead: u32,
}

impl Announced {
    pub(crate) fn draw(ahead: u32, well: bool, rng: &mut Rng) -> Self {
        if ahead == 0 || rng.chance(100) {
            return Self { concurrency: if well { 2 } else { rng.between_u32(0, 3) }, ahead: 0 };
        }
        // One that does several at once has no first task that is the one in hand: what it says of `ahead` counts for nothing.
        let concurrency = if rng.chance(50) { 2 } else { rng.between_u32(0, 1) };
        Self { concurrency, ahead }
    }

    /// Whether it does tasks one after the other, from a line.
    pub(crate) const fn has_line(self) -> bool {
        self.ahead > 0 && self.concurrency <= 1
    }
}

fn ready(protocol: u32, announced: Announced, application: Option<&Application>) -> Act {
    Act::Say(FromWorker::Ready(Ready {
        protocol,
        name: Some("Child".to_owned()),
        concurrency: announced.concurrency,
        ahead: announced.ahead,
        wants: Wants { celery: application.is_some(), ..Wants::default() },
        celery: application.cloned().map(Box::new),
    }))
}

fn outcome_of_a_stranger() -> Act {
    Act::Say(FromWorker::Outcome { id: "a stranger".to_owned(), outcome: Report::DONE })
}

/// What a process does from its start on, while it has no task.
pub(crate) fn born(child: &Child, settings: &Settings, well: bool, rng: &mut Rng) -> Vec<(Duration, Act)> {
    let (worker_faults, announced) = (&settings.worker_faults, child.announced);
    let ready = |protocol| ready(protocol, announced, child.application.as_ref());
    let after = rng.micros(worker_faults.start);
    if well {
        return vec![(after.min(Duration::from_millis(900)), ready(PROTOCOL))];
    }
    if rng.chance(worker_faults.never_ready) {
        return Vec::new();
    }
    if rng.chance(worker_faults.dies_starting) {
        return vec![(after, Act::Exit(any_exit(rng)))];
    }
    if rng.chance(worker_faults.bad_start) {
        let act = match rng.between(0, 5) {
            0 => ready(PROTOCOL + 1),
            1 => outcome_of_a_stranger(),
            2 => Act::SendGarbage,
            3 => Act::HangUp,
            4 => Act::Bye,
            _ => Act::Say(FromWorker::Returned { ids: vec!["x".to_owned()] }),
        };
        let mut acts = vec![(after, act)];
        if rng.chance(500) {
            acts.push((after + rng.micros(worker_faults.dying), Act::Exit(any_exit(rng))));
        }
        return acts;
    }
    let mut acts = vec![(after, ready(PROTOCOL))];
    if rng.chance(300) {
        acts.push((after, Act::Say(FromWorker::Log { level: Level::Info, message: "hello".to_owned() })));
        acts.push((after, Act::Say(FromWorker::Unknown("later".to_owned()))));
    }
    if rng.chance(worker_faults.idle_death) {
        let act = match rng.between(0, 5) {
            0 => Act::Bye,
            1 => Act::HangUp,
            2 => Act::SendGarbage,
            _ => Act::Exit(any_exit(rng)),
        };
        acts.push((after + rng.micros((0, 15_000_000)), act));
    }
    if rng.chance(worker_faults.freezes) {
        acts.push((after + rng.micros((0, 20_000_000)), Act::Freeze));
    }
    acts
}

/// What it does with a ping: the answer comes in time, if it comes at all.
pub(crate) fn pinged(n: u64, limit: Duration, rng: &mut Rng) -> (Duration, Act) {
    let longest = if rng.chance(50) { limit / 10 * 9 } else { Duration::from_millis(50) };
    (rng.micros((20, longest.as_micros() as u64)), Act::Say(FromWorker::Pong { n }))
}

/// What it does with a task that may take so long.
pub(crate) fn work(
    child: &Child,
    token: u64,
    limit: Option<Duration>,
    settings: &Settings,
    well: bool,
    rng: &mut Rng,
) -> Vec<(Duration, Act)> {
    let worker_faults = &settings.worker_faults;
    let workload = settings.workloads[child.queue];
    let mut after = match workload.short_but {
        Some(but) if !rng.chance(but) => rng.micros(SHORT_WORK),
        Some(_) => rng.micros(LONG_WORK),
        None => rng.micros(worker_faults.work),
    };
    // Many tasks, and some must be done between two that do harm.
    let seldom = if workload.short_but.is_some() { 8 } else { 1 };
    if well {
        after = limit.map_or(after, |limit| after.min(limit / 2));
        return vec![(after, Act::Tell(token, Report::DONE))];
    }
    let mut acts = Vec::new();
    if rng.chance(worker_faults.accepts) {
        acts.push((after / 2, Act::Accept(token)));
    }
    if rng.chance(worker_faults.crash / seldom) {
        acts.push((after, Act::Exit(any_exit(rng))));
    } else if rng.chance(worker_faults.exit_zero / seldom) {
        acts.push((after, Act::Exit(Exit::Code { code: 0 })));
    } else if settings.queue(child.queue).timeout.is_some() && rng.chance(worker_faults.hang / seldom) {
        // Nothing ever comes of it.
    } else if rng.chance(worker_faults.fault / seldom) {
        let act = match rng.between(0, 7) {
            0 => outcome_of_a_stranger(),
            1 => {
                acts.push((after, Act::Tell(token, any_outcome(settings, rng))));
                outcome_of_a_stranger()
            }
            2 => ready(PROTOCOL, Announced { concurrency: 1, ahead: 0 }, None),
            3 => Act::Bye,
            4 => Act::SendGarbage,
            5 => Act::HangUp,
            6 => Act::Return(vec!["a stranger".to_owned()]),
            _ => Act::Say(FromWorker::Progress { id: "a stranger".to_owned(), percent: None, note: String::new() }),
        };
        acts.push((after, act));
        // It may go on as if nothing had happened, while it is being killed.
        acts.push((after + Duration::from_micros(50), Act::Tell(token, Report::DONE)));
    } else {
        let mut outcome = any_outcome(settings, rng);
        let is_it = |hand: &Hand| hand.token == token && hand.task.membership.as_ref().is_some_and(|place| !place.wipe);
        if child.hands.iter().any(is_it) {
            outcome = of_member(outcome, rng);
        }
        acts.push((after, Act::Tell(token, outcome)));
    }
    acts
}

fn any_outcome(settings: &Settings, rng: &mut Rng) -> Report {
    let worker_faults = &settings.worker_faults;
    let (error, detail) = ("Oops!".to_owned(), "at line 1".to_owned());
    let delay = Duration::from_millis(rng.pick(&[0, 20, 700, 4_000]));
    if rng.chance(worker_faults.error) {
        Report::Error { error, detail, memo: None }
    } else if rng.chance(worker_faults.retry) {
        Report::Retry { error, delay: rng.chance(500).then_some(delay), memo: None }
    } else if rng.chance(worker_faults.snooze) {
        Report::Snooze { delay, memo: None }
    } else if rng.chance(worker_faults.failed) {
        Report::DeadLetter { error, detail, memo: None }
    } else if rng.chance(worker_faults.malformed) {
        Report::Malformed { error }
    } else if rng.chance(worker_faults.submits) {
        let queue = rng.pick(&["q0", "q1", "q2", "not ours", "elsewhere"]).to_owned();
        let payload = serde_json::value::RawValue::from_string(format!("{{\"n\":{}}}", rng.next())).unwrap();
        Report::Done { submit: vec![FollowUp { target: Target::Queue(queue), payload, delay }], given: None }
    } else {
        Report::DONE
    }
}

pub(crate) fn any_exit(rng: &mut Rng) -> Exit {
    match rng.between(0, 7) {
        0 => Exit::Code { code: 1 },
        1 => Exit::Code { code: 0 },
        2 => signal("SIGKILL"),
        3 => signal("SIGTERM"),
        4 => signal("SIGINT"),
        _ => signal("SIGSEGV"),
    }
}

impl Child {
    pub(crate) fn new(queue: usize, name: String, now: Instant) -> Self {
        let digits = name.trim_end_matches(']').rsplit('[').next();
        let number = digits.and_then(|digits| digits.parse().ok()).unwrap_or_default();
        Self {
            queue,
            name,
            number,
            is_once: false,
            launch: 0,
            spawned_at: now,
            ready: false,
            seats: 0,
            announced: Announced::default(),
            application: None,
            is_of_celery: false,
            telling: None,
            hands: Vec::new(),
            line: None,
            recalled_at: VecDeque::new(),
            asked_back: 0,
            ignored_recall: false,
            told: 0,
            killed_at: None,
            faulted: false,
            hung_up: false,
            said_bye: false,
            leaving: false,
            dismissed: false,
            spare_since: None,
            interrupted: false,
            cancelled: false,
            frozen_at: None,
            pinged_at: None,
            deaf: false,
            dead_at: None,
        }
    }

    /// Whether it takes part in the work of its queue, or is about to.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.dismissed && self.killed_at.is_none() && self.dead_at.is_none()
    }

    /// How many of its hands are begun, as far as the master knows: the rest is sent ahead.
    pub(crate) fn in_hand(&self) -> usize {
        self.hands.len().min(self.seats.max(1))
    }

    /// Tasks sent ahead.
    pub(crate) fn behind(&self) -> &[Hand] {
        &self.hands[self.in_hand()..]
    }

    /// The next ones are in hand now. The names that Celery's messages give them.
    pub(crate) fn begins_next(
        &mut self,
        limit: impl Fn(&Task) -> Option<Duration>,
        now: Instant,
    ) -> Vec<(Box<str>, u64)> {
        let count = self.in_hand();
        let mut names = Vec::new();
        for hand in self.hands[..count].iter_mut().filter(|hand| hand.begun_at.is_none()) {
            (hand.begun_at, hand.due_at) = (Some(now), limit(&hand.task).map(|limit| now + limit));
            names.extend(hand.task.name.clone().map(|name| (name, hand.token)));
        }
        names
    }

    /// Whether it holds nothing, as far as it knows itself.
    fn is_done(&self) -> bool {
        self.telling.is_none() && self.line.as_ref().map_or(self.hands.is_empty(), Line::is_empty)
    }

    /// Whether one more task may be sent to it that it can begin at once.
    pub(crate) fn has_seat(&self) -> bool {
        self.is_well() && self.hands.len() < self.seats && self.telling.is_none()
    }

    /// Whether it had its time for an answer.
    pub(crate) fn is_silent(&self, limit: Duration, at: Instant) -> bool {
        self.frozen_at.is_some() && self.hands.is_empty() && self.pinged_at.is_some_and(|asked| asked + limit <= at)
    }

    /// Whether it takes tasks at all.
    pub(crate) fn is_well(&self) -> bool {
        self.ready
            && self.killed_at.is_none()
            && self.dead_at.is_none()
            && !self.hung_up
            && !self.said_bye
            && !self.dismissed
    }

    /// Goes, if it was told to and holds nothing any more.
    pub(crate) fn leave(&mut self, settings: &Settings, rng: &mut Rng) -> Vec<(Duration, Act)> {
        if !self.leaving || !self.is_done() {
            return Vec::new();
        }
        self.leaving = false;
        let mut acts = Vec::new();
        if rng.chance(900) {
            acts.push((Duration::ZERO, Act::Bye));
        }
        acts.push((rng.micros(settings.worker_faults.dying), Act::Exit(Exit::Code { code: 0 })));
        acts
    }

    /// What a SIGTERM does.
    pub(crate) fn terminated(&self, settings: &Settings, rng: &mut Rng) -> Vec<(Duration, Act)> {
        if self.deaf || rng.chance(300) {
            return Vec::new();
        }
        let exit = if rng.chance(700) { signal("SIGTERM") } else { Exit::Code { code: 0 } };
        vec![(rng.micros(settings.worker_faults.dying), Act::Exit(exit))]
    }
}
