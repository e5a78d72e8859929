//! Other settings while the master runs: queues come, change and go, and what must be so before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use asynctask::{
    config::Rate,
    control::types::Answer,
    master::core::event::{Event, QueuePlan, Settings, WorkerId},
    task::QueueIndex,
    transport::{self, QueueSetup},
};

use super::{
    broker::{Effect, Joining},
    celery_queues::is_application,
    child::Child,
    simulation::{Simulation, Step},
};

/// Reloads are numbered from here, apart from the other commands.
const FIRST: u64 = 1_000_000;

/// What was asked for, and how far the core has come with it.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    /// The queues that the settings name, by number.
    pub(crate) wanted: BTreeSet<usize>,
    /// Numbers of queues by the core's index.
    pub(crate) at: BTreeMap<usize, usize>,
    /// The transport is to let go of these.
    going: BTreeSet<usize>,
    /// Not answered yet.
    waiting: BTreeSet<u64>,
    given: u64,
    /// Changes of credit, by queue.
    pub(crate) touched: BTreeMap<usize, u32>,
}

impl Reloads {
    pub(crate) fn new(queues: usize) -> Self {
        Self { wanted: (0..queues).collect(), at: (0..queues).map(|index| (index, index)).collect(), ..Self::default() }
    }

    /// The queue at an index of the core's.
    pub(crate) fn number(&self, queue: QueueIndex) -> usize {
        self.at[&queue.0]
    }

    /// Whether the core works it.
    pub(crate) fn is_member(&self, number: usize) -> bool {
        self.wanted.contains(&number) && !self.going.contains(&number)
    }

    pub(crate) const fn is_reload(number: u64) -> bool {
        number >= FIRST
    }

    /// Nobody may be left without an answer.
    pub(crate) fn all_answered(&self) -> Result<(), String> {
        if self.waiting.is_empty() { Ok(()) } else { Err(format!("reloads without an answer: {:?}", self.waiting)) }
    }
}

impl Simulation {
    /// The settings are read again, and may say anything.
    pub(crate) fn reload(&mut self) -> Result<(), String> {
        self.count_descriptors()?;
        let stopping = self.observer.stopping_at.is_some();
        let number = FIRST + self.observer.reloads.given;
        self.observer.reloads.given += 1;
        self.observer.operator.last_at = self.now;
        let before = self.settings.queues.clone();
        let members: BTreeSet<usize> =
            (0..before.len()).filter(|queue| self.observer.reloads.is_member(*queue)).collect();
        if !stopping {
            let all = self.settings.queues.len();
            let mut wanted: BTreeSet<usize> = (0..all).filter(|_| self.rng.chance(650)).collect();
            if wanted.is_empty() {
                wanted.insert(self.rng.between(0, all as u64 - 1) as usize);
            }
            (0..all).for_each(|queue| self.settings_change(queue, wanted.contains(&queue)));
            self.observer.reloads.wanted = wanted;
        }
        if !stopping && self.rng.chance(200) {
            self.ping_changes();
        }
        let wait = self.rng.chance(500);
        let mut queues: Vec<QueuePlan> =
            self.observer.reloads.wanted.iter().map(|queue| self.settings.queues[*queue].clone()).collect();
        if self.rng.chance(300) {
            queues.reverse();
        }
        let supervisor = self.settings.plan.supervisor;
        let scheduler = self.settings.plan.scheduler && !self.observer.scheduler_stopped;
        let (names, pipelines) = (asynctask::config::Names::default(), self.settings.plan.pipelines.clone());
        let settings = Box::new(Settings { queues, supervisor, scheduler, names, pipelines });
        self.observer.reloads.waiting.insert(number);
        let same = |queue: &usize| {
            self.observer.reloads.wanted.contains(queue) && before[*queue] == self.settings.queues[*queue]
        };
        let same: BTreeSet<usize> = members.into_iter().filter(same).collect();
        let (workers, actions) = (self.workers_of(&same), self.observer.reloads.touched.clone());
        let tokens = self.tokens;
        self.feed(Event::SettingsRead { number: Some(number), wait, by: "somebody".to_owned(), settings })?;
        let is_same = |queue: usize| before[queue] == self.settings.queues[queue];
        self.check_recalled(tokens, |child| {
            !is_same(child.queue) || !self.observer.reloads.wanted.contains(&child.queue)
        })?;
        let mut now = self.workers_of(&same);
        // What waited for the place of another one may have it now.
        now.retain(|(worker, _)| {
            self.settings.plan.starts_at_once == usize::MAX || workers.iter().any(|(known, _)| known == worker)
        });
        // What was started for others may have failed at once, and ended the run.
        let ended = self.observer.stopping_at.is_some() && !stopping;
        let touched = same.iter().any(|queue| self.observer.reloads.touched.get(queue) != actions.get(queue));
        if !ended && (now != workers || touched) {
            return Err("a queue that is the same is touched".to_owned());
        }
        let answered = !self.observer.reloads.waiting.contains(&number);
        if answered || (wait && !stopping) { Ok(()) } else { Err("a reload is not answered at once".to_owned()) }
    }

