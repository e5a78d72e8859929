//! Deliveries: how they come to the master, and what becomes of them when it has settled them.

use std::sync::Arc;

use lapin::{BasicProperties, message::Delivery as Message};

use super::consumer::{COPY_FROM_DELIVERIES, HeldDelivery, PassAction};
use crate::{
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport::{
        Event,
        amqp::{
            message::properties::{self, Becomes, Due},
            publish::{
                outbox::OutboundMessage,
                publisher::{Publication, WINDOW},
            },
            queues::{delay_queues, own_queue::OwnQueue},
            session::{
                note::Note,
                state::{AcksWritten, Actor, Open, State, Up},
            },
        },
        identity,
    },
};

/// Copies for one place, of tasks of one queue.
struct Group {
    queue: usize,
    copies: Vec<(Handle, OutboundMessage)>,
}

impl Actor {
    /// Messages came. Those that are not for the master yet go on without it.
    pub(crate) fn arrived(&mut self, queue: usize, messages: Vec<Message>) {
        let now = self.now();
        let State::Up(up) = &mut self.state else { return };
        let consumed = &mut up.queues[queue];
        consumed.defer_poll(now.at);
        self.in_transit.borrow_mut().moved_at = now.at;
        let mut passed = Vec::new();
        for message in messages {
            let tag = message.delivery_tag;
            consumed.acks.open(tag);
            if !message.acker.usable() {
                // The channel is gone; what it still hands out will come again.
                continue;
            }
            consumed.ackers.insert(tag, message.acker);
            let mut read = properties::read(&message.properties, message.data);
            read.task.due_at = Some(read.due_at(now.wall));
            if !message.redelivered {
                // A count of the broker's that a producer copied from another message: this one comes for the first time.
                read.task.deliveries = read.carried;
            }
            if message.redelivered {
                self.in_transit.borrow_mut().came_back();
            }
            if read.not_before.is_some() {
                self.in_transit.borrow_mut().returned(&consumed.setup.name);
            }
            let left = read.remaining(now.wall);
            let step = left.and_then(delay_queues::next_step);
            let bound = read.left.and(left);
            // One that carries a count came again, too: another node has put it to the tail.
            let again = message.redelivered || read.carried > 0;
            if let Some(step) = step
                && !(again && read.named)
            {
                let own_queue = OwnQueue::Delay(consumed.setup.name.clone(), step);
                passed.push((tag, own_queue, Becomes::Further { left: bound }, message.properties, read.task));
            } else {
                // What came again may be known to the master, in hand or ended: it is asked before anything else is done.
                let counts = message.redelivered && !read.counted;
                let delay = step.map(|step| PassAction::Delay { step, left: bound });
                let on_pass = delay.or(counts.then_some(PassAction::Count));
                let held = HeldDelivery {
                    since: now.at,
                    tag,
                    properties: message.properties,
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
        // What was on its way when the credit went.
        let unwanted = consumed.credit == 0;
        consumed.republishing += passed.len() as u32;
        for (tag, own_queue, becomes, properties, task) in passed {
            self.pass(queue, tag, own_queue, &becomes, &properties, &task);
        }
        if unwanted {
            self.give_back(queue);
        }
        self.hand_out();
    }

    /// Gives the master what waits, as far as the credit goes.
    pub(crate) fn hand_out(&mut self) {
        let State::Up(up) = &mut self.state else { return };
        let (mut deliveries, mut again) = (Vec::new(), Vec::new());
        let Up { queues, open, .. } = &mut **up;
        queues.each_dirty(|queue, consumed| {
            while consumed.in_hand < consumed.credit {
                let Some(held) = consumed.held.pop_front() else { break };
                let handle = identity::next_handle();
                let (name, task) = (&consumed.setup.name, Arc::new(held.task));
                let identity = held.named.then(|| identity::identity(name, &task.id, task.attempts, &task.body));
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
                    Open {
                        queue,
                        tag,
                        properties,
                        task,
                        on_pass: held.on_pass,
                        accepted: false,
                        acknowledged: false,
                        settling: false,
                        moving: false,
                        lost_channel: false,
                        unstored_settlement: None,
                    },
                );
                consumed.in_hand += 1;
            }
        });
        if !again.is_empty() {
            self.emit(Event::CameAgain(again));
        }
        if !deliveries.is_empty() {
            self.emit(Event::Delivered(deliveries));
        }
    }

    /// What keys other nodes hold a broker does not say: each is granted.
    pub(crate) fn lock(&self, handle: Handle) {
        if let State::Up(up) = &self.state
            && up.open.contains_key(&handle)
        {
            self.emit(Event::Locked { handle, held_by: None });
        }
    }

    /// Settlements of the master. Those for handles of an earlier session are void.
    pub(crate) fn settle(&mut self, settlements: Vec<(Handle, Settlement)>) {
        let now = self.now();
        self.in_transit.borrow_mut().moved_at = now.at;
        let mut done = Vec::new();
        for (handle, settlement) in settlements {
            let State::Up(up) = &mut self.state else {
                self.settle_while_disconnected(handle, settlement);
                continue;
            };
            if !up.open.contains_key(&handle) {
                self.accept_from_earlier_session(handle, &settlement);
                continue;
            }
            let Some(open) = up.open.get_mut(&handle).filter(|open| !open.settling) else { continue };
            let consumed = &mut up.queues[open.queue];
            open.settling = true;
            if open.accepted {
                open.unstored_settlement = Some(settlement.clone());
            }
            match settlement {
                Settlement::Done { submit } if submit.is_empty() => {
                    if open.accepted {
                        done.push(handle);
                    } else {
                        consumed.acks.ended(open.tag, now.at);
                        consumed.settled_tags.insert(open.tag, Some(handle));
                    }
                }
                Settlement::Done { submit } => self.follow_up(handle, &submit),
                Settlement::Accept => {
                    open.settling = false;
                    if !open.accepted {
                        open.accepted = true;
                        consumed.accepted += 1;
                        consumed.accepting.push((open.tag, handle));
                    }
                }
                Settlement::Pass if open.on_pass.is_some() => {
                    let (step, becomes) = match open.on_pass {
                        Some(PassAction::Delay { step, left }) => (Some(step), Becomes::Further { left }),
                        Some(PassAction::Count) | None => {
                            (None, Becomes::Counted { deliveries: open.task.deliveries.saturating_add(1) })
                        }
                    };
                    self.copy(handle, step, |_| becomes);
                }
                // Quorum queues count each return as a delivery (up to RabbitMQ 4.2). So that orderly ones never add up
                // to the limit, from the third on a copy goes to the tail instead, with the count as it was.
                Settlement::Release | Settlement::Pass
                    if !open.accepted && open.task.deliveries >= COPY_FROM_DELIVERIES =>
                {
                    let deliveries = open.task.deliveries;
                    self.copy(handle, None, |_| Becomes::Counted { deliveries });
                }
                Settlement::Release | Settlement::Pass if !open.accepted => {
                    consumed.to_requeue.push((open.tag, Some(handle)))
                }
                Settlement::Release | Settlement::Pass => self.copy(handle, None, |_| Becomes::Unchanged),
                Settlement::Retry { after, failure } => {
                    let due = Due::after(after, now.wall);
                    self.copy(handle, Some(delay_queues::first_step(after)), |_| Becomes::Retried { due, failure });
                }
                Settlement::Snooze { after } => {
                    let due = Due::after(after, now.wall);
                    self.copy(handle, Some(delay_queues::first_step(after)), |_| Becomes::Snoozed { due });
                }
                Settlement::Dead(failure) => {
                    self.copy(handle, None, |keep| Becomes::Dead { failure, keep });
                }
            }
        }
        if !done.is_empty() {
            self.settled(done);
        }
    }

    /// The same when the next session stands already: the handle counts in it from now on.
    fn accept_from_earlier_session(&mut self, handle: Handle, settlement: &Settlement) {
        let State::Up(up) = &mut self.state else { return };
        if *settlement == Settlement::Accept
            && let Some(open) = self.accepted_between_sessions.remove(&handle).filter(|open| !open.settling)
        {
            let consumed = &mut up.queues[open.queue];
            consumed.in_hand += 1;
            consumed.accepted += 1;
            up.open.insert(handle, Open { accepted: true, acknowledged: true, ..open });
        }
    }

    /// Stores a copy of a delivery: on a step of the ladder, among the dead letters, or back in its queue.
    fn copy(
        &mut self,
        handle: Handle,
        step: Option<u64>,
        becomes: impl FnOnce(Option<std::time::Duration>) -> Becomes,
    ) {
        let State::Up(up) = &self.state else { return };
        let Some(open) = up.open.get(&handle) else { return };
        let queue = open.queue;
        let setup = &up.queues[queue].setup;
        let becomes = becomes(setup.dead.keep);
        let own_queue = match (&becomes, step) {
            (Becomes::Dead { .. }, _) => OwnQueue::Dead(setup.dead.name.clone()),
            (_, Some(step)) => OwnQueue::Delay(setup.name.clone(), step),
            (_, None) => OwnQueue::Work(setup.name.clone()),
        };
        let (properties, task) = (open.properties.clone(), Arc::clone(&open.task));
        let message = self.outbound_message(queue, own_queue, &becomes, &properties, &task);
        if let State::Up(up) = &mut self.state {
            up.open.entry(handle).and_modify(|open| open.moving = true);
            up.moving.push((handle, message));
        }
    }

    /// Begins the copies that were asked for: those for one queue together, in order.
    pub(crate) fn flush_moves(&mut self) {
        let State::Up(up) = &mut self.state else { return };
        let mut groups: Vec<Group> = Vec::new();
        for (handle, message) in up.moving.drain(..) {
            let Some(queue) = up.open.get(&handle).map(|open| open.queue) else { continue };
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
            let (outbox, session) = (up.outbox.clone(), up.session.number);
            up.tasks.spawn_local(async move {
                let (handles, messages): (Vec<Handle>, Vec<OutboundMessage>) = copies.into_iter().unzip();
                let copied = |handle| drop(outbox.notes.send(Note::Copied { session, handle, is_dead }));
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

    /// Hands on what has waited out the last part of its delay.
    pub(crate) fn release_due(&mut self) {
        let now = self.now().at;
        let State::Up(up) = &mut self.state else { return };
        let mut ripe = false;
        up.queues.each_dirty(|_, consumed| {
            if consumed.nearly_due.iter().any(|(due, _)| *due <= now) {
                consumed.release_due(now);
                ripe = true;
            }
        });
        if ripe {
            self.hand_out();
        }
    }

    pub(crate) fn outbound_message(
        &self,
        queue: usize,
        own_queue: OwnQueue,
        becomes: &Becomes,
        original: &BasicProperties,
        task: &Task,
    ) -> OutboundMessage {
        let name = self.attachment.as_ref().map_or("", |attachment| attachment.queues[&queue].name.as_str());
        let (properties, dropped) = properties::copy(original, task, name, becomes);
        if !dropped.is_empty() {
            let text =
                format!("task {} of queue \"{name}\": its headers are too large; cut: {}", task.id, dropped.join(", "));
            self.emit(Event::Warning(text));
        }
        self.leaving(&own_queue);
        let publication = Publication { queue: own_queue.name(), properties, body: task.body.as_slice().into() };
        OutboundMessage { own_queue, publication }
    }

    /// Remembers that something will come back from a delay queue.
    pub(crate) fn leaving(&self, own_queue: &OwnQueue) {
        if let OwnQueue::Delay(queue, step) = own_queue {
            self.in_transit.borrow_mut().left(queue, self.now().at, *step);
        }
    }

    /// The copy is confirmed: now the original may go.
    pub(crate) fn copied(&mut self, handle: Handle, is_dead: bool) {
        self.emit(Event::Stored(handle));
        if let State::Up(up) = &self.state
            && let Some(open) = up.open.get(&handle).filter(|_| is_dead)
        {
            self.dead_letter_stored(open.queue);
        }
        self.end(handle);
    }

    /// The follow-up tasks are confirmed: now the task may go.
    pub(crate) fn followed_up(&mut self, handle: Handle) {
        self.end(handle);
    }

    fn end(&mut self, handle: Handle) {
        let now = self.now().at;
        let State::Up(up) = &mut self.state else { return };
        let Some(open) = up.open.get_mut(&handle) else { return };
        open.moving = false;
        if open.accepted {
            return self.settled(vec![handle]);
        }
        let consumed = &mut up.queues[open.queue];
        consumed.acks.ended(open.tag, now);
        consumed.settled_tags.insert(open.tag, Some(handle));
    }

    /// A batch of acknowledgements was written, or could not be.
    pub(crate) fn acks_written(&mut self, written: AcksWritten) {
        let State::Up(up) = &mut self.state else { return };
        // Of a channel that is no more: these handles are void.
        let Some(consumed) = up.queues.get_mut(written.queue).filter(|consumed| consumed.number == written.number)
        else {
            return;
        };
        let consumes = consumed.has_consumers();
        match written.written {
            Ok(()) => {
                consumed.sending = false;
                if !written.handles.is_empty() {
                    // A queue that is worked: should it be lost again, its backoff begins anew.
                    consumed.failures = 0;
                }
                self.settled(written.handles);
            }
            Err(error) => error.fault(consumes).into_iter().for_each(|fault| self.ended(written.queue, fault)),
        }
    }
}
