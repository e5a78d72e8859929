//! What must hold as time passes, and at the end.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use asynctask::{
    clock::Instant,
    config::Rate,
    exit_code::Code,
    master::core::event::Event,
    task::{Exit, Reason},
};

use super::{
    ahead::Ahead,
    broker::{Message, Place},
    celery::Celery,
    child::{Child, Hand},
    counted::Counted,
    jobs::Jobs,
    ledger::{Entry, Verdict},
    once::Executed,
    operator::OperatorCommands,
    parked::Kept,
    reloads::Reloads,
    settings::Settings,
    simulation::Simulation,
    starting::Starting,
    stored::Stored,
};

/// From the grace's end: two seconds for the interrupted, five for the killed, two for the last answers.
const LAST: Duration = Duration::from_secs(2 + 5 + 2);
/// The transport may be away that long in halt mode.
const UNREACHABLE: Duration = Duration::from_secs(30);
/// Ready tasks and free seats may meet this late.
const IDLE: Duration = Duration::from_secs(6);

/// What is known of the run from outside.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a record of what was seen, not a state machine")]
pub(crate) struct Observer {
    pub(crate) stopping_at: Option<Duration>,
    interrupting_at: Option<Duration>,
    grace: Duration,
    pub(crate) attached_at: Option<Duration>,
    pub(crate) down_since: Option<Duration>,
    /// Queues that cannot be worked, as far as the core has heard, and since when.
    pub(crate) unavailable: BTreeMap<usize, Duration>,
    longest_down: Duration,
    longest_unavailable: Duration,
    /// To when the last answer to a survey belongs.
    pub(crate) surveyed_at: Duration,
    pub(crate) scheduler_stopped: bool,
    /// Results of actions that the core is still to be told.
    pub(crate) pending: Vec<Event>,
    /// What was submitted from outside.
    pub(crate) origins: Vec<u64>,
    pub(crate) starts_in_a_row: Vec<u32>,
    /// The last one was told by an exit status: that a process runs says nothing then.
    pub(crate) told_by_exit: Vec<bool>,
    pub(crate) parked: Vec<bool>,
    /// Parked and not tried again.
    pub(crate) is_pausing: Vec<bool>,
    pub(crate) operator: OperatorCommands,
    pub(crate) reloads: Reloads,
    /// The longest time between pings that was ever wanted.
    pub(crate) longest_ping: Duration,
    /// The shortest, by which an open round may have begun.
    pub(crate) shortest_ping: Duration,
    pub(crate) pings_changed_at: Instant,
    pub(crate) ahead: Ahead,
    pub(crate) celery: Celery,
    pub(crate) jobs: Jobs,
    pub(crate) counted: Counted,
    pub(crate) starting: Starting,
    pub(crate) executed: Vec<Executed>,
    pub(crate) stored: Stored,
    /// The process of which the core hears that others of it run on.
    pub(crate) left_running: Option<u32>,
    /// Parked for its tasks, and since then none of them ended in words.
    pub(crate) needs_proof: Vec<bool>,
    pub(crate) kept: Kept,
    said_parked: bool,
    said_unstartable: bool,
    said_all_parked: bool,
    /// A worker was ready, or a process for one task began it.
    pub(crate) ever_ready: bool,
    /// Time in which the master did not run without noticing.
    pub(crate) unnoticed: Duration,
    starts: Vec<VecDeque<Duration>>,
    /// Since when each queue has had work and a free seat.
    pub(crate) idle_since: Vec<Option<Duration>>,
}

