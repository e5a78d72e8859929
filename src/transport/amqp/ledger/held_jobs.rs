//! The jobs that a coordinator holds, and the messages that say so. Pure: told what comes, it says which message is of no use any more.
//!
//! ```text
//! taking over   what comes is taken; of two for one job the higher (epoch, version) counts
//! holding       what is expected is taken, what comes again is known; all else is a stray of an earlier coordinator
//! ```

use std::collections::BTreeMap;

use uuid::Uuid;

use super::stored::{Memory, StoredJob};
use crate::jobs::record::{Advance, Record};

/// A job, and the tag of its message, if that is with us.
#[derive(Debug)]
struct HeldJob {
    stored: StoredJob,
    tag: Option<u64>,
    /// How many messages had been expected when it came for the first time.
    since: u64,
}

/// A quorum queue keeps its log from the oldest message on that it has, up to RabbitMQ 4.2: one that so many others came after is written
/// anew …
const OLD: u64 = 10_000;
/// … so many at a time.
const AT_ONCE: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct HeldJobs {
    jobs: BTreeMap<String, HeldJob>,
    memory: Memory,
    memory_tag: Option<u64>,
    /// Nothing that was not expected counts any more.
    holds: bool,
    /// What was published and has not come.
    expected: BTreeMap<String, StoredJob>,
    expected_memory: Option<Memory>,
    /// Counts the messages that were expected.
    count: u64,
}

impl HeldJobs {
    /// A job has come. Gives the tag of a message that is of no use any more.
    pub(crate) fn job_came(&mut self, job: StoredJob, tag: u64) -> Option<u64> {
        let id = &job.record.id;
        if self.expected.get(id).is_some_and(|expected| expected.rank() == job.rank()) {
            self.expected.remove(id);
            return self.replace(job, tag);
        }
        match self.jobs.get_mut(id) {
            // It was given back, or is there twice.
            Some(held) if held.stored.rank() == job.rank() => {
                if held.tag.is_some() {
                    return Some(tag);
                }
                held.tag = Some(tag);
                None
            }
            Some(held) if !self.holds && held.stored.rank() < job.rank() => self.replace(job, tag),
            None if !self.holds => self.replace(job, tag),
            _ => Some(tag),
        }
    }

    fn replace(&mut self, job: StoredJob, tag: u64) -> Option<u64> {
        let held = HeldJob { stored: job, tag: Some(tag), since: self.count };
        self.jobs.insert(held.stored.record.id.clone(), held)?.tag
    }

    /// What the ledger is beside its jobs has come. Gives the tag of a message that is of no use any more.
    pub(crate) fn memory_came(&mut self, memory: Memory, tag: u64) -> Option<u64> {
        if self.expected_memory.as_ref() == Some(&memory) {
            (self.memory, self.expected_memory) = (memory, None);
            return self.memory_tag.replace(tag);
        }
        if memory == self.memory {
            return if self.memory_tag.is_some() { Some(tag) } else { self.memory_tag.replace(tag) };
        }
        if self.holds || memory.rank() <= self.memory.rank() {
            return Some(tag);
        }
        self.memory = memory;
        self.memory_tag.replace(tag)
    }

    /// All was given back up to this tag.
    pub(crate) fn given_back(&mut self, last: u64) {
        self.memory_tag.take_if(|tag| *tag <= last);
        for held in self.jobs.values_mut() {
            held.tag.take_if(|tag| *tag <= last);
        }
    }

    /// All that there is has come: what comes unexpected from here on does not count. Gives the next epoch.
    pub(crate) fn begin(&mut self) -> u64 {
        self.holds = true;
        let last = self.jobs.values().map(|held| held.stored.epoch).max().unwrap_or(0);
        last.max(self.memory.epoch) + 1
    }

