//! A worker that takes tasks ahead, as it is on its own side of the socket: the tasks that have reached it, in a line, of which it
//! does one after the other, and what it has written and the master has not read.
//!
//! Both directions of the socket keep their order and take their time, so what the master knows of a worker (`Child::hands`) is not
//! what the worker knows: a recall may cross an outcome, and a task may reach a worker that has ended.

use std::{collections::VecDeque, time::Duration};

use asynctask::{
    frames::FromWorker,
    master::core::event::{Event, WorkerId},
};

use super::{
    celery,
    child::{self, Act, Beside, Hand},
    rng::Rng,
    settings::WorkerFaults,
    simulation::{Simulation, Step},
};

/// A worker that keeps to the protocol answers a recall in this time.
const ANSWER: Duration = Duration::from_millis(50);

/// What reaches a worker that has a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Received {
    /// The task of this run.
    Task(u64),
    Recall,
    Halt,
}

/// What a process does with recalls.
#[derive(Clone, Copy, Debug)]
enum Habit {
    InTime,
    /// The answer may take up to this long.
    Late(Duration),
    Never,
}

/// Its own side.
#[derive(Debug)]
pub(crate) struct Line {
    habit: Habit,
    /// Runs of tasks that have reached it and are not done.
    tasks: VecDeque<u64>,
    /// The first of them is begun.
    is_begun: bool,
    /// What was written last arrives then, there and here.
    sent_until: Duration,
    written_until: Duration,
    /// It has ended: the master reads what it wrote, and then hears of that.
    has_ended: bool,
}