impl Observer {
    pub(crate) fn new(settings: &Settings) -> Self {
        let (plan, queues) = (&settings.plan, settings.queues.len());
        Self {
            stopping_at: None,
            interrupting_at: None,
            grace: plan.supervisor.grace,
            attached_at: None,
            down_since: Some(Duration::ZERO),
            unavailable: BTreeMap::new(),
            longest_down: Duration::ZERO,
            longest_unavailable: Duration::ZERO,
            surveyed_at: Duration::ZERO,
            scheduler_stopped: false,
            pending: Vec::new(),
            origins: Vec::new(),
            starts_in_a_row: vec![0; queues],
            told_by_exit: vec![false; queues],
            parked: vec![false; queues],
            is_pausing: vec![false; queues],
            operator: OperatorCommands::new(plan, queues),
            longest_ping: Duration::ZERO,
            shortest_ping: Duration::MAX,
            pings_changed_at: Instant::default(),
            reloads: Reloads::new(plan.queues.len()),
            ahead: Ahead::new(queues),
            celery: Celery::new(settings),
            jobs: Jobs::default(),
            counted: Counted::default(),
            starting: Starting::new(queues),
            executed: vec![Executed::default(); queues],
            stored: Stored::default(),
            left_running: None,
            needs_proof: vec![false; queues],
            kept: Kept::new(settings),
            said_parked: false,
            said_unstartable: false,
            said_all_parked: false,
            ever_ready: false,
            unnoticed: Duration::ZERO,
            starts: vec![VecDeque::new(); queues],
            idle_since: vec![None; queues],
        }
    }

    pub(crate) fn stopping(&mut self, now: Duration) {
        self.stopping_at.get_or_insert(now);
    }

    pub(crate) fn stop_asked(&mut self, now: Duration) {
        if self.stopping_at.is_some() {
            self.interrupting_at.get_or_insert(now);
        }
        self.stopping(now);
    }

    pub(crate) fn interrupt_asked(&mut self, now: Duration) {
        self.stopping(now);
        self.interrupting_at.get_or_insert(now);
    }

    /// What the log tells of queues and of ends that nobody asked for.
    pub(crate) fn read_log(&mut self, message: &str, now: Duration) -> Result<(), String> {
        if message.starts_with("Termination received; shutting down children") {
            self.stopping(now);
        }
        for (index, parked) in self.parked.iter_mut().enumerate() {
            if message == format!("Queue q{index} is resumed: its pause is over") {
                self.operator.pause_is_over(index, now)?;
            }
            if message.starts_with(&format!("Queue q{index} is parked")) {
                if std::mem::replace(&mut self.is_pausing[index], true) {
                    return Err("a queue is parked in its pause".to_owned());
                }
                let was_parked = std::mem::replace(parked, true);
                self.said_parked = true;
                self.needs_proof[index] = message.contains("too many of its tasks");
                self.kept.parked(index, message, was_parked);
            } else if message.starts_with(&format!("Queue q{index} is tried again")) {
                self.is_pausing[index] = false;
                self.kept.tried(index, now)?;
            } else if message.starts_with(&format!("Queue q{index} is worked again")) {
                *parked = false;
                if self.needs_proof[index] {
                    return Err("a queue parked for its tasks is worked again though none was done".to_owned());
                }
            }
        }
        self.said_unstartable |= message.starts_with("worker kind ") && message.ends_with(" could not be started");
        if message == "all queues are parked" {
            self.said_all_parked = true;
            if self.ever_ready {
                return Err("a master that has had a worker ends because its queues are parked".to_owned());
            }
        }
        Ok(())
    }

    pub(crate) fn measure_outage(&mut self, now: Duration) {
        let lasts = self.down_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        self.longest_down = self.longest_down.max(lasts);
        let longest = self.unavailable.values().map(|since| now.saturating_sub(*since)).max();
        self.longest_unavailable = self.longest_unavailable.max(longest.unwrap_or_default());
    }

    /// What becomes of each task that a dead process held.
    pub(crate) fn verdicts(&self, child: &Child, exit: &Exit, at: Instant) -> Vec<Verdict> {
        let verdicts = self.verdicts_of_all(child, exit, at);
        // Whatever else their process died of.
        let of = |(hand, verdict): (&Hand, Verdict)| match (hand.dropped, hand.cancelled) {
            (true, _) => Verdict::Discarded,
            (false, true) => Verdict::Cancelled,
            (false, false) => verdict,
        };
        child.hands.iter().zip(verdicts).map(of).collect()
    }

