//! What the core asks for: performed in the model, and held against what it may ask for.

use std::{collections::BTreeSet, time::Duration};

use asynctask::{
    error::Code,
    frames::to_worker::{self, ToWorker},
    master::event::{Action, Event, Signal, WorkerId},
    task::{Handle, QueueIndex},
    transport,
};

use super::{
    broker::Effect,
    child::{self, Act, Child, Hand},
    watch::may_be_killed,
    world::{Happening, World},
};

impl World {
    /// Before the core hears from the transport: what it will know then.
    pub(crate) fn heard(&mut self, event: &transport::Event) {
        match event {
            transport::Event::Attached { .. } => {
                self.watch.attached_at = Some(self.now);
                self.watch.down_since = None;
            }
            transport::Event::Lost { .. } => {
                self.watch.attached_at = None;
                self.watch.down_since.get_or_insert(self.now);
                self.ledger.lost();
                for hand in self.children.values_mut().flat_map(|child| &mut child.hands) {
                    hand.held = self.ledger.entries[&hand.handle].accepted;
                }
            }
            transport::Event::Surveyed { serial, .. } if self.watch.stopping_at.is_none() => {
                self.watch.surveyed_at = self.broker.surveyed_at[serial];
            }
            transport::Event::Refused(_) => self.watch.stopping(self.now),
            transport::Event::Delivered(deliveries) => {
                for delivery in deliveries {
                    let entry = self.ledger.entries.get_mut(&delivery.handle).expect("every delivery has an entry");
                    entry.told = true;
                    self.ledger.open.insert(delivery.handle);
                    let Some(identity) = delivery.identity.filter(|_| delivery.redelivered) else { continue };
                    let hands = self.children.values_mut().filter(|child| child.queue == delivery.queue.0);
                    let mut hands = hands.flat_map(|child| &mut child.hands);
                    if let Some(hand) = hands.find(|hand| !hand.held && hand.identity == Some(identity)) {
                        hand.held = true;
                        hand.handle = delivery.handle;
                        hand.message = entry.message;
                        entry.run = Some(hand.token);
                    }
                }
            }
            _ => {}
        }
    }

    pub(crate) fn perform(&mut self, action: Action) -> Result<(), String> {
        if self.halted.is_some() {
            return Err(format!("an action after the end: {action:?}"));
        }
        match action {
            Action::Spawn { worker, queue, .. } => self.spawn(worker, queue),
            Action::Answer { .. } | Action::LogLevel(_) | Action::Measure { .. } => Ok(()),
            Action::SpawnOnce { .. } => Err("no kind here is of mode once".to_owned()),
            Action::Send { worker, frame } => self.send(worker, &frame),
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::Credit { queue, credit } => {
                let seats = self.settings.queue(queue.0).processes * self.settings.queue(queue.0).concurrency;
                if credit > seats.max(512) || (credit > 0 && self.watch.stopping_at.is_some()) {
                    return Err(format!("credit {credit} with {seats} seats, stop {:?}", self.watch.stopping_at));
                }
                self.ask(Effect::Credit(queue.0, credit));
                Ok(())
            }
            Action::Settle { handle, settlement } => {
                let queue = self.ledger.entries.get(&handle).ok_or("an unknown handle is settled")?.queue;
                let now = self.at();
                self.ledger.settle(handle, &settlement, now, self.settings.queue(queue))?;
                self.ask(Effect::Store(handle, settlement));
                Ok(())
            }
            Action::Survey { serial } => {
                if !self.ledger.open.is_empty() || self.children.values().any(|child| !child.hands.is_empty()) {
                    return Err("a survey with work in hand".to_owned());
                }
                let effect = self.broker.ask_survey(serial);
                self.ask(effect);
                Ok(())
            }
            Action::Log { message, .. } => self.watch.read_log(&message, self.now),
            Action::StopScheduler => {
                if !self.settings.plan.scheduler || std::mem::replace(&mut self.watch.scheduler_stopped, true) {
                    return Err("a scheduler is stopped that is not there".to_owned());
                }
                Ok(())
            }
            Action::Halt { code, .. } => self.halt(code),
        }
    }

    fn spawn(&mut self, worker: WorkerId, queue: QueueIndex) -> Result<(), String> {
        if self.children.keys().any(|other| other.slot == worker.slot) {
            return Err(format!("{worker:?} is started in a slot whose process lives"));
        }
        if self.watch.stopping_at.is_some() {
            return Err("a process is started in a stop".to_owned());
        }
        let calm = self.is_calm();
        if !calm && self.dice.chance(self.settings.temper.spawn_fails) {
            self.watch.failed_start(queue.0);
            self.feed_later(Event::SpawnFailed { worker, error: "no memory".to_owned() });
            return Ok(());
        }
        let temper = &self.settings.temper;
        let child = Child {
            queue: queue.0,
            spawned_at: self.at(),
            ready: false,
            seats: 0,
            hands: Vec::new(),
            killed_at: None,
            faulted: false,
            hung_up: false,
            said_bye: false,
            leaving: false,
            dismissed: false,
            deaf: temper.deaf || (!calm && self.dice.chance(temper.never_ready)),
        };
        self.children.insert(worker, child);
        let acts = child::born(&self.settings, calm, &mut self.dice);
        self.acts(worker, acts);
        self.feed_later(Event::Spawned { worker, pid: 1000 + worker.life * 10 + worker.slot as u32 });
        Ok(())
    }

