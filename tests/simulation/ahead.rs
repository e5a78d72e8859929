//! Tasks sent ahead: to whom, how many, when they are called back, and that those which were never begun are as they were before.
//!
//! The first task of a worker that has no outcome is the one in hand, and all behind it are not begun, whatever the worker itself
//! has come to meanwhile (`line.rs`). What follows for a death is in `child_events.rs`, for a settlement in `ledger.rs`.

use std::{collections::VecDeque, time::Duration};

use asynctask::{clock::Instant, config::Acks, master::core::event::WorkerId};

use super::{
    child::{Child, Hand},
    line::Received,
    simulation::{Simulation, Step},
};

/// No worker has more tasks than these behind the one in hand.
const MOST: usize = 64;
/// They are together at most this much work, on the average. An average that forgets slowly may be below the one here by a third.
const WORK: Duration = Duration::from_millis(7);
/// A queue's tasks take less than this on the average of late while any of them are sent ahead. The average is of at least so many
/// tasks, and of at most so many, in which a long one counts no more than this.
const LONGEST_MEAN: Duration = Duration::from_millis(4);
const SEEN: usize = 16;
const REMEMBERED: usize = 64;
const LONGEST: Duration = Duration::from_millis(20);
/// A task in hand that is older, and no task may wait behind it for which another worker is free.
const LONG: Duration = Duration::from_millis(5);
/// A worker that has left a recall unanswered for so long gets nothing ahead any more.
const ANSWER: Duration = Duration::from_secs(1);

/// In so many histories everything is to happen once.
const FEW: u64 = 500;

/// How long the tasks of a queue took of late.
#[derive(Clone, Debug, Default)]
pub(crate) struct Took(VecDeque<Duration>);

impl Took {
    fn ended(&mut self, took: Duration) {
        self.0.push_front(took.min(LONGEST));
        self.0.truncate(REMEMBERED);
    }

    /// The least that the average may be, whenever the master has begun to measure. `None`: it has seen too few.
    fn least_mean(&self) -> Option<Duration> {
        let mut sum = Duration::ZERO;
        let sums = self.0.iter().map(|took| {
            sum += *took;
            sum
        });
        sums.zip(1_u32..).skip(SEEN - 1).map(|(sum, count)| sum / count).min()
    }
}

/// How often what is to be tried was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sent_ahead: u64,
    pub(crate) recalls: u64,
    pub(crate) returned: u64,
    /// What the master took for the task in hand was not begun.
    pub(crate) first_returned: u64,
    /// Outcomes on their way crossed the recall, and fewer came back than were asked for.
    pub(crate) fewer_returned: u64,
    pub(crate) unanswered: u64,
    pub(crate) deaths_with_tasks_behind: u64,
    /// Between a recall and its answer.
    pub(crate) deaths_after_recall: u64,
    pub(crate) cancelled_behind: u64,
    /// Recalled in a stop, and by a session that was lost.
    pub(crate) stops: u64,
    pub(crate) losses: u64,
}

impl Seen {
    /// A sweep that tries too little proves too little.
    pub(crate) fn enough(&self, histories: u64) -> Result<(), String> {
        let least = histories / FEW;
        match self.all().iter().find(|(_, count)| *count < least) {
            Some((what, count)) => {
                Err(format!("{count} {what} in {histories} histories, at least {least} are to be tried"))
            }
            None => Ok(()),
        }
    }

    fn all(&self) -> [(&'static str, u64); 11] {
        [
            ("tasks sent ahead", self.sent_ahead),
            ("recalls", self.recalls),
            ("tasks returned", self.returned),
            ("tasks returned that the master took for begun", self.first_returned),
            ("answers with fewer tasks than were asked for", self.fewer_returned),
            ("recalls that were not answered in time", self.unanswered),
            ("deaths with tasks behind the one in hand", self.deaths_with_tasks_behind),
            ("deaths between a recall and its answer", self.deaths_after_recall),
            ("cancelled tasks that were not begun", self.cancelled_behind),
            ("recalls in a stop", self.stops),
            ("recalls at the loss of a session", self.losses),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.sent_ahead += other.sent_ahead;
        self.recalls += other.recalls;
        self.returned += other.returned;
        self.first_returned += other.first_returned;
        self.fewer_returned += other.fewer_returned;
        self.unanswered += other.unanswered;
        self.deaths_with_tasks_behind += other.deaths_with_tasks_behind;
        self.deaths_after_recall += other.deaths_after_recall;
        self.cancelled_behind += other.cancelled_behind;
        self.stops += other.stops;
        self.losses += other.losses;
    }
}

/// What was seen of tasks sent ahead.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) seen: Seen,
    /// By queue.
    took: Vec<Took>,
}

impl Ahead {
    pub(crate) fn new(queues: usize) -> Self {
        Self { seen: Seen::default(), took: vec![Took::default(); queues] }
    }

