//! What is in memory: queues, dead letters, leases, and the moments that fired.
//!
//! Nothing here waits or reads a clock: the time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::jobs::Jobs;
use crate::{
    clock::Timestamp,
    membership::{Membership, ledger_of},
    plural,
    task::{Failure, Handle, NewTask, Task},
    transport::{Cancelled, DeadLetter, Depth, Error, Request, job_entries},
};

/// Where a task stands in its queue: its due time, then the order of arrival.
pub(super) type Position = (Timestamp, u64);

#[derive(Default)]
pub(super) struct Tables {
    pub(super) members: HashMap<u64, Inbox>,
    pub(super) queues: BTreeMap<String, Queue>,
    /// Application to member.
    pub(super) leases: HashMap<String, u64>,
    /// Application and schedule to the moments that fired.
    pub(super) fired: BTreeMap<(String, String), BTreeSet<Timestamp>>,
    /// Ledgers, and the jobs in them.
    pub(super) jobs: Jobs,
    /// Counts members and arrivals.
    last: u64,
}

#[derive(Default)]
pub(super) struct Inbox {
    pub(super) requests: VecDeque<Request>,
    pub(super) dropped: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: BTreeMap<Position, Waiting>,
    /// Tasks of frozen jobs.
    pub(super) aside: BTreeMap<Position, Waiting>,
    pub(super) dead: BTreeMap<u64, Dead>,
    /// Tasks in members' hands.
    pub(super) in_hand: HashMap<Handle, Arc<Task>>,
}

pub(super) struct Waiting {
    pub(super) task: Arc<Task>,
    pub(super) redelivered: bool,
}

pub(super) struct Dead {
    pub(super) letter: DeadLetter,
    pub(super) purge_at: Option<Timestamp>,
}

impl Tables {
    pub(super) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn queue(&mut self, name: &str) -> &mut Queue {
        self.queues.entry(name.to_owned()).or_default()
    }

    pub(super) fn enqueue(&mut self, queue: &str, due: Timestamp, mut task: Arc<Task>, redelivered: bool) {
        Arc::make_mut(&mut task).due_at = Some(due);
        let place = (due, self.next_number());
        self.queue(queue).waiting.insert(place, Waiting { task, redelivered });
    }

    pub(super) fn submit(&mut self, now: Timestamp, tasks: Vec<NewTask>) {
        for new in tasks {
            if let Some(application) = ledger_of(&new.queue) {
                self.jobs.store_entry(application, new.body);
                continue;
            }
            let task = Task {
                id: new.id,
                body: new.body,
                headers: new.headers,
                expires_at: new.expires_at,
                membership: new.membership,
                ..Task::default()
            };
            self.enqueue(&new.queue, now.plus(new.delay), Arc::new(task), false);
        }
    }

    /// Puts a dead letter that was taken out back to work, with this body if given.
    pub(super) fn put_back(&mut self, now: Timestamp, letter: DeadLetter, body: Option<Vec<u8>>) {
        let queue = letter.queue.clone();
        let task = Task {
            history: letter.history_with_this(),
            id: letter.id,
            body: body.unwrap_or(letter.body),
            headers: letter.headers,
            properties: letter.properties,
            membership: letter.membership,
            memo: letter.memo,
            ..Task::default()
        };
        self.enqueue(&queue, now, Arc::new(task), false);
    }

    /// The last moment of each schedule of an application.
    pub(super) fn last_moments(&self, application: &str) -> Vec<(String, Timestamp)> {
        let fired = self.fired.iter().filter(|((of, _), _)| of == application);
        fired.filter_map(|((_, schedule), moments)| Some((schedule.clone(), *moments.last()?))).collect()
    }

    /// Deletes what waits in a queue. The ledgers are told by what.
    pub(super) fn purge(&mut self, name: &str, by: &str) -> Result<u64, Error> {
        let absent = || Error::NoSuchQueue { queue: name.to_owned() };
        let queue = self.queues.get_mut(name).ok_or_else(absent)?;
        let mut waiting = std::mem::take(&mut queue.waiting);
        waiting.append(&mut queue.aside);
        for waiting in waiting.values() {
            self.jobs.tell_removal(&waiting.task, by);
        }
        Ok(waiting.len() as u64)
    }