    fn verdicts_of_all(&self, child: &Child, exit: &Exit, at: Instant) -> Vec<Verdict> {
        let by_term = is_signal(exit, &["SIGTERM", "SIGINT"]);
        let either = Verdict::CrashOrReleased { since: at };
        let stopping_at = self.stopping_at.map(Instant::from_start);
        let all = |verdict: Verdict| vec![verdict; child.hands.len()];
        match (stopping_at, child.killed_at) {
            _ if child.cancelled => all(Verdict::Released),
            (None, None) if by_term && child.dismissed => all(Verdict::Released),
            (None, None) if by_term => all(either),
            (None, None) => all(Verdict::Used(vec![Reason::Crash], None)),
            (None, Some(killed_at)) => used_by_kill(child, killed_at),
            (Some(stop), Some(killed_at)) if killed_at < stop && !by_term => used_by_kill(child, killed_at),
            (Some(stop), Some(killed_at)) if killed_at > stop && !is_guilty(child, killed_at) => all(Verdict::Released),
            (Some(_), Some(_)) => all(either),
            (Some(_), None) if by_term => all(Verdict::Released),
            (Some(stop), None) => {
                let over = stop + self.grace;
                let told = self.interrupting_at.map(Instant::from_start);
                // A master that did not run, and did not notice, has interrupted nobody yet.
                if at > over + self.unnoticed || told.is_some_and(|told| told < at) {
                    all(Verdict::Released)
                } else if at >= over || told == Some(at) {
                    all(either)
                } else {
                    all(Verdict::Used(vec![Reason::Crash], None))
                }
            }
        }
    }

    /// A task that this node knows to have ended is not run again.
    pub(crate) fn may_run(
        &self,
        entry: &Entry,
        ended: &BTreeMap<u64, (Verdict, Instant)>,
        doubled: &BTreeSet<u64>,
        settings: &Settings,
        now: Duration,
    ) -> Result<(), String> {
        let (Some(keep), Some(identity)) = (settings.plan.remember, entry.identity) else { return Ok(()) };
        if self.stopping_at.is_some() {
            return Err("a task is begun in a stop".to_owned());
        }
        if !entry.redelivered || doubled.contains(&identity) {
            return Ok(());
        }
        let Some((verdict, at)) = ended.get(&entry.message) else { return Ok(()) };
        // A process for one task is told nothing when its place goes: a signal may have been explained by that.
        if matches!(verdict, Verdict::CrashOrReleased { .. }) && settings.queues[entry.queue].is_once {
            return Ok(());
        }
        let forgotten = at.since_start() + keep < now && self.attached_at.is_some_and(|at| at + keep < now);
        if forgotten { Ok(()) } else { Err(format!("run again although it ended with {verdict:?}: {entry:?}")) }
    }

    /// The next one of this name begins anew.
    pub(crate) fn queue_removed(&mut self, queue: usize) {
        self.starts[queue].clear();
        self.executed[queue] = Executed::default();
        self.ahead.queue_removed(queue);
    }

    /// Another rate, if it is another. Of earlier starts the master knows as many as the old one let through at once.
    pub(crate) fn rate_changed(&mut self, queue: usize, old: Option<Rate>, new: Option<Rate>) {
        let calls = |rate: Option<Rate>| rate.map_or(0, |rate| rate.calls as usize);
        let starts = &mut self.starts[queue];
        if old != new {
            starts.drain(..starts.len().saturating_sub(calls(old).min(calls(new))));
        }
    }

    /// A task was begun.
    pub(crate) fn started(&mut self, queue: usize, now: Duration, rate: Option<Rate>) -> Result<(), String> {
        let Some(rate) = rate else { return Ok(()) };
        let starts = &mut self.starts[queue];
        starts.push_back(now);
        if starts.len() > rate.calls as usize {
            let before = starts.pop_front().expect("one was just put in");
            if now < before + rate.period {
                return Err(format!("{} starts within {:?}: {rate:?}", rate.calls + 1, now.saturating_sub(before)));
            }
        }
        Ok(())
    }
}

pub(crate) fn is_signal(exit: &Exit, names: &[&str]) -> bool {
    matches!(exit, Exit::Signal { signal, .. } if names.contains(&signal.as_str()))
}

/// Whether it gave cause to be killed at that moment.
pub(crate) fn is_guilty(child: &Child, at: Instant) -> bool {
    let is_told_in_vain = child.telling.as_ref().is_some_and(|telling| telling.until <= at);
    let is_late = child.hands.iter().any(|hand| is_late(hand.due_at, at));
    child.faulted || child.hung_up || child.said_bye || is_late || is_told_in_vain
}

fn is_late(due_at: Option<Instant>, at: Instant) -> bool {
    due_at.is_some_and(|due| due <= at)
}

