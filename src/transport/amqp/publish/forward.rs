//! Copies of tasks on their way to another queue: those that the master settled, and those that go on unseen, because they are
//! not due or a queue gives them back.

use lapin::BasicProperties;

use super::{
    outbox::{OutboundMessage, Outbox},
    pending_copy::{LedgerEntry, PendingCopy},
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

/// Copies for one queue, of tasks of one queue, and of one ledger if they are of jobs.
struct Group {
    queue: usize,
    copies: Vec<PendingCopy>,
}

impl Group {
    fn fits(&self, queue: usize, copy: &PendingCopy) -> bool {
        let told =
            |copy: &PendingCopy| copy.entry.as_ref().map(|entry| (entry.message.own_queue.clone(), entry.is_end));
        let first = &self.copies[0];
        self.queue == queue
            && first.message.own_queue == copy.message.own_queue
            && told(first) == told(copy)
            && self.copies.len() < WINDOW
    }

    /// Stores them; `copied` is told of each that is. Ends with those that are left when the session cannot go on.
    async fn store(self, outbox: &Outbox, copied: impl Fn(Handle)) {
        let (mut handles, mut entries, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        for PendingCopy { handle, entry, message } in self.copies {
            handles.push(handle);
            entries.push(entry);
            messages.push(message);
        }
        let told: Vec<OutboundMessage> = entries.iter().flatten().map(|entry| entry.message.clone()).collect();
        let are_told = told.is_empty() || outbox.store_window(&told).await;
        if are_told && outbox.store_window(&messages).await {
            return handles.into_iter().for_each(copied);
        }
        // At the same time: one that its queue does not take must not hold up the others.
        let each = handles.into_iter().zip(entries).zip(messages).map(|((handle, entry), message)| {
            let (copied, entry) = (&copied, entry.filter(|_| !are_told));
            async move {
                if let Some(entry) = entry
                    && tell(outbox, self.queue, entry).await.is_err()
                {
                    return;
                }
                if outbox.publish_until_stored(self.queue, message).await.is_ok() {
                    copied(handle);
                }
            }
        });
        futures_util::future::join_all(each).await;
    }
}

/// Tells a ledger something: an end however long it takes, news if the ledger takes them at once.
async fn tell(outbox: &Outbox, queue: usize, LedgerEntry { mut message, is_end }: LedgerEntry) -> Result<(), ()> {
    if is_end {
        outbox.publish_until_stored(queue, message).await
    } else {
        outbox.publish_once(&mut message).await.map(drop)
    }
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
        consumed.freezing.remove(&tag);
        consumed.acks.ended(tag, now);
        consumed.settled_tags.insert(tag, None);
        self.shared.moved(now);
    }

    /// Begins the copies that were asked for: those for one queue together, in order.
    pub(crate) fn flush_moves(&mut self) {
        let mut groups: Vec<Group> = Vec::new();
        for copy in self.moving.drain(..) {
            let Some(queue) = self.open.get(&copy.handle).map(|open| open.queue) else { continue };
            match groups.iter().position(|group| group.fits(queue, &copy)) {
                Some(position) => groups[position].copies.push(copy),
                None => groups.push(Group { queue, copies: vec![copy] }),
            }
        }
        for group in groups {
            let is_dead = matches!(group.copies[0].message.own_queue, OwnQueue::Dead(_));
            let (outbox, session) = (self.outbox.clone(), self.session.number);
            self.tasks.spawn_local(async move {
                let copied = |handle| drop(outbox.notes.send(SessionNote::Copied { handle, is_dead }.of(session)));
                group.store(&outbox, copied).await;
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
        let publication =
            Publication { queue: own_queue.name(), properties: properties.into(), body: task.body.as_slice().into() };
        OutboundMessage { own_queue, publication }
    }
}
