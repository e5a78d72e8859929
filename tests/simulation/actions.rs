//! What the core asks for: performed in the model, and held against what it may ask for.

use std::{sync::Arc, time::Duration};

use asynctask::{
    exit_code::Code,
    frames::{
        HaltReason,
        to_worker::{self, ToWorker},
    },
    master::core::event::{Action, Event, Signal, WorkerId},
    task::{Handle, Settlement, Task},
    transport,
};

use super::{
    broker::Effect,
    celery, celery_queues,
    child::{self, Act, Announced, Child, Hand},
    ledger::Entry,
    line::{Line, Received},
    observer::may_be_killed,
    reloads::Reloads,
    simulation::{Simulation, Step},
};

impl Simulation {
    /// Before the core hears from the transport: what it will know then.
    pub(crate) fn heard(&mut self, event: &transport::Event) {
        self.heard_of_storing(event);
        self.heard_of_lost(event);
        match event {
            transport::Event::Attached { .. } => {
                self.observer.attached_at = Some(self.now);
                self.observer.down_since = None;
            }
            transport::Event::Lost { .. } => {
                self.observer.attached_at = None;
                self.observer.down_since.get_or_insert(self.now);
                self.ledger.lost();
                for hand in self.children.values_mut().flat_map(|child| &mut child.hands) {
                    hand.held = self.ledger.entries[&hand.handle].accepted;
                }
                let hands = self.children.values().flat_map(|child| &child.hands);
                let in_hand: Vec<Handle> = hands.map(|hand| hand.handle).collect();
                let all: Vec<Handle> = self.ledger.entries.keys().copied().collect();
                self.keys.lost(&all, &self.ledger.entries, &in_hand, self.now);
            }
            transport::Event::QueueUnavailable { queue, void, .. } => {
                let queue = self.observer.reloads.number(*queue);
                self.observer.unavailable.entry(queue).or_insert(self.now);
                self.ledger.void(void);
                let mut in_hand = Vec::new();
                for hand in self.children.values_mut().flat_map(|child| &mut child.hands) {
                    in_hand.push(hand.handle);
                    if void.contains(&hand.handle) {
                        hand.held = self.ledger.entries[&hand.handle].accepted;
                    }
                }
                self.keys.lost(void, &self.ledger.entries, &in_hand, self.now);
            }
            transport::Event::QueueAdded { queue } => {
                let queue = self.observer.reloads.number(*queue);
                self.observer.unavailable.remove(&queue);
            }
            transport::Event::JobsStopped { void, frozen } => self.heard_of_jobs(void, frozen),
            transport::Event::Unstorable { handle, .. } => {
                self.ledger.reopen(*handle, self.at());
                self.member_is_open(*handle);
            }
            transport::Event::Locked { handle, held_by } => self.keys.told(*handle, held_by.is_none()),
            transport::Event::Surveyed { serial, .. } if self.observer.stopping_at.is_none() => {
                self.observer.surveyed_at = self.broker.surveyed_at[serial];
            }
            transport::Event::Refused(_) => self.observer.stopping(self.now),
            transport::Event::Delivered(deliveries) | transport::Event::CameAgain(deliveries) => {
                for delivery in deliveries {
                    self.heard_of_member(delivery.handle);
                    let entry = self.ledger.entries.get_mut(&delivery.handle).expect("every delivery has an entry");
                    entry.told = true;
                    self.ledger.open.insert(delivery.handle);
                    let Some(identity) = delivery.identity.filter(|_| delivery.redelivered) else { continue };
                    let queue = entry.queue;
                    let hands = self.children.values_mut().filter(|child| child.queue == queue);
                    let mut hands = hands.flat_map(|child| &mut child.hands);
                    if let Some(hand) = hands.find(|hand| !hand.held && hand.identity == Some(identity)) {
                        hand.held = true;
                        self.keys.adopted(hand.handle, delivery.handle);
                        hand.handle = delivery.handle;
                        hand.message = entry.message;
                        (entry.run, entry.sent) = (Some(hand.token), true);
                    }
                }
            }
            event => self.heard_of_queue(event),
        }
    }

