//! The thread of one transport: takes its requests, hands out what is due, gives back what it holds.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{
    Shared,
    tables::{Dead, Position, Tables, Waiting, dead_letter},
};
use crate::{
    clock::{Clock, Timestamp},
    schedule::SET_BACK,
    task::{Delivery, Handle, NewTask, QueueIndex, Settlement, Task},
    transport::{
        Error, Event, Events, QueueSetup, Reply, Request, ScheduleMemory,
        identity::{identity, next_handle},
        with_own_names, without_priorities,
    },
};

struct Attached {
    setup: QueueSetup,
    credit: u32,
    in_hand: u32,
    /// It goes when nothing of it is in hand.
    leaving: bool,
}

impl Attached {
    fn new(setup: QueueSetup) -> Self {
        Self { setup, credit: 0, in_hand: 0, leaving: false }
    }
}

struct Held {
    queue: usize,
    place: Position,
    task: Arc<Task>,
    accepted: bool,
}

pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    member: u64,
    events: Events,
    queues: BTreeMap<usize, Attached>,
    /// In the order of delivery.
    held: BTreeMap<Handle, Held>,
    application: Option<String>,
    has_lease: bool,
}

impl Actor {
    pub(super) fn new(shared: Arc<Shared>, member: u64, events: Events) -> Self {
        Self {
            shared,
            member,
            events,
            queues: BTreeMap::new(),
            held: BTreeMap::new(),
            application: None,
            has_lease: false,
        }
    }

