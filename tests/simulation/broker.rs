//! A transport that keeps the contract of `asynctask::transport` to the letter, and no more: settlements take
//! effect late or, if the session is lost first, never or by half; what was in hand then comes again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use asynctask::{
    clock::Timestamp,
    master::core::event::Plan,
    membership::{Membership, ledger_of},
    task::{Delivery, Handle, Headers, NewTask, QueueIndex, Settlement, Task},
    transport::{Error, Event},
};

use uuid::Uuid;

use super::{celery_queues::Told, rng::Rng, settings::TransportFaults};

/// One message. A copy (retry, snooze, dead letter) is another message of the same `origin`.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) origin: u64,
    pub(crate) queue: usize,
    pub(crate) id: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) attempts: u32,
    pub(crate) deliveries: u32,
    pub(crate) redelivered: bool,
    /// It came again, which a classic queue has not counted.
    pub(crate) uncounted: bool,
    pub(crate) headers: Headers,
    pub(crate) first_failed_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) place: Place,
    /// When it was submitted from outside.
    pub(crate) came_at: Option<Duration>,
    /// What it says as one of Celery's.
    pub(crate) told: Option<Box<Told>>,
    /// Its place in a job.
    pub(crate) membership: Option<Box<Membership>>,
}

impl Message {
    /// A task that is submitted.
    pub(crate) fn of(origin: u64, queue: usize, task: NewTask) -> Self {
        Self {
            origin,
            queue,
            id: Some(task.id),
            body: task.body,
            attempts: 0,
            deliveries: 0,
            redelivered: false,
            uncounted: false,
            headers: task.headers,
            first_failed_at: None,
            expires_at: task.expires_at,
            place: Place::Ready,
            came_at: None,
            told: None,
            membership: task.membership,
        }
    }
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Ready,
    /// A delay, or the time until the broker notices that a connection is dead.
    Delayed,
    InHand(Handle),
}

/// A delivery that was accepted, and its last settlement until that is answered.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) message: Message,
    decided: Option<Settlement>,
    /// The original is gone, and the acceptance is answered with the settlement that follows.
    is_unanswered: bool,
}

/// A queue that is to be worked at an index, with the time that its dead letters are kept; or one that cannot be had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joining {
    pub(crate) index: usize,
    pub(crate) queue: usize,
    pub(crate) keep: Option<Duration>,
    pub(crate) refuse: bool,
}

/// The effect of a request, later.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Of the queue at an index.
    Credit(usize, u32),
    /// A queue is to be worked at this index; or it cannot be had.
    Add(Joining),
    RemoveQueue(usize),
    Store(Handle, Settlement),
    /// A key is asked for.
    Lock(Handle),
    /// An acceptance is performed: the original is out of its queue.
    Acknowledge(Handle),
    Remove(Handle),
    Survey(u64),
    /// What a survey found, after the pauses that make it trustworthy.
    Answer(Event),
}

/// What follows from something at the broker: told to the core, or to be done after a while.
#[derive(Debug)]
pub(crate) enum Next {
    Tell(Event),
    Due(u64, Duration),
    Then(Effect),
}