fn used_by_kill(child: &Child, killed_at: Instant) -> Vec<Verdict> {
    let other_cause = child.faulted || child.hung_up;
    let late = child.hands.iter().position(|hand| is_late(hand.due_at, killed_at));
    let reasons = |index: usize| match late {
        Some(first) if first == index && other_cause => vec![Reason::Timeout, Reason::Crash],
        Some(first) if first == index => vec![Reason::Timeout],
        _ => vec![Reason::Crash],
    };
    (0..child.hands.len()).map(|index| Verdict::Used(reasons(index), None)).collect()
}

impl Simulation {
    /// After each event.
    pub(crate) fn check_moment(&mut self) -> Result<(), String> {
        let (now, at) = (self.now, self.at());
        if self.is_behind() || self.core.next_deadline().is_some_and(|deadline| deadline < at) {
            // After a pause that it has not noticed: it has not been told everything yet, or not judged.
            return Ok(());
        }
        self.ledger.nothing_forgotten(at)?;
        self.check_keys()?;
        self.check_stored()?;
        self.check_kept()?;
        self.check_ahead()?;
        self.check_celery()?;
        self.check_jobs()?;
        self.observer.measure_outage(now);
        let limit = self.settings.plan.supervisor.start_timeout;
        let ping = self.observer.longest_ping.max(self.settings.plan.supervisor.ping);
        let (patience, begun) = (ping + ping.min(Duration::from_secs(10)), self.observer.pings_changed_at);
        for child in self.children.values() {
            if child.killed_at.is_some() || child.dead_at.is_some() {
                continue;
            }
            let is_idle = child.is_well() && child.hands.is_empty() && child.telling.is_none();
            if is_idle
                && child.frozen_at.is_some_and(|since| since.max(begun) + patience + self.observer.unnoticed < at)
                && self.observer.stopping_at.is_none()
            {
                return Err(format!("stopped while idle and not found by a ping: {child:?}"));
            }
            if !child.ready && child.spawned_at + limit < at && self.observer.stopping_at.is_none() {
                return Err(format!("not ready in time and not killed: {child:?}"));
            }
            let late = child.hands.iter().any(|hand| hand.due_at.is_some_and(|due| due < at));
            if late && self.observer.stopping_at.is_none() {
                return Err(format!("a task past its time limit: {child:?}"));
            }
        }
        if let Some(stop) = self.observer.stopping_at {
            let bound = stop + self.settings.plan.supervisor.grace + LAST + self.observer.unnoticed;
            if now > bound {
                return Err(format!("the stop of {stop:?} should have ended at {bound:?}"));
            }
            return Ok(());
        }
        self.check_numbers()?;
        self.check_starts()?;
        if self.settings.plan.halt_when_empty {
            if self.observer.starts_in_a_row.iter().any(|starts| *starts >= 3) {
                return Err("three failed starts in a row have not ended the run".to_owned());
            }
            if self.observer.down_since.is_some_and(|since| since + UNREACHABLE < now) {
                return Err("the transport is out of reach for longer than the limit".to_owned());
            }
        }
        if self.is_stuck() {
            return Ok(());
        }
        (0..self.settings.queues.len()).try_for_each(|queue| self.check_not_idle(queue))
    }

    /// A ready task and a worker with a free seat find each other.
    fn check_not_idle(&mut self, queue: usize) -> Result<(), String> {
        let in_hand: usize = self.children.values().map(|child| child.hands.len()).sum();
        let full = self.settings.plan.max_in_hand.is_some_and(|most| in_hand >= most);
        let settings = self.settings.queue(queue);
        let slowed = settings.rate.is_some()
            || settings.unique.is_some()
            || (self.settings.transport.duplicate_ids > 0 && settings.concurrency > 1);
        // Those that wait for their own rates may have all of the credit.
        let has_rates = self.has_rates(queue);
        let has_work = || {
            (!has_rates && self.broker.has_ready(queue))
                || self.ledger.open.iter().any(|handle| {
                    let entry = &self.ledger.entries[handle];
                    entry.queue == queue && entry.run.is_none() && self.is_open(queue, &entry.task)
                })
        };
        let is_alone = || {
            let in_hand = |message: &&Message| matches!(message.place, Place::InHand(_));
            let kept = self.broker.accepted.values().map(|accepted| &accepted.message);
            let mut held = self.broker.messages.values().filter(in_hand).chain(kept);
            held.any(|message| message.queue == queue && message.deliveries >= 3)
        };
        let idle = self.observer.reloads.is_member(queue)
            && self.broker.delivers_from(queue)
            && !(full || slowed || self.observer.parked[queue] || self.observer.operator.is_paused(queue, self.now))
            && self.observer.attached_at.is_some()
            && self.has_free_seat(queue)
            && has_work()
            && !is_alone();
        if !idle {
            self.observer.idle_since[queue] = None;
            return Ok(());
        }
        let since = *self.observer.idle_since[queue].get_or_insert(self.now);
        if since + IDLE + self.observer.unnoticed < self.now {
            return Err(format!("queue q{queue} has had work and a free seat since {since:?}"));
        }
        Ok(())
    }

