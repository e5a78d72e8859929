//! Tasks of jobs: what their ledger is told, and what becomes of them when their round is void or their job is frozen.
//!
//! The transport's model stops a job at some moment: from then on it gives out nothing of it, or, as one that cannot look into its
//! queues, gives out what is void all the same. The core hears of it later, in the order in which it hears of deliveries. What
//! it was told of before is marked then ([`Entry::dropped`], [`Entry::frozen`], [`Hand::dropped`]).

use std::collections::{BTreeMap, BTreeSet};

use asynctask::{
    jobs::{
        entry::{self, How, MemberId, What},
        record::FrozenJob,
    },
    membership::{Membership, ledger_of},
    outcome::{FollowUp, Report, Target},
    task::{Handle, NewTask, Settlement, Task},
    transport,
};
use uuid::Uuid;

use super::{
    child::Child,
    ledger::Entry,
    rng::Rng,
    simulation::{Simulation, Step},
};

/// Jobs that tasks from outside are of.
const JOBS: u64 = 4;
const APPLICATION: &str = "app";

/// What is known of jobs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// The round of each job that is under way.
    rounds: Vec<Uuid>,
    /// Rounds that were made.
    made: u128,
    /// Void rounds, as far as the core was told.
    void: BTreeSet<Uuid>,
    /// The execution with which each message ended, and all of them.
    executions: BTreeMap<u64, Uuid>,
    known: BTreeSet<Uuid>,
    pub(crate) seen: Seen,
}

/// What is rare, counted: a sweep without it proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    ends: u64,
    items: u64,
    repeated: u64,
    begins: u64,
    discarded: u64,
    came_late: u64,
    ended_workers: u64,
    behind: u64,
    released: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.ends += other.ends;
        self.items += other.items;
        self.repeated += other.repeated;
        self.begins += other.begins;
        self.discarded += other.discarded;
        self.came_late += other.came_late;
        self.ended_workers += other.ended_workers;
        self.behind += other.behind;
        self.released += other.released;
    }

    /// Whether a sweep of so many histories has seen enough of each.
    pub(crate) fn enough(&self, histories: u64) -> Result<(), String> {
        let seen = [
            ("ends of members", self.ends),
            ("items", self.items),
            ("ends that were repeated", self.repeated),
            ("begins of steps", self.begins),
            ("discarded tasks", self.discarded),
            ("void tasks that came later", self.came_late),
            ("workers ended for a void task", self.ended_workers),
            ("stopped tasks that were not begun by their worker", self.behind),
            ("tasks of frozen jobs that went back", self.released),
        ];
        match seen.iter().find(|(_, count)| histories >= 1000 && count * 100 < histories) {
            Some((what, count)) => Err(format!("{count} {what} in {histories} histories: {seen:?}")),
            None => Ok(()),
        }
    }
}

/// A worker's outcome, of a task of a job: some of what it submits is of its step.
pub(crate) fn of_member(outcome: Report, rng: &mut Rng) -> Report {
    let Report::Done { submit, given } = outcome else { return outcome };
    let of_step = |follow_up: FollowUp| {
        let target = match rng.between(0, 3) {
            0 => follow_up.target,
            1 => Target::More,
            _ => Target::Item,
        };
        FollowUp { target, ..follow_up }
    };
    Report::Done { submit: submit.into_iter().map(of_step).collect(), given }
}

impl Simulation {
    /// The place of a task from outside, if it is to be of a job.
    pub(crate) fn draw_place(&mut self, queue: usize) -> Option<Box<Membership>> {
        let members = self.settings.jobs.as_ref()?.members;
        if !self.rng.chance(members) {
            return None;
        }
        let jobs = &mut self.observer.jobs;
        while jobs.rounds.len() < JOBS as usize {
            jobs.made += 1;
            jobs.rounds.push(Uuid::from_u128(jobs.made));
        }
        let number = self.rng.between(0, JOBS - 1);
        let round = self.observer.jobs.rounds[number as usize];
        let feeder = if self.rng.chance(500) { round } else { Uuid::from_u128(u128::from(self.rng.next()) << 64) };
        Some(Box::new(Membership {
            application: APPLICATION.to_owned(),
            job: format!("job-{number}"),
            pipeline: "p".to_owned(),
            key: None,
            step: "s".to_owned(),
            queue: self.settings.queue(queue).name.clone(),
            each: self.rng.pick(&["q0", "q1", "q2"]).to_owned(),
            round,
            feeder,
            index: self.rng.between_u32(0, 2),
            wipe: self.rng.chance(50),
            inputs: None,
        }))
    }

