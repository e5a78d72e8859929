//! Deliveries: how they come from the broker, wait for credit, reach the master, or go back unseen.

use std::sync::Arc;

use lapin::message::Delivery as Message;

use super::consumer::{HeldDelivery, PassAction, Unjudged};
use crate::{
    celery::message::SENDING,
    clock::Instant,
    task::{Delivery, Handle, QueueIndex},
    transport::{
        Event,
        amqp::{
            message::{
                celery,
                properties::{self, Transition},
            },
            queues::{delay_queues, own_queue::OwnQueue},
            session::up::{OpenDelivery, Up},
            stopped::known::{Fate, Hands, PUT_OFF},
        },
        attached::DeliveryState,
        identity,
    },
};

impl Up {
    /// Messages came.
    pub(crate) fn arrived(&mut self, queue: usize, messages: Vec<Message>) {
        let now = self.shared.now();
        let consumed = &mut self.queues[queue];
        consumed.defer_poll(now.at);
        self.shared.moved(now.at);
        let mut came = Vec::with_capacity(messages.len());
        for message in messages {
            let tag = message.delivery_tag;
            consumed.acks.open(tag);
            if !message.acker.usable() {
                // The channel is gone; what it still hands out will come again.
                continue;
            }
            consumed.ackers.insert(tag, message.acker);
            let (redelivered, properties) = (message.redelivered, Box::new(message.properties));
            came.push(Unjudged { tag, redelivered, properties, body: message.data, hands: Hands::Unknown });
        }
        self.judge(queue, came);
    }

    /// Judges what came. What is not for the master yet goes on without it, and what is of no use any more goes.
    pub(crate) fn judge(&mut self, queue: usize, messages: Vec<Unjudged>) {
        let now = self.shared.now();
        let is_celery = self.queues[queue].setup.protocol.is_celery();
        let mut passed = Vec::new();
        for Unjudged { tag, redelivered, properties, body, hands } in messages {
            let mut read = if is_celery {
                celery::read(&properties, body, redelivered)
            } else {
                properties::read(&properties, body)
            };
            let fate = read.task.membership.as_deref().map_or(Fate::Worked, |place| self.fate(place));
            if fate == Fate::Unknown {
                let body = read.task.body;
                self.queues[queue].unjudged.push(Unjudged { tag, redelivered, properties, body, hands });
                continue;
            }
            let is_due = || read.remaining(now.wall).and_then(delay_queues::next_step).is_none();
            if let Some(place) = read.task.membership.as_deref().filter(|place| place.wipe)
                && (fate, hands) == (Fate::Worked, Hands::Unknown)
                && is_due()
            {
                let (place, body) = (place.clone(), read.task.body);
                self.ask_hands(queue, Unjudged { tag, redelivered, properties, body, hands }, &place);
                continue;
            }
            let consumed = &mut self.queues[queue];
            read.task.due_at = Some(read.due_at(now.wall));
            if !redelivered {
                // A count of the broker's that a producer copied from another message: this one comes for the first time.
                read.task.deliveries = read.carried;
            }
            if redelivered {
                self.shared.in_transit.borrow_mut().came_back();
            }
            let new_delay = read.not_before.filter(|_| read.is_new_delay);
            if read.not_before.is_some() && new_delay.is_none() {
                self.shared.in_transit.borrow_mut().returned(&consumed.setup.name);
            }
            if fate == Fate::Void {
                self.drop_void(queue, tag, &read.task);
                continue;
            }
            consumed.window.live_came();
            // What it wipes may still be written.
            let put_off = (hands == Hands::Busy).then(|| now.wall.plus(PUT_OFF));
            let first_delay = put_off.or(new_delay);
            let left = put_off.map(|_| PUT_OFF).or_else(|| read.remaining(now.wall));
            let step = left.and_then(delay_queues::next_step);
            let bound = put_off.map_or_else(|| read.left.and(left), |_| left);
            // One that carries a count came again, too: another node has put it to the tail.
            let again = redelivered || read.carried > 0;
            let is_known_nowhere = !(again && read.named);
            if let Some(step) = step
                && is_known_nowhere
            {
                let own_queue = OwnQueue::Delay(consumed.setup.name.clone(), step);
                let transition = Transition::Further { left: bound, not_before: first_delay };
                passed.push((tag, own_queue, transition, properties, read.task));
            } else if fate == Fate::Frozen && is_known_nowhere {
                consumed.republishing += 1;
                self.freeze(queue, tag, &properties, &read.task);
            } else {
                // What came again may be known to the master, in hand or ended: it is asked before anything else is done.
                let counts = redelivered && !read.counted;
                let delay = step.map(|step| PassAction::Delay { step, left: bound, not_before: first_delay });
                let freeze = (fate == Fate::Frozen).then_some(PassAction::Freeze);
                let on_pass = delay.or(freeze).or(counts.then_some(PassAction::Count));
                let held = HeldDelivery {
                    since: now.at,
                    tag,
                    properties,
                    task: read.task,
                    named: read.named,
                    redelivered: again,
                    on_pass,
                };
                match left.filter(|left| !left.is_zero() && on_pass.is_none()) {
                    Some(left) => consumed.nearly_due.push((now.at + left, held)),
                    None => consumed.held.push_back(held),
                }
            }
        }
        let consumed = &mut self.queues[queue];
        // What was on its way when the credit went.
        let unwanted = consumed.credit == 0;
        consumed.republishing += passed.len() as u32;
        for (tag, own_queue, transition, properties, task) in passed {
            self.pass(queue, tag, own_queue, &transition, &properties, &task);
        }
        if unwanted {
            self.give_back(queue);
        }
        self.hand_out();
        self.narrow(queue);
    }