    pub(crate) fn perform(&mut self, action: Action) -> Result<(), String> {
        if self.halted.is_some() {
            return Err(format!("an action after the end: {action:?}"));
        }
        match action {
            Action::CancelWaiting { number, id } => self.observer.operator.left_to_the_transport(number, &id),
            Action::Spawn { worker, queue, slot, launch } => {
                let queue = self.observer.reloads.number(queue);
                self.spawn(worker, queue, slot, launch)
            }
            Action::Answer { number, answer } if Reloads::is_reload(number) => self.reload_answered(number, &answer),
            Action::Answer { number, answer } => {
                self.observer.operator.answered(number, answer);
                Ok(())
            }
            Action::KeepParked(parked) => {
                self.kept(parked);
                Ok(())
            }
            Action::LogLevel(_)
            | Action::KeepPaused(_)
            | Action::TaskEnded { .. }
            | Action::TellWaitedFor
            | Action::TaskReopened { .. }
            | Action::TaskEvent(_) => Ok(()),
            Action::TellLedger(task) => self.check_news(&task),
            Action::Reply { queue, correlation_id, body } => self.replied(&queue, &correlation_id, &body),
            Action::Measure { worker } => self.measure(worker),
            Action::SpawnOnce { worker, queue, slot, once, .. } => {
                self.spawn_once(worker, self.observer.reloads.number(queue), slot, &once)
            }
            Action::Send { worker, frame } => self.send(worker, &frame),
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::AddQueue { queue, setup } => self.add_queue(queue, &setup),
            Action::RemoveQueue { queue } => self.remove_queue(queue),
            Action::Credit { queue, credit } => {
                let number = self.observer.reloads.number(queue);
                *self.observer.reloads.touched.entry(number).or_default() += 1;
                let seats = self.observer.operator.processes[number] * self.settings.queue(number).concurrency;
                if credit > seats.max(512) || (credit > 0 && self.observer.stopping_at.is_some()) {
                    return Err(format!("credit {credit} with {seats} seats, stop {:?}", self.observer.stopping_at));
                }
                self.ask(Effect::Credit(queue.0, credit));
                Ok(())
            }
            Action::Settle { handle, settlement } => {
                let entry = self.ledger.entries.get(&handle).ok_or("an unknown handle is settled")?;
                let queue = entry.queue;
                // Many that came again after their end come one after the other.
                self.observer.idle_since[queue].take_if(|_| entry.redelivered && entry.run.is_none());
                if settlement == Settlement::Pass {
                    self.may_run_again(entry)?;
                }
                let now = self.at();
                self.tells_left(&settlement)?;
                let is_dropped = self.is_dropped(handle, &settlement);
                self.ledger.gives_way = is_dropped || self.gives_way(handle, &settlement);
                self.check_end(handle, &settlement)?;
                self.ledger.settle(handle, &settlement, now, self.settings.queue(queue))?;
                if settlement != Settlement::Accept {
                    self.keys.settled(handle);
                }
                self.outcome_settled(handle, &settlement);
                self.may_be_lost(handle, &settlement, is_dropped);
                self.ask(Effect::Store(handle, settlement));
                Ok(())
            }
            Action::Lock { handle, key } => self.lock(handle, &key),
            Action::Survey { serial, .. } => {
                if !self.ledger.open.is_empty() || self.children.values().any(|child| !child.hands.is_empty()) {
                    return Err("a survey with work in hand".to_owned());
                }
                self.check_no_result_is_owed()?;
                let effect = self.broker.ask_survey(serial);
                self.ask(effect);
                Ok(())
            }
            Action::Log { message, .. } => {
                self.may_be_said(&message)?;
                self.said_of_lost(&message)?;
                self.observer.read_log(&message, self.now)
            }
            Action::StopScheduler => {
                if !self.settings.plan.scheduler || std::mem::replace(&mut self.observer.scheduler_stopped, true) {
                    return Err("a scheduler is stopped that is not there".to_owned());
                }
                Ok(())
            }
            Action::Close => {
                self.close();
                Ok(())
            }
            Action::Halt { code, error } => {
                self.check_loss(code, error.as_deref())?;
                self.halt(code)
            }
        }
    }

    fn spawn(&mut self, worker: WorkerId, queue: usize, slot: String, launch: usize) -> Result<(), String> {
        self.may_spawn(worker)?;
        let mut others = self.children.values().filter(|child| child.queue == queue && child.name == slot);
        if others.any(Child::is_wanted) {
            self.observer.operator.successors.insert(worker.slot);
        }
        self.may_start(queue)?;
        if self.spawn_fails(worker, queue, &slot) {
            return Ok(());
        }
        let (well, worker_faults) = (self.faults_are_over(), &self.settings.worker_faults);
        let deaf = worker_faults.deaf || (!well && self.rng.chance(worker_faults.never_ready));
        let announced = Announced::draw(self.settings.workloads[queue].ahead, well, &mut self.rng);
        let line = announced.has_line().then(|| Line::draw(worker_faults, well, &mut self.rng));
        let application = self.settings.application_of(queue);
        let is_of_celery = self.settings.is_celery(queue);
        let child = Child::new(queue, slot, self.at());
        let child = Child { launch, announced, application, is_of_celery, line, deaf, ..child };
        let acts = child::born(&child, &self.settings, well, &mut self.rng);
        self.children.insert(worker, child);
        self.acts(worker, acts);
        self.feed_later(Event::Spawned { worker, pid: pid_of(worker) });
        Ok(())
    }

