//! Children at work: what one does is told to the core, after the ledger has noted what must follow from it.

use asynctask::{
    frames::FromWorker,
    master::core::event::{Ended, Event, WorkerId},
    task::{Exit, Task},
};

use super::{
    actions::pid_of,
    celery,
    child::{Act, Child},
    ledger::Verdict,
    simulation::Simulation,
};

impl Simulation {
    /// A child does what it was going to do, if it still can.
    pub(crate) fn child_acts(&mut self, worker: WorkerId, act: Act) -> Result<(), String> {
        let (at, well, settings) = (self.at(), self.faults_are_over(), &self.settings);
        let Some(child) = self.children.get_mut(&worker) else { return Ok(()) };
        if child.dead_at.is_some() {
            let Act::Swept(exit) = act else { return Ok(()) };
            return self.child_is_gone(worker, exit);
        }
        let doomed = child.killed_at.is_some();
        if child.frozen_at.is_some() && !(doomed && matches!(act, Act::Exit(_))) {
            return Ok(());
        }
        match act {
            Act::Exit(exit) => return self.child_exits(worker, exit),
            Act::Swept(_) => return Err("what a process left is gone before it".to_owned()),
            Act::Beside(_) => return Err("what a child does beside the master is told to it".to_owned()),
            // Nothing it says is read any more.
            _ if child.hung_up => return Ok(()),
            Act::Say(frame) => {
                let is_ready = matches!(&frame, FromWorker::Ready(ready) if ready.protocol == 1);
                let harmless =
                    matches!(frame, FromWorker::Log { .. } | FromWorker::Unknown(_) | FromWorker::Pong { .. });
                if matches!(frame, FromWorker::Pong { .. }) {
                    child.pinged_at = None;
                }
                let mut is_new = None;
                if is_ready && !child.ready && !child.dismissed && !doomed {
                    is_new = Some((child.queue, child.application.is_some()));
                    child.ready = true;
                    self.observer.ever_ready = true;
                    let most = settings.queue(child.queue).concurrency;
                    let FromWorker::Ready(ready) = &frame else { return Ok(()) };
                    child.seats = ready.concurrency.clamp(1, most) as usize;
                    self.observer.starts_in_a_row[child.queue] = 0;
                    self.observer.starting.is_ready(child.queue, &child.name);
                    self.observer.operator.successors.remove(&worker.slot);
                } else if !harmless {
                    child.faulted = true;
                }
                if let Some((queue, wants)) = is_new {
                    self.application_is_ready(queue, wants);
                }
                self.feed(Event::Said { worker, frame })?;
            }
            Act::Tell(token, outcome) => {
                let Some(position) = child.hands.iter().position(|hand| hand.token == token) else { return Ok(()) };
                let id = child.hands[position].id.clone();
                if !doomed {
                    let hand = child.hands.remove(position);
                    child.told += 1;
                    let (queue, stores) = (child.queue, child.application.is_some());
                    let limit = |task: &Task| celery::limit_of(settings, &self.observer.celery, queue, task);
                    let names = child.begins_next(limit, at);
                    self.observer.ahead.ended(child.queue, &hand, at);
                    if child.dismissed && child.hands.is_empty() && child.telling.is_none() {
                        child.spare_since.get_or_insert(at);
                    }
                    self.observer.needs_proof[child.queue] = false;
                    // Begun before the recall that its cancellation led to reached its worker.
                    let verdict = match (hand.dropped, hand.cancelled) {
                        (true, _) => Verdict::Discarded,
                        (false, true) => Verdict::Cancelled,
                        (false, false) => Verdict::of(&outcome),
                    };
                    self.ledger.ended(&hand, verdict.clone(), at);
                    if !hand.held {
                        self.ended_void(hand.handle, &verdict);
                        self.keys.ended_void(hand.handle, false, self.now);
                    }
                    if verdict == Verdict::Done {
                        self.done_by(stores, &hand);
                    }
                    for (name, token) in names {
                        self.observer.begun_at_its_rate(&self.settings, queue, (&name, token), self.now)?;
                    }
                }
                self.feed(Event::Said { worker, frame: FromWorker::Outcome { id, outcome } })?;
            }
            Act::Accept(token) => {
                let Some(hand) = child.hands.iter().find(|hand| hand.token == token) else { return Ok(()) };
                let id = hand.id.clone();
                self.feed(Event::Said { worker, frame: FromWorker::Accept { id } })?;
            }
            Act::Report(id) => {
                if !doomed && child.telling.take_if(|telling| telling.id == id).is_some() {
                    self.observer.celery.tried.reported += 1;
                    if child.dismissed && child.hands.is_empty() {
                        child.spare_since.get_or_insert(at);
                    }
                }
                self.feed(Event::Said { worker, frame: FromWorker::Reported { id, stored: true } })?;
            }
            Act::SendGarbage => {
                child.faulted = true;
                self.feed(Event::Faulted { worker, fault: "a frame does not parse".to_owned() })?;
            }
            Act::HangUp => {
                child.hung_up = true;
                self.feed(Event::HungUp { worker })?;
            }
            Act::Return(ids) => self.child_returns(worker, ids)?,
            Act::Freeze => {
                if child.hands.is_empty() && child.is_well() && !well {
                    child.frozen_at = Some(at);
                }
                return Ok(());
            }
            Act::Bye => {
                child.faulted |= !child.hands.is_empty();
                child.said_bye = true;
                self.feed(Event::Said { worker, frame: FromWorker::Bye })?;
            }
        }
        if let Some(child) = self.children.get_mut(&worker) {
            let acts = child.leave(&self.settings, &mut self.rng);
            self.acts(worker, acts);
        }
        Ok(())
    }