    /// The thread's life.
    pub(super) fn run(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut tables = shared.lock();
        loop {
            let inbox = tables.members.entry(self.member).or_default();
            let dropped = inbox.dropped;
            for request in std::mem::take(&mut inbox.requests) {
                match request {
                    Request::Close { reply } => {
                        self.leave(&mut tables, false);
                        drop(reply.send(Ok(())));
                        return;
                    }
                    Request::WalkDead { queue, visit, reply } => {
                        drop(tables);
                        let walked = self.walk(&queue, visit);
                        drop(reply.send(Ok(walked)));
                        tables = shared.lock();
                    }
                    request => self.serve(&mut tables, request),
                }
                shared.changed.notify_all();
            }
            if dropped {
                self.leave(&mut tables, true);
                return;
            }
            self.try_lease(&mut tables);
            let next = self.deliver(&mut tables);
            if tables.members.get(&self.member).is_some_and(|inbox| !inbox.requests.is_empty() || inbox.dropped) {
                continue;
            }
            tables = match next {
                None => shared.changed.wait(tables).unwrap_or_else(PoisonError::into_inner),
                Some(after) => shared.changed.wait_timeout(tables, after).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn serve(&mut self, tables: &mut Tables, request: Request) {
        let now = Clock::steady();
        match request {
            Request::Attach { queues, .. } => {
                for (position, setup) in queues.into_iter().enumerate() {
                    tables.queue(&setup.name);
                    self.queues.insert(position, Attached::new(setup));
                }
                self.tell(Event::Attached { session: 1 });
            }
            Request::AddQueue { queue, setup } => {
                tables.queue(&setup.name);
                match self.queues.entry(queue.0) {
                    Entry::Occupied(mut attached) => attached.get_mut().setup = setup,
                    Entry::Vacant(place) => drop(place.insert(Attached::new(setup))),
                }
                self.tell(Event::QueueAdded { queue });
            }
            Request::RemoveQueue { queue } => {
                if let Some(attached) = self.queues.get_mut(&queue.0) {
                    (attached.credit, attached.leaving) = (0, true);
                }
                self.let_go(queue.0);
            }
            Request::Credit { queue, credit } => {
                if let Some(attached) = self.queues.get_mut(&queue.0).filter(|attached| !attached.leaving) {
                    attached.credit = credit;
                }
            }
            Request::Settle(settlements) => {
                let mut answered = Vec::with_capacity(settlements.len());
                let mut touched = BTreeSet::new();
                for (handle, settlement) in settlements {
                    touched.extend(self.held.get(&handle).map(|held| held.queue));
                    let is_copy = settlement.is_copy();
                    if self.settle(tables, now, handle, settlement) {
                        answered.push(handle);
                        if is_copy {
                            self.tell(Event::Stored(handle));
                        }
                    }
                }
                if !answered.is_empty() {
                    self.tell(Event::Settled(answered));
                }
                for queue in touched {
                    self.let_go(queue);
                }
            }
            // One process, which is to know its own keys.
            Request::Lock { handle, .. } if self.held.contains_key(&handle) => {
                self.tell(Event::Locked { handle, held_by: None });
            }
            Request::Lock { .. } => {}
            Request::Survey { serial } => {
                let empty = self.held.is_empty()
                    && self.queues.values().all(|attached| {
                        let depth = tables.depth(now, &attached.setup.name);
                        depth.ready + depth.delayed + depth.in_hand == 0
                    });
                self.tell(Event::Surveyed { serial, empty, again_in: Duration::from_millis(500) });
            }
            Request::Submit { tasks, reply } => {
                let refused = without_priorities(&tasks).and_then(|()| with_own_names(&tasks));
                if refused.is_ok() {
                    tables.submit(now, tasks);
                }
                drop(reply.send(refused));
            }
            Request::Depths { queues, reply } => {
                answer(reply, queues.iter().map(|dead| tables.depth(now, &dead.queue)).collect());
            }
            Request::Ready { queues, reply } => {
                answer(reply, queues.iter().map(|queue| tables.depth(now, queue).ready).collect());
            }
            Request::Purge { queue, reply } => drop(reply.send(tables.purge(&queue))),
            Request::Delete { queue, reply } => drop(reply.send(tables.delete(now, &queue.queue))),
            Request::Cancel { id, reply } => {
                let ours = self.held.values().any(|held| held.task.id == id && !held.accepted);
                answer(reply, tables.cancel(&id, ours));
            }
            Request::KnownQueues { reply } => answer(reply, tables.queues.keys().cloned().collect()),
            Request::Lease { application } => {
                self.application = Some(application);
                self.try_lease(tables);
                if !self.has_lease {
                    self.tell(Event::LeaseRefused);
                }
            }
            Request::Fire { schedule, moment, task } => {
                let stored = self.fire(tables, now, &schedule, moment, task);
                self.tell(Event::Fired { schedule, moment, stored });
            }
            Request::ScheduleMemory { application, reply } => {
                let is_led = tables.leases.contains_key(&application);
                answer(
                    reply,
                    Some(ScheduleMemory { moments: tables.last_moments(&application), is_led, masters: Vec::new() }),
                );
            }
            Request::ReleaseLease => self.release_lease(tables),
            Request::WalkDead { .. } | Request::Close { .. } => unreachable!("served by the loop, which owns the lock"),
        }
    }

    /// A queue that is leaving goes with the last of its deliveries.
    fn let_go(&mut self, queue: usize) {
        if self.queues.get(&queue).is_none_or(|attached| attached.leaving && attached.in_hand == 0) {
            self.queues.remove(&queue);
            self.tell(Event::QueueRemoved { queue: QueueIndex(queue) });
        }
    }

    /// Hands out what is due, within the credit. Returns the time until the next task is.
    fn deliver(&mut self, tables: &mut Tables) -> Option<Duration> {
        let now = Clock::steady();
        let mut next: Option<Duration> = None;
        for (&position, attached) in &mut self.queues {
            let queue = tables.queue(&attached.setup.name);
            let mut deliveries = Vec::new();
            while attached.in_hand < attached.credit
                && let Some(first) = queue.waiting.first_entry()
            {
                let place = *first.key();
                if place.0 > now {
                    let after = place.0.remaining(now);
                    next = Some(next.map_or(after, |next| next.min(after)));
                    break;
                }
                let Waiting { task, redelivered } = first.remove();
                attached.in_hand += 1;
                let handle = next_handle();
                queue.in_hand.insert(handle, task.id.clone());
                let name = &attached.setup.name;
                deliveries.push(Delivery {
                    handle,
                    queue: QueueIndex(position),
                    redelivered,
                    identity: Some(identity(name, &task.id, task.attempts, &task.body)),
                    task: Arc::clone(&task),
                });
                self.held.insert(handle, Held { queue: position, place, task, accepted: false });
            }
            if !deliveries.is_empty() {
                drop(self.events.send(Event::Delivered(deliveries)));
            }
        }
        next
    }

    /// Whether there was anything to settle.
    fn settle(&mut self, tables: &mut Tables, now: Timestamp, handle: Handle, settlement: Settlement) -> bool {
        let Some(held) = self.held.get_mut(&handle) else { return false };
        let Some(attached) = self.queues.get_mut(&held.queue) else { return false };
        let name = attached.setup.name.clone();
        if settlement == Settlement::Accept {
            if !std::mem::replace(&mut held.accepted, true) {
                tables.queue(&name).in_hand.remove(&handle);
            }
            return true;
        }
        attached.in_hand -= 1;
        let keep = attached.setup.dead.keep;
        let Some(Held { place, task, accepted, .. }) = self.held.remove(&handle) else { return false };
        if !accepted {
            tables.queue(&name).in_hand.remove(&handle);
        }
        match settlement {
            Settlement::Done { submit } => tables.submit(now, submit),
            Settlement::Accept => {}
            Settlement::Retry { after, failure } => {
                let mut task = Arc::unwrap_or_clone(task);
                task.attempts += 1;
                task.deliveries = 0;
                task.first_failed_at.get_or_insert(failure.failed_at);
                tables.enqueue(&name, now.plus(after), Arc::new(task), false);
            }
            Settlement::Snooze { after } => {
                let mut task = Arc::unwrap_or_clone(task);
                task.deliveries = 0;
                tables.enqueue(&name, now.plus(after), Arc::new(task), false);
            }
            Settlement::Dead(failure) => {
                let number = tables.next_number();
                let queue = tables.queue(&name);
                queue.purge(now);
                let letter = dead_letter(name, Arc::unwrap_or_clone(task), *failure);
                queue.dead.insert(number, Dead { letter, purge_at: keep.map(|keep| now.plus(keep)) });
            }
            Settlement::Release | Settlement::Pass => {
                tables.queue(&name).waiting.insert(place, Waiting { task, redelivered: true });
            }
        }
        true
    }

    fn try_lease(&mut self, tables: &mut Tables) {
        let Some(application) = &self.application else { return };
        if self.has_lease || *tables.leases.entry(application.clone()).or_insert(self.member) != self.member {
            return;
        }
        self.has_lease = true;
        let memory = tables.last_moments(application);
        self.tell(Event::LeaseHeld { memory });
    }

    fn release_lease(&mut self, tables: &mut Tables) {
        if let Some(application) = self.application.take()
            && std::mem::take(&mut self.has_lease)
        {
            tables.leases.remove(&application);
        }
    }

    fn fire(
        &self,
        tables: &mut Tables,
        now: Timestamp,
        schedule: &str,
        moment: Timestamp,
        task: Option<NewTask>,
    ) -> Result<bool, Error> {
        let Some(application) = self.application.as_ref().filter(|_| self.has_lease) else {
            return Err(Error::Lost { uri: "localmem:".to_owned(), cause: "another is the scheduler".to_owned() });
        };
        let moments = tables.fired.entry((application.clone(), schedule.to_owned())).or_default();
        if !moments.insert(moment) {
            return Ok(false);
        }
        // What was fired by a clock that was wrong is to fire by one that is right.
        let latest = Clock::wall().plus(SET_BACK);
        moments.retain(|fired| *fired <= latest || *fired == moment);
        while moments.len() > 16 {
            moments.pop_first();
        }
        tables.submit(now, task.into_iter().collect());
        Ok(true)
    }

    /// Gives everything back. Of a dead member, deliveries are counted.
    fn leave(&mut self, tables: &mut Tables, died: bool) {
        for (handle, held) in std::mem::take(&mut self.held) {
            if held.accepted {
                continue;
            }
            let mut task = held.task;
            if died {
                Arc::make_mut(&mut task).deliveries += 1;
            }
            let queue = tables.queue(&self.queues[&held.queue].setup.name);
            queue.in_hand.remove(&handle);
            queue.waiting.insert(held.place, Waiting { task, redelivered: true });
        }
        self.release_lease(tables);
        tables.members.remove(&self.member);
        self.shared.changed.notify_all();
    }

    /// Whoever listened may be gone; the thread ends when its transport is dropped.
    fn tell(&self, event: Event) {
        drop(self.events.send(event));
    }
}

fn answer<T>(reply: Reply<T>, value: T) {
    drop(reply.send(Ok(value)));
}
