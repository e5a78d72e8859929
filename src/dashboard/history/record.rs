//! What the history keeps of an end, and how many ends there were: read from what the master tells. Pure.

use serde_json::{Map, Value, json};

use crate::{clock::Timestamp, text};

/// The length of a step, in milliseconds. Counts are kept by steps, and a list that begins somewhere in time begins with one, so that
/// it and its counts are about the same ends.
pub(crate) const STEP: i64 = 300_000;

/// Bytes of a task's id that are kept.
pub(super) const ID: usize = 512;
/// Bytes of a name: a queue, a kind, a slot, a host.
pub(super) const NAME: usize = 256;
/// Bytes of an error that are kept: the master cuts it, too.
const ERROR: usize = 512;
/// Queues that are counted, at most.
const QUEUES: usize = 1000;

/// What an end came to. Its number is what the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Snoozed,
    Released,
    Retried,
    Dead,
}

impl Outcome {
    pub(crate) const ALL: [Self; 5] = [Self::Done, Self::Snoozed, Self::Released, Self::Retried, Self::Dead];

    /// As the master tells it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Snoozed => "snoozed",
            Self::Released => "released",
            Self::Retried => "retried",
            Self::Dead => "dead",
        }
    }

    /// Failures are kept longer.
    pub(crate) const fn is_failure(self) -> bool {
        matches!(self, Self::Retried | Self::Dead)
    }

    pub(super) fn of_number(number: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// A number for each outcome, in their order.
pub(crate) type Counts = [u64; 5];

/// The end of an attempt at a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// The number that the master gave it.
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) queue: String,
    pub(crate) kind: String,
    pub(crate) slot: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) outcome: Outcome,
    /// In seconds.
    pub(crate) waited: Option<f64>,
    /// In seconds.
    pub(crate) ran: f64,
    /// Of a failure.
    pub(crate) error: Option<String>,
    /// What else is known of a failure: `reason`, `fingerprint`, `exit`, `oom`, `max_rss_bytes`; else null.
    pub(crate) cause: Value,
}

impl End {
    /// From a record of the master's; `None`: it is none that is known here.
    pub(crate) fn of(record: &Value) -> Option<Self> {
        let word = record["outcome"].as_str()?;
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word)?;
        let name = |key: &str| record[key].as_str().map(|name| text::cut(name, NAME).to_owned());
        let at: jiff::Timestamp = record["at"].as_str()?.parse().ok()?;
        Some(Self {
            number: record["number"].as_u64()?,
            at: Timestamp(at.as_millisecond()),
            queue: name("queue")?,
            kind: name("kind").unwrap_or_default(),
            slot: name("slot"),
            pid: record["pid"].as_u64().and_then(|pid| pid.try_into().ok()),
            id: text::cut(record["id"].as_str()?, ID).to_owned(),
            attempt: record["attempt"].as_u64().and_then(|attempt| attempt.try_into().ok()).unwrap_or_default(),
            outcome,
            waited: record["waited_seconds"].as_f64(),
            ran: record["ran_seconds"].as_f64().unwrap_or_default(),
            error: record["error"].as_str().map(|error| text::cut(error, ERROR).to_owned()),
            cause: if outcome.is_failure() { cause(record) } else { Value::Null },
        })
    }

    /// As the master tells it, without the number.
    pub(crate) fn record(&self) -> Value {
        let at = jiff::Timestamp::from_millisecond(self.at.0).unwrap_or_default();
        let mut record = json!({
            "at": at.to_string(),
            "queue": self.queue,
            "kind": self.kind,
            "slot": self.slot,
            "pid": self.pid,
            "id": self.id,
            "attempt": self.attempt,
            "outcome": self.outcome.as_str(),
            "waited_seconds": self.waited,
            "ran_seconds": self.ran,
        });
        if let (Value::Object(record), Value::Object(cause)) = (&mut record, &self.cause) {
            record.extend(cause.clone());
            record.insert("error".to_owned(), json!(self.error));
        }
        record
    }
}

/// Of all that a record may have, what is known and short.
fn cause(record: &Value) -> Value {
    let is_short = |value: &Value| match value {
        Value::String(text) => text.len() <= NAME,
        Value::Object(fields) => {
            fields.len() <= 4 && fields.values().all(|field| !field.is_object() && field.to_string().len() <= NAME)
        }
        Value::Array(_) => false,
        _ => true,
    };
    let known = ["reason", "fingerprint", "exit", "oom", "max_rss_bytes"].into_iter();
    let fields = known.filter(|key| is_short(&record[key])).map(|key| (key.to_owned(), record[key].clone()));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// What a queue's ends came to, since the master began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) kind: String,
    pub(super) counts: Counts,
}