    /// Gives back what came beyond the credit while void tasks came in great numbers.
    pub(crate) fn narrow(&mut self, queue: usize) {
        if self.queues.get(queue).is_some_and(|consumed| consumed.is_narrowed() && !consumed.held.is_empty()) {
            self.give_back(queue);
        }
    }

    /// Gives the master what waits, as far as the credit goes.
    pub(crate) fn hand_out(&mut self) {
        let (mut deliveries, mut again) = (Vec::new(), Vec::new());
        let Self { queues, open, .. } = self;
        queues.each_dirty(|queue, consumed| {
            while consumed.in_hand < consumed.credit {
                let Some(held) = consumed.held.pop_front() else { break };
                let handle = identity::next_handle();
                let (name, task) = (&consumed.setup.name, Arc::new(held.task));
                let identity = held.named.then(|| {
                    let identity = identity::identity(name, &task.id, task.attempts, &task.body);
                    if consumed.setup.protocol.is_celery() {
                        identity::with_headers(identity, &task.headers, &SENDING)
                    } else {
                        identity
                    }
                });
                let kind = if held.on_pass.is_some() { &mut again } else { &mut deliveries };
                kind.push(Delivery {
                    handle,
                    queue: QueueIndex(queue),
                    task: Arc::clone(&task),
                    redelivered: held.redelivered,
                    identity,
                });
                let (tag, properties) = (held.tag, held.properties);
                open.insert(
                    handle,
                    OpenDelivery {
                        queue,
                        tag,
                        properties,
                        task,
                        on_pass: held.on_pass,
                        state: DeliveryState::default(),
                        moving: false,
                        lost_channel: false,
                        unstored_settlement: None,
                    },
                );
                consumed.in_hand += 1;
            }
        });
        if !again.is_empty() {
            self.shared.emit(Event::CameAgain(again));
        }
        if !deliveries.is_empty() {
            self.shared.emit(Event::Delivered(deliveries));
        }
    }

    /// What keys other nodes hold a broker does not say: each is granted.
    pub(crate) fn lock(&self, handle: Handle) {
        if self.open.contains_key(&handle) {
            self.shared.emit(Event::Locked { handle, held_by: None });
        }
    }

    /// Hands on what has waited out the last part of its delay.
    pub(crate) fn release_due(&mut self, now: Instant) {
        let mut any = false;
        self.queues.each_dirty(|_, consumed| {
            if consumed.nearly_due.iter().any(|(due, _)| *due <= now) {
                consumed.release_due(now);
                any = true;
            }
        });
        if any {
            self.hand_out();
        }
    }

    /// Changes the credit of a queue. Without any, what the master has not seen goes back.
    pub(crate) fn set_credit(&mut self, queue: usize, credit: u32) {
        let Some(consumed) = self.queues.get_mut(queue) else { return };
        let credit = if consumed.leaving { 0 } else { credit };
        self.shared.moved(self.shared.now().at);
        consumed.credit = credit;
        if credit == 0 {
            self.give_back(queue);
        }
        self.hand_out();
    }

    /// Gives back what the master has not seen of a queue. A quorum queue counts each return as a delivery (up to RabbitMQ
    /// 4.2), and orderly ones are never to add up to the limit: a copy goes to the tail instead, with the count as it was.
    pub(crate) fn give_back(&mut self, queue: usize) {
        let Some(consumed) = self.queues.get_mut(queue) else { return };
        let name = consumed.setup.name.clone();
        // The consumer that such a queue keeps would be sent it at once.
        if self.shared.foreign_queues.of(&name).auto_delete && !consumed.leaving {
            return;
        }
        for HeldDelivery { tag, properties, task, .. } in consumed.give_back() {
            let transition = Transition::Counted { deliveries: task.deliveries };
            self.pass(queue, tag, OwnQueue::Work(name.clone()), &transition, &properties, &task);
        }
    }

    /// Stores anew what is held without credit of an auto-delete queue: the broker closes a channel on which a message stays
    /// unacknowledged for too long, and with its consumer the queue would go. What came again is counted then, so that it is known as
    /// such when it comes from the tail.
    pub(crate) fn refresh_kept(&mut self, now: Instant) {
        let mut stale = Vec::new();
        self.queues.each_dirty(|queue, consumed| {
            stale.extend(consumed.stale(now).into_iter().map(|held| (queue, held)));
        });
        for (queue, HeldDelivery { tag, properties, task, on_pass, .. }) in stale {
            let name = self.queues[queue].setup.name.clone();
            let more = u32::from(matches!(on_pass, Some(PassAction::Count)));
            let transition = Transition::Counted { deliveries: task.deliveries.saturating_add(more) };
            self.pass(queue, tag, OwnQueue::Work(name), &transition, &properties, &task);
        }
    }
}
