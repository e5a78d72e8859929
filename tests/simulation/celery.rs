//! Queues of Celery's: what their tasks and their workers are like, and what must hold of lost tasks, revoked ones, limits, rates
//! and replies.
//!
//! A dead letter that no worker reported, and a revoked task that was dropped, is *owed* a result from the moment at which it is
//! stored: a worker of an application is told of it, or the log says that it is not. Whether that comes too early, too often or to
//! the wrong worker is judged where the frame is sent; that it comes at all, after each event.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use asynctask::{
    celery::{CeleryQueue, Protocol},
    clock::Instant,
    control::types::Command,
    master::core::event::WorkerId,
    task::{Handle, Reason, Settlement, Task},
    transport,
};
use serde_json::Value;

use super::{
    celery_queues::{NAMES, RATES, is_application},
    child::{self, Act, Child, Hand},
    observer::Observer,
    rng::Rng,
    settings::Settings,
    simulation::Simulation,
};

/// A worker has this long to store the result of a lost task.
const ANSWER: Duration = Duration::from_secs(10);
/// In so many histories everything is to happen once.
const FEW: u64 = 250;

/// Where the result of a task goes, if its producer waits for one.
fn correlation_id(task: &Task) -> Option<&str> {
    let is_ignored = task.headers.get("ignore_result") == Some(&Value::Bool(true));
    task.properties.as_deref()?.correlation_id.as_deref().filter(|_| !is_ignored)
}

/// What works a queue of Celery's, as far as the core knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WorkedBy {
    #[default]
    Unknown,
    Application,
    Plain,
}

/// A task whose result no worker has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lost {
    queue: usize,
    id: String,
    reason: &'static str,
    correlation_id: Option<String>,
    /// Its worker reported the failure itself.
    is_reported: bool,
}

/// A lost task that a worker was told of.
#[derive(Clone, Debug)]
pub(crate) struct Telling {
    pub(crate) id: String,
    pub(crate) until: Instant,
}

/// How often what is to be tried was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    told: u64,
    pub(crate) reported: u64,
    late: u64,
    died: u64,
    not_told: u64,
    dropped: u64,
    terminated: u64,
    replies: u64,
    rated: u64,
    pub(crate) limited: u64,
    changed: u64,
}

impl Tried {
    fn all(&mut self) -> [(&'static str, &mut u64); 11] {
        [
            ("lost tasks told", &mut self.told),
            ("results of lost tasks stored", &mut self.reported),
            ("workers killed that did not store a result", &mut self.late),
            ("deaths of workers that were told of a lost task", &mut self.died),
            ("lost tasks that nobody was told of", &mut self.not_told),
            ("revoked tasks dropped", &mut self.dropped),
            ("revoked tasks ended", &mut self.terminated),
            ("replies", &mut self.replies),
            ("starts of tasks with a rate", &mut self.rated),
            ("starts of tasks with a limit of their own", &mut self.limited),
            ("changes of a queue's protocol or kind", &mut self.changed),
        ]
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        for ((_, count), (_, more)) in self.all().into_iter().zip(other.all()) {
            *count += *more;
        }
    }

    /// A sweep that tries too little proves too little.
    pub(crate) fn enough(mut self, histories: u64) -> Result<(), String> {
        let least = histories / FEW;
        match self.all().into_iter().find(|(_, count)| **count < least) {
            Some((what, count)) => Err(format!("{count} {what} in {histories} histories, at least {least}")),
            None => Ok(()),
        }
    }
}

/// What was seen of Celery's queues.
#[derive(Debug)]
pub(crate) struct Celery {
    pub(crate) tried: Tried,
    worked_by: Vec<WorkedBy>,
    /// Dead letters that are not stored, by their handles.
    unstored: BTreeMap<Handle, Lost>,
    /// Results are owed of these, the oldest first.
    owed: Vec<Lost>,
    /// Workers ended that were told of these, and the log has not said so.
    unsaid: Vec<String>,
    /// Replies that are to be sent before anything else happens, by their correlation ids.
    replies: Vec<String>,
    /// Those of tasks that are done, until their settlements are answered, by their handles.
    unanswered: BTreeMap<Handle, String>,
    /// Those of tasks that are done whose handles are void: they are sent if their tasks come again.
    void: Vec<String>,
    revoked: BTreeSet<String>,
    /// What the log said last is that this task is dropped.
    dropping: Option<String>,
    /// The same of one whose key another task has.
    dropping_for_key: Option<String>,
    /// What a person has set, by the name of the task.
    limits: BTreeMap<String, Option<Duration>>,
    rates: Vec<BTreeMap<String, Option<Duration>>>,
    /// Last starts by the name of the task, under the present rate.
    begun_at: Vec<BTreeMap<String, Duration>>,
    /// The last task that was sent before the present rates.
    rates_changed_at: Vec<u64>,
}

impl Celery {
    pub(crate) fn new(settings: &Settings) -> Self {
        let queues = settings.queues.len();
        let mut new = Self {
            tried: Tried::default(),
            worked_by: vec![WorkedBy::Unknown; queues],
            unstored: BTreeMap::new(),
            owed: Vec::new(),
            unsaid: Vec::new(),
            replies: Vec::new(),
            unanswered: BTreeMap::new(),
            void: Vec::new(),
            revoked: BTreeSet::new(),
            dropping: None,
            dropping_for_key: None,
            limits: BTreeMap::new(),
            rates: vec![BTreeMap::new(); queues],
            begun_at: vec![BTreeMap::new(); queues],
            rates_changed_at: vec![0; queues],
        };
        (0..queues).for_each(|queue| new.begins_anew(queue, settings));
        new
    }

