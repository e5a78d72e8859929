//! The queues of an attachment that come and go while it lives.
//!
//! One that is to be added is opened beside the session that stands, and joins the attachment, and with it every later
//! session, only when that has worked: a queue that cannot be had never keeps a session from being built. One that is to go
//! loses its consumer first and its place when the last of its deliveries is settled.

use std::{collections::BTreeMap, rc::Rc};

use lapin::Channel;

use super::{
    connections::{Attachment, OpenedQueue},
    note::SessionNote,
    pauses::REBUILD_BACKOFF,
    state::{Actor, QueueChange, State},
};
use crate::{
    clock::Instant,
    task::QueueIndex,
    transport::{
        Event, QueueSetup,
        amqp::{
            broker_error::Fault,
            connect::channel::close,
            consume::{consumer::ConsumedQueue, consumers::ConsumedQueues},
        },
    },
};

/// Tries without an answer until the change of a queue is refused: a minute, in which a queue finds a leader again. A
/// connection that is dead itself is found to be so earlier.
const TRIES: u32 = 6;

impl Actor {
    /// Begins to add a queue, or to change one that is attached.
    pub(crate) fn add_queue(&mut self, queue: usize, setup: QueueSetup) {
        self.credits.entry(queue).or_insert(0);
        let is_new = self.queue_changes.get(&queue).map_or_else(|| !self.is_member(queue), |change| change.is_new);
        let until = Some(self.now().at);
        self.queue_changes.insert(queue, QueueChange { setup, number: 0, failures: u32::from(is_new), until, is_new });
        self.open(queue);
    }

    /// Begins a try to open a queue, if there is a session.
    pub(crate) fn open(&mut self, queue: usize) {
        let Some(up) = self.state.up() else { return };
        let Some(change) = self.queue_changes.get_mut(&queue) else { return };
        self.channel_numbers += 1;
        (change.number, change.until) = (self.channel_numbers, None);
        let tag = self.shared.next_consumer_tag();
        let accepted = up.queues.get(queue).map_or(0, |consumed| consumed.accepted);
        let free = self.credits.get(&queue).copied().unwrap_or_default().saturating_sub(accepted);
        let prefetch = if change.is_new { u16::try_from(free).unwrap_or(u16::MAX) } else { 0 };
        let (session, number, setup) = (Rc::clone(&up.session), change.number, change.setup.clone());
        let notes = self.shared.notes.clone();
        up.tasks.spawn_local(async move {
            let opened = session.open(&setup, prefetch, tag).await;
            let _ = notes.send(SessionNote::Opened { number, queue, opened }.of(session.number));
        });
    }

    /// What a queue needs is there, or cannot be had.
    pub(crate) fn opened(&mut self, number: u64, queue: usize, opened: Result<OpenedQueue, Fault>) {
        let now = self.now().at;
        let OpenedQueue { channel, consumer, prefetch } = match opened {
            Ok(opened) => opened,
            Err(fault) => return self.not_opened(number, queue, fault),
        };
        // Removed meanwhile, or asked for in another way.
        let change =
            self.queue_changes.extract_if(.., |index, change| *index == queue && change.number == number).next();
        let (Some((_, QueueChange { setup, failures, .. })), Some(up)) = (change, self.state.up()) else {
            return close(&channel);
        };
        if let Some(attachment) = &mut self.attachment {
            attachment.queues.insert(queue, setup.clone());
        }
        match up.queues.get_mut(queue) {
            Some(consumed) if consumed.channel.is_some() => {
                consumed.setup = setup;
                close(&channel);
            }
            left => {
                let credit = self.credits.get(&queue).copied().unwrap_or_default();
                let mut consumed = ConsumedQueue::new(setup, Some(channel), credit);
                if let Some(left) = left {
                    (consumed.in_hand, consumed.accepted) = (left.in_hand, left.accepted);
                }
                (consumed.number, consumed.since, consumed.failures) = (number, now, failures);
                consumed.switched(consumer, prefetch);
                up.queues.insert(queue, consumed);
            }
        }
        self.shared.moved(now);
        self.watch_dead_letters();
        self.emit(Event::QueueAdded { queue: QueueIndex(queue) });
    }