#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) messages: BTreeMap<u64, Message>,
    /// Accepted: the handle outlives its session, and what is decided about it with it.
    pub(crate) accepted: BTreeMap<Handle, Accepted>,
    /// In hand when the session was lost: an acceptance that was asked for before the master heard of it counts.
    pub(crate) in_hand_at_loss: BTreeMap<Handle, Message>,
    /// Dead letters and finished ones, by origin.
    pub(crate) ended: BTreeMap<u64, u32>,
    pub(crate) handles: BTreeMap<Handle, u64>,
    /// The ids that deliveries had.
    made_up: BTreeMap<Handle, String>,
    pub(crate) names: Vec<String>,
    pub(crate) credit: Vec<u32>,
    /// Queues by their index.
    pub(crate) members: BTreeMap<usize, usize>,
    /// Indexes of queues that cannot be worked for now.
    pub(crate) down: BTreeSet<usize>,
    /// To be added when there is a session.
    pub(crate) joining: Vec<Joining>,
    /// Credit given to queues that wait to be added, by their index.
    pub(crate) early_credit: BTreeMap<usize, u32>,
    /// How long the dead letters of each queue are kept.
    pub(crate) keeps: Vec<Option<Duration>>,
    /// Indexes that are to be free.
    pub(crate) leaving: BTreeSet<usize>,
    pub(crate) session: u32,
    pub(crate) is_up: bool,
    next: u64,
    survey: u64,
    /// When each survey was answered.
    pub(crate) surveyed_at: BTreeMap<u64, Duration>,
    pub(crate) answers_accept_at_once: bool,
    /// So often in a thousand another master has a key that is asked for.
    pub(crate) keys_held_elsewhere: u32,
    /// So often in a thousand what a task submits can never be stored.
    pub(crate) unstorable: u32,
    /// Whether each queue is a classic one, which counts no deliveries.
    pub(crate) classic: Vec<bool>,
    /// Rounds of which nothing counts any more; what waits of them is removed, or not.
    pub(crate) void: BTreeSet<Uuid>,
    pub(crate) removes_void: bool,
    /// The tasks that were removed so.
    pub(crate) removed: BTreeSet<u64>,
    /// Jobs of which nothing is handed out for now.
    pub(crate) frozen: BTreeSet<String>,
}

impl Broker {
    pub(crate) fn new(plan: &Plan, names: Vec<String>, faults: &TransportFaults) -> Self {
        Self {
            credit: vec![0; names.len()],
            keeps: (0..names.len())
                .map(|queue| plan.queues.get(queue).and_then(|queue| queue.settings.dead_letter.keep))
                .collect(),
            members: (0..plan.queues.len()).map(|index| (index, index)).collect(),
            classic: faults.classic.iter().copied().cycle().take(names.len()).collect(),
            names,
            answers_accept_at_once: faults.answers_accept_at_once,
            ..Self::default()
        }
    }

