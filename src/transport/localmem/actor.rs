//! The thread of one transport: takes its requests, delivers what is due, gives back its deliveries at the end.
//!
//! It holds the lock of the tables except while it waits and while a visitor looks at a dead letter.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{
    asked::{Ledger, WaitingOrder},
    jobs::Fate,
    shared::Shared,
    tables::{Dead, Position, Tables, Waiting, dead_letter, wipes_under},
};
use crate::{
    clock::{Clock, Timestamp},
    schedule::SET_BACK,
    task::{Delivery, Handle, NewTask, QueueIndex, Settlement, Task},
    transport::{
        Error, Event, Events, QueueSetup, Reply, Request, ScheduleMemory,
        attached::{AttachedQueues, Begun},
        identity::{identity, next_handle},
        job_entries, with_own_names, without_priorities,
    },
};

/// When a task that wipes is looked at again that came while others of its job were in hands.
const WIPE_AGAIN_IN: Duration = Duration::from_millis(100);

/// A delivery that is open.
pub(super) struct Held {
    /// Where its task was, and is again when it is released.
    position: Position,
    task: Arc<Task>,
}

pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) member: u64,
    events: Events,
    pub(super) attached: AttachedQueues<QueueSetup, Held>,
    application: Option<String>,
    has_lease: bool,
    pub(super) ledger: Option<Ledger>,
    /// Orders whose answers are waited for.
    pub(super) orders: Vec<WaitingOrder>,
    /// Up to which number void rounds and frozen jobs were told.
    pub(super) stops_seen: u64,
}

impl Actor {
    pub(super) fn new(shared: Arc<Shared>, member: u64, events: Events) -> Self {
        Self {
            shared,
            member,
            events,
            attached: AttachedQueues::default(),
            application: None,
            has_lease: false,
            ledger: None,
            orders: Vec::new(),
            stops_seen: 0,
        }
    }

