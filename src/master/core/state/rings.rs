//! What ended lately, for whoever shows it: two rings of records, failures and others apart, so that no flood of successes pushes a
//! failure out.
//!
//! A record costs a copy of some words, so a token bucket for each queue decides before anything is copied, and what it refuses is
//! counted instead. There are rings only while somebody asks for them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::RandomState;

use crate::{
    clock::{Instant, Timestamp},
    redact::redact,
    task::{Exit, Failure, Reason},
    text,
    transport::dead_letter::fingerprint,
};

/// Failures that are kept, at most.
const FAILURES: usize = 1024;
/// Other ends that are kept, at most.
const OTHERS: usize = 2048;
/// Successes and the like of one queue in a second that are kept, at most.
const OTHERS_A_SECOND: f64 = 100.0;
/// Failures of one queue in a second that are kept, at most.
const FAILURES_A_SECOND: f64 = 500.0;
/// Bytes of an error that are kept.
const ERROR: usize = 512;
/// When nobody has asked for so long, nobody looks any more.
const WANTED: Duration = Duration::from_mins(1);

/// What an end came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::master::core) enum Outcome {
    Done,
    Retried,
    Snoozed,
    Released,
    Dead,
}

impl Outcome {
    pub(in crate::master::core) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retried => "retried",
            Self::Snoozed => "snoozed",
            Self::Released => "released",
            Self::Dead => "dead",
        }
    }

    const fn is_failure(self) -> bool {
        matches!(self, Self::Retried | Self::Dead)
    }
}

/// The end of an attempt at a task.
#[derive(Clone, Debug)]
pub(in crate::master::core) struct Record {
    /// Counts all records of this run, from 1.
    pub(in crate::master::core) number: u64,
    pub(in crate::master::core) at: Timestamp,
    pub(in crate::master::core) queue: String,
    pub(in crate::master::core) kind: String,
    pub(in crate::master::core) slot: Option<String>,
    pub(in crate::master::core) pid: Option<u32>,
    pub(in crate::master::core) id: String,
    pub(in crate::master::core) attempt: u32,
    pub(in crate::master::core) outcome: Outcome,
    /// How long it was due before it was begun, where that is known.
    pub(in crate::master::core) waited: Option<Duration>,
    /// How long a worker had it.
    pub(in crate::master::core) ran: Duration,
    pub(in crate::master::core) failure: Option<Box<Cause>>,
}

impl Record {
    /// The record of an end at this moment, to be filled.
    pub(in crate::master::core) fn of(at: Timestamp, queue: &str, kind: &str, outcome: Outcome) -> Self {
        Self {
            number: 0,
            at,
            queue: queue.to_owned(),
            kind: kind.to_owned(),
            slot: None,
            pid: None,
            id: String::new(),
            attempt: 0,
            outcome,
            waited: None,
            ran: Duration::ZERO,
            failure: None,
        }
    }
}

/// Why it failed.
#[derive(Clone, Debug)]
pub(in crate::master::core) struct Cause {
    pub(in crate::master::core) reason: Reason,
    pub(in crate::master::core) fingerprint: String,
    pub(in crate::master::core) error: String,
    pub(in crate::master::core) exit: Option<Exit>,
    pub(in crate::master::core) oom: Option<bool>,
    pub(in crate::master::core) max_rss_bytes: Option<u64>,
}

impl Cause {
    pub(in crate::master::core) fn of(failure: &Failure) -> Self {
        Self {
            reason: failure.reason,
            fingerprint: fingerprint(failure.reason.as_str(), &failure.error),
            // First redacted, then cut: half an address may show a password as its end.
            error: text::cut(&redact(&failure.error), ERROR).to_owned(),
            exit: failure.exit.clone(),
            oom: failure.oom,
            max_rss_bytes: failure.max_rss_bytes,
        }
    }
}

/// So many a second, with a second's worth in store.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, a_second: f64) -> bool {
        self.tokens = now.since(self.at).as_secs_f64().mul_add(a_second, self.tokens).min(a_second);
        self.at = now;
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }
}

/// The rings.
#[derive(Debug)]
pub(in crate::master::core) struct Rings {
    /// Somebody asked last.
    asked_at: Instant,
    /// The number of the last record.
    last: u64,
    failures: VecDeque<Record>,
    others: VecDeque<Record>,
    /// By the queue's index and whether it is for failures.
    buckets: HashMap<(usize, bool), Bucket, RandomState>,
    /// Ends that there is no record of.
    left_out: BTreeMap<(String, Outcome), u64>,
}

/// What is told to whoever asks.
#[derive(Debug)]
pub(in crate::master::core) struct Told<'a> {
    /// In the order of their numbers.
    pub(in crate::master::core) records: Vec<&'a Record>,
    /// Records after the one that was named that are gone.
    pub(in crate::master::core) lost: u64,
    /// The number of the last record that there is.
    pub(in crate::master::core) last: u64,
}

impl Rings {
    /// With the number that the last record of this run had.
    pub(in crate::master::core) fn new(now: Instant, last: u64) -> Self {
        Self {
            asked_at: now,
            last,
            failures: VecDeque::new(),
            others: VecDeque::new(),
            buckets: HashMap::default(),
            left_out: BTreeMap::new(),
        }
    }