    /// A task of a job was sent ahead: perhaps that job is stopped before the worker begins it.
    pub(crate) fn may_stop_soon(&mut self, task: &Task) {
        if task.membership.is_some() && self.settings.jobs.is_some() && self.rng.chance(60) {
            let soon = self.rng.micros((0, 2_000));
            self.after(soon, Step::StopJob);
        }
    }

    /// A job is stopped: its round is void, or it is frozen for a while.
    pub(crate) fn stop_job(&mut self) {
        // One of which something is here, if there is any; rather one of which something was sent ahead.
        let rounds = &self.observer.jobs.rounds;
        let of = |task: &Task| {
            let place = task.membership.as_deref()?;
            rounds.iter().position(|round| *round == place.round)
        };
        let behind = self.children.values().flat_map(Child::behind).filter_map(|hand| of(&hand.task));
        let mut here: Vec<usize> = behind.collect();
        if here.is_empty() || self.rng.chance(300) {
            here = self.ledger.open.iter().filter_map(|handle| of(&self.ledger.entries[handle].task)).collect();
        }
        let number = match here.len() as u64 {
            0 => self.rng.between(0, JOBS - 1) as usize,
            count => here[self.rng.between(0, count - 1) as usize],
        };
        let Some(round) = self.observer.jobs.rounds.get(number).copied() else { return };
        if self.faults_are_over() || !self.broker.is_up {
            return;
        }
        let (mut void, mut frozen) = (Vec::new(), Vec::new());
        if self.rng.chance(600) {
            self.broker.void.insert(round);
            void.push(round);
            let jobs = &mut self.observer.jobs;
            jobs.made += 1;
            jobs.rounds[number] = Uuid::from_u128(jobs.made);
        } else {
            let job = format!("job-{number}");
            self.broker.frozen.insert(job.clone());
            let left = self.settings.faults_end_at.saturating_sub(self.now);
            let after = self.rng.micros((1_000, 10_000_000)).min(left);
            self.after(after, Step::Thaw(job.clone()));
            frozen.push(FrozenJob { application: APPLICATION.to_owned(), id: job });
        }
        self.tell(transport::Event::JobsStopped { void, frozen });
    }

    /// The core is about to hear of it: what it knows of these is marked.
    pub(crate) fn heard_of_jobs(&mut self, void: &[Uuid], frozen: &[FrozenJob]) {
        self.observer.jobs.void.extend(void);
        let is_void = |place: &Membership| void.contains(&place.round);
        let is_frozen = |place: &Membership| frozen.contains(&place.into());
        let seen = &mut self.observer.jobs.seen;
        for child in self.children.values_mut() {
            let in_hand = child.in_hand();
            for (position, hand) in child.hands.iter_mut().enumerate() {
                let Some(place) = hand.task.membership.as_deref() else { continue };
                let is_behind = position >= in_hand;
                hand.dropped |= is_void(place);
                seen.behind += u64::from(is_behind && (is_void(place) || is_frozen(place)));
                seen.ended_workers += u64::from(!is_behind && is_void(place));
                if let Some(entry) = self.ledger.entries.get_mut(&hand.handle).filter(|_| is_behind && is_frozen(place))
                {
                    entry.frozen = true;
                }
            }
        }
        for handle in &self.ledger.open {
            let entry = self.ledger.entries.get_mut(handle).expect("an open handle has an entry");
            let Some(place) = entry.task.membership.as_deref() else { continue };
            entry.dropped |= is_void(place);
            entry.frozen |= entry.run.is_none() && is_frozen(place);
        }
    }

    /// The core is about to hear of this delivery.
    pub(crate) fn heard_of_member(&mut self, handle: Handle) {
        let is_void = self.member_is_open(handle);
        self.observer.jobs.seen.came_late += u64::from(is_void);
    }

    /// A settlement is owed of this delivery. Whether it is of a void round, as the core knows.
    pub(crate) fn member_is_open(&mut self, handle: Handle) -> bool {
        let entry = self.ledger.entries.get_mut(&handle).expect("every delivery has an entry");
        let is_void =
            entry.task.membership.as_ref().is_some_and(|place| self.observer.jobs.void.contains(&place.round));
        entry.dropped = is_void;
        is_void
    }

