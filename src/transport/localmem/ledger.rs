//! The ledger of an application, as its one coordinator holds it, and what the others are told.

use std::{collections::HashSet, time::Duration};

use uuid::Uuid;

use super::{
    actor::Actor,
    asked::{Held, Ledger, WaitingOrder},
    jobs::Fate,
    tables::{Dead, Queue, Tables, Waiting},
};
use crate::{
    clock::{Clock, Timestamp},
    jobs::{
        entry::Entry,
        order::Order,
        record::{Advance, Record},
    },
    task::Task,
    transport::{Error, Event, Reply, job_entries},
};

/// Entries that are told and not folded, at most.
const OUTSTANDING: usize = 1024;

impl Actor {
    /// Asks for the ledger of an application now, and whenever something changes until it is held.
    pub(super) fn ask_ledger(&mut self, tables: &mut Tables, application: String) {
        self.release_ledger(tables);
        self.ledger = Some(Ledger { application, held: None });
        self.try_ledger(tables);
        if self.ledger.as_ref().is_some_and(|ledger| ledger.held.is_none()) {
            self.tell(Event::LedgerRefused);
        }
    }

    /// Takes the ledger, if it was asked for and is free.
    pub(super) fn try_ledger(&mut self, tables: &mut Tables) {
        let Some(ledger) = self.ledger.as_mut().filter(|ledger| ledger.held.is_none()) else { return };
        let Some(epoch) = tables.jobs.take_ledger(&ledger.application, self.member) else { return };
        ledger.held = Some(Held::default());
        let (jobs, frozen) = tables.jobs.open(&ledger.application);
        self.tell(Event::LedgerHeld { epoch, jobs, frozen });
    }

    pub(super) fn release_ledger(&mut self, tables: &mut Tables) {
        if let Some(Ledger { application, held: Some(_) }) = self.ledger.take() {
            tables.jobs.give_back_ledger(&application);
        }
    }

    /// Stores a step of the coordinator.
    pub(super) fn advance_ledger(&mut self, tables: &mut Tables, advance: Advance) {
        let now = Clock::steady();
        let serial = advance.serial;
        let Some(Ledger { application, held: Some(held) }) = &mut self.ledger else {
            let cause = "this process does not hold the ledger".to_owned();
            return self.tell(Event::Advanced { serial, revived: 0, result: Err(Error::Jobs { cause }) });
        };
        tables.jobs.purge(now);
        if let Some(cause) = tables.jobs.conflict(application, &advance) {
            return self.tell(Event::Advanced { serial, revived: 0, result: Err(Error::Jobs { cause }) });
        }
        for entry in &advance.entries {
            held.outstanding.remove(entry);
        }
        tables.jobs.advance(application, now, &advance);
        tables.stop(&advance.void.iter().copied().collect());
        tables.drop_dead(&advance.superseded.iter().copied().collect());
        tables.thaw();
        let revived = revive(tables, now, &advance.revived.iter().map(|back| back.round).collect());
        tables.submit(now, advance.tasks);
        self.tell(Event::Advanced { serial, revived, result: Ok(()) });
    }

    /// Tells what there is to be told: entries to the coordinator, what is stopped to a master. Gives the time until the first of the
    /// orders that wait has waited long enough.
    pub(super) fn tell_of_jobs(&mut self, tables: &mut Tables) -> Option<Duration> {
        self.try_ledger(tables);
        if let Some(Ledger { application, held: Some(held) }) = &mut self.ledger {
            let room = OUTSTANDING.saturating_sub(held.outstanding.len());
            let entries = tables.jobs.entries_after(application, held.told, room);
            if let Some(last) = entries.last() {
                held.told = last.id.0;
                held.outstanding.extend(entries.iter().map(|entry| entry.id));
                self.tell(Event::Entries(entries));
            }
        }
        let last = tables.jobs.last_stop();
        let seen = std::mem::replace(&mut self.stops_seen, last);
        if last > seen && self.attached.queues().next().is_some() {
            let (void, frozen) = tables.jobs.stops_after(seen);
            self.tell(Event::JobsStopped { void, frozen });
        }
        let now = Clock::steady();
        let orders = std::mem::take(&mut self.orders).into_iter();
        self.orders = orders
            .filter_map(|order| match tables.jobs.answer(&order.application, &order.id) {
                None if order.until > now => Some(order),
                answer => {
                    drop(order.reply.send(Ok(answer)));
                    None
                }
            })
            .collect();
        self.orders.iter().map(|order| order.until.remaining(now)).min()
    }