    /// A queue is added, or its protocol changes.
    pub(crate) fn begins_anew(&mut self, queue: usize, settings: &Settings) {
        let is_once = settings.queues[queue].is_once;
        self.worked_by[queue] = if is_once { WorkedBy::Plain } else { WorkedBy::Unknown };
        self.rates[queue].clear();
        self.begun_at[queue].clear();
    }

    fn rate_of(&self, settings: &Settings, queue: usize, name: &str) -> Option<Duration> {
        let faults = settings.celery.as_ref().filter(|_| settings.is_celery(queue))?;
        let registered = || faults.rate_of(name).filter(|_| self.worked_by[queue] == WorkedBy::Application);
        self.rates[queue].get(name).copied().unwrap_or_else(registered)
    }

    /// Whether nothing may be sent ahead, that a worker holds nothing soon.
    pub(crate) fn is_owed(&self, queue: usize) -> bool {
        self.owed.iter().any(|lost| lost.queue == queue)
    }

    fn take_owed(&mut self, is_it: impl Fn(&Lost) -> bool) -> Option<Lost> {
        let position = self.owed.iter().position(is_it)?;
        Some(self.owed.remove(position))
    }

    /// A lost task of a kind that is no application.
    fn replies_to(&mut self, lost: &Lost) {
        self.replies.extend(lost.correlation_id.clone());
    }
}

/// The limit of one run of a task.
pub(crate) fn limit_of(settings: &Settings, seen: &Celery, queue: usize, task: &Task) -> Option<Duration> {
    let of_queue = settings.queue(queue).timeout;
    let Some(faults) = settings.celery.as_ref().filter(|_| settings.is_celery(queue)) else { return of_queue };
    let name = task.name.as_deref().unwrap_or_default();
    let registered = || faults.limit_of(name).filter(|_| seen.worked_by[queue] == WorkedBy::Application);
    let own = task.time_limit.or_else(|| seen.limits.get(name).copied().unwrap_or_else(registered));
    of_queue.into_iter().chain(own).min()
}

impl Observer {
    /// A task is begun: not sooner after the last one of its name than its rate allows.
    pub(crate) fn begun_at_its_rate(
        &mut self,
        settings: &Settings,
        queue: usize,
        (name, token): (&str, u64),
        now: Duration,
    ) -> Result<(), String> {
        let Some(interval) = self.celery.rate_of(settings, queue, name) else { return Ok(()) };
        self.celery.tried.rated += 1;
        match self.celery.begun_at[queue].insert(name.to_owned(), now) {
            // A worker had it already when the rate became this one.
            _ if token <= self.celery.rates_changed_at[queue] => Ok(()),
            Some(before) if now < before + interval => Err(format!(
                "two tasks {name} of q{queue} are begun within {:?}, not {interval:?}",
                now.saturating_sub(before)
            )),
            _ => Ok(()),
        }
    }
}

impl Simulation {
    // What the core knows before it hears of it.

    /// A worker is ready.
    pub(crate) fn application_is_ready(&mut self, queue: usize, wants: bool) {
        let tokens = self.tokens;
        if !self.settings.is_celery(queue) {
            return;
        }
        let celery = &mut self.observer.celery;
        let now = if wants { WorkedBy::Application } else { WorkedBy::Plain };
        if std::mem::replace(&mut celery.worked_by[queue], now) != now {
            celery.begun_at[queue].clear();
            celery.rates_changed_at[queue] = tokens;
        }
        if !wants {
            while let Some(lost) = celery.take_owed(|lost| lost.queue == queue) {
                celery.replies_to(&lost);
            }
        }
    }

