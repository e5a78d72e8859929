//! Messages that go on without having been the master's: those that are not due, and those that a queue gives back.

use lapin::BasicProperties;

use crate::{
    clock::Instant,
    task::Task,
    transport::amqp::{
        consume::consumer::{HeldDelivery, PassAction},
        message::properties::Becomes,
        queues::own_queue::OwnQueue,
        session::{
            note::Note,
            state::{Actor, State},
        },
    },
};

impl Actor {
    /// Gives back what the master has not seen of a queue. A quorum queue counts each return as a delivery (up to RabbitMQ
    /// 4.2), and orderly ones are never to add up to the limit: a copy goes to the tail instead, with the count as it was.
    pub(crate) fn give_back(&mut self, queue: usize) {
        let State::Up(up) = &mut self.state else { return };
        let Some(consumed) = up.queues.get_mut(queue) else { return };
        let name = consumed.setup.name.clone();
        // The consumer that such a queue keeps would be sent it at once.
        if self.foreign_queues.of(&name).auto_delete && !consumed.leaving {
            return;
        }
        for HeldDelivery { tag, properties, task, .. } in consumed.give_back() {
            let becomes = Becomes::Counted { deliveries: task.deliveries };
            self.pass(queue, tag, OwnQueue::Work(name.clone()), &becomes, &properties, &task);
        }
    }

    /// Stores anew what a queue keeps without credit that goes with its last consumer: the broker closes the channel of whoever
    /// holds a message for too long, and with it the queue would go. What came again is counted then, so that it is known as
    /// such when it comes from the tail.
    pub(crate) fn refresh_kept(&mut self, now: Instant) {
        let State::Up(up) = &mut self.state else { return };
        let mut stale = Vec::new();
        up.queues.each_dirty(|queue, consumed| {
            stale.extend(consumed.stale(now).into_iter().map(|held| (queue, held)));
        });
        for (queue, HeldDelivery { tag, properties, task, on_pass, .. }) in stale {
            let State::Up(up) = &self.state else { return };
            let name = up.queues[queue].setup.name.clone();
            let more = u32::from(matches!(on_pass, Some(PassAction::Count)));
            let becomes = Becomes::Counted { deliveries: task.deliveries.saturating_add(more) };
            self.pass(queue, tag, OwnQueue::Work(name), &becomes, &properties, &task);
        }
    }

    /// Moves a message on that the master does not see.
    pub(crate) fn pass(
        &mut self,
        queue: usize,
        tag: u64,
        own_queue: OwnQueue,
        becomes: &Becomes,
        original: &BasicProperties,
        task: &Task,
    ) {
        let message = self.outbound_message(queue, own_queue, becomes, original, task);
        let State::Up(up) = &mut self.state else { return };
        let (outbox, session) = (up.outbox.clone(), up.session.number);
        let number = up.queues[queue].number;
        up.tasks.spawn_local(async move {
            if outbox.publish_until_stored(queue, message).await.is_ok() {
                let _ = outbox.notes.send(Note::Passed { session, queue, number, tag });
            }
        });
    }

    pub(crate) fn passed(&mut self, queue: usize, tag: u64) {
        let now = self.now().at;
        let State::Up(up) = &mut self.state else { return };
        let consumed = &mut up.queues[queue];
        consumed.republishing -= 1;
        consumed.acks.ended(tag, now);
        consumed.settled_tags.insert(tag, None);
        self.in_transit.borrow_mut().moved_at = now;
    }
}
