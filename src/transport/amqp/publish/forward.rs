//! Copies of tasks on their way to another queue: those that the master settled, and those that go on unseen, because they are
//! not due or a queue gives them back.

use lapin::BasicProperties;

use super::{
    outbox::OutboundMessage,
    publisher::{Publication, WINDOW},
};
use crate::{
    task::{Handle, Task},
    transport::{
        Event,
        amqp::{
            message::properties::{self, Transition},
            queues::own_queue::OwnQueue,
            session::{note::SessionNote, up::Up},
        },
    },
};

/// Copies for one queue, of tasks of one queue.
struct Group {
    queue: usize,
    copies: Vec<(Handle, OutboundMessage)>,
}

impl Up {
    /// Moves a message on that the master does not see.
    pub(crate) fn pass(
        &mut self,
        queue: usize,
        tag: u64,
        own_queue: OwnQueue,
        transition: &Transition,
        original: &BasicProperties,
        task: &Task,
    ) {
        let message = self.outbound_message(queue, own_queue, transition, original, task);
        let (outbox, session) = (self.outbox.clone(), self.session.number);
        let number = self.queues[queue].number;
        self.tasks.spawn_local(async move {
            if outbox.publish_until_stored(queue, message).await.is_ok() {
                let _ = outbox.notes.send(SessionNote::Passed { queue, number, tag }.of(session));
            }
        });
    }

    pub(crate) fn passed(&mut self, queue: usize, tag: u64) {
        let now = self.shared.now().at;
        let consumed = &mut self.queues[queue];
        consumed.republishing -= 1;
        consumed.acks.ended(tag, now);
        consumed.settled_tags.insert(tag, None);
        self.shared.moved(now);
    }

    /// Begins the copies that were asked for: those for one queue together, in order.
    pub(crate) fn flush_moves(&mut self) {
        let mut groups: Vec<Group> = Vec::new();
        for (handle, message) in self.moving.drain(..) {
            let Some(queue) = self.open.get(&handle).map(|open| open.queue) else { continue };
            let fits = |group: &Group| {
                group.queue == queue && group.copies[0].1.own_queue == message.own_queue && group.copies.len() < WINDOW
            };
            match groups.iter().position(fits) {
                Some(position) => groups[position].copies.push((handle, message)),
                None => groups.push(Group { queue, copies: vec![(handle, message)] }),
            }
        }
        for Group { queue, copies } in groups {
            let is_dead = matches!(copies[0].1.own_queue, OwnQueue::Dead(_));
            let (outbox, session) = (self.outbox.clone(), self.session.number);
            self.tasks.spawn_local(async move {
                let (handles, messages): (Vec<Handle>, Vec<OutboundMessage>) = copies.into_iter().unzip();
                let copied = |handle| drop(outbox.notes.send(SessionNote::Copied { handle, is_dead }.of(session)));
                if outbox.store_window(&messages).await {
                    return handles.into_iter().for_each(copied);
                }
                // At the same time: one that its queue does not take must not hold up the others.
                let each = handles.into_iter().zip(messages).map(|(handle, message)| {
                    let outbox = &outbox;
                    async move {
                        if outbox.publish_until_stored(queue, message).await.is_ok() {
                            copied(handle);
                        }
                    }
                });
                futures_util::future::join_all(each).await;
            });
        }
    }

    /// The copy of a task for a queue. What is too large for the headers is cut, which is said.
    pub(crate) fn outbound_message(
        &self,
        queue: usize,
        own_queue: OwnQueue,
        transition: &Transition,
        original: &BasicProperties,
        task: &Task,
    ) -> OutboundMessage {
        let setup = &self.queues[queue].setup;
        let name = &setup.name;
        let (properties, dropped) = properties::copy(original, task, name, setup.protocol.is_celery(), transition);
        if !dropped.is_empty() {
            let text =
                format!("task {} of queue \"{name}\": its headers are too large; cut: {}", task.id, dropped.join(", "));
            self.shared.emit(Event::Warning(text));
        }
        self.shared.in_transit.borrow_mut().put(&own_queue, self.shared.now().at);
        let publication = Publication { queue: own_queue.name(), properties, body: task.body.as_slice().into() };
        OutboundMessage { own_queue, publication }
    }
}