    /// A task that was begun has left its worker.
    pub(crate) fn ended(&mut self, queue: usize, hand: &Hand, now: Instant) {
        if let Some(begun_at) = hand.begun_at {
            self.took[queue].ended(now.since(begun_at));
        }
    }

    /// The next queue of this name begins anew.
    pub(crate) fn queue_removed(&mut self, queue: usize) {
        self.took[queue] = Took::default();
    }
}

impl Simulation {
    /// Why no task may be behind another one in this worker, or is to be called back.
    fn is_off(&self, child: &Child) -> Option<&'static str> {
        let (queue, observer) = (child.queue, &self.observer);
        let plan = &self.settings.queues[queue];
        let settings = &plan.settings;
        let reasons = [
            (observer.stopping_at.is_some(), "in a stop"),
            (child.dismissed, "to one that was told to go"),
            (
                child.announced.concurrency > 1 || child.seats != 1 || settings.concurrency > 1,
                "where several are done at once",
            ),
            (settings.unique.is_some(), "of a queue with keys"),
            (settings.rate.is_some(), "of a queue with a rate"),
            (settings.acks == Acks::Early, "of a queue that acknowledges early"),
            (plan.is_once, "of a queue with a process for each task"),
            (self.settings.plan.max_in_hand.is_some(), "with a limit over all queues"),
            (observer.operator.paused[queue], "of a paused queue"),
            (observer.parked[queue], "of a parked queue"),
            (observer.attached_at.is_none(), "without a session"),
            (observer.unavailable.contains_key(&queue), "of a queue that is unavailable"),
            (child.ignored_recall, "to one that leaves recalls unanswered"),
        ];
        reasons.into_iter().find_map(|(is_so, why)| is_so.then_some(why))
    }

    /// A task is about to be sent to a worker that has no seat for it.
    pub(crate) fn may_send_ahead(&mut self, worker: WorkerId) -> Result<(), String> {
        let child = &self.children[&worker];
        if !child.is_well() || child.hands.is_empty() {
            return Err(format!("a task is sent to a worker without a seat: {child:?}"));
        }
        let wrong = |why: &str| Err(format!("sent ahead {why}: {child:?}"));
        if let Some(why) = self.is_off(child) {
            return wrong(why);
        }
        if self.observer.celery.is_owed(child.queue) {
            return wrong("though somebody is to hold nothing, to be told of a lost task");
        }
        let behind = child.hands.len();
        if child.hands[0].begun_at.is_some_and(|begun_at| begun_at + LONG < self.at()) {
            return wrong("behind one that takes long");
        }
        if behind > (child.announced.ahead as usize).min(MOST) {
            return wrong("beyond what it takes");
        }
        if !child.recalled_at.is_empty() {
            return wrong("while others are called back");
        }
        let mean = self.observer.ahead.took[child.queue].least_mean();
        let Some(mean) = mean.filter(|mean| *mean < LONGEST_MEAN) else {
            return wrong("though the tasks are not known to be short");
        };
        if mean * behind as u32 > WORK {
            return Err(format!("{behind} sent ahead that take {mean:?} each: {child:?}"));
        }
        let most = self.settings.queue(child.queue).recycle.max_tasks;
        if most.is_some_and(|most| child.told + child.hands.len() as u64 >= most) {
            return wrong("beyond the tasks that are left to it");
        }
        self.observer.ahead.seen.sent_ahead += 1;
        self.disturb();
        Ok(())
    }

    /// The worst moment for anything to happen.
    fn disturb(&mut self) {
        if self.settings.disturbances == 0 || self.faults_are_over() || !self.rng.chance(150) {
            return;
        }
        self.settings.disturbances -= 1;
        let soon = self.rng.micros((1, 3_000));
        let step = match self.rng.between(0, 9) {
            0..=1 => Step::CancelBehind,
            2..=3 if self.settings.transport.losses.is_some() => Step::Lose,
            4 if self.settings.transport.queue_faults.is_some() => Step::QueueFault,
            5 if self.settings.reloads > 0 => Step::Reload,
            6..=7 if self.settings.stops.len() > 1 => Step::Stop,
            8 if self.settings.pauses > 0 => Step::Pause,
            _ => Step::Command,
        };
        self.after(soon, step);
    }