    fn child_exits(&mut self, worker: WorkerId, exit: Exit) -> Result<(), String> {
        let leaves = self.settings.worker_faults.leaves_processes;
        if self.core.ended_in_order(worker, &exit) || leaves == 0 || !self.rng.chance(leaves) {
            return self.child_is_gone(worker, exit);
        }
        let at = self.at();
        let child = self.children.get_mut(&worker).expect("child_acts saw it");
        child.dead_at = Some(at);
        // What it had not begun does not wait for what it left.
        let behind = child.hands.split_off(child.in_hand());
        let is_recalled = !child.recalled_at.is_empty();
        self.counts_death(&behind, is_recalled);
        self.gives_back(&behind);
        let after = self.rng.micros((500, 2_000_000));
        self.acts(worker, vec![(after, Act::Swept(exit))]);
        self.feed(Event::LeftProcesses(worker))
    }

    /// The core hears of an end: nothing runs of it any more, or that is known which cannot be ended.
    fn child_is_gone(&mut self, worker: WorkerId, exit: Exit) -> Result<(), String> {
        let child = self.children.remove(&worker).expect("child_acts saw it");
        let at = child.dead_at.unwrap_or(self.at());
        self.ended(worker, &child, &exit);
        self.telling_ended(&child);
        // A death at work; what an exit status says comes below.
        self.observer.ever_ready |= child.is_once && child.told_by_exit(&exit).is_none();
        let verdicts = match child.told_by_exit(&exit) {
            Some(verdict) => {
                let verdict = self.observer.unexecuted(&child, verdict);
                let not_begun = matches!(verdict, Verdict::Released | Verdict::Snooze(_));
                self.observer.told_by_exit[child.queue] = not_begun;
                if not_begun {
                    // One that was scaled away is not started again.
                    if child.number <= self.observer.operator.processes[child.queue] {
                        self.failed_start(worker.slot, child.queue, &child.name);
                    }
                } else {
                    self.observer.needs_proof[child.queue] = false;
                    self.observer.starts_in_a_row[child.queue] = 0;
                    self.observer.ever_ready = true;
                }
                vec![verdict]
            }
            None => self.observer.verdicts(&child, &exit, at),
        };
        let (in_hand, behind) = child.hands.split_at(child.in_hand());
        self.counts_death(behind, !child.recalled_at.is_empty());
        // What explains a signal is waited for from now on.
        let at = self.at();
        let heard = |verdict: Verdict| match verdict {
            Verdict::CrashOrReleased { .. } => Verdict::CrashOrReleased { since: at },
            verdict => verdict,
        };
        for (hand, verdict) in in_hand.iter().zip(verdicts.into_iter().map(heard)) {
            self.observer.ahead.ended(child.queue, hand, at);
            let waits = matches!(verdict, Verdict::CrashOrReleased { .. });
            if !hand.held {
                self.ended_void(hand.handle, &verdict);
            }
            if verdict == Verdict::Done {
                self.done_by(false, hand);
            }
            self.ledger.ended(hand, verdict, at);
            if !hand.held {
                self.keys.ended_void(hand.handle, waits, self.now);
            }
        }
        self.gives_back(behind);
        let ended = Ended {
            exit,
            max_rss_bytes: None,
            cpu_seconds: None,
            oom: None,
            output_tail: "its last words".to_owned(),
            unread: false,
            left_running: self.left_running(worker, &child),
            written: None,
        };
        self.feed(Event::Exited { worker, ended })?;
        self.observer.left_running = None;
        Ok(())
    }

    fn left_running(&mut self, worker: WorkerId, child: &Child) -> Vec<String> {
        if child.dead_at.is_none() || !self.rng.chance(300) {
            return Vec::new();
        }
        self.observer.left_running = Some(pid_of(worker));
        vec!["pid 7 (stubborn): it cannot be killed".to_owned()]
    }
}