    pub(crate) fn may_spawn(&self, worker: WorkerId) -> Result<(), String> {
        if self.children.keys().any(|other| other.slot == worker.slot) {
            return Err(format!("{worker:?} is started in a slot whose process lives"));
        }
        if self.observer.stopping_at.is_some() {
            return Err("a process is started in a stop".to_owned());
        }
        Ok(())
    }

    /// Whether the operating system has no process to give; the core is told.
    pub(crate) fn spawn_fails(&mut self, worker: WorkerId, queue: usize, name: &str) -> bool {
        let is_full =
            self.settings.worker_faults.max_processes.is_some_and(|room| self.children.len() >= room as usize);
        let fails = !self.faults_are_over() && (is_full || self.rng.chance(self.settings.worker_faults.spawn_fails));
        if fails {
            self.failed_start(worker.slot, queue, name);
            self.observer.starting.not_made.insert(worker);
            self.feed_later(Event::SpawnFailed { worker, error: "no memory".to_owned() });
        }
        fails
    }

    /// The shell tells the core what became of an action once all of them are performed.
    pub(crate) fn feed_later(&mut self, event: Event) {
        self.observer.pending.push(event);
    }

    fn send(&mut self, worker: WorkerId, frame: &[u8]) -> Result<(), String> {
        let child = self.children.get_mut(&worker).ok_or("a frame to nobody")?;
        if child.dead_at.is_some() {
            return Err(format!("a frame to one that is dead: {child:?}"));
        }
        let task = match to_worker::parse(frame).map_err(|fault| fault.to_string())? {
            ToWorker::Task(task) => task,
            ToWorker::Recall => return self.recalled(worker),
            ToWorker::Halt(reason) => return self.told_to_halt(worker, reason),
            ToWorker::Ping { n } => return self.pinged(worker, n),
            // It changes nothing but lines.
            ToWorker::LogLevel(_) => return Ok(()),
            ToWorker::Unknown(kind) => return self.frame_of_celery(worker, &kind, frame),
        };
        let is_ahead = !child.has_seat();
        let is_application = child.application.is_some();
        if child.hands.iter().any(|hand| hand.id == task.id) {
            return Err(format!("two tasks with the id {} in one process", task.id));
        }
        let queue = child.queue;
        if is_ahead {
            self.may_send_ahead(worker)?;
        }
        let wants_bytes = is_application && self.settings.is_celery(queue);
        let bodies = match (task.json(), &task.payload_base64) {
            (Some(payload), _) if !wants_bytes => celery_queues::bodies(payload),
            (None, Some(payload)) if wants_bytes => celery_queues::bodies_of_base64(payload),
            _ => return Err(format!("a payload in the wrong form: {task:?}")),
        };
        let mut hand = self.begin(queue, &task.id, task.attempt, &bodies)?;
        let limit = self.limit_of(queue, &hand.task);
        if task.time_left() != limit {
            return Err(format!("{task:?} is told another limit than {limit:?}"));
        }
        if is_ahead {
            (hand.begun_at, hand.due_at) = (None, None);
            self.may_stop_soon(&hand.task);
        } else {
            let name = hand.task.name.as_deref().unwrap_or_default();
            self.observer.begun_at_its_rate(&self.settings, queue, (name, hand.token), self.now)?;
        }
        let child = self.children.get_mut(&worker).expect("it was there");
        // Without a limit nothing but a person would ever find it again.
        child.frozen_at.take_if(|_| limit.is_none());
        child.pinged_at = None;
        child.hands.push(hand);
        if child.line.is_some() {
            self.send_to_line(worker, Received::Task(self.tokens));
        } else {
            let well = self.faults_are_over();
            let child = &self.children[&worker];
            let acts = child::work(child, self.tokens, limit, &self.settings, well, &mut self.rng);
            self.acts(worker, acts);
        }
        self.not_too_many()
    }