    pub(crate) const fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) const fn epoch(&self) -> u64 {
        self.memory.epoch
    }

    pub(crate) fn expect_memory(&mut self, memory: Memory) {
        self.expected_memory = Some(memory);
    }

    pub(crate) fn expect(&mut self, job: StoredJob) {
        self.count += 1;
        self.expected.insert(job.record.id.clone(), job);
    }

    /// Jobs whose messages are old.
    pub(crate) fn old(&self) -> impl Iterator<Item = &str> {
        let old = self.jobs.values().filter(|held| self.count - held.since > OLD).take(AT_ONCE);
        old.map(|held| held.stored.record.id.as_str())
    }

    /// Whether something that was published has not come.
    pub(crate) fn is_expecting(&self) -> bool {
        self.expected_memory.is_some() || !self.expected.is_empty()
    }

    /// The job is not open any more. Gives the tag of its message.
    pub(crate) fn remove(&mut self, id: &str) -> Option<u64> {
        self.jobs.remove(id)?.tag
    }

    pub(crate) fn get(&self, id: &str) -> Option<&StoredJob> {
        self.jobs.get(id).map(|held| &held.stored)
    }

    /// Oldest first.
    pub(crate) fn all(&self) -> Vec<&StoredJob> {
        let mut all: Vec<_> = self.jobs.values().map(|held| &held.stored).collect();
        all.sort_by_key(|job| job.place());
        all
    }

    /// Ended ones, which wait here for their own queue; those that have waited longest first.
    pub(crate) fn ended(&self) -> Vec<&StoredJob> {
        let mut ended: Vec<_> = self.jobs.values().filter(|held| !held.stored.record.open).collect();
        ended.sort_by_key(|held| held.since);
        ended.into_iter().map(|held| &held.stored).collect()
    }

    pub(crate) fn frozen(&self) -> Vec<String> {
        let frozen = self.jobs.values().filter(|held| held.stored.record.open && held.stored.record.frozen);
        frozen.map(|held| held.stored.record.id.clone()).collect()
    }

    pub(crate) fn void(&self) -> Vec<Uuid> {
        self.memory.void_rounds()
    }

    /// Why a step cannot be stored, if it cannot. Of jobs that have ended it knows nothing.
    pub(crate) fn conflict(&self, advance: &Advance) -> Option<String> {
        let mut holders: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let is_changed = |id: &str| {
            advance.records.iter().any(|record| record.id == id) || advance.forgotten.iter().any(|job| job == id)
        };
        let gives_keys = advance.records.iter().any(|record| record.holds_key && record.key.is_some());
        let unchanged = self.jobs.values().map(|held| &held.stored.record).filter(|record| !is_changed(&record.id));
        // Most steps give no key to a job.
        let unchanged: Vec<&Record> = if gives_keys { unchanged.collect() } else { Vec::new() };
        for record in unchanged.into_iter().chain(&advance.records).filter(|record| record.holds_key) {
            let Some(key) = &record.key else { continue };
            if let Some(id) = holders.insert((&record.pipeline, key), &record.id) {
                return Some(format!("job {id} holds the key {}/{key}", record.pipeline));
            }
        }
        let is_known = |record: &&Record| {
            self.jobs.get(&record.id).is_some_and(|held| held.stored.record.version >= record.version)
        };
        advance.records.iter().find(is_known).map(|record| {
            let (id, version) = (&record.id, record.version);
            format!("job {id} is stored already in version {version} or a later one")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::amqp::ledger::stored::tests::record;

    fn job(epoch: u64, version: u64) -> StoredJob {
        StoredJob { epoch, record: Record { version, ..record("j") }, queues: BTreeMap::new() }
    }

    fn taken(jobs: impl IntoIterator<Item = (u64, u64)>) -> HeldJobs {
        let mut held = HeldJobs::default();
        for (tag, (epoch, version)) in (1..).zip(jobs) {
            held.job_came(job(epoch, version), tag);
        }
        held
    }

    #[test]
    fn of_two_for_one_job_the_higher_counts_at_a_takeover() {
        let mut held = HeldJobs::default();
        assert_eq!(held.job_came(job(1, 7), 1), None);
        assert_eq!(held.job_came(job(2, 3), 2), Some(1), "the epoch comes first");
        assert_eq!(held.job_came(job(1, 9), 3), Some(3));
        assert_eq!(held.job_came(job(2, 3), 4), Some(4), "it is there twice");
        assert_eq!(held.get("j").map(StoredJob::rank), Some((2, 3)));
        assert_eq!(held.begin(), 3);
    }

    #[test]
    fn strays_of_an_earlier_coordinator_count_for_nothing() {
        let mut held = taken([(1, 7)]);
        assert_eq!(held.begin(), 2);
        held.memory_came(Memory { epoch: 1, ..Memory::default() }, 9);
        assert_eq!(held.job_came(job(1, 8), 2), Some(2));
        held.expect(job(2, 8));
        assert!(held.is_expecting());
        assert_eq!(held.job_came(job(2, 8), 3), Some(1), "what it replaces may go");
        assert!(!held.is_expecting());
        assert_eq!(held.job_came(job(2, 8), 4), Some(4), "a copy");
        assert_eq!(held.remove("j"), Some(3));
        assert_eq!(held.job_came(job(2, 8), 5), Some(5), "a copy of what has ended");
    }

    #[test]
    fn what_was_given_back_comes_again() {
        let mut held = taken([(1, 7)]);
        let ours = Memory { epoch: 2, holder: Uuid::from_u128(1), ..Memory::default() };
        held.begin();
        held.expect_memory(ours.clone());
        let theirs = Memory { holder: Uuid::from_u128(2), ..ours.clone() };
        assert_eq!(held.memory_came(theirs, 2), Some(2), "who wanted the same epoch, and came too late");
        assert_eq!(held.memory_came(ours.clone(), 3), None);
        held.given_back(2);
        assert_eq!(held.memory_came(ours.clone(), 9), Some(9), "it is with us");
        held.given_back(3);
        assert_eq!((held.job_came(job(1, 7), 4), held.memory_came(ours, 5)), (None, None));
        held.expect(job(2, 8));
        held.given_back(5);
        assert_eq!(held.job_came(job(2, 8), 6), None, "what it replaces is not with us");
        assert_eq!(held.job_came(job(1, 7), 7), Some(7));
        assert_eq!((held.epoch(), held.remove("j")), (2, Some(6)));
    }

    #[test]
    fn what_many_others_came_after_is_old() {
        let mut held = taken([(1, 7)]);
        held.begin();
        for version in 0..=OLD {
            assert_eq!(held.old().count(), 0, "{version} others");
            let other = StoredJob { epoch: 2, record: Record { version, ..record("i") }, queues: BTreeMap::new() };
            held.expect(other.clone());
            held.job_came(other, 100 + version);
        }
        assert_eq!(held.old().collect::<Vec<_>>(), ["j"]);
    }

    #[test]
    fn a_key_has_one_holder_and_a_version_is_stored_once() {
        let held = taken([(1, 7)]);
        let other = Record { version: 1, ..record("i") };
        let step = |records: Vec<Record>, forgotten: Vec<String>| Advance { records, forgotten, ..Advance::default() };
        assert!(
            held.conflict(&step(vec![other.clone()], Vec::new()))
                .is_some_and(|why| why.contains("job j holds the key p/k"))
        );
        assert_eq!(held.conflict(&step(vec![other.clone()], vec!["j".to_owned()])), None);
        let freed = Record { holds_key: false, version: 8, ..record("j") };
        assert_eq!(held.conflict(&step(vec![other, freed.clone()], Vec::new())), None);
        let again = Record { version: 7, ..freed };
        assert!(held.conflict(&step(vec![again], Vec::new())).is_some_and(|why| why.contains("stored already")));
    }
}