    fn has_free_seat(&self, queue: usize) -> bool {
        let mut here = self.children.values().filter(|child| child.queue == queue);
        if self.settings.queues[queue].is_once {
            // A place whose process could not be made stays closed for a while.
            let is_open = self.now > self.settings.faults_end_at + Duration::from_secs(40);
            return is_open && here.count() < self.observer.operator.processes[queue] as usize;
        }
        here.any(Child::has_seat)
    }

    /// The end.
    pub(crate) fn check_halt(&self, code: Code) -> Result<(), String> {
        if let Some(child) = self.children.values().next() {
            return Err(format!("the end leaves a process: {child:?}"));
        }
        if let Some(handle) = self.ledger.open.first() {
            return Err(format!("the end leaves a delivery unsettled: {:?}", self.ledger.entries[handle]));
        }
        self.check_keys_are_free()?;
        self.check_no_result_is_owed()?;
        let asked = self.stops > 0;
        let halting = self.settings.plan.halt_when_empty;
        let right = match code {
            Code::Ok if asked => true,
            Code::Ok => {
                let before = |since: &Duration| self.observer.stopping_at.is_some_and(|stop| *since < stop);
                let is_member = |queue: &usize| self.observer.reloads.is_member(*queue);
                let mut unavailable = self.observer.unavailable.iter();
                if let Some((queue, _)) = unavailable.find(|(queue, since)| is_member(queue) && before(since)) {
                    return Err(format!("halted well although q{queue} is unavailable"));
                }
                let late = |came: Option<Duration>| came.is_some_and(|came| came > self.observer.surveyed_at);
                if let Some(left) = self
                    .broker
                    .messages
                    .values()
                    .find(|message| !late(message.came_at) && self.broker.delivers_from(message.queue))
                {
                    return Err(format!("halted with {left:?} left"));
                }
                halting && self.broker.accepted.is_empty()
            }
            Code::Interrupted => self.observer.stopping_at.is_some(),
            Code::Refused => halting && (self.observer.said_unstartable || self.observer.said_parked),
            Code::Unavailable => {
                self.settings.transport.refuses
                    || (halting && self.observer.longest_down + Duration::from_millis(1) >= UNREACHABLE)
                    || (halting && self.observer.longest_unavailable + Duration::from_millis(1) >= UNREACHABLE)
                    || (!halting && self.observer.said_all_parked)
            }
            Code::HaltTimeout => self.settings.halt_limit.is_some(),
            _ => false,
        };
        if !right {
            return Err(format!("the end with {code:?} has no reason"));
        }
        self.observer.reloads.all_answered()?;
        self.check_nothing_lost()
    }

    /// Each task is somewhere: in a queue, done, or a dead letter.
    fn check_nothing_lost(&self) -> Result<(), String> {
        let mut seen: BTreeSet<u64> = self.ledger.finals.clone();
        seen.extend(&self.broker.removed);
        seen.extend(self.broker.messages.values().map(|message| message.origin));
        seen.extend(self.broker.accepted.values().map(|accepted| accepted.message.origin));
        match self.observer.origins.iter().find(|origin| !seen.contains(origin)) {
            Some(origin) => Err(format!("task {origin} is lost")),
            None => Ok(()),
        }
    }
}

/// Whether a process that was killed with no stop in sight had given cause.
pub(crate) fn may_be_killed(child: &Child, limit: Duration, at: Instant) -> bool {
    is_guilty(child, at) || (!child.ready && child.spawned_at + limit <= at)
}
