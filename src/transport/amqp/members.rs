//! The queues of an attachment that come and go while it lives.
//!
//! One that is to be added is opened beside the session that stands, and joins the attachment, and with it every later
//! session, only when that has worked: a queue that cannot be had never keeps a session from being built. One that is to go
//! loses its consumer first and its place when the last of its deliveries is settled.

use std::{collections::BTreeMap, rc::Rc};

use lapin::Channel;

use super::{
    engine::Engine,
    intake::Intake,
    intakes::Intakes,
    state::{Note, State},
    topology::{Fault, close},
};
use crate::{
    task::QueueIndex,
    transport::{Error, Event, QueueSetup},
};

/// A queue that is to be added or changed.
pub(super) struct Joining {
    setup: QueueSetup,
    /// Names the try under way; the answer to an earlier one means nothing.
    number: u64,
    /// Tries that got no answer, or with which the connection ended.
    failures: u32,
}

/// Tries without an answer until a queue is refused: a minute, in which a queue finds a leader again. A connection that
/// is dead itself is found to be so earlier.
const TRIES: u32 = 6;

impl Engine {
    /// Begins to add a queue, or to change one that is attached.
    pub(super) fn add_queue(&mut self, queue: usize, setup: QueueSetup) {
        self.credits.entry(queue).or_insert(0);
        self.joining.insert(queue, Joining { setup, number: 0, failures: 0 });
        self.open(queue);
    }

    /// A session stands: whatever was to be added meanwhile is.
    pub(super) fn open_joining(&mut self) {
        for queue in self.joining.keys().copied().collect::<Vec<_>>() {
            self.open(queue);
        }
    }

    fn open(&mut self, queue: usize) {
        let State::Up(up) = &mut self.state else { return };
        let Some(joining) = self.joining.get_mut(&queue) else { return };
        self.openings += 1;
        joining.number = self.openings;
        let (session, number, setup) = (Rc::clone(&up.session), joining.number, joining.setup.clone());
        let notes = self.notes.clone();
        up.tasks.spawn_local(async move {
            let opened = session.open(&setup).await;
            let _ = notes.send(Note::Opened { session: session.number, number, queue, opened });
        });
    }

    /// What a queue needs is there, or cannot be had.
    pub(super) fn opened(&mut self, session: u64, number: u64, queue: usize, opened: Result<Channel, Fault>) {
        let is_current = matches!(&self.state, State::Up(up) if up.session.number == session);
        if !is_current {
            return;
        }
        let channel = match opened {
            Ok(channel) => channel,
            Err(fault) => return self.not_opened(number, queue, fault),
        };
        // Removed meanwhile, or asked for in another way.
        let joining = self.joining.extract_if(.., |index, joining| *index == queue && joining.number == number).next();
        let (Some((_, Joining { setup, .. })), State::Up(up)) = (joining, &mut self.state) else {
            return close(&channel);
        };
        if let Some(attachment) = &mut self.attachment {
            attachment.queues.insert(queue, setup.clone());
        }
        if let Some(intake) = up.intakes.get_mut(queue) {
            intake.setup = setup;
            close(&channel);
        } else {
            let credit = self.credits.get(&queue).copied().unwrap_or_default();
            up.intakes.insert(queue, Intake::new(setup, channel, credit));
        }
        self.horizon.borrow_mut().moved_at = self.now().at;
        self.tell(Event::QueueAdded { queue: QueueIndex(queue) });
    }

    /// All that the broker refuses is asked for on channels of its own, so the others are worked as before.
    fn not_opened(&mut self, number: u64, queue: usize, fault: Fault) {
        let mut is_tried_again = false;
        if let Some(joining) = self.joining.get_mut(&queue)
            && joining.number == number
        {
            let is_passing = matches!(fault, Fault::Late(_) | Fault::Broken(_));
            joining.failures += u32::from(is_passing);
            is_tried_again = is_passing && joining.failures < TRIES;
            if !is_tried_again {
                let name = joining.setup.name.clone();
                self.joining.remove(&queue);
                if !self.is_member(queue) {
                    self.credits.remove(&queue);
                }
                let error = match fault.clone() {
                    Fault::Absent(queue) => Error::NoSuchQueue { queue },
                    fault => Error::QueueRefused { queue: name, cause: fault.cause() },
                };
                self.tell(Event::QueueRefused { queue: QueueIndex(queue), error });
            }
        }
        match fault {
            Fault::Broken(cause) => self.broken(&cause),
            _ if is_tried_again => self.open(queue),
            _ => {}
        }
    }

    fn is_member(&self, queue: usize) -> bool {
        self.attachment.as_ref().is_some_and(|attachment| attachment.queues.contains_key(&queue))
    }

    /// Begins to let a queue go.
    pub(super) fn remove_queue(&mut self, queue: usize) {
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
    pub(super) fn let_go(&mut self) {
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
            self.credits.remove(&queue);
            self.parted.retain(|_, open| open.queue != queue);
            if let Some(attachment) = &mut self.attachment {
                attachment.queues.remove(&queue);
            }
            if let State::Up(up) = &mut self.state
                && let Some(intake) = up.intakes.remove(queue)
            {
                close(&intake.channel);
            }
            self.tell(Event::QueueRemoved { queue: QueueIndex(queue) });
        }
    }

    /// The queues of a session that was just built.
    pub(super) fn intakes(&self, channels: BTreeMap<usize, Channel>) -> Intakes {
        let mut intakes = Intakes::default();
        let Some(attachment) = &self.attachment else { return intakes };
        for (queue, channel) in channels {
            let Some(setup) = attachment.queues.get(&queue).cloned() else { continue };
            let credit = self.credits.get(&queue).copied().unwrap_or_default();
            let mut intake = Intake::new(setup, channel, credit);
            intake.leaving = self.leaving.contains(&queue);
            intakes.insert(queue, intake);
        }
        intakes
    }
}
