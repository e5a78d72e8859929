//! The place of a task in a job: which step it is of, and by what the job's ledger knows it.
//!
//! A member is known by who submitted it and by its number among those: (*feeder*, index). The feeder is the *round*, one begin
//! of a step, for what the coordinator itself submits, and else the *execution*, one handing of a task to a worker, that submitted
//! it. All three are new each time, so that copies of one store are recognised, and what belongs to an earlier begin, or to an
//! execution that did not count, is never taken for the present one's.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::json_text::JsonText;

/// What a task of a job carries. Stored with it, and moved with it wherever it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The application whose ledger holds the job; its tasks may be worked by masters of others.
    pub application: String,
    /// The job's id.
    pub job: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Its key, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The step.
    pub step: String,
    /// The queue of the step's first task, and of what asks for `more`.
    pub queue: String,
    /// The queue of the step's items.
    pub each: String,
    /// This begin of the step.
    pub round: Uuid,
    /// The round, or the execution that submitted this task.
    pub feeder: Uuid,
    /// Its number among the tasks of its feeder, from 0.
    pub index: u32,
    /// It wipes what the step left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wipe: bool,
    /// What the steps before gave: a JSON object, by step. None for items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<JsonText>,
}

impl Membership {
    /// Whether the ledger is told what becomes of it before its end: of the task that a step begins with, of a list of such tasks of
    /// the first. Not of items, of which there may be very many, nor of what wipes.
    #[must_use]
    pub fn tells_news(&self) -> bool {
        self.feeder == self.round && self.index == 0 && !self.wipe
    }

    /// The place of a task that this one submits: in the same step and round, with the execution of this one as its feeder.
    #[must_use]
    pub fn member(&self, execution: Uuid, index: u32) -> Self {
        Self { feeder: execution, index, inputs: None, ..self.clone() }
    }
}

/// The queue of entries of an application's ledger, where its transport has one.
#[must_use]
pub fn ledger_queue(application: &str) -> String {
    format!("{LEDGER_QUEUE}{application}")
}

/// The application whose ledger a queue belongs to.
#[must_use]
pub fn ledger_of(queue: &str) -> Option<&str> {
    queue.strip_prefix(LEDGER_QUEUE)
}

/// Whether a text that a producer chooses can be the id of a job, by the rule in [`JOB_ID`]: one word, which nobody takes for an
/// option, for a file, or for `PIPELINE/KEY`.
#[must_use]
pub fn is_job_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    (1..=LONGEST_JOB_ID).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(is_plain)
}

/// What the id of a job is, as it is told.
pub const JOB_ID: &str = "1 to 200 letters, digits and _ - . : with a letter or digit first";

const LONGEST_JOB_ID: usize = 200;

const LEDGER_QUEUE: &str = "asynctask.ledger.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_is_read_as_it_was_written() {
        let first = Membership {
            application: "app".to_owned(),
            job: "j".to_owned(),
            pipeline: "p".to_owned(),
            key: Some("k".to_owned()),
            step: "s".to_owned(),
            queue: "q".to_owned(),
            each: "e".to_owned(),
            round: Uuid::from_u128(1),
            feeder: Uuid::from_u128(1),
            index: 0,
            wipe: false,
            inputs: JsonText::parse("{\"a\":{}}").ok(),
        };
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(serde_json::from_str::<Membership>(&text).unwrap(), first);
        let item = first.member(Uuid::from_u128(7), 3);
        assert!(first.tells_news() && !item.tells_news() && item.inputs.is_none());
        for other in [Membership { index: 1, ..first.clone() }, Membership { wipe: true, ..first }] {
            assert!(!other.tells_news(), "{other:?}");
        }
        assert_eq!(ledger_of(&ledger_queue("app")), Some("app"));
        assert_eq!(ledger_of("foo"), None);
    }

    #[test]
    fn the_id_of_a_job_is_one_word() {
        for good in ["1", "2026-11-30T12:00Z", "a_b.c", &"x".repeat(200)] {
            assert!(is_job_id(good), "{good}");
        }
        for bad in ["", "-1", "a b", "a/b", "a\n", "\u{0}", "ü", "a!b", "..", &"x".repeat(201)] {
            assert!(!is_job_id(bad), "{bad}");
        }
    }
}
