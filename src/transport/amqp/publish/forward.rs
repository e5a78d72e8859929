//! Messages that go on without having been the master's: those that are not due, and those that a queue gives back.

use lapin::BasicProperties;

use crate::{
    clock::Instant,
    task::Task,
    transport::amqp::{
        consume::consumer::{Further, Held},
        message::properties::Becomes,
        queues::topology::Place,
        session::{
            actor::Engine,
            state::{Note, State},
        },
    },
};

impl Engine {
    /// Gives back what the master has not seen of a queue. A quorum queue counts each return as a delivery (up to RabbitMQ
    /// 4.2), and orderly ones are never to add up to the limit: a copy goes to the tail instead, with the count as it was.
    pub(crate) fn give_back(&mut self, queue: usize) {
        let State::Up(up) = &mut self.state else { return };
        let Some(intake) = up.intakes.get_mut(queue) else { return };
        let name = intake.setup.name.clone();
        // The consumer that such a queue keeps would be sent it at once.
        if self.natures.of(&name).auto_delete && !intake.leaving {
            return;
        }
        for Held { tag, properties, task, .. } in intake.give_back() {
            let becomes = Becomes::Counted { deliveries: task.deliveries };
            self.pass(queue, tag, Place::Work(name.clone()), &becomes, &properties, &task);
        }
    }

    /// Stores anew what a queue keeps without credit that goes with its last consumer: the broker closes the channel of whoever
    /// holds a message for too long, and with it the queue would go. What came again is counted then, so that it is known as
    /// such when it comes from the tail.
    pub(crate) fn refresh_kept(&mut self, now: Instant) {
        let State::Up(up) = &mut self.state else { return };
        let mut stale = Vec::new();
        up.intakes.each_stirred(|queue, intake| {
            stale.extend(intake.stale(now).into_iter().map(|held| (queue, held)));
        });
        for (queue, Held { tag, properties, task, further, .. }) in stale {
            let State::Up(up) = &self.state else { return };
            let name = up.intakes[queue].setup.name.clone();
            let more = u32::from(matches!(further, Some(Further::Count)));
            let becomes = Becomes::Counted { deliveries: task.deliveries.saturating_add(more) };
            self.pass(queue, tag, Place::Work(name), &becomes, &properties, &task);
        }
    }

    /// Moves a message on that the master does not see.
    pub(crate) fn pass(
        &mut self,
        queue: usize,
        tag: u64,
        place: Place,
        becomes: &Becomes,
        original: &BasicProperties,
        task: &Task,
    ) {
        let parcel = self.parcel(queue, place, becomes, original, task);
        let State::Up(up) = &mut self.state else { return };
        let (store, session) = (up.store.clone(), up.session.number);
        let number = up.intakes[queue].number;
        up.tasks.spawn_local(async move {
            if store.insist(queue, parcel).await.is_ok() {
                let _ = store.notes.send(Note::Passed { session, queue, number, tag });
            }
        });
    }

    pub(crate) fn passed(&mut self, queue: usize, tag: u64) {
        let now = self.now().at;
        let State::Up(up) = &mut self.state else { return };
        let intake = &mut up.intakes[queue];
        intake.passing -= 1;
        intake.acks.ended(tag, now);
        intake.ending_tags.insert(tag, None);
        self.horizon.borrow_mut().moved_at = now;
    }
}