    /// A reload changes what a queue is: whether it is to have other workers.
    pub(crate) fn celery_changes(&mut self, queue: usize) -> bool {
        let Some(changes) = self.settings.celery.as_ref().map(|faults| faults.changes) else { return false };
        let (other_protocol, other_kind) = (self.rng.chance(changes), self.rng.chance(changes));
        let faults = self.settings.celery.as_ref().expect("it was there");
        let plan = &mut self.settings.queues[queue];
        if other_protocol {
            plan.settings.protocol = if plan.settings.protocol.is_celery() {
                Protocol::Asynctask
            } else {
                Protocol::Celery(Box::new(CeleryQueue::of(&plan.settings.name)))
            };
        }
        let other_kind = other_kind && !plan.is_once;
        if other_kind {
            plan.settings.kind = faults.kind_of(&plan.settings.name, !is_application(&plan.settings.kind));
        }
        if other_protocol {
            self.observer.celery.begins_anew(queue, &self.settings);
            self.observer.celery.rates_changed_at[queue] = self.tokens;
            let mut ready = self.children.values().filter(|child| child.queue == queue && child.ready).peekable();
            if ready.peek().is_some() && ready.all(|child| child.application.is_none()) {
                self.observer.celery.worked_by[queue] = WorkedBy::Plain;
            }
        }
        self.observer.celery.tried.changed += u64::from(other_protocol) + u64::from(other_kind);
        other_protocol || other_kind
    }

    /// The core settles: is a task dropped because it was revoked, and not for the second time?
    pub(crate) fn is_dropped(&mut self, handle: Handle, settlement: &Settlement) -> bool {
        let said = self.observer.celery.dropping.take();
        let entry = &self.ledger.entries[&handle];
        let is_done = matches!(settlement, Settlement::Done { submit } if submit.is_empty());
        let is_said = said.as_ref() == Some(&entry.task.id);
        is_said
            && is_done
            && entry.run.is_none()
            && entry.verdict.is_none()
            && self.is_revoked(entry.queue, &entry.task.id)
    }

    pub(crate) fn is_revoked(&self, queue: usize, id: &str) -> bool {
        self.settings.is_celery(queue) && self.observer.celery.revoked.contains(id)
    }

    /// What is settled may be a lost task.
    pub(crate) fn may_be_lost(&mut self, handle: Handle, settlement: &Settlement, is_dropped: bool) {
        let for_key = self.observer.celery.dropping_for_key.take();
        let entry = &self.ledger.entries[&handle];
        if !self.settings.is_celery(entry.queue) {
            return;
        }
        let is_dropped = is_dropped || for_key.as_ref() == Some(&entry.task.id);
        let lost = |reason, is_reported| Lost {
            queue: entry.queue,
            id: entry.task.id.clone(),
            reason,
            correlation_id: correlation_id(&entry.task).map(str::to_owned),
            is_reported,
        };
        match settlement {
            Settlement::Done { .. } if is_dropped => {
                let lost = lost(Reason::Cancelled.as_str(), false);
                self.observer.celery.tried.dropped += 1;
                self.is_lost(lost);
            }
            Settlement::Dead(failure) => {
                let is_reported = match failure.reason {
                    Reason::Error | Reason::Failed => true,
                    Reason::Malformed => failure.in_hand_seconds.is_some(),
                    _ => false,
                };
                let lost = lost(failure.reason.as_str(), is_reported);
                self.observer.celery.unstored.insert(handle, lost);
            }
            _ => {}
        }
    }

    fn is_lost(&mut self, lost: Lost) {
        let celery = &mut self.observer.celery;
        match celery.worked_by[lost.queue] {
            _ if !self.settings.is_celery(lost.queue) => {}
            WorkedBy::Plain => celery.replies_to(&lost),
            WorkedBy::Application | WorkedBy::Unknown if lost.is_reported => {}
            WorkedBy::Application | WorkedBy::Unknown => celery.owed.push(lost),
        }
    }

