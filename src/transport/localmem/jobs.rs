//! Ledgers in memory: their entries, the jobs in them, void rounds and frozen jobs.
//!
//! Nothing here waits. A moment that is compared is an argument; the wall clock is read for what entries tell.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp},
    jobs::{
        entry::Entry,
        record::{Advance, EntryId, Frozen, FrozenJob, JobFilter, Record, StoredEntry},
    },
    membership::Membership,
    task::{Settlement, Task},
    transport::{
        DeadLetter, job_entries,
        job_letters::{self, Hindrance},
    },
};

/// Answers are kept so long, in milliseconds.
const ANSWERS: i64 = 3_600_000;
/// Void rounds are kept so long, in milliseconds.
const VOID: i64 = 7 * 24 * 3_600_000;

/// What is stored of jobs.
#[derive(Default)]
pub(super) struct Jobs {
    /// By application, in the order in which they came.
    entries: HashMap<String, BTreeMap<u64, Vec<u8>>>,
    /// By application: who coordinates, and in which epoch; a member that is gone is none.
    ledgers: HashMap<String, (Option<u64>, u64)>,
    /// By application and id.
    records: BTreeMap<(String, String), Record>,
    frozen_pipelines: HashMap<String, Vec<Frozen>>,
    /// By application and id.
    frozen: BTreeSet<(String, String)>,
    void: HashMap<Uuid, Timestamp>,
    /// By application and order.
    answers: HashMap<(String, String), (String, Timestamp)>,
    /// What members have to be told, numbered.
    stops: BTreeMap<u64, (Timestamp, Stop)>,
    /// Counts entries and stops.
    last: u64,
}

/// What members have to be told.
#[derive(Clone)]
enum Stop {
    Void(Uuid),
    Frozen(FrozenJob),
}

/// What becomes of a task that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Delivered,
    /// Its round is void.
    Dropped,
    /// Its job is frozen.
    SetAside,
}

impl Jobs {
    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Stores an entry, whatever its body is: the ledger judges that.
    pub(super) fn store_entry(&mut self, application: &str, body: Vec<u8>) {
        let number = self.next_number();
        self.entries.entry(application.to_owned()).or_default().insert(number, body);
    }

    /// Tells the ledger of a task's job what becomes of it.
    pub(super) fn tell_settlement(&mut self, task: &Task, settlement: &Settlement) {
        let entry = job_entries::of_settlement(task, settlement, Clock::wall());
        self.tell(task, entry);
    }

    /// Tells the ledger of a task's job that the task was removed where it waited, and by what.
    pub(super) fn tell_removal(&mut self, task: &Task, by: &str) {
        let removed = |of: &_| job_entries::of_removal(of, task.memo.as_ref(), Clock::wall(), by);
        let entry = task.membership.as_deref().map(removed);
        self.tell(task, entry);
    }

    /// Tells the ledger of a task's job that the task's dead letter is no more, and by what.
    pub(super) fn tell_gone(&mut self, letter: &DeadLetter, by: &str) {
        if let Some(membership) = &letter.membership {
            let entry = job_entries::of_removal(membership, letter.memo.as_ref(), Clock::wall(), by);
            self.store_entry(&membership.application, entry.to_bytes());
        }
    }

    /// Tells the ledger of a dead letter's job that it is back at work.
    pub(super) fn tell_retried(&mut self, membership: &Membership) {
        let entry = Entry::retried(membership, Clock::wall());
        self.store_entry(&membership.application, entry.to_bytes());
    }

    /// What keeps a dead letter of a job from work.
    pub(super) fn hindrance(&mut self, now: Timestamp, membership: &Membership) -> Option<Hindrance> {
        self.purge(now);
        let record = self.records.get(&(membership.application.clone(), membership.job.clone()));
        let has_key = |other: &&Record| {
            other.holds_key
                && other.id != membership.job
                && other.pipeline == membership.pipeline
                && other.key == membership.key
        };
        let holder = self.of(&membership.application).find(has_key).map(|record| record.id.clone());
        job_letters::hindrance(membership, record.map(|record| &record.rounds[..]), holder)
    }

