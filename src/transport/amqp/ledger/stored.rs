//! The messages in which a ledger is stored, each JSON: a job, what the ledger is beside its jobs, and the marker of who takes it over.

use std::collections::{BTreeMap, BTreeSet};

use lapin::{BasicProperties, types::ShortString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::names::Place;
use crate::{
    clock::Timestamp,
    jobs::record::{Frozen, JobState, Record},
    transport::amqp::{connect::channel::short, publish::publisher::Publication},
};

/// The longest time to live that a broker takes for a message, in milliseconds: 49 days.
const LONGEST_EXPIRATION: i64 = 4_294_967_295;

/// A job as it is stored, by whom, and where its tasks are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredJob {
    /// Of the coordinator that stored it.
    pub(crate) epoch: u64,
    #[serde(with = "RecordForm")]
    pub(crate) record: Record,
    /// The queues in which there may be tasks of its rounds. Only of rounds that are under way.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) queues: BTreeMap<Uuid, BTreeSet<String>>,
}

impl StoredJob {
    /// Of two for one job the higher counts.
    pub(crate) const fn rank(&self) -> (u64, u64) {
        (self.epoch, self.record.version)
    }

    /// Where it stands among all, oldest first.
    pub(crate) fn place(&self) -> Place {
        (self.record.made_at, self.record.id.clone())
    }
}

/// [`Record`], field for field.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Record")]
struct RecordForm {
    id: String,
    pipeline: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    holds_key: bool,
    state: JobState,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    frozen: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    open: bool,
    #[serde(default)]
    priority: i32,
    made_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purge_at: Option<Timestamp>,
    version: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rounds: Vec<Uuid>,
    content: String,
}

/// What a ledger is beside its jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Counts the coordinators.
    pub(crate) epoch: u64,
    /// Counts its changes within an epoch.
    pub(crate) serial: u64,
    /// Drawn by the coordinator of this epoch: another one that wanted to begin the same epoch has another one.
    pub(crate) holder: Uuid,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) frozen: Vec<Frozen>,
    /// Void rounds, and since when, oldest first: told again by each coordinator, since one that died may not have told them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) void: Vec<(Uuid, Timestamp)>,
}

/// A void round is remembered so long, in milliseconds: no task of it comes after that.
const VOID: i64 = 7 * 24 * 3_600_000;
/// So many of them at most, the newest: 100 kB.
const MOST_VOID: usize = 2_000;

impl Memory {
    pub(crate) const fn rank(&self) -> (u64, u64) {
        (self.epoch, self.serial)
    }

    /// These are void from now on.
    pub(crate) fn add_void(&mut self, rounds: &[Uuid], now: Timestamp) {
        self.void.retain(|(round, at)| at.0.saturating_add(VOID) > now.0 && !rounds.contains(round));
        self.void.extend(rounds.iter().map(|round| (*round, now)));
        self.void.drain(..self.void.len().saturating_sub(MOST_VOID));
    }

    pub(crate) fn void_rounds(&self) -> Vec<Uuid> {
        self.void.iter().map(|(round, _)| *round).collect()
    }
}

/// A message of the queue of open jobs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Job(Box<StoredJob>),
    Memory(Memory),
    /// Whoever takes the ledger over puts one behind all that is there.
    Marker(Uuid),
}

const JOB: &str = "job";
const MEMORY: &str = "ledger";
const MARKER: &str = "marker";

/// Reads a message of the queues of jobs.
///
/// # Errors
/// What is wrong with it, in one line.
pub(crate) fn parse(properties: &BasicProperties, body: &[u8]) -> Result<Stored, String> {
    let unreadable = |error: serde_json::Error| format!("what is stored of a job cannot be read: {error}");
    match properties.kind().as_ref().map(ShortString::as_str) {
        Some(JOB) => serde_json::from_slice(body).map(|job| Stored::Job(Box::new(job))).map_err(unreadable),
        Some(MEMORY) => serde_json::from_slice(body).map(Stored::Memory).map_err(unreadable),
        Some(MARKER) => serde_json::from_slice(body).map(Stored::Marker).map_err(unreadable),
        _ => Err("what lies among the jobs is none".to_owned()),
    }
}

pub(crate) fn job(queue: &str, job: &StoredJob) -> Publication {
    message(queue, JOB, job, None)
}

/// An ended job, with its time to live. The broker drops only what is first in the queue, and takes no more than 49 days: whoever
/// reads looks at the moment itself.
pub(crate) fn ended_job(queue: &str, job: &StoredJob, now: Timestamp) -> Publication {
    let left = job.record.purge_at.map(|at| at.0.saturating_sub(now.0).clamp(0, i64::MAX));
    message(queue, JOB, job, left.filter(|left| *left <= LONGEST_EXPIRATION))
}

