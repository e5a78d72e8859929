//! Deliveries: how they come to the master, and what becomes of them when it has settled them.

use std::sync::Arc;

use lapin::{BasicProperties, message::Delivery as Message};

use super::consumer::{Further, Held, UNCOUNTED_FROM};
use crate::{
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport::{
        Event,
        amqp::{
            message::properties::{self, Becomes, Due},
            publish::{
                outbox::Parcel,
                publisher::{Outgoing, WINDOW},
            },
            queues::{delay_queues, topology::Place},
            session::{
                actor::Engine,
                state::{Note, Open, Sent, State, Up},
            },
        },
        identity,
    },
};

/// Copies for one place, of tasks of one queue.
struct Group {
    queue: usize,
    copies: Vec<(Handle, Parcel)>,
}

impl Engine {
    /// Messages came. Those that are not for the master yet go on without it.
    pub(crate) fn arrived(&mut self, queue: usize, messages: Vec<Message>) {
        let now = self.now();
        let State::Up(up) = &mut self.state else { return };
        let intake = &mut up.intakes[queue];
        intake.rest(now.at);
        self.horizon.borrow_mut().moved_at = now.at;
        let mut passed = Vec::new();
        for message in messages {
            let tag = message.delivery_tag;
            intake.acks.open(tag);
            if !message.acker.usable() {
                // The channel is gone; what it still hands out will come again.
                continue;
            }
            intake.ackers.insert(tag, message.acker);
            let mut read = properties::read(&message.properties, message.data);
            read.task.due_at = Some(read.due_at(now.wall));
            if !message.redelivered {
                // A count of the broker's that a producer copied from another message: this one comes for the first time.
                read.task.deliveries = read.carried;
            }
            if message.redelivered {
                self.horizon.borrow_mut().came_back();
            }
            if read.not_before.is_some() {
                self.horizon.borrow_mut().returned(&intake.setup.name);
            }
            let left = read.remaining(now.wall);
            let step = left.and_then(delay_queues::next_step);
            let bound = read.left.and(left);
            // One that carries a count came again, too: another node has put it to the tail.
            let again = message.redelivered || read.carried > 0;
            if let Some(step) = step
                && !(again && read.named)
            {
                let place = Place::Delay(intake.setup.name.clone(), step);
                passed.push((tag, place, Becomes::Further { left: bound }, message.properties, read.task));
            } else {
                // What came again may be known to the master, in hand or ended: it is asked before anything else is done.
                let counts = message.redelivered && !read.counted;
                let delay = step.map(|step| Further::Delay { step, left: bound });
                let further = delay.or(counts.then_some(Further::Count));
                let held = Held {
                    since: now.at,
                    tag,
                    properties: message.properties,
                    task: read.task,
                    named: read.named,
                    redelivered: again,
                    further,
                };
                match left.filter(|left| !left.is_zero() && further.is_none()) {
                    Some(left) => intake.early.push((now.at + left, held)),
                    None => intake.held.push_back(held),
                }
            }
        }
        // What was on its way when the credit went.
        let unwanted = intake.credit == 0;
        intake.passing += passed.len() as u32;
        for (tag, place, becomes, properties, task) in passed {
            self.pass(queue, tag, place, &becomes, &properties, &task);
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
        let Up { intakes, open, .. } = &mut **up;
        intakes.each_stirred(|queue, intake| {
            while intake.in_hand < intake.credit {
                let Some(held) = intake.held.pop_front() else { break };
                let handle = identity::next_handle();
                let (name, task) = (&intake.setup.name, Arc::new(held.task));
                let identity = held.named.then(|| identity::identity(name, &task.id, task.attempts, &task.body));
                let kind = if held.further.is_some() { &mut again } else { &mut deliveries };
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
                        further: held.further,
                        accepted: false,
                        acknowledged: false,
                        settling: false,
                        moving: false,
                        is_loose: false,
                        last: None,
                    },
                );
                intake.in_hand += 1;
            }
        });
        if !again.is_empty() {
            self.tell(Event::CameAgain(again));
        }
        if !deliveries.is_empty() {
            self.tell(Event::Delivered(deliveries));
        }
    }

    /// What keys other nodes hold a broker does not say: each is granted.
    pub(crate) fn lock(&self, handle: Handle) {
        if let State::Up(up) = &self.state
            && up.open.contains_key(&handle)
        {
            self.tell(Event::Locked { handle, held_by: None });
        }
    }

    /// Settlements of the master. Those for handles of an earlier session are void.
    pub(crate) fn settle(&mut self, settlements: Vec<(Handle, Settlement)>) {
        let now = self.now();
        self.horizon.borrow_mut().moved_at = now.at;
        let mut done = Vec::new();
        for (handle, settlement) in settlements {
            let State::Up(up) = &mut self.state else {
                self.settle_after_all(handle, settlement);
                continue;
            };
            if !up.open.contains_key(&handle) {
                self.accept_after_all(handle, &settlement);
                continue;
            }
            let Some(open) = up.open.get_mut(&handle).filter(|open| !open.settling) else { continue };
            let intake = &mut up.intakes[open.queue];
            open.settling = true;
            if open.accepted {
                open.last = Some(settlement.clone());
            }
            match settlement {
                Settlement::Done { submit } if submit.is_empty() => {
                    if open.accepted {
                        done.push(handle);
                    } else {
                        intake.acks.ended(open.tag, now.at);
                        intake.ending_tags.insert(open.tag, Some(handle));
                    }
                }
                Settlement::Done { submit } => self.follow_up(handle, &submit),
                Settlement::Accept => {
                    open.settling = false;
                    if !open.accepted {
                        open.accepted = true;
                        intake.accepted += 1;
                        intake.accepting.push((open.tag, handle));
                    }
                }
                Settlement::Pass if open.further.is_some() => {
                    let (step, becomes) = match open.further {
                        Some(Further::Delay { step, left }) => (Some(step), Becomes::Further { left }),
                        Some(Further::Count) | None => {
                            (None, Becomes::Counted { deliveries: open.task.deliveries.saturating_add(1) })
                        }
                    };
                    self.copy(handle, step, |_| becomes);
                }
                // Quorum queues count each return as a delivery (up to RabbitMQ 4.2). So that orderly ones never add up
                // to the limit, from the third on a copy goes to the tail instead, with the count as it was.
                Settlement::Release | Settlement::Pass if !open.accepted && open.task.deliveries >= UNCOUNTED_FROM => {
                    let deliveries = open.task.deliveries;
                    self.copy(handle, None, |_| Becomes::Counted { deliveries });
                }
                Settlement::Release | Settlement::Pass if !open.accepted => intake.back.push((open.tag, Some(handle))),
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
    fn accept_after_all(&mut self, handle: Handle, settlement: &Settlement) {
        let State::Up(up) = &mut self.state else { return };
        if *settlement == Settlement::Accept
            && let Some(open) = self.parted.remove(&handle).filter(|open| !open.settling)
        {
            let intake = &mut up.intakes[open.queue];
            intake.in_hand += 1;
            intake.accepted += 1;
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
        let setup = &up.intakes[queue].setup;
        let becomes = becomes(setup.dead.keep);
        let place = match (&becomes, step) {
            (Becomes::Dead { .. }, _) => Place::Dead(setup.dead.name.clone()),
            (_, Some(step)) => Place::Delay(setup.name.clone(), step),
            (_, None) => Place::Work(setup.name.clone()),
        };
        let (properties, task) = (open.properties.clone(), Arc::clone(&open.task));
        let parcel = self.parcel(queue, place, &becomes, &properties, &task);
        if let State::Up(up) = &mut self.state {
            up.open.entry(handle).and_modify(|open| open.moving = true);
            up.moving.push((handle, parcel));
        }
    }

    /// Begins the copies that were asked for: those for one queue together, in order.
    pub(crate) fn flush_moves(&mut self) {
        let State::Up(up) = &mut self.state else { return };
        let mut groups: Vec<Group> = Vec::new();
        for (handle, parcel) in up.moving.drain(..) {
            let Some(queue) = up.open.get(&handle).map(|open| open.queue) else { continue };
            let fits = |group: &Group| {
                group.queue == queue && group.copies[0].1.place == parcel.place && group.copies.len() < WINDOW
            };
            match groups.iter().position(fits) {
                Some(position) => groups[position].copies.push((handle, parcel)),
                None => groups.push(Group { queue, copies: vec![(handle, parcel)] }),
            }
        }
        for Group { queue, copies } in groups {
            let is_dead = matches!(copies[0].1.place, Place::Dead(_));
            let (store, session) = (up.store.clone(), up.session.number);
            up.tasks.spawn_local(async move {
                let (handles, parcels): (Vec<Handle>, Vec<Parcel>) = copies.into_iter().unzip();
                let copied = |handle| drop(store.notes.send(Note::Copied { session, handle, is_dead }));
                if store.together(&parcels).await {
                    return handles.into_iter().for_each(copied);
                }
                // At the same time: one that its queue does not take must not hold up the others.
                let each = handles.into_iter().zip(parcels).map(|(handle, parcel)| {
                    let store = &store;
                    async move {
                        if store.insist(queue, parcel).await.is_ok() {
                            copied(handle);
                        }
                    }
                });
                futures_util::future::join_all(each).await;
            });
        }
    }

    /// Hands on what has waited out the last part of its delay.
    pub(crate) fn ripen(&mut self) {
        let now = self.now().at;
        let State::Up(up) = &mut self.state else { return };
        let mut ripe = false;
        up.intakes.each_stirred(|_, intake| {
            if intake.early.iter().any(|(due, _)| *due <= now) {
                intake.ripen(now);
                ripe = true;
            }
        });
        if ripe {
            self.hand_out();
        }
    }

    pub(crate) fn parcel(
        &self,
        queue: usize,
        place: Place,
        becomes: &Becomes,
        original: &BasicProperties,
        task: &Task,
    ) -> Parcel {
        let name = self.attachment.as_ref().map_or("", |attachment| attachment.queues[&queue].name.as_str());
        let (properties, dropped) = properties::copy(original, task, name, becomes);
        if !dropped.is_empty() {
            let text =
                format!("task {} of queue \"{name}\": its headers are too large; cut: {}", task.id, dropped.join(", "));
            self.tell(Event::Warning(text));
        }
        self.leaving(&place);
        let outgoing = Outgoing { queue: place.name(), properties, body: task.body.as_slice().into() };
        Parcel { place, outgoing }
    }

    /// Remembers that something will come back from a delay queue.
    pub(crate) fn leaving(&self, place: &Place) {
        if let Place::Delay(queue, step) = place {
            self.horizon.borrow_mut().left(queue, self.now().at, *step);
        }
    }

    /// The copy is confirmed: now the original may go.
    pub(crate) fn copied(&mut self, handle: Handle, is_dead: bool) {
        self.tell(Event::Stored(handle));
        if let State::Up(up) = &self.state
            && let Some(open) = up.open.get(&handle).filter(|_| is_dead)
        {
            self.buried(open.queue);
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
        let intake = &mut up.intakes[open.queue];
        intake.acks.ended(open.tag, now);
        intake.ending_tags.insert(open.tag, Some(handle));
    }

    /// A batch of acknowledgements was written, or could not be.
    pub(crate) fn sent(&mut self, sent: Sent) {
        let State::Up(up) = &mut self.state else { return };
        // Of a channel that is no more: these handles are void.
        let Some(intake) = up.intakes.get_mut(sent.queue).filter(|intake| intake.number == sent.number) else { return };
        let consumes = intake.has_consumers();
        match sent.written {
            Ok(()) => {
                intake.sending = false;
                if !sent.handles.is_empty() {
                    // A queue that is worked: should it be lost again, its backoff begins anew.
                    intake.failures = 0;
                }
                self.settled(sent.handles);
            }
            Err(unwritten) => unwritten.fault(consumes).into_iter().for_each(|fault| self.ended(sent.queue, fault)),
        }
    }
}