    fn tell(&mut self, task: &Task, entry: Option<Entry>) {
        if let (Some(membership), Some(entry)) = (&task.membership, entry) {
            self.store_entry(&membership.application, entry.to_bytes());
        }
    }

    /// The next entries after one, at most `limit`, oldest first.
    pub(super) fn entries_after(&self, application: &str, last: u64, limit: usize) -> Vec<StoredEntry> {
        let Some(entries) = self.entries.get(application) else { return Vec::new() };
        let next = entries.range(last + 1..).take(limit);
        next.map(|(number, body)| StoredEntry { id: EntryId(*number), body: body.clone() }).collect()
    }

    /// Takes the ledger for a member, if nobody else has it. Gives the epoch.
    pub(super) fn take_ledger(&mut self, application: &str, member: u64) -> Option<u64> {
        let (holder, epoch) = self.ledgers.entry(application.to_owned()).or_default();
        if holder.is_some() {
            return None;
        }
        (*holder, *epoch) = (Some(member), *epoch + 1);
        Some(*epoch)
    }

    pub(super) fn give_back_ledger(&mut self, application: &str) {
        if let Some((holder, _)) = self.ledgers.get_mut(application) {
            *holder = None;
        }
    }

    /// The open jobs of an application, oldest first, and what is frozen beside them.
    pub(super) fn open(&self, application: &str) -> (Vec<Record>, Vec<Frozen>) {
        let mut open = self.find(application, &JobFilter { open: true, ..JobFilter::default() });
        open.reverse();
        (open, self.frozen_pipelines(application))
    }

    pub(super) fn frozen_pipelines(&self, application: &str) -> Vec<Frozen> {
        self.frozen_pipelines.get(application).cloned().unwrap_or_default()
    }

    /// The jobs that a filter holds, newest first.
    pub(super) fn find(&self, application: &str, filter: &JobFilter) -> Vec<Record> {
        let mut found: Vec<&Record> = self.of(application).filter(|record| filter.holds(record)).collect();
        found.sort_by_key(|record| std::cmp::Reverse(record.made_at));
        found.truncate(if filter.limit == 0 { usize::MAX } else { filter.limit });
        found.into_iter().cloned().collect()
    }

    fn of(&self, application: &str) -> impl Iterator<Item = &Record> {
        let first = (application.to_owned(), String::new());
        self.records.range(first..).take_while(move |((of, _), _)| of == application).map(|(_, record)| record)
    }

    /// Why a step cannot be stored, if it cannot.
    pub(super) fn conflict(&self, application: &str, advance: &Advance) -> Option<String> {
        let mut holders: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let changed: BTreeSet<&str> = advance
            .records
            .iter()
            .map(|record| record.id.as_str())
            .chain(advance.forgotten.iter().map(String::as_str))
            .collect();
        let unchanged = self.of(application).filter(|record| !changed.contains(record.id.as_str()));
        for record in unchanged.chain(&advance.records).filter(|record| record.holds_key) {
            let Some(key) = &record.key else { continue };
            if let Some(id) = holders.insert((&record.pipeline, key), &record.id) {
                return Some(format!("job {id} holds the key {}/{key}", record.pipeline));
            }
        }
        let known = |record: &&Record| {
            let stored = self.records.get(&(application.to_owned(), record.id.clone()));
            stored.is_some_and(|stored| stored.version >= record.version)
        };
        advance.records.iter().find(known).map(|record| {
            let (id, version) = (&record.id, record.version);
            format!("job {id} is stored already in version {version} or a later one")
        })
    }