pub(crate) fn memory(queue: &str, memory: &Memory) -> Publication {
    message(queue, MEMORY, memory, None)
}

pub(crate) fn marker(queue: &str, marker: Uuid) -> Publication {
    message(queue, MARKER, &marker, Some(MARKER_MS))
}

/// The answer to an order, for whoever waits at a queue.
pub(crate) fn answer(queue: &str, order: &str, answer: String) -> Publication {
    let properties = BasicProperties::default()
        .with_delivery_mode(1)
        .with_content_type("application/json".into())
        .with_correlation_id(short(order));
    Publication { queue: queue.to_owned(), properties: properties.into(), body: answer.into_bytes().into() }
}

/// A marker that nobody waits for is in the way of nobody, and goes.
const MARKER_MS: i64 = 3_600_000;

fn message(queue: &str, kind: &str, body: &impl Serialize, expiration: Option<i64>) -> Publication {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_type(short(kind));
    if let Some(left) = expiration {
        properties = properties.with_expiration(short(&left.to_string()));
    }
    // Maps with text keys: writing them cannot fail.
    let body = serde_json::to_vec(body).unwrap_or_default();
    Publication { queue: queue.to_owned(), properties: properties.into(), body: body.into() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(id: &str) -> Record {
        Record {
            id: id.to_owned(),
            pipeline: "p".to_owned(),
            key: Some("k".to_owned()),
            holds_key: true,
            state: JobState::Running,
            frozen: false,
            open: true,
            priority: -3,
            made_at: Timestamp(7),
            purge_at: None,
            version: 9,
            rounds: vec![Uuid::from_u128(1)],
            content: "{\"n\": 1e400}".to_owned(),
        }
    }

    #[test]
    fn what_is_stored_is_read_as_it_was_written() {
        let record = record("j");
        let queues = BTreeMap::from([(Uuid::from_u128(1), BTreeSet::from(["foo".to_owned()]))]);
        let job_of = StoredJob { epoch: 2, record, queues };
        let written = job("q", &job_of);
        assert_eq!(parse(&written.properties, &written.body), Ok(Stored::Job(Box::new(job_of.clone()))));
        assert!(job_of.rank() > (2, 8) && job_of.rank() < (3, 1));
        let mut memory_of = Memory { epoch: 2, ..Memory::default() };
        memory_of.add_void(&[Uuid::from_u128(5)], Timestamp(3));
        let written = memory("q", &memory_of);
        assert_eq!(parse(&written.properties, &written.body), Ok(Stored::Memory(memory_of)));
        let written = marker("q", Uuid::from_u128(4));
        assert_eq!(parse(&written.properties, &written.body), Ok(Stored::Marker(Uuid::from_u128(4))));
        for (properties, body) in [(written.properties, &b"{"[..]), (BasicProperties::default().into(), b"{}")] {
            assert!(parse(&properties, body).is_err());
        }
    }

    #[test]
    fn an_ended_job_has_its_time_to_live() {
        let written = |purge_at| {
            let record = Record { purge_at, ..record("j") };
            let job = StoredJob { epoch: 1, record, queues: BTreeMap::new() };
            ended_job("q", &job, Timestamp(1_000)).properties.expiration().as_ref().map(ToString::to_string)
        };
        assert_eq!(written(Some(Timestamp(4_000))).as_deref(), Some("3000"));
        assert_eq!(written(Some(Timestamp(500))).as_deref(), Some("0"));
        assert_eq!(written(Some(Timestamp(1_000 + LONGEST_EXPIRATION + 1))), None);
        assert_eq!(written(None), None);
    }

    #[test]
    fn void_rounds_are_forgotten_in_the_end() {
        let mut memory = Memory::default();
        memory.add_void(&[Uuid::from_u128(1)], Timestamp(0));
        memory.add_void(&[Uuid::from_u128(2), Uuid::from_u128(1)], Timestamp(1));
        assert_eq!(memory.void_rounds(), [Uuid::from_u128(2), Uuid::from_u128(1)]);
        memory.add_void(&[], Timestamp(VOID + 1));
        assert!(memory.void_rounds().is_empty());
        let many: Vec<Uuid> = (0..3_000).map(Uuid::from_u128).collect();
        memory.add_void(&many, Timestamp(VOID + 1));
        assert_eq!(memory.void_rounds(), many[1_000..]);
    }
}