    /// A task is begun: what must be true then.
    pub(crate) fn begin(&mut self, queue: usize, id: &str, attempt: u32, bodies: &[Vec<u8>]) -> Result<Hand, String> {
        let at = self.at();
        if self.is_revoked(queue, id) {
            return Err(format!("{id} is begun, and was revoked"));
        }
        let is_it = |handle: &&Handle| {
            let entry = &self.ledger.entries[*handle];
            entry.run.is_none()
                && entry.verdict.is_none()
                && entry.queue == queue
                && entry.task.id == id
                && bodies.contains(&entry.task.body)
        };
        // Of two that cannot be told apart, the one that may be begun.
        let is_unlikely = |handle: &&Handle| {
            let entry = &self.ledger.entries[*handle];
            let has_ended = entry.redelivered && self.ledger.ended.contains_key(&entry.message);
            let is_other = entry.task.attempts + 1 != attempt;
            (is_other, entry.uncounted, self.may_begin_with_key(**handle, queue).is_err(), has_ended)
        };
        let open = self.ledger.open.iter().filter(is_it).min_by_key(is_unlikely);
        let handle = *open.ok_or("a task is sent that was not delivered, or is being worked")?;
        let entry = self.ledger.entries.get_mut(&handle).expect("an open handle has an entry");
        if attempt != entry.task.attempts + 1 {
            return Err(format!("attempt {attempt} is sent for {entry:?}"));
        }
        if entry.dropped || entry.frozen {
            return Err(format!("begun although its job was stopped: {entry:?}"));
        }
        if entry.uncounted {
            return Err(format!("begun although that it came again is not counted: {entry:?}"));
        }
        let entry = &self.ledger.entries[&handle];
        self.may_run_again(entry)?;
        self.may_begin_with_key(handle, queue)?;
        self.may_begin_in(queue)?;
        let entry = self.ledger.entries.get_mut(&handle).expect("an open handle has an entry");
        if self.observer.operator.paused[queue] {
            return Err(format!("begun although queue q{queue} is paused: {entry:?}"));
        }
        let settings = self.settings.queue(queue);
        self.tokens += 1;
        self.observer.started(queue, self.now, settings.rate)?;
        let limit = celery::limit_of(&self.settings, &self.observer.celery, queue, &entry.task);
        self.observer.celery.tried.limited += u64::from(limit != settings.timeout);
        Ok(Hand {
            token: self.tokens,
            handle,
            message: entry.message,
            id: id.to_owned(),
            identity: entry.identity,
            task: Arc::clone(&entry.task),
            begun_at: Some(at),
            due_at: limit.map(|limit| at + limit),
            held: true,
            cancelled: false,
            dropped: false,
        })
    }

    /// How long a task may take.
    pub(crate) fn limit_of(&self, queue: usize, task: &Task) -> Option<Duration> {
        celery::limit_of(&self.settings, &self.observer.celery, queue, task)
    }

    /// A task is begun, or said not to be known here: what this node has in hand, or knows to have ended, is neither.
    fn may_run_again(&self, entry: &Entry) -> Result<(), String> {
        let mut hands = self.children.values().flat_map(|child| &child.hands);
        if entry.redelivered && entry.identity.is_some() && hands.any(|hand| hand.message == entry.message) {
            return Err(format!("begun again while it is being worked: {entry:?}"));
        }
        self.observer.may_run(entry, &self.ledger.ended, &self.ledger.doubled, &self.settings, self.now)
    }

    /// After a task was begun.
    pub(crate) fn not_too_many(&mut self) -> Result<(), String> {
        let hands: Vec<&Hand> = self.children.values().flat_map(|child| &child.hands).collect();
        for hand in &hands {
            let entry = self.ledger.entries.get_mut(&hand.handle).expect("a hand has an entry");
            (entry.run, entry.sent) = (Some(hand.token), true);
        }
        if self.settings.plan.max_in_hand.is_some_and(|most| hands.len() > most) {
            return Err(format!("{} tasks at once", hands.len()));
        }
        Ok(())
    }