    /// The core calls back what a worker has not begun.
    pub(crate) fn recalled(&mut self, worker: WorkerId) -> Result<(), String> {
        let at = self.at();
        let child = self.children.get_mut(&worker).expect("it was there");
        // One that was behind another whose outcome has led to the recall may be the first by now.
        if child.hands.is_empty() || !child.recalled_at.is_empty() {
            return Err(format!("a recall for one that has nothing to give back, or is asked already: {child:?}"));
        }
        child.recalled_at.push_back(at);
        child.asked_back = child.behind().len();
        let seen = &mut self.observer.ahead.seen;
        seen.recalls += 1;
        seen.stops += u64::from(self.observer.stopping_at.is_some());
        seen.losses += u64::from(self.observer.attached_at.is_none());
        self.send_to_line(worker, Received::Recall);
        Ok(())
    }

    /// Tasks that were not begun have left a worker: they are as if it had never had them.
    pub(crate) fn gives_back(&mut self, hands: &[Hand]) {
        let at = self.at();
        for hand in hands {
            let entry = &self.ledger.entries[&hand.handle];
            // It is dropped then.
            let is_revoked = hand.held && !entry.accepted && self.is_revoked(entry.queue, &hand.id);
            let cancelled = hand.cancelled && !is_revoked;
            self.observer.ahead.seen.cancelled_behind += u64::from(cancelled);
            self.ledger.given_back(&Hand { cancelled, ..hand.clone() }, at);
        }
    }

    /// A process has ended.
    pub(crate) fn counts_death(&mut self, behind: &[Hand], is_recalled: bool) {
        let seen = &mut self.observer.ahead.seen;
        seen.deaths_with_tasks_behind += u64::from(!behind.is_empty());
        seen.deaths_after_recall += u64::from(!behind.is_empty() && is_recalled);
    }

    /// After other settings were read: under them what was sent ahead would be another frame, or is not to be sent.
    /// What was sent with the reload is another frame already.
    pub(crate) fn check_recalled(&self, tokens: u64, is_changed: impl Fn(&Child) -> bool) -> Result<(), String> {
        let is_forgotten = |child: &&Child| {
            let is_here = child.killed_at.is_none() && child.dead_at.is_none();
            let is_behind = child.behind().iter().any(|hand| hand.token <= tokens);
            is_here && is_behind && child.recalled_at.is_empty() && is_changed(child)
        };
        match self.children.values().find(is_forgotten) {
            Some(child) => Err(format!("tasks are not called back at a reload: {child:?}")),
            None => Ok(()),
        }
    }

    /// After each event.
    pub(crate) fn check_ahead(&mut self) -> Result<(), String> {
        let at = self.at();
        for child in self.children.values_mut() {
            let is_late = child.recalled_at.front().is_some_and(|asked| *asked + ANSWER < at);
            if is_late && !std::mem::replace(&mut child.ignored_recall, true) {
                self.observer.ahead.seen.unanswered += 1;
            }
        }
        for child in self.children.values() {
            if child.killed_at.is_some() || child.dead_at.is_some() {
                continue;
            }
            let is_asked = !child.recalled_at.is_empty();
            if let Some(hand) = child.hands[..child.in_hand()].iter().find(|hand| hand.cancelled)
                && (!is_asked || child.ignored_recall)
            {
                return Err(format!("{} is cancelled and in hand, and its worker goes on: {child:?}", hand.id));
            }
            if is_asked || child.behind().is_empty() {
                continue;
            }
            if let Some(why) = self.is_off(child) {
                return Err(format!("tasks are not called back, {why}: {child:?}"));
            }
            let is_long = child.hands[0].begun_at.is_some_and(|begun_at| begun_at + LONG < at);
            let mut others = self.children.values().filter(|other| other.queue == child.queue);
            if is_long && others.any(Child::has_seat) {
                return Err(format!("tasks wait behind a long one, and another worker is free: {child:?}"));
            }
        }
        Ok(())
    }
}