    /// Stores what a step says of jobs. Its tasks are the caller's.
    pub(super) fn advance(&mut self, application: &str, now: Timestamp, advance: &Advance) {
        let of = |id: &String| (application.to_owned(), id.clone());
        if let Some(entries) = self.entries.get_mut(application) {
            advance.entries.iter().for_each(|entry| drop(entries.remove(&entry.0)));
        }
        for job in advance.thawed.iter().chain(&advance.forgotten) {
            self.frozen.remove(&of(job));
        }
        for job in &advance.forgotten {
            self.records.remove(&of(job));
        }
        for record in &advance.records {
            self.records.insert(of(&record.id), record.clone());
        }
        if let Some(frozen) = &advance.frozen_pipelines {
            let mut frozen = frozen.clone();
            frozen.sort();
            self.frozen_pipelines.insert(application.to_owned(), frozen);
        }
        for job in &advance.frozen {
            if self.frozen.insert(of(job)) {
                let number = self.next_number();
                self.stops.insert(
                    number,
                    (now, Stop::Frozen(FrozenJob { application: application.to_owned(), id: job.clone() })),
                );
            }
        }
        for round in &advance.void {
            if self.void.insert(*round, now).is_none() {
                let number = self.next_number();
                self.stops.insert(number, (now, Stop::Void(*round)));
            }
        }
        for (order, answer) in &advance.answers {
            self.answers.insert(of(order), (answer.clone(), now));
        }
    }

    /// Forgets what was kept long enough.
    pub(super) fn purge(&mut self, now: Timestamp) {
        for (of, _) in self.records.extract_if(.., |_, record| record.purge_at.is_some_and(|at| at <= now)) {
            // A later job may have its id.
            self.frozen.remove(&of);
        }
        self.answers.retain(|_, (_, at)| at.0.saturating_add(ANSWERS) > now.0);
        self.void.retain(|_, at| at.0.saturating_add(VOID) > now.0);
        self.stops.retain(|_, (at, _)| at.0.saturating_add(VOID) > now.0);
    }

    pub(super) fn answer(&self, application: &str, order: &str) -> Option<String> {
        self.answers.get(&(application.to_owned(), order.to_owned())).map(|(answer, _)| answer.clone())
    }

    /// The number of the last thing that members have to be told.
    pub(super) fn last_stop(&self) -> u64 {
        self.stops.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// The void rounds and frozen jobs that came after one.
    pub(super) fn stops_after(&self, last: u64) -> (Vec<Uuid>, Vec<FrozenJob>) {
        let (mut void, mut frozen) = (Vec::new(), Vec::new());
        for (_, stop) in self.stops.range(last + 1..).map(|(_, stop)| stop) {
            match stop {
                Stop::Void(round) => void.push(*round),
                Stop::Frozen(job) => frozen.push(job.clone()),
            }
        }
        (void, frozen)
    }

    /// What becomes of a task that is due.
    pub(super) fn fate(&self, task: &Task) -> Fate {
        let Some(membership) = &task.membership else { return Fate::Delivered };
        if self.void.contains_key(&membership.round) {
            return Fate::Dropped;
        }
        // Most of the time there is none.
        let is_frozen =
            !self.frozen.is_empty() && self.frozen.contains(&(membership.application.clone(), membership.job.clone()));
        if is_frozen { Fate::SetAside } else { Fate::Delivered }
    }

    /// Whether jobs of an application are frozen.
    pub(super) fn any_frozen(&self, application: &str) -> bool {
        self.frozen.iter().any(|(of, _)| of == application)
    }

    /// Whether there are entries for a ledger.
    pub(super) fn any_entries(&self, application: &str) -> bool {
        self.entries.get(application).is_some_and(|entries| !entries.is_empty())
    }

    /// The jobs of an application that are live, or are being wiped and have their key, and are not frozen, oldest first.
    pub(super) fn to_be_worked(&self, application: &str) -> Vec<Record> {
        let (open, _) = self.open(application);
        open.into_iter().filter(|record| (record.state.is_live() || record.holds_key) && !record.frozen).collect()
    }
}