    /// The processes of these queues, and whether they are to go. Those for one task come with the tasks.
    fn workers_of(&self, queues: &BTreeSet<usize>) -> Vec<(WorkerId, bool)> {
        let here = self.children.iter().filter(|(_, child)| queues.contains(&child.queue) && !child.is_once);
        here.map(|(worker, child)| (*worker, child.is_wanted())).collect()
    }

    /// The rounds begin anew.
    fn ping_changes(&mut self) {
        let old = self.settings.plan.supervisor.ping;
        let new = Duration::from_millis(self.rng.pick(&[2_000, 12_000, 30_000]));
        self.settings.plan.supervisor.ping = new;
        self.observer.longest_ping = self.observer.longest_ping.max(old).max(new);
        self.observer.shortest_ping = self.observer.shortest_ping.min(old);
        self.observer.pings_changed_at = self.at();
    }

    fn settings_change(&mut self, queue: usize, is_wanted: bool) {
        let was_member = self.observer.reloads.wanted.contains(&queue);
        if !is_wanted {
            if was_member {
                self.forget(queue);
            }
            return;
        }
        let before = self.settings.queues[queue].clone();
        let other_celery = self.celery_changes(queue);
        let plan = &mut self.settings.queues[queue];
        if self.rng.chance(250) {
            plan.settings.processes = self.rng.between_u32(1, 3);
        }
        if self.rng.chance(150) {
            plan.settings.breaker.failures = self.rng.pick(&[2, 10, 1000]);
        }
        if self.rng.chance(150) {
            plan.settings.dead_letter.keep = self.rng.chance(500).then_some(Duration::from_hours(1));
        }
        if self.rng.chance(150) && !plan.is_once {
            plan.settings.recycle.max_tasks = self.rng.chance(500).then(|| self.rng.between(1, 4));
        }
        if self.rng.chance(150) {
            plan.settings.timeout = Some(Duration::from_millis(self.rng.pick(&[300, 3_000, 20_000])));
        }
        if self.rng.chance(150) {
            self.ledger.earlier.push((plan.settings.name.clone(), plan.settings.retry));
            plan.settings.retry.max_attempts = self.rng.between_u32(1, 4);
            plan.settings.retry.backoff.first = Duration::from_millis(self.rng.pick(&[1, 200, 2_000]));
        }
        if let Some(unique) = &mut plan.settings.unique
            && self.rng.chance(150)
        {
            unique.after = Duration::from_millis(self.rng.pick(&[100, 1_000, 5_000]));
        }
        if self.rng.chance(150) {
            let rate =
                Rate { calls: self.rng.between_u32(1, 6), period: Duration::from_millis(self.rng.pick(&[50, 3_000])) };
            let rate = self.rng.chance(700).then_some(rate);
            self.observer.rate_changed(queue, plan.settings.rate, rate);
            plan.settings.rate = rate;
        }
        let other_concurrency = !plan.is_once && self.rng.chance(150);
        if other_concurrency {
            plan.settings.concurrency = 3 - plan.settings.concurrency;
        }
        let other_launch = self.rng.chance(250);
        if other_launch || other_concurrency || other_celery {
            plan.launch += usize::from(other_launch);
            // What it was parked for is perhaps mended.
            self.observer.parked[queue] = false;
            self.observer.is_pausing[queue] = false;
            self.observer.needs_proof[queue] = false;
            self.observer.operator.restarted_at[queue] = Some(self.now);
        }
        if !was_member || before != *plan {
            self.observer.operator.processes[queue] = plan.settings.processes;
        }
    }

    /// A queue is not worked any more.
    fn forget(&mut self, queue: usize) {
        let observer = &mut self.observer;
        (observer.operator.processes[queue], observer.operator.paused[queue]) = (0, false);
        observer.operator.pause_until[queue] = None;
        observer.operator.restarted_at[queue] = None;
        (observer.parked[queue], observer.needs_proof[queue]) = (false, false);
        observer.is_pausing[queue] = false;
        observer.starts_in_a_row[queue] = 0;
        observer.starting.is_proven[queue] = false;
        observer.told_by_exit[queue] = false;
    }

