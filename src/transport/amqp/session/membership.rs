//! The queues of an attachment that come and go while it lives.
//!
//! One that is to be added is opened beside the session that stands, and joins the attachment, and with it every later
//! session, only when that has worked: a queue that cannot be had never keeps a session from being built. One that is to go
//! loses its consumer first and its place when the last of its deliveries is settled.

use std::{collections::BTreeMap, rc::Rc};

use lapin::Channel;

use super::{
    actor::Engine,
    connections::{Attachment, Opened},
    lifecycle::AGAIN,
    state::{Note, State},
};
use crate::{
    clock::Instant,
    task::QueueIndex,
    transport::{
        Event, QueueSetup,
        amqp::{
            consume::{consumer::Intake, consumers::Intakes},
            queues::topology::{Fault, close},
        },
    },
};

/// A queue that is to be added or changed.
pub(crate) struct Joining {
    pub(crate) setup: QueueSetup,
    /// Names the try under way; the answer to an earlier one means nothing.
    pub(crate) number: u64,
    /// Tries that failed.
    pub(crate) failures: u32,
    /// When it is tried; `None`: a try is under way.
    pub(crate) until: Option<Instant>,
    /// It is not worked; else it is, and is to be changed.
    pub(crate) is_new: bool,
}

/// Tries without an answer until the change of a queue is refused: a minute, in which a queue finds a leader again. A
/// connection that is dead itself is found to be so earlier.
const TRIES: u32 = 6;

impl Engine {
    /// Begins to add a queue, or to change one that is attached.
    pub(crate) fn add_queue(&mut self, queue: usize, setup: QueueSetup) {
        self.credits.entry(queue).or_insert(0);
        let is_new = self.joining.get(&queue).map_or_else(|| !self.is_member(queue), |joining| joining.is_new);
        let until = Some(self.now().at);
        self.joining.insert(queue, Joining { setup, number: 0, failures: u32::from(is_new), until, is_new });
        self.open(queue);
    }

    /// Begins a try to open a queue, if there is a session.
    pub(crate) fn open(&mut self, queue: usize) {
        let State::Up(up) = &mut self.state else { return };
        let Some(joining) = self.joining.get_mut(&queue) else { return };
        self.openings += 1;
        self.consumers += 1;
        (joining.number, joining.until) = (self.openings, None);
        let tag = format!("asynctask-{}-{}", std::process::id(), self.consumers);
        let accepted = up.intakes.get(queue).map_or(0, |intake| intake.accepted);
        let free = self.credits.get(&queue).copied().unwrap_or_default().saturating_sub(accepted);
        let prefetch = if joining.is_new { u16::try_from(free).unwrap_or(u16::MAX) } else { 0 };
        let (session, number, setup) = (Rc::clone(&up.session), joining.number, joining.setup.clone());
        let notes = self.notes.clone();
        up.tasks.spawn_local(async move {
            let opened = session.open(&setup, prefetch, tag).await;
            let _ = notes.send(Note::Opened { session: session.number, number, queue, opened });
        });
    }

    /// What a queue needs is there, or cannot be had.
    pub(crate) fn opened(&mut self, session: u64, number: u64, queue: usize, opened: Result<Opened, Fault>) {
        let now = self.now().at;
        let is_current = matches!(&self.state, State::Up(up) if up.session.number == session);
        if !is_current {
            return;
        }
        let Opened { channel, consumer, prefetch } = match opened {
            Ok(opened) => opened,
            Err(fault) => return self.not_opened(number, queue, fault),
        };
        // Removed meanwhile, or asked for in another way.
        let joining = self.joining.extract_if(.., |index, joining| *index == queue && joining.number == number).next();
        let (Some((_, Joining { setup, failures, .. })), State::Up(up)) = (joining, &mut self.state) else {
            return close(&channel);
        };
        if let Some(attachment) = &mut self.attachment {
            attachment.queues.insert(queue, setup.clone());
        }
        match up.intakes.get_mut(queue) {
            Some(intake) if intake.channel.is_some() => {
                intake.setup = setup;
                close(&channel);
            }
            left => {
                let credit = self.credits.get(&queue).copied().unwrap_or_default();
                let mut intake = Intake::new(setup, Some(channel), credit);
                if let Some(left) = left {
                    (intake.in_hand, intake.accepted) = (left.in_hand, left.accepted);
                }
                (intake.number, intake.since, intake.failures) = (number, now, failures);
                intake.switched(consumer, prefetch);
                up.intakes.insert(queue, intake);
            }
        }
        self.horizon.borrow_mut().moved_at = now;
        self.watch_dead_letters();
        self.tell(Event::QueueAdded { queue: QueueIndex(queue) });
    }