    /// Who reads how a task failed reads also what of it runs on.
    fn tells_left(&self, settlement: &Settlement) -> Result<(), String> {
        let (Settlement::Retry { failure, .. } | Settlement::Dead(failure)) = settlement else { return Ok(()) };
        let is_its = failure.pid.is_some() && failure.pid == self.observer.left_running;
        if is_its && !failure.detail.contains("left running: pid 7") {
            return Err(format!("what runs on is not told: {failure:?}"));
        }
        Ok(())
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) -> Result<(), String> {
        let at = self.at();
        if self.observer.starting.not_made.contains(&worker) {
            // It is still to be told.
            return Ok(());
        }
        let child = self.children.get(&worker).ok_or("a signal to nobody")?;
        if child.killed_at.is_some() || child.dead_at.is_some() {
            return Err("a killed process is signalled again, or a dead one".to_owned());
        }
        let is_one_by_one = child.seats == 1;
        // One that was sent ahead is recalled first, and its worker is killed when it turns out to be begun.
        let cancelled = (is_one_by_one || self.observer.operator.cancelling.is_some())
            && child.hands[..child.in_hand()].iter().any(|hand| hand.cancelled);
        let cancelled = cancelled || child.hands[..child.in_hand()].iter().any(|hand| hand.dropped);
        let is_silent = child.is_silent(self.answer_limit().min(self.observer.shortest_ping), at);
        let limit = self.settings.plan.supervisor.start_timeout;
        let is_spare = self.is_spare(worker, child);
        let has_cause = may_be_killed(child, limit, at) || cancelled || is_spare || is_silent;
        // Nothing is left to do, and whoever could not be started before is not waited for.
        let is_needless = !has_cause && self.settings.plan.halt_when_empty && self.observer.starting.has_failed(child);
        if signal == Signal::Kill && !(cancelled || is_spare || is_needless) {
            self.may_be_judged(worker, child)?;
        }
        let child = self.children.get_mut(&worker).expect("it was there");
        match signal {
            Signal::Kill => {
                if self.observer.stopping_at.is_none() && !has_cause && !is_needless {
                    return Err(format!("killed without a cause: {child:?}"));
                }
                child.cancelled = cancelled;
                if is_needless {
                    self.observer.stopping(self.now);
                }
                child.dismissed |= is_spare;
                child.killed_at = Some(at);
                let after = self.rng.micros(self.settings.worker_faults.dying);
                self.acts(worker, vec![(after, Act::Exit(child::signal("SIGKILL")))]);
            }
            Signal::Terminate => {
                if !self.settings.queues[child.queue].is_program || self.observer.stopping_at.is_none() {
                    return Err("SIGTERM to one that is not to get it".to_owned());
                }
                child.interrupted = true;
                let acts = child.terminated(&self.settings, &mut self.rng);
                self.acts(worker, acts);
            }
        }
        Ok(())
    }

    fn pinged(&mut self, worker: WorkerId, n: u64) -> Result<(), String> {
        let (at, limit) = (self.at(), self.answer_limit());
        let child = self.children.get_mut(&worker).expect("it was there");
        if !child.is_well() || !child.hands.is_empty() || child.pinged_at.is_some() || child.telling.is_some() {
            return Err(format!("a ping for one that owes no answer: {child:?}"));
        }
        child.pinged_at = Some(at);
        let answer = child::pinged(n, limit, &mut self.rng);
        self.acts(worker, vec![answer]);
        Ok(())
    }

    /// How long an answer to a ping may take.
    pub(crate) fn answer_limit(&self) -> Duration {
        self.settings.plan.supervisor.ping.min(Duration::from_secs(10))
    }

    fn told_to_halt(&mut self, worker: WorkerId, reason: HaltReason) -> Result<(), String> {
        let at = self.at();
        if reason == HaltReason::Empty {
            self.observer.stopping(self.now);
        }
        self.may_be_dismissed(worker, reason)?;
        let child = self.children.get_mut(&worker).expect("it was there");
        child.dismissed = true;
        if child.hands.is_empty() && child.telling.is_none() {
            child.spare_since = Some(at);
        }
        if child.line.is_some() {
            self.send_to_line(worker, Received::Halt);
            return Ok(());
        }
        child.leaving |= !child.deaf;
        let acts = child.leave(&self.settings, &mut self.rng);
        self.acts(worker, acts);
        Ok(())
    }

    fn halt(&mut self, code: Code) -> Result<(), String> {
        self.halted = Some(code);
        self.observer.measure_outage(self.now);
        self.check_halt(code)
    }

    /// Whatever comes after the end changes nothing.
    pub(crate) fn after_halt(&mut self) -> Result<(), String> {
        for _ in 0..20 {
            let Some(((at, _), step)) = self.agenda.pop_first() else { break };
            self.now = at;
            let event = match step {
                Step::Tell(event) => Event::Transport(event),
                Step::Stop => Event::StopAsked,
                Step::Child { worker, act: Act::Say(frame) } => Event::Said { worker, frame },
                _ => continue,
            };
            self.feed(event)?;
        }
        self.now += Duration::from_hours(1);
        self.feed(Event::DeadlinePassed)?;
        self.check_counts()
    }
}

pub(crate) fn pid_of(worker: WorkerId) -> u32 {
    1000 + worker.life as u32 * 10 + worker.slot as u32
}