    pub(crate) fn heard_of_lost(&mut self, event: &transport::Event) {
        let Celery { unstored, unanswered, void: of_void, replies, .. } = &mut self.observer.celery;
        match event {
            transport::Event::Settled(handles) => {
                for handle in handles {
                    // The first answer to one that was accepted may be to that.
                    let is_plain = !self.ledger.entries[handle].accepted;
                    let list = if is_plain { &mut *replies } else { &mut *of_void };
                    list.extend(unanswered.remove(handle));
                }
            }
            transport::Event::Stored(handle) => {
                if let Some(lost) = unstored.remove(handle) {
                    self.is_lost(lost);
                }
            }
            transport::Event::Unstorable { handle, .. } => {
                unstored.remove(handle);
                unanswered.remove(handle);
            }
            transport::Event::Lost { .. } => {
                let entries = &self.ledger.entries;
                unstored.retain(|handle, _| entries[handle].accepted);
                of_void
                    .extend(unanswered.extract_if(.., |handle, _| !entries[handle].accepted).map(|(_, reply)| reply));
            }
            transport::Event::QueueUnavailable { void, .. } => {
                let entries = &self.ledger.entries;
                unstored.retain(|handle, _| !void.contains(handle) || entries[handle].accepted);
                let is_void = |handle: &Handle| void.contains(handle) && !entries[handle].accepted;
                of_void.extend(unanswered.extract_if(.., |handle, _| is_void(handle)).map(|(_, reply)| reply));
            }
            _ => {}
        }
    }

    /// A task is done by a worker that does not store its result itself.
    pub(crate) fn done_by(&mut self, worker_stores: bool, hand: &Hand) {
        let task = &self.ledger.entries[&hand.handle].task;
        let queue = self.ledger.entries[&hand.handle].queue;
        if !worker_stores && !hand.cancelled && self.settings.is_celery(queue) {
            let celery = &mut self.observer.celery;
            match correlation_id(task).map(str::to_owned) {
                Some(reply) if hand.held => drop(celery.unanswered.insert(hand.handle, reply)),
                reply => celery.void.extend(reply),
            }
        }
    }

    // What it wants.

    /// A frame that is no other.
    pub(crate) fn frame_of_celery(&mut self, worker: WorkerId, kind: &str, frame: &[u8]) -> Result<(), String> {
        let child = &self.children[&worker];
        let is_for_it = child.application.is_some() && child.ready;
        match kind {
            "lost" if is_for_it => self.told_of_lost(worker, frame),
            "control" if is_for_it => Ok(()),
            _ => Err(format!("a frame {kind:?} to one that does not want it: {child:?}")),
        }
    }

    fn told_of_lost(&mut self, worker: WorkerId, frame: &[u8]) -> Result<(), String> {
        let frame: Value = serde_json::from_slice(frame).map_err(|error| error.to_string())?;
        let lost = &frame["lost"];
        let text = |key: &str| lost[key].as_str().unwrap_or_default().to_owned();
        let (id, queue, reason) = (text("id"), text("queue"), text("reason"));
        let child = &self.children[&worker];
        if !child.is_well() || !child.hands.is_empty() || child.telling.is_some() {
            return Err(format!("told of lost task {id} with something in hand: {child:?}"));
        }
        let is_it = |owed: &Lost| format!("q{}", owed.queue) == queue && owed.id == id && owed.reason == reason;
        let Some(owed) = self.observer.celery.take_owed(is_it) else {
            return Err(format!("told of a task that is not lost, or twice: {lost}"));
        };
        let kind = |queue: usize| &self.settings.queue(queue).kind;
        if kind(owed.queue) != kind(child.queue) || !self.settings.is_celery(child.queue) {
            return Err(format!("told of lost task {id} of another kind: {child:?}"));
        }
        if reason == "timeout" && !lost["time_limit"].is_number() {
            return Err(format!("told of lost task {id} without the limit that it ran into"));
        }
        self.observer.celery.tried.told += 1;
        let until = self.at() + ANSWER;
        let child = self.children.get_mut(&worker).expect("it was there");
        child.telling = Some(Telling { id: id.clone(), until });
        child.pinged_at = None;
        let acts = self.stores_result(&id);
        self.acts(worker, acts);
        Ok(())
    }