    /// The shell tells the core what became of an action once all of them are performed.
    fn feed_later(&mut self, event: Event) {
        self.watch.pending.push(event);
    }

    fn send(&mut self, worker: WorkerId, frame: &[u8]) -> Result<(), String> {
        let (at, calm) = (self.at(), self.is_calm());
        let hands = self.children.values().flat_map(|child| &child.hands);
        let worked: BTreeSet<u64> = hands.map(|hand| hand.message).collect();
        let child = self.children.get_mut(&worker).ok_or("a frame to nobody")?;
        let task = match to_worker::parse(frame).map_err(|fault| fault.to_string())? {
            ToWorker::Task(task) => task,
            ToWorker::Halt(_) => {
                self.watch.stopping(self.now);
                child.dismissed = true;
                if !child.deaf {
                    child.leaving = true;
                }
                let acts = child.leave(&self.settings, &mut self.dice);
                self.acts(worker, acts);
                return Ok(());
            }
            other => return Err(format!("an unexpected frame {other:?}")),
        };
        if !child.has_seat() {
            return Err(format!("a task is sent to a worker without a seat: {child:?}"));
        }
        if child.hands.iter().any(|hand| hand.id == task.id) {
            return Err(format!("two tasks with the id {} in one process", task.id));
        }
        let body = task.json().map(str::as_bytes).unwrap_or_default();
        let mut open = self.ledger.open.iter();
        let is_it = |handle: &&Handle| {
            let entry = &self.ledger.entries[*handle];
            entry.run.is_none() && entry.queue == child.queue && entry.task.id == task.id && entry.task.body == body
        };
        let handle = *open.find(is_it).ok_or("a task is sent that was not delivered, or is being worked")?;
        let entry = self.ledger.entries.get_mut(&handle).expect("an open handle has an entry");
        if task.attempt != entry.task.attempts + 1 {
            return Err(format!("attempt {} is sent for {entry:?}", task.attempt));
        }
        if entry.redelivered && entry.identity.is_some() && worked.contains(&entry.message) {
            return Err(format!("begun again while it is being worked: {entry:?}"));
        }
        self.watch.may_run(entry, &self.ledger.ended, &self.ledger.doubled, &self.settings, self.now)?;
        let settings = self.settings.queue(child.queue);
        self.tokens += 1;
        entry.run = Some(self.tokens);
        child.hands.push(Hand {
            token: self.tokens,
            handle,
            message: entry.message,
            id: task.id.to_string(),
            identity: entry.identity,
            due_at: settings.timeout.map(|limit| at + limit),
            held: true,
        });
        self.watch.started(child.queue, self.now, settings.rate)?;
        let in_hand: usize = self.children.values().map(|child| child.hands.len()).sum();
        if self.settings.plan.max_in_hand.is_some_and(|most| in_hand > most) {
            return Err(format!("{in_hand} tasks at once"));
        }
        let acts = child::work(&self.children[&worker], self.tokens, &self.settings, calm, &mut self.dice);
        self.acts(worker, acts);
        Ok(())
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) -> Result<(), String> {
        let at = self.at();
        let child = self.children.get_mut(&worker).ok_or("a signal to nobody")?;
        if child.killed_at.is_some() {
            return Err("a killed process is signalled again".to_owned());
        }
        match signal {
            Signal::Kill => {
                let limit = self.settings.plan.supervisor.start_timeout;
                if self.watch.stopping_at.is_none() && !may_be_killed(child, limit, at) {
                    return Err(format!("killed without a cause: {child:?}"));
                }
                child.killed_at = Some(at);
                let after = self.dice.micros(self.settings.temper.dying);
                self.after(after, Happening::Child { worker, act: Act::Exit(child::signal("SIGKILL")) });
            }
            Signal::Terminate => {
                if !self.settings.plan.queues[child.queue].is_program || self.watch.stopping_at.is_none() {
                    return Err("SIGTERM to one that is not to get it".to_owned());
                }
                let acts = child.terminated(&self.settings, &mut self.dice);
                self.acts(worker, acts);
            }
        }
        Ok(())
    }

    fn halt(&mut self, code: Code) -> Result<(), String> {
        self.halted = Some(code);
        self.check_halt(code)
    }

    /// Whatever comes after the end changes nothing.
    pub(crate) fn after_halt(&mut self) -> Result<(), String> {
        for _ in 0..20 {
            let Some(((at, _), happening)) = self.agenda.pop_first() else { break };
            self.now = at;
            let event = match happening {
                Happening::Tell(event) => Event::Transport(event),
                Happening::Stop => Event::StopAsked,
                Happening::Child { worker, act: Act::Say(frame) } => Event::Said { worker, frame },
                _ => continue,
            };
            self.feed(event)?;
        }
        self.now += Duration::from_secs(3600);
        self.feed(Event::DeadlinePassed)
    }
}