/// The tallies of an answer to `counters`.
pub(super) fn tallies(counters: &Value) -> impl Iterator<Item = (&str, Tally)> {
    let sum = |counts: &Value| counts.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let queues = counters["queues"].as_object().into_iter().flatten().take(QUEUES);
    queues.filter(|(name, _)| name.len() <= NAME).map(move |(name, queue)| {
        let one = |outcome: &str| queue[outcome].as_u64().unwrap_or_default();
        let counts = [one("done"), one("snoozed"), one("released"), sum(&queue["retried"]), sum(&queue["dead"])];
        let kind = queue["kind"].as_str().unwrap_or_default();
        (name.as_str(), Tally { kind: text::cut(kind, NAME).to_owned(), counts })
    })
}

/// What happened between two tallies; from nothing on if counts went down: a queue that was away begins anew.
pub(super) fn since(now: Counts, before: Counts) -> Counts {
    let is_new = now.iter().zip(before).any(|(now, before)| *now < before);
    let before = if is_new { Counts::default() } else { before };
    std::array::from_fn(|place| now[place] - before[place])
}

/// The step of a moment.
pub(crate) const fn step(at: Timestamp) -> i64 {
    at.0.div_euclid(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_as_it_was_told() {
        let told = json!({
            "number": 7, "at": "2026-12-01T11:00:00.25Z", "queue": "q", "kind": "k", "slot": "q[1]", "pid": 12, "id": "a", "attempt": 2,
            "outcome": "dead", "waited_seconds": 0.5, "ran_seconds": 41.0, "reason": "crash", "fingerprint": "ab", "error": "gone",
            "exit": { "signal": "SIGKILL", "core_dumped": false }, "oom": true, "max_rss_bytes": 5,
        });
        let end = End::of(&told).unwrap();
        assert_eq!((end.number, end.at, end.outcome), (7, Timestamp(1_796_122_800_250), Outcome::Dead));
        let mut shown = told.clone();
        shown.as_object_mut().unwrap().remove("number");
        assert_eq!(end.record(), shown);
        let done = json!({ "number": 1, "at": "2026-12-01T11:00:00Z", "queue": "q", "id": "a", "outcome": "done", "reason": "x" });
        assert_eq!(End::of(&done).unwrap().record()["reason"], Value::Null, "only failures have a cause");
    }

    #[test]
    fn what_is_long_or_odd_is_cut_or_left_out() {
        let long = "ü".repeat(10_000);
        let told = json!({
            "number": 1, "at": "2026-12-01T11:00:00Z", "queue": long, "kind": long, "slot": long, "pid": -1, "id": long,
            "attempt": u64::MAX, "outcome": "retried", "error": long, "reason": long, "exit": { "signal": long }, "oom": [long],
        });
        let end = End::of(&told).unwrap();
        assert!(end.record().to_string().len() < 3000, "{}", end.record());
        assert_eq!((end.pid, end.attempt), (None, 0));
        for odd in
            [json!({}), json!(null), json!([1]), json!({ "outcome": "eaten" }), json!({ "outcome": "done", "at": "x" })]
        {
            assert_eq!(End::of(&odd), None, "{odd}");
        }
    }

    #[test]
    fn tallies_are_differences() {
        let counters = |done: u64| json!({ "queues": { "q": { "kind": "k", "done": done, "snoozed": 1, "retried": { "error": 2, "crash": 1 }, "dead": {} } } });
        let now: Vec<_> = tallies(&counters(5)).map(|(name, tally)| (name.to_owned(), tally)).collect();
        assert_eq!(now, [("q".to_owned(), Tally { kind: "k".to_owned(), counts: [5, 1, 0, 3, 0] })]);
        assert_eq!(since([5, 1, 0, 3, 0], [4, 1, 0, 0, 0]), [1, 0, 0, 3, 0]);
        assert_eq!(since([3, 1, 0, 3, 0], [4, 0, 0, 0, 0]), [3, 1, 0, 3, 0], "it begins anew");
        assert_eq!(tallies(&json!("nonsense")).count(), 0);
    }

    #[test]
    fn steps_have_one_length_before_1970_too() {
        assert_eq!(
            [step(Timestamp(0)), step(Timestamp(STEP - 1)), step(Timestamp(STEP)), step(Timestamp(-1))],
            [0, 0, 1, -1]
        );
    }
}
