//! A transport that keeps the contract of `asynctask::transport` to the letter, and no more: settlements take
//! effect late or, if the session is lost first, never or by half; what was in hand then comes again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use asynctask::{
    clock::Timestamp,
    master::event::Plan,
    task::{Delivery, Handle, NewTask, QueueIndex, Settlement, Task},
    transport::{Error, Event},
};

use super::dice::Dice;

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
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) place: Place,
    /// When it was submitted from outside.
    pub(crate) came_at: Option<Duration>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Ready,
    /// A delay, or the time until the broker notices that a connection is dead.
    Delayed,
    InHand(Handle),
}

/// The effect of a request, later.
#[derive(Debug)]
pub(crate) enum Effect {
    Credit(usize, u32),
    Store(Handle, Settlement),
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
    /// Early acknowledged: out of the queue, in the master's memory.
    pub(crate) accepted: BTreeMap<Handle, Message>,
    /// Dead letters and finished ones, by origin.
    pub(crate) ended: BTreeMap<u64, u32>,
    /// Early acknowledged in a session that was lost: the contract makes their handles void.
    pub(crate) lost_early: Vec<u64>,
    handles: BTreeMap<Handle, u64>,
    pub(crate) names: Vec<String>,
    pub(crate) credit: Vec<u32>,
    pub(crate) session: u32,
    pub(crate) is_up: bool,
    next: u64,
    survey: u64,
    /// When each survey was answered.
    pub(crate) surveyed_at: BTreeMap<u64, Duration>,
    pub(crate) answers_accept: bool,
}

impl Broker {
    pub(crate) fn new(plan: &Plan, answers_accept: bool) -> Self {
        Self {
            credit: vec![0; plan.queues.len()],
            names: plan.queues.iter().map(|queue| queue.settings.name.clone()).collect(),
            answers_accept,
            ..Self::default()
        }
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

    pub(crate) fn restore(&mut self) -> Event {
        self.session += 1;
        self.is_up = true;
        Event::Attached { session: self.session }
    }

    /// The session is gone. What was in hand is worth a return after a while: their numbers.
    pub(crate) fn lose(&mut self, again_in: Duration) -> (Event, Vec<u64>) {
        self.is_up = false;
        self.survey = 0;
        for message in std::mem::take(&mut self.accepted).into_values() {
            self.lost_early.push(message.origin);
        }
        let back: Vec<u64> = std::mem::take(&mut self.handles)
            .into_values()
            .filter(|number| self.messages.contains_key(number))
            .collect();
        for number in &back {
            let message = self.messages.get_mut(number).expect("only those that exist are returned");
            message.place = Place::Delayed;
            message.redelivered = true;
            message.deliveries += 1;
        }
        let error = Error::Lost { uri: "amqp://there".to_owned(), cause: "it went away".to_owned() };
        (Event::Lost { error, again_in }, back)
    }

    /// Deliveries that the credit allows now.
    pub(crate) fn pump(&mut self, dice: &mut Dice) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        if !self.is_up {
            return deliveries;
        }
        for queue in 0..self.credit.len() {
            let held = self.messages.values().filter(|message| message.queue == queue);
            let held = held.filter(|message| matches!(message.place, Place::InHand(_))).count();
            let held = held + self.accepted.values().filter(|message| message.queue == queue).count();
            let free = (self.credit[queue] as usize).saturating_sub(held);
            let ready = self.messages.iter().filter(|(_, message)| message.queue == queue);
            let ready = ready.filter(|(_, message)| message.place == Place::Ready).map(|(number, _)| *number);
            for number in ready.take(free).collect::<Vec<_>>() {
                deliveries.push(self.deliver(number, dice));
            }
        }
        deliveries
    }

    fn deliver(&mut self, number: u64, dice: &mut Dice) -> Delivery {
        let handle = Handle(self.number());
        self.handles.insert(handle, number);
        let message = self.messages.get_mut(&number).expect("a ready message exists");
        message.place = Place::InHand(handle);
        let id = message.id.clone().unwrap_or_else(|| format!("made-up-{}-{}", handle.0, dice.between(0, 9)));
        Delivery {
            handle,
            queue: QueueIndex(message.queue),
            identity: message.id.as_ref().map(|id| identity(message, id)),
            redelivered: message.redelivered,
            task: Arc::new(Task {
                id,
                body: message.body.clone(),
                attempts: message.attempts,
                deliveries: message.deliveries,
                expires_at: message.expires_at,
                ..Task::default()
            }),
        }
    }

