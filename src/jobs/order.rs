//! Orders: what people, schedules and workers want of the ledger, and its answers. Each has an id; given twice, it is done once.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, json_text::JsonText};

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// By which the answer is found.
    pub id: String,
    /// When it was given.
    pub at: Timestamp,
    /// What is wanted.
    pub what: Wanted,
}

impl Order {
    /// The start of a job that a task or a schedule asks for. Its id is made of the job's: asked for again, it is the same order.
    #[must_use]
    pub fn start(at: Timestamp, pipeline: &str, job: String, payload: JsonText, scheduled: bool) -> Self {
        let id = format!("start-{job}");
        Self { id, at, what: Wanted::Start { pipeline: pipeline.to_owned(), id: job, payload, priority: 0, scheduled } }
    }
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// A new job. With an id that a job has, nothing is done, and that job is the answer.
    Start {
        /// Of this pipeline.
        pipeline: String,
        /// Its id.
        id: String,
        /// Its payload.
        payload: JsonText,
        /// The higher, the earlier it is admitted.
        #[serde(default)]
        priority: i32,
        /// A schedule wants it: a key that is live or frozen is no error, and nothing is begun.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        scheduled: bool,
    },
    /// Do steps again.
    Restart {
        /// The job.
        job: JobName,
        /// These steps; none: all of them, or those that are not done with `failed`.
        #[serde(default)]
        steps: Vec<String>,
        /// Only these, not what needs them.
        #[serde(default)]
        only: bool,
        /// Only tasks that failed or never ran.
        #[serde(default)]
        failed: bool,
        /// With the definition that is in the settings now.
        #[serde(default)]
        redefine: bool,
        /// Although what it left was wiped.
        #[serde(default)]
        even_if_wiped: bool,
    },
    /// End it: nothing of it is begun any more, what is in hand is stopped.
    Cancel {
        /// The job.
        job: JobName,
    },
    /// Begin nothing of it, or no job of a pipeline or key.
    Freeze(Scope),
    /// The opposite.
    Resume(Scope),
    /// Admit it earlier or later.
    Priority {
        /// The job.
        job: JobName,
        /// The higher, the earlier.
        priority: i32,
    },
    /// Wipe nothing at its end.
    Keep {
        /// The job.
        job: JobName,
    },
    /// Wipe now, or again.
    Wipe {
        /// The job.
        job: JobName,
        /// What is final, too, and forget the job.
        #[serde(default)]
        all: bool,
    },
}

/// A job as a person names it: its id, a beginning of that which no other job has, or `PIPELINE/KEY`, its live or newest.
pub type JobName = String;

/// What is frozen or resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One job.
    Job(JobName),
    /// All jobs of a pipeline that begin from now on, or those of one key of it.
    Pipeline {
        /// Its name.
        name: String,
        /// Only this key.
        #[serde(default)]
        key: Option<String>,
    },
}

/// The answer to an order, for the person who gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is done, or was before.
    Done {
        /// One line: "job 3f2a… of registry/chile begins".
        text: String,
        /// The job, where it is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
    },
    /// It is not done, and why.
    Refused {
        /// One line.
        error: String,
        /// What could be done instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let start = |at| Order::start(Timestamp(at), "p", "j".to_owned(), JsonText::parse("{}").unwrap(), true);
        assert_eq!(start(1).id, start(2).id, "whenever it is asked for");
        let orders = [
            start(1).what,
            Wanted::Freeze(Scope::Pipeline { name: "p".to_owned(), key: None }),
            Wanted::Resume(Scope::Job("j".to_owned())),
        ];
        for what in orders {
            let order = Order { id: "o".to_owned(), at: Timestamp(1), what };
            let text = serde_json::to_string(&order).unwrap();
            assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
        }
    }
}