    /// Removes what waits under this id. `ours`: the member that asks has it in hand.
    pub(super) fn cancel(&mut self, id: &str, ours: bool) -> Cancelled {
        let mut removed = None;
        for (name, queue) in &mut self.queues {
            let waiting = queue.waiting.extract_if(.., |_, waiting| waiting.task.id == id);
            let aside = queue.aside.extract_if(.., |_, waiting| waiting.task.id == id);
            for (_, Waiting { task, .. }) in waiting.chain(aside) {
                self.jobs.tell_removal(&task, "it was cancelled where it waited");
                removed.get_or_insert_with(|| name.clone());
            }
        }
        if let Some(queue) = removed {
            return Cancelled::Removed { queue };
        }
        if ours {
            return Cancelled::Held { pid: None };
        }
        if self.queues.values().any(|queue| queue.in_hand.values().any(|held| held.id == id)) {
            return Cancelled::Held { pid: Some(std::process::id()) };
        }
        let dead = self.queues.iter().find(|(_, queue)| queue.dead.values().any(|dead| dead.letter.id == id));
        dead.map_or(Cancelled::Absent, |(name, _)| Cancelled::Dead { queue: name.clone() })
    }

    /// Deletes a queue, unless something of it is in hand.
    pub(super) fn delete(&mut self, now: Timestamp, name: &str) -> Result<u64, Error> {
        let depth = self.depth(now, name);
        if depth.in_hand > 0 {
            let cause = format!("{} in hand", plural::are(depth.in_hand, "task"));
            return Err(Error::InUse { queue: name.to_owned(), cause });
        }
        let deleted = self.purge(name, &format!("queue {name} was deleted"))?;
        if depth.failed == 0 {
            self.queues.remove(name);
        }
        Ok(deleted)
    }

    /// Deletes the dead letters of a queue that were kept long enough. The ledgers are told.
    pub(super) fn expire(&mut self, now: Timestamp, queue: &str) {
        let Some(queue) = self.queues.get_mut(queue) else { return };
        for letter in queue.expired(now) {
            self.jobs.tell_gone(&letter, job_entries::EXPIRED);
        }
    }

    /// The tasks of jobs in members' hands, but for those that wipe.
    pub(super) fn members_in_hand(&self) -> Vec<Arc<Task>> {
        let in_hand = self.queues.values().flat_map(|queue| queue.in_hand.values());
        in_hand.filter(|task| task.membership.as_ref().is_some_and(|of| !of.wipe)).cloned().collect()
    }

    pub(super) fn depth(&mut self, now: Timestamp, queue: &str) -> Depth {
        self.expire(now, queue);
        let Some(queue) = self.queues.get(queue) else { return Depth::default() };
        let delayed = queue.waiting.range((now, u64::MAX)..).count() as u64;
        Depth {
            ready: queue.waiting.len() as u64 - delayed,
            delayed: delayed + queue.aside.len() as u64,
            in_hand: queue.in_hand.len() as u64,
            failed: queue.dead.len() as u64,
            failed_shared: false,
            unknown: false,
        }
    }
}

impl Queue {
    /// Whether it has tasks that wait, but for those of frozen jobs, or are in hand.
    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.in_hand.is_empty()
    }

    /// Takes out the dead letters that were kept long enough.
    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<DeadLetter> {
        let expired = self.dead.extract_if(.., |_, dead| dead.purge_at.is_some_and(|purge_at| purge_at <= now));
        expired.map(|(_, dead)| dead.letter).collect()
    }
}

/// Whether a task wipes what one of these, of the same job, may still write.
pub(super) fn wipes_under(task: &Task, in_hand: &[Arc<Task>]) -> bool {
    let wipe = task.membership.as_ref().filter(|of| of.wipe);
    let is_of = |of: &Membership, wipe: &Membership| (&of.application, &of.job) == (&wipe.application, &wipe.job);
    wipe.is_some_and(|wipe| in_hand.iter().any(|task| task.membership.as_ref().is_some_and(|of| is_of(of, wipe))))
}

pub(super) fn dead_letter(queue: String, task: Task, failure: Failure) -> DeadLetter {
    DeadLetter {
        membership: task.membership,
        memo: failure.memo.clone().or(task.memo),
        id: task.id,
        queue,
        body: task.body,
        headers: task.headers,
        properties: task.properties,
        history: task.history,
        reason: failure.reason.as_str().to_owned(),
        first_failed_at: task.first_failed_at.or(Some(failure.failed_at)),
        failure,
    }
}