    pub(crate) fn ask_survey(&mut self, serial: u64) -> Effect {
        self.survey = serial;
        Effect::Survey(serial)
    }

    /// A request takes effect.
    pub(crate) fn effect(&mut self, effect: Effect, now: Duration, dice: &mut Dice) -> Vec<Next> {
        match effect {
            Effect::Credit(queue, credit) => {
                self.credit[queue] = credit;
                Vec::new()
            }
            Effect::Survey(serial) if serial == self.survey && self.is_up => {
                self.survey = 0;
                self.surveyed_at.insert(serial, now);
                let empty = self.messages.is_empty() && self.accepted.is_empty();
                // What is said with `empty` means nothing, so it is anything.
                let again_in = if empty { dice.pick(&[0, 1000, 1 << 40]) } else { dice.between(1_000, 900_000) };
                let again_in = Duration::from_micros(again_in);
                vec![Next::Then(Effect::Answer(Event::Surveyed { serial, empty, again_in }))]
            }
            Effect::Survey(_) => Vec::new(),
            Effect::Answer(event) => vec![Next::Tell(event)],
            Effect::Store(handle, settlement) => self.store(handle, settlement, dice),
            Effect::Remove(handle) => {
                let Some(number) = self.handles.remove(&handle) else { return Vec::new() };
                self.messages.remove(&number);
                vec![Next::Tell(Event::Settled(vec![handle]))]
            }
        }
    }

    fn store(&mut self, handle: Handle, settlement: Settlement, dice: &mut Dice) -> Vec<Next> {
        let Some(number) = self.handles.get(&handle).copied() else { return Vec::new() };
        let early = self.accepted.remove(&handle);
        let Some(message) = early.clone().or_else(|| self.messages.get(&number).cloned()) else { return Vec::new() };
        let copy = |attempts: u32| Message {
            attempts,
            redelivered: false,
            deliveries: 0,
            place: Place::Ready,
            came_at: None,
            ..message.clone()
        };
        let mut next = Vec::new();
        match settlement {
            Settlement::Accept => {
                self.messages.remove(&number);
                self.accepted.insert(handle, message);
                return if self.answers_accept { vec![Next::Tell(Event::Settled(vec![handle]))] } else { next };
            }
            Settlement::Release => {
                self.handles.remove(&handle);
                let mut back = message;
                back.place = Place::Ready;
                back.redelivered = dice.chance(500);
                self.messages.insert(number, back);
                return vec![Next::Tell(Event::Settled(vec![handle]))];
            }
            Settlement::Done { submit } => {
                *self.ended.entry(message.origin).or_default() += 1;
                let submitted: Vec<u64> =
                    submit.into_iter().filter_map(|task| self.follow_up(task, &mut next)).collect();
                drop(submitted);
                if early.is_none() {
                    self.messages.remove(&number);
                }
                self.handles.remove(&handle);
                next.push(Next::Tell(Event::Settled(vec![handle])));
                return next;
            }
            Settlement::Dead(_) => *self.ended.entry(message.origin).or_default() += 1,
            Settlement::Retry { after, .. } => self.put_later(copy(message.attempts + 1), after, &mut next),
            Settlement::Snooze { after } => self.put_later(copy(message.attempts), after, &mut next),
        }
        next.push(Next::Tell(Event::Stored(handle)));
        next.push(Next::Then(Effect::Remove(handle)));
        next
    }

    fn follow_up(&mut self, task: NewTask, next: &mut Vec<Next>) -> Option<u64> {
        let queue = self.names.iter().position(|name| *name == task.queue)?;
        let origin = self.number();
        let message = Message {
            origin,
            queue,
            id: Some(task.id),
            body: task.body,
            attempts: 0,
            deliveries: 0,
            redelivered: false,
            expires_at: task.expires_at,
            place: Place::Ready,
            came_at: None,
        };
        self.put_later(message, task.delay, next);
        Some(origin)
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
        self.messages.values().any(|message| message.queue == queue && message.place == Place::Ready)
    }
}

/// By the rule of the contract: queue, id, attempts, body.
fn identity(message: &Message, id: &str) -> u64 {
    use std::hash::{Hash as _, Hasher as _};
    let mut state = std::hash::DefaultHasher::new();
    (message.queue, id, message.attempts, &message.body).hash(&mut state);
    state.finish()
}