    /// The queue of this name, which is made if there is none.
    pub(crate) fn queue_named(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.credit.push(0);
            self.keeps.push(None);
            self.classic.push(false);
            self.names.len() - 1
        })
    }

    /// The queues that are worked, or were until a moment ago.
    pub(crate) fn attached(&self) -> BTreeSet<usize> {
        self.members.values().copied().collect()
    }

    /// Whether it delivers from this queue.
    pub(crate) fn delivers_from(&self, queue: usize) -> bool {
        let delivers_from = |index: &usize| !self.leaving.contains(index) && !self.down.contains(index);
        self.members.iter().any(|(index, member)| *member == queue && delivers_from(index))
    }

    /// Where the master has this queue, which it has while anything of it is in hand.
    fn index_of(&self, queue: usize) -> QueueIndex {
        let index = self.members.iter().find(|(_, member)| **member == queue).map(|(index, _)| *index);
        QueueIndex(index.expect("a queue stays while anything of it is in hand"))
    }

    fn join(&mut self, joining: Joining) -> Event {
        let Joining { index, queue, keep, refuse } = joining;
        let is_member = self.members.get(&index) == Some(&queue);
        let queue_index = QueueIndex(index);
        if !is_member {
            assert_eq!(self.members.insert(index, queue), None, "an index is used that is not free");
            self.credit[queue] = self.early_credit.remove(&index).unwrap_or(0);
            self.down.insert(index);
        }
        self.keeps[queue] = keep;
        if refuse && self.down.contains(&index) {
            return self.refusal(index);
        }
        self.down.remove(&index);
        Event::QueueAdded { queue: queue_index }
    }

    fn refusal(&self, index: usize) -> Event {
        let error = Error::NoSuchQueue { queue: self.names[self.members[&index]].clone() };
        let again_in = Duration::from_secs(1);
        Event::QueueUnavailable { queue: QueueIndex(index), error, again_in, void: Vec::new() }
    }

    /// One queue cannot be worked any more, while the session stands. What was in hand of it comes again: the numbers.
    pub(crate) fn fail(&mut self, rng: &mut Rng) -> Option<(Event, Vec<u64>)> {
        let all: Vec<usize> = self.members.keys().copied().filter(|index| !self.down.contains(index)).collect();
        let index = *all.get(rng.between(0, all.len().max(1) as u64 - 1) as usize).filter(|_| self.is_up)?;
        let queue = self.members[&index];
        let (mut voided, mut back) = (Vec::new(), Vec::new());
        for (handle, number) in &self.handles {
            let Some(message) = self.messages.get_mut(number).filter(|message| message.queue == queue) else {
                continue;
            };
            back.push(*number);
            message.place = Place::Delayed;
            message.redelivered = true;
            message.deliveries += 1;
            if !self.accepted.contains_key(handle) {
                self.in_hand_at_loss.insert(*handle, message.clone());
                voided.push(*handle);
            }
        }
        self.handles.retain(|_, number| !back.contains(number));
        self.accepted.values_mut().filter(|accepted| accepted.message.queue == queue).for_each(never_answered);
        // Whose acceptance was under way: it stands, and the original comes again to be removed.
        self.down.insert(index);
        let Event::QueueUnavailable { queue, error, again_in, .. } = self.refusal(index) else { return None };
        Some((Event::QueueUnavailable { queue, error, again_in, void: voided }, back))
    }

    /// It is tried again; `None`: that is not needed any more.
    pub(crate) fn retry(&mut self, index: usize, succeeds: bool) -> Option<Event> {
        if !self.down.contains(&index) || self.leaving.contains(&index) {
            return None;
        }
        if !succeeds || !self.is_up {
            return Some(self.refusal(index));
        }
        self.down.remove(&index);
        Some(Event::QueueAdded { queue: QueueIndex(index) })
    }

    /// What waited for a session.
    pub(crate) fn join_waiting(&mut self) -> Vec<Event> {
        let joining = std::mem::take(&mut self.joining);
        joining.into_iter().map(|joining| self.join(joining)).collect()
    }

    /// Queues that are to go, and of which nothing is in hand any more.
    pub(crate) fn remove_idle_queues(&mut self) -> Vec<Event> {
        let mut gone = Vec::new();
        for index in self.leaving.clone() {
            let queue = self.members.get(&index).copied();
            let is_held = |message: &Message| Some(message.queue) == queue;
            let in_hand =
                self.messages.values().any(|message| is_held(message) && matches!(message.place, Place::InHand(_)));
            if in_hand || self.accepted.values().any(|accepted| is_held(&accepted.message)) {
                continue;
            }
            self.leaving.remove(&index);
            self.members.remove(&index);
            self.down.remove(&index);
            gone.push(Event::QueueRemoved { queue: QueueIndex(index) });
        }
        gone
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Puts a message in; its number.
    pub(crate) fn put(&mut self, message: Message) -> u64 {
        let number = self.number();
        self.messages.insert(number, message);
        number
    }

    /// A session stands: what was decided about accepted deliveries meanwhile is to be stored.
    pub(crate) fn restore(&mut self) -> (Event, Vec<Effect>) {
        self.session += 1;
        self.is_up = true;
        let decided = self.accepted.iter_mut().filter_map(|(handle, accepted)| {
            accepted.decided.take().map(|settlement| Effect::Store(*handle, settlement))
        });
        (Event::Attached { session: self.session }, decided.collect())
    }

    /// The session is gone. What was in hand is worth a return after a while: their numbers.
    pub(crate) fn lose(&mut self, again_in: Duration) -> (Event, Vec<u64>) {
        self.is_up = false;
        self.survey = 0;
        self.accepted.values_mut().for_each(never_answered);
        let mut back = Vec::new();
        for (handle, number) in std::mem::take(&mut self.handles) {
            let Some(message) = self.messages.get_mut(&number) else { continue };
            self.in_hand_at_loss.insert(handle, message.clone());
            message.place = Place::Delayed;
            message.redelivered = true;
            if self.classic[message.queue] {
                message.uncounted = true;
            } else {
                message.deliveries += 1;
            }
            back.push(number);
        }
        let error = Error::Lost { uri: "amqp://there".to_owned(), cause: "it went away".to_owned() };
        (Event::Lost { error, again_in }, back)
    }

    /// Deliveries that the credit allows now.
    pub(crate) fn pump(&mut self, rng: &mut Rng) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        if !self.is_up {
            return deliveries;
        }
        self.remove_void();
        let (mut held, mut ready) = (vec![0; self.names.len()], vec![Vec::new(); self.names.len()]);
        for (number, message) in &self.messages {
            match message.place {
                Place::Ready if self.is_frozen(message) => {}
                Place::Ready => ready[message.queue].push(*number),
                Place::InHand(_) => held[message.queue] += 1,
                Place::Delayed => {}
            }
        }
        let members =
            self.members.iter().filter(|(index, _)| !self.leaving.contains(index) && !self.down.contains(index));
        for queue in members.map(|(_, queue)| *queue).collect::<Vec<_>>() {
            let kept = |(handle, accepted): &(&Handle, &Accepted)| {
                accepted.message.queue == queue && !self.handles.contains_key(handle)
            };
            let held = held[queue] + self.accepted.iter().filter(kept).count();
            let free = (self.credit[queue] as usize).saturating_sub(held);
            for number in std::mem::take(&mut ready[queue]).into_iter().take(free) {
                deliveries.push(self.deliver(number, rng));
            }
        }
        deliveries
    }

    fn is_frozen(&self, message: &Message) -> bool {
        message.membership.as_ref().is_some_and(|place| self.frozen.contains(&place.job))
    }

    /// What could be handed out of a void round goes, where the transport can find it.
    fn remove_void(&mut self) {
        if !self.removes_void || self.void.is_empty() {
            return;
        }
        let void = &self.void;
        let is_void = |message: &Message| message.membership.as_ref().is_some_and(|place| void.contains(&place.round));
        let removed = self.messages.extract_if(.., |_, message| message.place == Place::Ready && is_void(message));
        self.removed.extend(removed.map(|(_, message)| message.origin));
    }

    fn deliver(&mut self, number: u64, rng: &mut Rng) -> Delivery {
        let handle = Handle(self.number());
        self.handles.insert(handle, number);
        self.messages.get_mut(&number).expect("a ready message exists").place = Place::InHand(handle);
        let message = &self.messages[&number];
        let id = message.id.clone().unwrap_or_else(|| format!("made-up-{}-{}", handle.0, rng.between(0, 9)));
        self.made_up.insert(handle, id.clone());
        Delivery {
            handle,
            queue: self.index_of(message.queue),
            identity: message.id.as_ref().map(|id| identity(message, id)),
            redelivered: message.redelivered,
            task: Arc::new(task_of(message, id)),
        }
    }

    pub(crate) fn ask_survey(&mut self, serial: u64) -> Effect {
        self.survey = serial;
        Effect::Survey(serial)
    }

    /// A request takes effect.
    pub(crate) fn effect(&mut self, effect: Effect, now: Duration, rng: &mut Rng) -> Vec<Next> {
        match effect {
            Effect::Credit(index, credit) => {
                if let Some(queue) = self.members.get(&index).filter(|_| !self.leaving.contains(&index)) {
                    self.credit[*queue] = credit;
                } else if self.joining.iter().any(|joining| joining.index == index) {
                    self.early_credit.insert(index, credit);
                }
                Vec::new()
            }
            Effect::Add(joining) if self.is_up => vec![Next::Tell(self.join(joining))],
            Effect::Add(joining) => {
                self.joining.push(joining);
                Vec::new()
            }
            Effect::RemoveQueue(index) => {
                self.joining.retain(|joining| joining.index != index);
                self.early_credit.remove(&index);
                self.leaving.insert(index);
                if let Some(queue) = self.members.get(&index) {
                    self.credit[*queue] = 0;
                }
                Vec::new()
            }
            Effect::Survey(serial) if serial == self.survey && self.is_up => {
                self.survey = 0;
                self.surveyed_at.entry(serial).or_insert(now);
                let members = self.members.iter().filter(|(index, _)| !self.down.contains(index));
                let members: BTreeSet<usize> = members.map(|(_, queue)| *queue).collect();
                let mut messages = self.messages.values();
                let empty = messages.all(|message| !members.contains(&message.queue)) && self.accepted.is_empty();
                // What is said with `empty` means nothing, so it is anything.
                let again_in = if empty { rng.pick(&[0, 1000, 1 << 40]) } else { rng.between(1_000, 900_000) };
                let again_in = Duration::from_micros(again_in);
                vec![Next::Then(Effect::Answer(Event::Surveyed { serial, empty, stranded: Vec::new(), again_in }))]
            }
            Effect::Lock(handle) if self.handles.contains_key(&handle) => {
                let held_by = rng.chance(self.keys_held_elsewhere).then(|| "one of another master".to_owned());
                vec![Next::Tell(Event::Locked { handle, held_by })]
            }
            Effect::Survey(_) | Effect::Lock(_) => Vec::new(),
            Effect::Answer(event) => vec![Next::Tell(event)],
            Effect::Store(handle, settlement) => self.store(handle, settlement, rng),
            Effect::Remove(handle) => {
                let accepted = self.accepted.remove(&handle);
                let number = self.handles.remove(&handle);
                if accepted.is_none() && number.is_none() {
                    return Vec::new();
                }
                self.messages.remove(&number.unwrap_or_default());
                // With the settlement the acceptance is answered, if it was not before.
                let is_unanswered = |accepted: &Accepted| accepted.is_unanswered || number.is_some();
                let answers = if accepted.as_ref().is_some_and(is_unanswered) { 2 } else { 1 };
                vec![Next::Tell(Event::Settled(vec![handle; answers]))]
            }
            Effect::Acknowledge(handle) => {
                let Some(number) = self.handles.remove(&handle) else { return Vec::new() };
                self.messages.remove(&number);
                if let Some(accepted) = self.accepted.get_mut(&handle).filter(|_| !self.answers_accept_at_once) {
                    accepted.is_unanswered = true;
                    return Vec::new();
                }
                vec![Next::Tell(Event::Settled(vec![handle]))]
            }
        }
    }

    fn store(&mut self, handle: Handle, settlement: Settlement, rng: &mut Rng) -> Vec<Next> {
        if settlement == Settlement::Accept {
            return self.accept(handle);
        }
        if let Some(accepted) = self.accepted.get_mut(&handle) {
            accepted.decided = Some(settlement.clone());
            // What is asked between the sessions is done in the next one.
            if !self.is_up {
                return Vec::new();
            }
        }
        let number = self.handles.get(&handle).copied();
        let kept = self.accepted.get(&handle).map(|accepted| accepted.message.clone());
        let is_kept = kept.is_some();
        let message = kept.or_else(|| number.and_then(|number| self.messages.get(&number).cloned()));
        let Some(message) = message else { return Vec::new() };
        let copy = |attempts: u32| Message {
            attempts,
            redelivered: false,
            uncounted: false,
            deliveries: 0,
            place: Place::Ready,
            came_at: None,
            ..message.clone()
        };
        let mut next = Vec::new();
        match settlement {
            Settlement::Accept => {}
            Settlement::Discard => return self.effect(Effect::Remove(handle), Duration::ZERO, rng),
            Settlement::Release if is_kept => self.put_later(copy(message.attempts), Duration::ZERO, &mut next),
            Settlement::Release => {
                self.handles.remove(&handle);
                let mut back = message;
                back.place = Place::Ready;
                back.redelivered = rng.chance(500);
                back.uncounted = back.redelivered && self.classic[back.queue];
                self.messages.insert(number.unwrap_or_default(), back);
                return vec![Next::Tell(Event::Settled(vec![handle]))];
            }
            Settlement::Pass => {
                let counted = Message {
                    deliveries: message.deliveries + 1,
                    redelivered: true,
                    uncounted: false,
                    place: Place::Ready,
                    ..message.clone()
                };
                if rng.chance(700) {
                    // The copy and the removal of the original in one step.
                    self.handles.remove(&handle);
                    self.messages.insert(number.unwrap_or_default(), counted);
                    return vec![Next::Tell(Event::Stored(handle)), Next::Tell(Event::Settled(vec![handle]))];
                }
                self.put(counted);
            }
            Settlement::Done { submit } if !submit.is_empty() && rng.chance(self.unstorable) => {
                if let Some(accepted) = self.accepted.get_mut(&handle) {
                    accepted.decided = None;
                }
                let id = message.id.clone().unwrap_or_else(|| self.made_up[&handle].clone());
                let error = Error::NotStored { queue: "elsewhere".to_owned(), cause: "too large".to_owned() };
                let queue = self.index_of(message.queue);
                let task = Arc::new(task_of(&message, id));
                return vec![Next::Tell(Event::Unstorable { handle, queue, task, error })];
            }
            Settlement::Done { submit } => {
                *self.ended.entry(message.origin).or_default() += 1;
                for task in submit {
                    self.follow_up(task, &mut next);
                }
                next.push(Next::Then(Effect::Remove(handle)));
                if !is_kept {
                    next.extend(self.effect(Effect::Remove(handle), Duration::ZERO, rng));
                }
                return next;
            }
            Settlement::Dead(_) => *self.ended.entry(message.origin).or_default() += 1,
            Settlement::Retry { after, failure } => {
                let first_failed_at = message.first_failed_at.or(Some(failure.failed_at));
                self.put_later(Message { first_failed_at, ..copy(message.attempts + 1) }, after, &mut next);
            }
            Settlement::Snooze { after, .. } => self.put_later(copy(message.attempts), after, &mut next),
        }
        next.push(Next::Tell(Event::Stored(handle)));
        next.push(Next::Then(Effect::Remove(handle)));
        next
    }

    /// From here on the handle stands, whatever becomes of the session; the original goes a moment later.
    fn accept(&mut self, handle: Handle) -> Vec<Next> {
        if self.is_up && self.accepted.contains_key(&handle) {
            return vec![Next::Tell(Event::Settled(vec![handle]))];
        }
        let number = self.handles.get(&handle);
        let message = number.and_then(|number| self.messages.get(number).cloned());
        let Some(message) = message.or_else(|| self.in_hand_at_loss.remove(&handle)) else { return Vec::new() };
        self.accepted.insert(handle, Accepted { message, decided: None, is_unanswered: false });
        vec![Next::Then(Effect::Acknowledge(handle))]
    }

    fn follow_up(&mut self, task: NewTask, next: &mut Vec<Next>) {
        // It is none: what it says was looked at when it was settled.
        if ledger_of(&task.queue).is_some() {
            return;
        }
        let (queue, delay) = (self.queue_named(&task.queue), task.delay);
        let message = Message::of(self.number(), queue, task);
        self.put_later(message, delay, next);
    }

    fn put_later(&mut self, mut message: Message, after: Duration, next: &mut Vec<Next>) {
        if !after.is_zero() {
            message.place = Place::Delayed;
        }
        let number = self.put(message);
        if !after.is_zero() {
            next.push(Next::Due(number, after));
        }
    }

    /// Whether a message waits that could be delivered.
    pub(crate) fn has_ready(&self, queue: usize) -> bool {
        let is_ready = |message: &Message| message.place == Place::Ready && !self.is_frozen(message);
        self.messages.values().any(|message| message.queue == queue && is_ready(message))
    }
}

/// An acceptance that was not answered before its session or its queue was lost.
fn never_answered(accepted: &mut Accepted) {
    accepted.is_unanswered = false;
}

fn task_of(message: &Message, id: String) -> Task {
    let task = Task {
        id,
        body: message.body.clone(),
        attempts: message.attempts,
        deliveries: message.deliveries,
        headers: message.headers.clone(),
        first_failed_at: message.first_failed_at,
        expires_at: message.expires_at,
        due_at: message.came_at.map(|at| Timestamp(at.as_millis() as i64)),
        membership: message.membership.clone(),
        ..Task::default()
    };
    match &message.told {
        Some(told) => told.fill(task),
        None => task,
    }
}

/// By the rule of the contract: queue, id, attempts, body.
fn identity(message: &Message, id: &str) -> u64 {
    use std::hash::{Hash as _, Hasher as _};
    let mut state = std::hash::DefaultHasher::new();
    (message.queue, id, message.attempts, &message.body).hash(&mut state);
    state.finish()
}