    /// Stores an order, unless it has its answer already, and waits for that.
    pub(super) fn order(
        &mut self,
        tables: &mut Tables,
        application: String,
        order: Order,
        within: Duration,
        reply: Reply<Option<String>>,
    ) {
        let id = order.id.clone();
        if tables.jobs.answer(&application, &id).is_none() {
            tables.jobs.store_entry(&application, Entry::Order(Box::new(order)).to_bytes());
        }
        self.orders.push(WaitingOrder { application, id, until: Clock::steady().plus(within), reply });
    }

    /// Answers a survey, of which the jobs of an application may be a part.
    pub(super) fn survey(&self, tables: &mut Tables, serial: u64, jobs: Option<&str>) {
        if let Some(application) = jobs {
            // What waits of frozen jobs is nobody's work: else a task that was put off would be waited for.
            tables.set_all_aside(application);
        }
        let is_left = self.attached.has_open()
            || self
                .attached
                .queues()
                .any(|(_, queue)| tables.queues.get(&queue.content.name).is_some_and(Queue::has_work));
        let (is_left, stranded) = match jobs {
            Some(application) if !is_left => tables.left_of_jobs(application),
            _ => (is_left, Vec::new()),
        };
        let again_in = Duration::from_millis(500);
        self.tell(Event::Surveyed { serial, empty: !is_left, stranded, again_in });
    }
}

/// Puts the dead letters of these rounds back to work. Gives their number.
fn revive(tables: &mut Tables, now: Timestamp, rounds: &HashSet<Uuid>) -> u64 {
    let mut letters = Vec::new();
    if !rounds.is_empty() {
        let Tables { queues, jobs, .. } = tables;
        for queue in queues.values_mut() {
            for letter in queue.expired(now) {
                jobs.tell_gone(&letter, job_entries::EXPIRED);
            }
            let of_these = queue.dead.extract_if(.., |_, dead| {
                dead.letter.membership.as_ref().is_some_and(|membership| rounds.contains(&membership.round))
            });
            letters.extend(of_these.map(|(_, dead)| dead.letter));
        }
    }
    let revived = letters.len() as u64;
    for letter in letters {
        tables.put_back(now, letter, None);
    }
    revived
}

impl Tables {
    /// Removes what waits of rounds that are void.
    fn stop(&mut self, void: &HashSet<Uuid>) {
        if void.is_empty() {
            return;
        }
        let stays = |waiting: &Waiting| round(&waiting.task).is_none_or(|round| !void.contains(&round));
        for queue in self.queues.values_mut() {
            queue.waiting.retain(|_, waiting| stays(waiting));
            queue.aside.retain(|_, waiting| stays(waiting));
        }
    }

    /// Removes the dead letters of rounds whose steps are done again.
    fn drop_dead(&mut self, superseded: &HashSet<Uuid>) {
        if superseded.is_empty() {
            return;
        }
        let of = |dead: &Dead| dead.letter.membership.as_ref().map(|membership| membership.round);
        for queue in self.queues.values_mut() {
            queue.dead.retain(|_, dead| of(dead).is_none_or(|round| !superseded.contains(&round)));
        }
    }

    /// Brings back what was set aside of jobs that are no longer frozen.
    fn thaw(&mut self) {
        let Self { queues, jobs, .. } = self;
        for queue in queues.values_mut().filter(|queue| !queue.aside.is_empty()) {
            let thawed = queue.aside.extract_if(.., |_, waiting| jobs.fate(&waiting.task) != Fate::SetAside);
            queue.waiting.extend(thawed);
        }
    }

    /// Sets aside what waits of frozen jobs, whenever it is due.
    pub(super) fn set_all_aside(&mut self, application: &str) {
        let Self { queues, jobs, .. } = self;
        if !jobs.any_frozen(application) {
            return;
        }
        for queue in queues.values_mut() {
            let frozen = queue.waiting.extract_if(.., |_, waiting| jobs.fate(&waiting.task) == Fate::SetAside);
            queue.aside.extend(frozen);
        }
    }

    /// Whether work of an application's jobs is left, and the live jobs that wait in vain.
    pub(super) fn left_of_jobs(&self, application: &str) -> (bool, Vec<Record>) {
        if self.jobs.any_entries(application) {
            return (true, Vec::new());
        }
        let tasks = self.queues.values().flat_map(|queue| {
            let waiting = queue.waiting.values().chain(queue.aside.values()).map(|waiting| &waiting.task);
            waiting.chain(queue.in_hand.values())
        });
        let alive: HashSet<Uuid> = tasks.filter_map(|task| round(task)).collect();
        let is_alive = |record: &Record| record.rounds.iter().any(|round| alive.contains(round));
        let (worked, stranded): (Vec<_>, Vec<_>) = self.jobs.to_be_worked(application).into_iter().partition(is_alive);
        (!worked.is_empty(), stranded)
    }
}

fn round(task: &Task) -> Option<Uuid> {
    task.membership.as_ref().map(|membership| membership.round)
}