    /// What a worker does that is told of a lost task.
    fn stores_result(&mut self, id: &str) -> Vec<(Duration, Act)> {
        let well = self.faults_are_over();
        let Some(faults) = &self.settings.celery else { return Vec::new() };
        let rng = &mut self.rng;
        let after = rng.micros(faults.answer);
        let answer = (after, Act::Report(id.to_owned()));
        if well {
            return vec![(after.min(Duration::from_secs(1)), answer.1)];
        }
        if rng.chance(faults.silent) {
            return Vec::new();
        }
        if rng.chance(faults.deadly) {
            let end = |at: Duration, rng: &mut Rng| (at, Act::Exit(child::any_exit(rng)));
            return match rng.between(0, 2) {
                0 => vec![end(after, rng)],
                1 => vec![answer, end(after + Duration::from_micros(20), rng)],
                _ => vec![end(after / 2, rng), answer],
            };
        }
        if rng.chance(faults.wrong_answer) {
            return vec![(after / 2, Act::Report(format!("not {id}"))), answer];
        }
        vec![answer]
    }

    /// A worker has ended: the log must say what was not stored.
    pub(crate) fn telling_ended(&mut self, child: &Child) {
        if let Some(telling) = &child.telling {
            self.observer.celery.tried.died += 1;
            self.observer.celery.tried.late += u64::from(child.killed_at.is_some());
            self.observer.celery.unsaid.push(telling.id.clone());
        }
    }

    /// What the log says of lost tasks.
    pub(crate) fn said_of_lost(&mut self, message: &str) -> Result<(), String> {
        let said =
            message.strip_prefix("The result of lost task ").and_then(|rest| rest.split_once(" is not stored: "));
        let celery = &mut self.observer.celery;
        let Some((id, why)) = said else {
            let id = message.strip_prefix("Task ").and_then(|rest| rest.split_once(" of queue "));
            let dropped = id.filter(|(_, rest)| rest.ends_with(" is dropped: it was revoked"));
            celery.dropping = dropped.map(|(id, _)| id.to_owned());
            let for_key = id.filter(|(_, rest)| rest.contains(" is dropped: task "));
            celery.dropping_for_key = for_key.map(|(id, _)| id.to_owned());
            return Ok(());
        };
        celery.tried.not_told += 1;
        if why == "the worker that was to store it has ended" {
            let position = celery.unsaid.iter().position(|other| other == id);
            position.map(|position| celery.unsaid.remove(position));
            return position.map(drop).ok_or_else(|| format!("\"{message}\", and nobody was told of it"));
        }
        if celery.take_owed(|lost| lost.id == id).is_none() {
            return Err(format!("\"{message}\", which is not owed"));
        }
        if why == "the master is stopping" && self.observer.stopping_at.is_none() {
            return Err(format!("\"{message}\", and nobody has asked for a stop"));
        }
        Ok(())
    }

    /// A reply is sent.
    pub(crate) fn replied(&mut self, queue: &str, correlation_id: &str, body: &[u8]) -> Result<(), String> {
        let celery = &mut self.observer.celery;
        let is_of = |replies: &[String]| replies.iter().any(|expected| expected == correlation_id);
        let replies = if is_of(&celery.replies) { &mut celery.replies } else { &mut celery.void };
        let Some(position) = replies.iter().position(|expected| expected == correlation_id) else {
            let body = String::from_utf8_lossy(body);
            return Err(format!("a reply that nobody waits for, to {correlation_id}: {body}"));
        };
        replies.remove(position);
        self.observer.celery.tried.replies += 1;
        let is_json = serde_json::from_slice::<Value>(body).is_ok_and(|body| body["status"].is_string());
        if queue == "answers" && is_json { Ok(()) } else { Err(format!("a reply of another form to {queue}")) }
    }

    /// Whether nothing is left to be told.
    pub(crate) fn check_no_result_is_owed(&self) -> Result<(), String> {
        if let Some(lost) = self.observer.celery.owed.first() {
            return Err(format!("nothing is said of the result of {lost:?}"));
        }
        match self.children.values().find(|child| child.telling.is_some()) {
            Some(child) => Err(format!("the result of a lost task is being stored: {child:?}")),
            None => Ok(()),
        }
    }