impl Line {
    pub(crate) fn draw(faults: &WorkerFaults, well: bool, rng: &mut Rng) -> Self {
        let habit = if well {
            Habit::InTime
        } else if rng.chance(faults.recalls_ignored) {
            Habit::Never
        } else if rng.chance(faults.recalls_late) {
            Habit::Late(Duration::from_millis(rng.pick(&[200, 900, 1_500])))
        } else {
            Habit::InTime
        };
        Self {
            habit,
            tasks: VecDeque::new(),
            is_begun: false,
            sent_until: Duration::ZERO,
            written_until: Duration::ZERO,
            has_ended: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// When what is written now is read, after what was written before.
    fn write(&mut self, now: Duration, latency: Duration) -> Duration {
        self.written_until = self.written_until.max(now + latency);
        self.written_until.saturating_sub(now)
    }

    /// What it has not begun.
    fn take_out(&mut self) -> Vec<u64> {
        Vec::from(self.tasks.split_off(usize::from(self.is_begun)))
    }
}

impl Simulation {
    /// Something is sent to a worker that has a line.
    pub(crate) fn send_to_line(&mut self, worker: WorkerId, received: Received) {
        let latency = self.rng.micros(self.settings.worker_faults.wire);
        let now = self.now;
        let Some(line) = self.children.get_mut(&worker).and_then(|child| child.line.as_mut()) else { return };
        line.sent_until = line.sent_until.max(now + latency);
        let delay = line.sent_until.saturating_sub(now);
        self.after(delay, Step::Child { worker, act: Act::Beside(Beside::Receive(received)) });
    }

    /// What a worker does on its own side of the socket.
    pub(crate) fn line_acts(&mut self, worker: WorkerId, act: Beside) {
        let now = self.beside.unwrap_or(self.now);
        let Some(child) = self.children.get_mut(&worker) else { return };
        let is_killed =
            matches!(&act, Beside::Write(act) if child.killed_at.is_some() && matches!(**act, Act::Exit(_)));
        if child.dead_at.is_some() || (child.frozen_at.is_some() && !is_killed) {
            return;
        }
        let Some(line) = child.line.as_mut().filter(|line| !line.has_ended) else { return };
        match act {
            Beside::Receive(Received::Task(token)) => {
                line.tasks.push_back(token);
                self.begins_soon(worker);
            }
            Beside::Receive(Received::Halt) => child.leaving |= !child.deaf,
            Beside::Receive(Received::Recall) => self.hears_recall(worker),
            Beside::Begin => {
                if !line.is_begun
                    && let Some(token) = line.tasks.front().copied()
                {
                    line.is_begun = true;
                    let well = self.faults_are_over();
                    let child = &self.children[&worker];
                    let hand = child.hands.iter().find(|hand| hand.token == token);
                    let of_queue = self.settings.queue(child.queue).timeout;
                    let limit = hand.map_or(of_queue, |hand| self.limit_of(child.queue, &hand.task));
                    let acts = child::work(child, token, limit, &self.settings, well, &mut self.rng);
                    self.acts(worker, acts);
                }
            }
            Beside::Answer => {
                let tokens = line.take_out();
                let latency = self.rng.micros(self.settings.worker_faults.wire);
                let delay = line.write(now, latency);
                // The master has all of them in its own view, whatever it has been told meanwhile.
                let id_of =
                    |token: &u64| child.hands.iter().find(|hand| hand.token == *token).map(|hand| hand.id.clone());
                let ids = tokens.iter().filter_map(id_of).collect();
                self.after(delay, Step::Child { worker, act: Act::Return(ids) });
            }
            Beside::Write(act) => {
                match &*act {
                    Act::Tell(token, _) => {
                        if !line.is_begun || line.tasks.front() != Some(token) {
                            return;
                        }
                        line.tasks.pop_front();
                        line.is_begun = false;
                    }
                    Act::Exit(_) => line.has_ended = true,
                    _ => {}
                }
                let latency = self.rng.micros(self.settings.worker_faults.wire);
                let delay = line.write(now, latency);
                self.after(delay, Step::Child { worker, act: *act });
                self.begins_soon(worker);
            }
        }
        if let Some(child) = self.children.get_mut(&worker) {
            let acts = child.leave(&self.settings, &mut self.rng);
            self.acts(worker, acts);
        }
    }

    /// Between two tasks a worker has none in hand, for a moment that a recall may find.
    fn begins_soon(&mut self, worker: WorkerId) {
        let line = self.children.get(&worker).and_then(|child| child.line.as_ref());
        if line.is_some_and(|line| !line.is_begun && !line.tasks.is_empty() && !line.has_ended) {
            let gap = self.rng.micros(self.settings.worker_faults.gap);
            self.after(gap, Step::Child { worker, act: Act::Beside(Beside::Begin) });
        }
    }

    fn hears_recall(&mut self, worker: WorkerId) {
        let well = self.faults_are_over();
        let Some(line) = self.children.get(&worker).and_then(|child| child.line.as_ref()) else { return };
        let longest = match line.habit {
            Habit::Never => return,
            Habit::InTime => ANSWER,
            Habit::Late(longest) => longest,
        };
        let longest = if self.rng.chance(300) { longest } else { longest / 100 };
        let after = self.rng.micros((0, longest.as_micros() as u64));
        if !well && self.rng.chance(self.settings.worker_faults.recalls_deadly) {
            let at = if self.rng.chance(500) { after / 2 } else { after + self.rng.micros((0, 200)) };
            let exit = child::any_exit(&mut self.rng);
            self.acts(worker, vec![(at, Act::Exit(exit))]);
        }
        self.after(after, Step::Child { worker, act: Act::Beside(Beside::Answer) });
    }

    /// The master hears that a worker has not begun these, and will not.
    pub(crate) fn child_returns(&mut self, worker: WorkerId, ids: Vec<String>) -> Result<(), String> {
        let at = self.at();
        let Some(child) = self.children.get_mut(&worker) else { return Ok(()) };
        let is_its = |hand: &Hand| ids.contains(&hand.id);
        let count = child.hands.iter().filter(|hand| is_its(hand)).count();
        if child.killed_at.is_none() {
            let is_wrong = child.recalled_at.pop_front().is_none() || count < ids.len();
            child.faulted |= is_wrong;
            if !is_wrong {
                let seen = &mut self.observer.ahead.seen;
                seen.returned += count as u64;
                seen.first_returned += u64::from(child.hands.first().is_some_and(is_its));
                seen.fewer_returned += u64::from(count < child.asked_back);
                let returned: Vec<Hand> = child.hands.extract_if(.., |hand| is_its(hand)).collect();
                let (queue, settings) = (child.queue, &self.settings);
                let names =
                    child.begins_next(|task| celery::limit_of(settings, &self.observer.celery, queue, task), at);
                if child.dismissed && child.hands.is_empty() {
                    child.spare_since.get_or_insert(at);
                }
                self.gives_back(&returned);
                for (name, token) in names {
                    self.observer.begun_at_its_rate(&self.settings, queue, (&name, token), self.now)?;
                }
            }
        }
        self.feed(Event::Said { worker, frame: FromWorker::Returned { ids } })
    }
}