    /// What a settlement tells the ledger of its task's job is what the ledger must know.
    pub(crate) fn check_end(&mut self, handle: Handle, settlement: &Settlement) -> Result<(), String> {
        let entry = &self.ledger.entries[&handle];
        let jobs = &mut self.observer.jobs;
        jobs.seen.discarded += u64::from(*settlement == Settlement::Discard);
        jobs.seen.released += u64::from(entry.frozen && *settlement == Settlement::Release);
        let Settlement::Done { submit } = settlement else { return Ok(()) };
        let told: Vec<&NewTask> = submit.iter().filter(|task| ledger_of(&task.queue).is_some()).collect();
        let Some(place) = entry.task.membership.as_deref() else {
            return if told.is_empty() { Ok(()) } else { Err(format!("a ledger is told of {entry:?}")) };
        };
        // Its end is stored, or comes with its acceptance.
        if submit.is_empty() && entry.redelivered && entry.run.is_none() {
            return Ok(());
        }
        let [told] = told[..] else { return Err(format!("its ledger is told {} times of {entry:?}", told.len())) };
        if !std::ptr::eq(told, &raw const submit[submit.len() - 1]) || told.queue != "asynctask.ledger.app" {
            return Err(format!("the end comes before what was submitted, or to the wrong ledger: {entry:?}"));
        }
        let entry::Entry::End(end) = entry::Entry::parse(&told.body)? else {
            return Err(format!("what is stored with the end of {entry:?} is no end"));
        };
        if end.member != MemberId::from(place) {
            return Err(format!("{end:?} is told of {entry:?}"));
        }
        let (execution, items) = match end.how {
            How::Done { execution, items, .. } => (execution, items),
            How::Failed { .. } => return Err(format!("told to have failed, and was done: {entry:?}")),
        };
        let members: Vec<&Membership> = submit.iter().filter_map(|task| task.membership.as_deref()).collect();
        let is_right = |(index, member): (u32, &&Membership)| {
            (member.feeder, member.round, member.index) == (execution, place.round, index)
        };
        if members.len() != items as usize || !(0..).zip(&members).all(is_right) {
            return Err(format!("{items} items of execution {execution} are told, and stored are {members:?}"));
        }
        jobs.seen.ends += 1;
        jobs.seen.items += u64::from(items);
        let is_copy = entry.identity.is_some_and(|identity| self.ledger.doubled.contains(&identity));
        match jobs.executions.get(&entry.message) {
            _ if is_copy => {}
            Some(before) if entry.run.is_none() && *before != execution => {
                return Err(format!("{before} is repeated as {execution}: {entry:?}"));
            }
            Some(_) if entry.run.is_none() => jobs.seen.repeated += 1,
            _ if !jobs.known.insert(execution) => return Err(format!("{execution} is there twice: {entry:?}")),
            _ => {}
        }
        jobs.executions.insert(entry.message, execution);
        Ok(())
    }

    /// The ledger is told that a step is worked.
    pub(crate) fn check_news(&mut self, task: &NewTask) -> Result<(), String> {
        let entry::Entry::News(news) = entry::Entry::parse(&task.body)? else { return Err("it is no news".to_owned()) };
        let is_it = |handle: &Handle| {
            let place = self.ledger.entries[handle].task.membership.as_deref();
            place.is_some_and(|place| place.tells_news() && MemberId::from(place) == news.member)
        };
        let of_void = self.children.values().flat_map(|child| &child.hands).any(|hand| !hand.held);
        if news.what != What::Began || news.member.index != 0 || !(of_void || self.ledger.open.iter().any(is_it)) {
            return Err(format!("nothing was begun: {news:?}"));
        }
        self.observer.jobs.seen.begins += 1;
        Ok(())
    }

    /// After each event: nothing void is worked or waits, and nothing waits whose job was frozen.
    pub(crate) fn check_jobs(&self) -> Result<(), String> {
        let is_left = |entry: &&Entry| entry.run.is_none() && (entry.dropped || entry.frozen);
        let mut open = self.ledger.open.iter().map(|handle| &self.ledger.entries[handle]);
        if let Some(entry) = open.find(is_left) {
            return Err(format!("it waits, though its job was stopped: {entry:?}"));
        }
        for child in self.children.values() {
            let goes_on = child.killed_at.is_none() && child.dead_at.is_none() && child.recalled_at.is_empty();
            if goes_on && let Some(hand) = child.hands[..child.in_hand()].iter().find(|hand| hand.dropped) {
                return Err(format!("{} is of a void round, and its worker goes on: {child:?}", hand.id));
            }
        }
        Ok(())
    }
}