    /// All that the broker refuses is asked for on channels of its own, so the others are worked as before.
    fn not_opened(&mut self, number: u64, queue: usize, fault: Fault) {
        let now = self.now().at;
        if let Some(change) = self.queue_changes.get_mut(&queue).filter(|change| change.number == number) {
            change.failures += 1;
            let failures = change.failures;
            match &fault {
                Fault::Broken(_) => change.until = Some(now + REBUILD_BACKOFF.delay(failures)),
                fault if change.is_new => self.mark_unavailable(queue, fault.clone(), failures, Vec::new()),
                Fault::TimedOut(_) if failures < TRIES => self.open(queue),
                fault => {
                    let name = change.setup.name.clone();
                    self.queue_changes.remove(&queue);
                    let error = fault.clone().of_queue(&name);
                    self.emit(Event::QueueRefused { queue: QueueIndex(queue), error });
                }
            }
        }
        if let Fault::Broken(cause) = fault {
            self.session_lost(&cause);
        }
    }

    /// What the next session is to begin with: a queue that was unavailable joins it later, so that it cannot end it.
    pub(crate) fn still_attached(&self) -> Option<Attachment> {
        let mut attachment = self.attachment.clone()?;
        attachment.queues.retain(|queue, _| !self.queue_changes.get(queue).is_some_and(|change| change.is_new));
        Some(attachment)
    }

    fn is_member(&self, queue: usize) -> bool {
        self.attachment.as_ref().is_some_and(|attachment| attachment.queues.contains_key(&queue))
    }

    /// Begins to let a queue go.
    pub(crate) fn remove_queue(&mut self, queue: usize) {
        self.queue_changes.remove(&queue);
        self.credit(QueueIndex(queue), 0);
        self.leaving.insert(queue);
        if let Some(up) = self.state.up() {
            if let Some(consumed) = up.queues.get_mut(queue) {
                consumed.leaving = true;
            }
            // What a queue kept that goes with its last consumer.
            up.give_back(queue);
        }
        self.remove_drained();
    }

    /// Lets those queues go that are to and of which nothing is open any more.
    pub(crate) fn remove_drained(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let may_go_on = |queue: &usize| self.earlier_deliveries.values().any(|open| open.queue == *queue);
        let gone: Vec<usize> = match &self.state {
            // What is being built has its channels already: the next look is when it stands.
            State::Connecting { .. } => return,
            State::Up(up) => {
                let is_drained = |queue: &usize| up.queues.get(*queue).is_none_or(ConsumedQueue::is_drained);
                self.leaving.iter().copied().filter(is_drained).collect()
            }
            State::Idle | State::Waiting { .. } | State::Refused(_) => {
                self.leaving.iter().copied().filter(|queue| !may_go_on(queue)).collect()
            }
        };
        for queue in gone {
            self.leaving.remove(&queue);
            self.credits.remove(&queue);
            self.earlier_deliveries.retain(|_, open| open.queue != queue);
            if let Some(attachment) = &mut self.attachment {
                attachment.queues.remove(&queue);
            }
            if let Some(up) = self.state.up() {
                up.refused_messages.forget(queue);
                up.queues.remove(queue).and_then(|consumed| consumed.channel).iter().for_each(close);
            }
            self.emit(Event::QueueRemoved { queue: QueueIndex(queue) });
            self.watch_dead_letters();
        }
    }

    /// The queues of a session that was just built.
    pub(crate) fn consumed_queues(&mut self, mut channels: BTreeMap<usize, Channel>, now: Instant) -> ConsumedQueues {
        let mut queues = ConsumedQueues::default();
        let Some(attachment) = &self.attachment else { return queues };
        for (queue, setup) in &attachment.queues {
            let credit = self.credits.get(queue).copied().unwrap_or_default();
            let mut consumed = ConsumedQueue::new(setup.clone(), channels.remove(queue), credit);
            self.channel_numbers += 1;
            (consumed.number, consumed.since) = (self.channel_numbers, now);
            consumed.leaving = self.leaving.contains(queue);
            queues.insert(*queue, consumed);
        }
        queues
    }
}