    /// Runs until the transport is closed or dropped.
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
            let answer = self.tell_of_jobs(&mut tables);
            let next = self.deliver(&mut tables).into_iter().chain(answer).min();
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
                // Nothing is in hand yet, so nothing of it can be stopped.
                self.stops_seen = tables.jobs.last_stop();
                for (position, setup) in queues.into_iter().enumerate() {
                    tables.queue(&setup.name);
                    self.attached.add(QueueIndex(position), setup);
                }
                self.tell(Event::Attached { session: 1 });
            }
            Request::AddQueue { queue, setup } => {
                tables.queue(&setup.name);
                self.attached.add(queue, setup);
                self.tell(Event::QueueAdded { queue });
            }
            Request::RemoveQueue { queue } => {
                if !self.attached.remove(queue) {
                    self.tell(Event::QueueRemoved { queue });
                }
                self.announce_removed();
            }
            Request::Credit { queue, credit } => self.attached.set_credit(queue, credit),
            Request::Settle(settlements) => {
                let mut answered = Vec::with_capacity(settlements.len());
                for (handle, settlement) in settlements {
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
                self.announce_removed();
            }
            // There is one process, and the master knows which keys its own tasks hold.
            Request::Lock { handle, .. } if self.attached.delivery(handle).is_some() => {
                self.tell(Event::Locked { handle, held_by: None });
            }
            Request::Lock { .. } | Request::Reply { .. } | Request::Protocols { .. } => {}
            Request::Ledger { application } => self.ask_ledger(tables, application),
            Request::Advance(advance) => self.advance_ledger(tables, *advance),
            Request::ReleaseLedger => self.release_ledger(tables),
            Request::Order { application, order, within, reply } => {
                self.order(tables, application, *order, within, reply);
            }
            Request::Jobs { application, filter, reply } => {
                tables.jobs.purge(now);
                answer(reply, (tables.jobs.find(&application, &filter), tables.jobs.frozen_pipelines(&application)));
            }
            Request::Survey { serial, jobs } => self.survey(tables, serial, jobs.as_deref()),
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
            Request::Purge { queue, reply } => {
                drop(reply.send(tables.purge(&queue, &format!("queue {queue} was purged"))));
            }
            Request::Delete { queue, reply } => drop(reply.send(tables.delete(now, &queue.queue))),
            Request::Cancel { id, reply } => {
                let ours = self.attached.unaccepted().any(|held| held.task.id == id);
                answer(reply, tables.cancel(&id, ours));
            }
            Request::DeadGroups { queue, reply } => answer(reply, Some(tables.dead_groups(now, &queue.queue))),
            Request::DeadPage { queue, filter, after, limit, reply } => {
                answer(reply, Some(tables.dead_page(now, &queue.queue, &filter, after, limit)));
            }
            Request::DeadLetter { queue, key, reply } => answer(reply, tables.dead_letter(now, &queue.queue, &key)),
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

    /// Announces the queues that were to be removed and of which nothing is open any more.
    fn announce_removed(&mut self) {
        for queue in self.attached.take_drained() {
            self.tell(Event::QueueRemoved { queue });
        }
    }

    /// Delivers what is due, within the credit. Returns the time until the next task is due.
    fn deliver(&mut self, tables: &mut Tables) -> Option<Duration> {
        let now = Clock::steady();
        let mut next: Option<Duration> = None;
        let mut due = Vec::new();
        let in_hand = tables.members_in_hand();
        let Tables { queues, jobs, .. } = tables;
        for (index, attached) in self.attached.queues() {
            let Some(queue) = queues.get_mut(&attached.content.name) else { continue };
            let mut taken = Vec::new();
            while (taken.len() as u32) < attached.free()
                && let Some(first) = queue.waiting.first_entry()
            {
                let position = *first.key();
                if position.0 > now {
                    let after = position.0.remaining(now);
                    next = Some(next.map_or(after, |next| next.min(after)));
                    break;
                }
                let waiting = first.remove();
                match jobs.fate(&waiting.task) {
                    // What was cancelled may write until its worker has ended.
                    Fate::Delivered if wipes_under(&waiting.task, &in_hand) => {
                        queue.waiting.insert((now.plus(WIPE_AGAIN_IN), position.1), waiting);
                        continue;
                    }
                    Fate::Delivered => {}
                    Fate::Dropped => continue,
                    Fate::SetAside => {
                        queue.aside.insert(position, waiting);
                        continue;
                    }
                }
                let Waiting { task, redelivered } = waiting;
                let handle = next_handle();
                queue.in_hand.insert(handle, Arc::clone(&task));
                let identity = identity(&attached.content.name, &task.id, task.attempts, &task.body);
                let delivery = Delivery { handle, queue: index, task, redelivered, identity: Some(identity) };
                taken.push((position, delivery));
            }
            if !taken.is_empty() {
                due.push(taken);
            }
        }
        for taken in due {
            let open = |(position, delivery): (Position, Delivery)| {
                let held = Held { position, task: Arc::clone(&delivery.task) };
                self.attached.deliver(delivery.queue, delivery.handle, held);
                delivery
            };
            let deliveries = taken.into_iter().map(open).collect();
            self.tell(Event::Delivered(deliveries));
        }
        next
    }

    /// Whether there was anything to settle. What is settled here is stored at once.
    fn settle(&mut self, tables: &mut Tables, now: Timestamp, handle: Handle, settlement: Settlement) -> bool {
        let is_acceptance = settlement == Settlement::Accept;
        let begun = if is_acceptance { self.attached.accept(handle) } else { self.attached.settle(handle) };
        let Some(Begun { queue, was_accepted, .. }) = begun else { return false };
        let (name, keep) = (queue.name.clone(), queue.dead.keep);
        if !was_accepted {
            tables.queue(&name).in_hand.remove(&handle);
        }
        let Some(Held { position, task }) = self.attached.answered(handle) else { return true };
        if settlement.puts_back() && tables.jobs.fate(&task) == Fate::Dropped {
            return true;
        }
        tables.jobs.tell_settlement(&task, &settlement);
        let memo = job_entries::memo_after(&task, &settlement).cloned();
        match settlement {
            Settlement::Done { submit } => tables.submit(now, submit),
            // An acceptance leaves the delivery open.
            Settlement::Accept | Settlement::Discard => {}
            Settlement::Retry { after, failure } => {
                let mut task = Arc::unwrap_or_clone(task);
                task.attempts += 1;
                task.deliveries = 0;
                task.memo = memo;
                task.first_failed_at.get_or_insert(failure.failed_at);
                tables.enqueue(&name, now.plus(after), Arc::new(task), false);
            }
            Settlement::Snooze { after, .. } => {
                let mut task = Arc::unwrap_or_clone(task);
                task.deliveries = 0;
                task.memo = memo;
                tables.enqueue(&name, now.plus(after), Arc::new(task), false);
            }
            Settlement::Dead(failure) => {
                tables.expire(now, &name);
                let number = tables.next_number();
                let queue = tables.queue(&name);
                let letter = dead_letter(name, Arc::unwrap_or_clone(task), *failure);
                queue.dead.insert(number, Dead { letter, purge_at: keep.map(|keep| now.plus(keep)) });
            }
            Settlement::Release | Settlement::Pass => {
                tables.queue(&name).waiting.insert(position, Waiting { task, redelivered: true });
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
        // A moment that fired because the clock was ahead fires again when its time comes.
        let latest = Clock::wall().plus(SET_BACK);
        moments.retain(|fired| *fired <= latest || *fired == moment);
        while moments.len() > 16 {
            moments.pop_first();
        }
        tables.submit(now, task.into_iter().collect());
        Ok(true)
    }

    /// Gives all deliveries back; those of a transport that died are counted.
    fn leave(&mut self, tables: &mut Tables, died: bool) {
        for (index, handle, held) in self.attached.give_back(|_| true) {
            let mut task = held.task;
            if died {
                Arc::make_mut(&mut task).deliveries += 1;
            }
            let Some(attached) = self.attached.queue_mut(index) else { continue };
            let queue = tables.queue(&attached.content.name);
            queue.in_hand.remove(&handle);
            queue.waiting.insert(held.position, Waiting { task, redelivered: true });
        }
        self.release_lease(tables);
        self.release_ledger(tables);
        tables.members.remove(&self.member);
        self.shared.changed.notify_all();
    }

    /// Sends an event. The receiver may be gone; the thread ends when its transport is dropped.
    pub(super) fn tell(&self, event: Event) {
        drop(self.events.send(event));
    }
}

fn answer<T>(reply: Reply<T>, value: T) {
    drop(reply.send(Ok(value)));
}