    /// Whether nobody looks any more.
    pub(in crate::master::core) fn is_unwanted(&self, now: Instant) -> bool {
        now.since(self.asked_at) > WANTED
    }

    /// The number of the last record.
    pub(in crate::master::core) const fn last(&self) -> u64 {
        self.last
    }

    /// Whether an end of a queue is to be recorded; one that is not is counted.
    pub(in crate::master::core) fn admits(&mut self, now: Instant, queue: usize, name: &str, outcome: Outcome) -> bool {
        let is_failure = outcome.is_failure();
        let a_second = if is_failure { FAILURES_A_SECOND } else { OTHERS_A_SECOND };
        let bucket = self.buckets.entry((queue, is_failure)).or_insert(Bucket { tokens: a_second, at: now });
        if bucket.take(now, a_second) {
            return true;
        }
        match self.left_out.get_mut(&(name.to_owned(), outcome)) {
            Some(count) => *count += 1,
            None => drop(self.left_out.insert((name.to_owned(), outcome), 1)),
        }
        false
    }

    /// Keeps the record of an end that was admitted.
    pub(in crate::master::core) fn push(&mut self, mut record: Record) {
        self.last += 1;
        record.number = self.last;
        let (ring, most) =
            if record.outcome.is_failure() { (&mut self.failures, FAILURES) } else { (&mut self.others, OTHERS) };
        if ring.len() == most {
            ring.pop_front();
        }
        ring.push_back(record);
    }

    /// The first `most` records after this number. They stay for whoever else asks.
    pub(in crate::master::core) fn told(&mut self, now: Instant, after: u64, most: usize) -> Told<'_> {
        self.asked_at = now;
        // A number of another run says nothing about this one.
        let after = if after > self.last { 0 } else { after };
        let later = |ring: &VecDeque<Record>| ring.partition_point(|record| record.number <= after);
        let (failures, others) = (later(&self.failures), later(&self.others));
        let mut records: Vec<&Record> = self.failures.range(failures..).chain(self.others.range(others..)).collect();
        let there = records.len() as u64;
        let lost = (self.last - after).saturating_sub(there);
        records.sort_unstable_by_key(|record| record.number);
        records.truncate(most);
        Told { records, lost, last: self.last }
    }

    /// How many ends of each queue there is no record of, since somebody began to ask.
    pub(in crate::master::core) const fn left_out(&self) -> &BTreeMap<(String, Outcome), u64> {
        &self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: Outcome) -> Record {
        Record::of(Timestamp(0), "q", "k", outcome)
    }

    fn at(milliseconds: u64) -> Instant {
        Instant::default() + Duration::from_millis(milliseconds)
    }

    #[test]
    fn no_flood_of_successes_pushes_a_failure_out() {
        let mut rings = Rings::new(at(0), 0);
        rings.push(record(Outcome::Dead));
        for _ in 0..5000 {
            rings.push(record(Outcome::Done));
        }
        let told = rings.told(at(1), 0, 10_000);
        assert_eq!((told.records[0].outcome, told.records.len(), told.last), (Outcome::Dead, OTHERS + 1, 5001));
        assert_eq!(told.lost, 5001 - OTHERS as u64 - 1);
        assert!(told.records.is_sorted_by_key(|record| record.number));
        // What is asked for in parts is all that there is.
        let first: Vec<u64> = rings.told(at(1), 0, 3).records.iter().map(|record| record.number).collect();
        let second = rings.told(at(1), first[2], 3);
        assert_eq!((second.records[0].number, second.lost), (first[2] + 1, 0));
        assert!(rings.told(at(1), 5001, 3).records.is_empty());
        assert_eq!(rings.told(at(1), 9999, 1).records.len(), 1, "a number of another run");
    }

    #[test]
    fn what_is_too_much_in_a_second_is_counted() {
        let mut rings = Rings::new(at(0), 0);
        let mut admitted = |now, outcome| (0..1000).filter(|_| rings.admits(now, 0, "q", outcome)).count();
        assert_eq!(admitted(at(0), Outcome::Done), 100);
        assert_eq!(admitted(at(0), Outcome::Retried), 500);
        assert_eq!(admitted(at(500), Outcome::Done), 50);
        assert_eq!(admitted(at(100_000), Outcome::Done), 100);
        let left_out: u64 = rings.left_out().values().sum();
        assert_eq!(left_out, 4000 - 100 - 500 - 50 - 100);
        assert_eq!(rings.left_out()[&("q".to_owned(), Outcome::Retried)], 500);
    }

    #[test]
    fn when_nobody_asks_there_are_none() {
        let mut rings = Rings::new(at(0), 7);
        assert!(!rings.is_unwanted(at(60_000)) && rings.is_unwanted(at(60_001)));
        rings.told(at(60_000), 0, 1);
        assert!(!rings.is_unwanted(at(120_000)));
        rings.push(record(Outcome::Done));
        assert_eq!((rings.last(), rings.told(at(0), 7, 9).records[0].number), (8, 8));
    }
}