    pub(crate) fn add_queue(&mut self, index: QueueIndex, setup: &QueueSetup) -> Result<(), String> {
        let reloads = &mut self.observer.reloads;
        let named = setup.name.strip_prefix('q').and_then(|number| number.parse::<usize>().ok());
        let queue = named.ok_or("a queue of nobody's is added")?;
        let elsewhere = reloads.at.iter().any(|(at, known)| (*at == index.0) != (*known == queue));
        if elsewhere || !reloads.wanted.contains(&queue) || self.observer.stopping_at.is_some() {
            return Err(format!("{queue} is added at {index:?}, with {:?}", reloads.at));
        }
        if setup.delays != self.settings.queue(queue).delays() {
            return Err(format!("q{queue} is asked for with the delays {:?}", setup.delays));
        }
        reloads.at.insert(index.0, queue);
        let refuse = !self.faults_are_over() && self.rng.chance(150);
        self.ask(Effect::Add(Joining { index: index.0, queue, keep: setup.dead.keep, refuse }));
        Ok(())
    }

    pub(crate) fn remove_queue(&mut self, index: QueueIndex) -> Result<(), String> {
        let queue = self.observer.reloads.number(index);
        if self.observer.reloads.is_member(queue) {
            return Err(format!("q{queue} is let go although it is wanted"));
        }
        if let Some(child) = self.children.values().find(|child| child.queue == queue) {
            return Err(format!("q{queue} is let go, and there is {child:?}"));
        }
        if let Some(handle) = self.ledger.open.iter().find(|handle| self.ledger.entries[handle].queue == queue) {
            return Err(format!("q{queue} is let go with {:?} open", self.ledger.entries[handle]));
        }
        self.observer.reloads.going.insert(queue);
        self.ask(Effect::RemoveQueue(index.0));
        Ok(())
    }

    /// Before the core hears of its queues.
    pub(crate) fn heard_of_queue(&mut self, event: &transport::Event) {
        if let transport::Event::QueueRemoved { queue } = event {
            let number = self.observer.reloads.number(*queue);
            self.observer.reloads.at.remove(&queue.0);
            self.observer.reloads.going.remove(&number);
            self.observer.unavailable.remove(&number);
            self.observer.queue_removed(number);
            self.observer.celery.begins_anew(number, &self.settings);
        }
    }

    /// How long the transport keeps dead letters of a queue, once it has done what it was asked for. `QueueAdded` may tell that a
    /// queue is available again while a change of it is on its way, or waits for a session.
    fn keep_asked_for(&self, queue: usize) -> Option<Duration> {
        let on_its_way = self.agenda.values().rev().find_map(|step| match step {
            Step::Broker { effect: Effect::Add(joining), .. } if joining.queue == queue => Some(joining.keep),
            _ => None,
        });
        let waits = || self.broker.joining.iter().rev().find(|joining| joining.queue == queue);
        on_its_way.or_else(|| waits().map(|joining| joining.keep)).unwrap_or(self.broker.keeps[queue])
    }

    pub(crate) fn reload_answered(&mut self, number: u64, answer: &Answer) -> Result<(), String> {
        if !self.observer.reloads.waiting.remove(&number) {
            return Err(format!("reload {number} is answered twice: {answer:?}"));
        }
        let reloads = &self.observer.reloads;
        let Answer::Done(text) = answer else { return Ok(()) };
        if self.observer.stopping_at.is_some() {
            return Err("a reload is done in a stop".to_owned());
        }
        if text != "the new settings are in force" {
            return Ok(());
        }
        let at: BTreeSet<usize> = reloads.at.values().copied().collect();
        if at != reloads.wanted || self.broker.attached() != reloads.wanted {
            return Err(format!("done with {at:?} instead of {:?}", reloads.wanted));
        }
        let is_wrong = |queue: &&usize| self.keep_asked_for(**queue) != self.settings.queue(**queue).dead_letter.keep;
        if let Some(queue) = reloads.wanted.iter().find(is_wrong) {
            return Err(format!("done, and the transport knows q{queue} as it was"));
        }
        let is_of_old = |child: &&Child| {
            let is_well = child.is_wanted() && child.killed_at.is_none() && child.dead_at.is_none();
            let plan = &self.settings.queues[child.queue];
            let is_other = child.launch != plan.launch
                || child.is_of_celery != plan.settings.protocol.is_celery()
                || child.application.is_some() != is_application(&plan.settings.kind);
            is_well && !child.is_once && is_other
        };
        if let Some(child) = self.children.values().find(is_of_old) {
            return Err(format!("done, and there is one of the old settings: {child:?}"));
        }
        match self.children.values().find(|child| !reloads.wanted.contains(&child.queue)) {
            Some(child) => Err(format!("done, and there is {child:?}")),
            None => Ok(()),
        }
    }
}