    /// After each step.
    pub(crate) fn check_celery(&self) -> Result<(), String> {
        if self.settings.celery.is_none() {
            return Ok(());
        }
        let celery = &self.observer.celery;
        if let Some(missing) = celery.replies.first() {
            return Err(format!("no reply was sent to {missing}"));
        }
        if let Some(id) = celery.unsaid.first() {
            return Err(format!("the worker that was to store the result of {id} has ended, and nothing is said"));
        }
        for lost in &celery.owed {
            let could = |child: &&Child| {
                child.queue == lost.queue
                    && child.application.is_some()
                    && child.is_well()
                    && !child.faulted
                    && child.hands.is_empty()
                    && child.telling.is_none()
            };
            if let Some(child) = self.children.values().find(could) {
                return Err(format!("{lost:?} waits beside {child:?}"));
            }
        }
        let is_late = |child: &&Child| {
            let is_here = child.killed_at.is_none() && child.dead_at.is_none();
            is_here && child.telling.as_ref().is_some_and(|telling| telling.until < self.at())
        };
        match self.children.values().find(is_late) {
            Some(child) if self.observer.stopping_at.is_none() => {
                Err(format!("it does not store the result of a lost task, and is not killed: {child:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a task that waits in a queue with rates could be begun now, as far as its rate goes.
    pub(crate) fn is_open(&self, queue: usize, task: &Task) -> bool {
        let name = task.name.as_deref().unwrap_or_default();
        let celery = &self.observer.celery;
        celery
            .rate_of(&self.settings, queue, name)
            .is_none_or(|interval| celery.begun_at[queue].get(name).is_none_or(|before| *before + interval <= self.now))
    }

    pub(crate) fn has_rates(&self, queue: usize) -> bool {
        NAMES.iter().any(|name| self.observer.celery.rate_of(&self.settings, queue, name).is_some())
    }

    // Orders of the node.

    /// An order of Celery's node.
    pub(crate) fn celery_order(&mut self) -> Command {
        let task = if self.rng.chance(900) { self.rng.pick(&NAMES) } else { "nobody's" }.to_owned();
        match self.rng.between(0, 9) {
            0..=4 => {
                let mut ids: Vec<String> = (0..self.rng.between(1, 2)).map(|_| self.some_id()).collect();
                let of_celery = self.children.values().filter(|child| self.settings.is_celery(child.queue));
                let begun = of_celery.flat_map(|child| &child.hands).filter(|hand| hand.begun_at.is_some());
                let begun: Vec<String> = begun.map(|hand| hand.id.clone()).collect();
                let one_in_hand = !begun.is_empty() && self.rng.chance(600);
                if one_in_hand {
                    ids.push(begun[self.rng.next() as usize % begun.len()].clone());
                }
                Command::CeleryRevoke { ids, terminate: one_in_hand || self.rng.chance(300) }
            }
            5 => Command::CeleryTimeLimit {
                task,
                soft_ms: None,
                hard_ms: self.rng.chance(700).then(|| self.rng.pick(&[150, 900, 20_000])),
            },
            6 | 7 => {
                let rate = if self.rng.chance(100) { "often" } else { RATES[self.rng.between(0, 4) as usize].0 };
                Command::CeleryRateLimit { task, rate: rate.to_owned() }
            }
            8 => Command::CeleryEvents { wanted: self.rng.chance(700) },
            _ => Command::CeleryView {},
        }
    }

    /// What follows from it. Whether it is to be done.
    pub(crate) fn celery_obeys(&mut self, command: &Command) -> bool {
        let celery = &mut self.observer.celery;
        let reloads = &self.observer.reloads;
        let is_known = |task: &str| {
            NAMES.contains(&task)
                && (0..celery.worked_by.len()).any(|queue| {
                    reloads.is_member(queue)
                        && self.settings.is_celery(queue)
                        && celery.worked_by[queue] == WorkedBy::Application
                })
        };
        match command {
            Command::CeleryRevoke { ids, terminate } => {
                celery.revoked.extend(ids.iter().cloned());
                let settings = &self.settings;
                let of_celery = self.children.values_mut().filter(|child| settings.is_celery(child.queue));
                for hand in of_celery.flat_map(|child| &mut child.hands).filter(|hand| ids.contains(&hand.id)) {
                    hand.cancelled |= terminate;
                    celery.tried.terminated += u64::from(*terminate && hand.begun_at.is_some());
                }
                true
            }
            Command::CeleryTimeLimit { task, hard_ms, .. } if is_known(task) => {
                celery.limits.insert(task.clone(), hard_ms.map(Duration::from_millis));
                true
            }
            Command::CeleryRateLimit { task, rate } => {
                let known = RATES.iter().find(|(text, _)| text == rate);
                let Some((_, interval)) = known.filter(|_| is_known(task)) else { return false };
                let interval = Some(Duration::from_millis(*interval)).filter(|interval| !interval.is_zero());
                for queue in reloads.at.values().copied() {
                    if self.settings.is_celery(queue) {
                        celery.rates[queue].insert(task.clone(), interval);
                        celery.begun_at[queue].remove(task);
                        celery.rates_changed_at[queue] = self.tokens;
                    }
                }
                true
            }
            Command::CeleryTimeLimit { .. } => false,
            _ => true,
        }
    }
}