    /// All that the broker refuses is asked for on channels of its own, so the others are worked as before.
    fn not_opened(&mut self, number: u64, queue: usize, fault: Fault) {
        let now = self.now().at;
        if let Some(joining) = self.joining.get_mut(&queue).filter(|joining| joining.number == number) {
            joining.failures += 1;
            let failures = joining.failures;
            match &fault {
                Fault::Broken(_) => joining.until = Some(now + AGAIN.delay(failures)),
                fault if joining.is_new => self.set_aside(queue, fault.clone(), failures, Vec::new()),
                Fault::Late(_) if failures < TRIES => self.open(queue),
                fault => {
                    let name = joining.setup.name.clone();
                    self.joining.remove(&queue);
                    let error = fault.clone().of_queue(&name);
                    self.tell(Event::QueueRefused { queue: QueueIndex(queue), error });
                }
            }
        }
        if let Fault::Broken(cause) = fault {
            self.broken(&cause);
        }
    }

    /// What the next session is to begin with: a queue that was unavailable joins it later, so that it cannot end it.
    pub(crate) fn still_attached(&self) -> Option<Attachment> {
        let mut attachment = self.attachment.clone()?;
        attachment.queues.retain(|queue, _| !self.joining.get(queue).is_some_and(|joining| joining.is_new));
        Some(attachment)
    }

    fn is_member(&self, queue: usize) -> bool {
        self.attachment.as_ref().is_some_and(|attachment| attachment.queues.contains_key(&queue))
    }

    /// Begins to let a queue go.
    pub(crate) fn remove_queue(&mut self, queue: usize) {
        self.joining.remove(&queue);
        self.credit(QueueIndex(queue), 0);
        self.leaving.insert(queue);
        if let State::Up(up) = &mut self.state
            && let Some(intake) = up.intakes.get_mut(queue)
        {
            intake.leaving = true;
        }
        // What a queue kept that goes with its last consumer.
        self.give_back(queue);
        self.let_go();
    }

    /// Lets those queues go that are to and of which nothing is open any more.
    pub(crate) fn let_go(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let parted = |queue: &usize| self.parted.values().any(|open| open.queue == *queue);
        let gone: Vec<usize> = match &self.state {
            // What is being built has its channels already: the next look is when it stands.
            State::Connecting { .. } => return,
            State::Up(up) => {
                let spent = |queue: &usize| {
                    let is_open = || up.open.values().any(|open| open.queue == *queue);
                    up.intakes.get(*queue).is_none_or(|intake| intake.is_spent() && !is_open())
                };
                self.leaving.iter().copied().filter(spent).collect()
            }
            // Between sessions only what was accepted is anybody's.
            State::Idle | State::Waiting { .. } | State::Refused(_) => {
                self.leaving.iter().copied().filter(|queue| !parted(queue)).collect()
            }
        };
        for queue in gone {
            self.leaving.remove(&queue);
            self.untaken.forget(queue);
            self.credits.remove(&queue);
            self.parted.retain(|_, open| open.queue != queue);
            if let Some(attachment) = &mut self.attachment {
                attachment.queues.remove(&queue);
            }
            if let State::Up(up) = &mut self.state
                && let Some(intake) = up.intakes.remove(queue)
            {
                intake.channel.iter().for_each(close);
            }
            self.tell(Event::QueueRemoved { queue: QueueIndex(queue) });
            self.watch_dead_letters();
        }
    }

    /// The queues of a session that was just built.
    pub(crate) fn intakes(&mut self, mut channels: BTreeMap<usize, Channel>, now: Instant) -> Intakes {
        let mut intakes = Intakes::default();
        let Some(attachment) = &self.attachment else { return intakes };
        for (queue, setup) in &attachment.queues {
            let credit = self.credits.get(queue).copied().unwrap_or_default();
            let mut intake = Intake::new(setup.clone(), channels.remove(queue), credit);
            self.openings += 1;
            (intake.number, intake.since) = (self.openings, now);
            intake.leaving = self.leaving.contains(queue);
            intakes.insert(*queue, intake);
        }
        intakes
    }
}
