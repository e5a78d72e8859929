//! Pipelines as the settings define them. A job keeps the definition that it began with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::json_text::JsonText;

/// Tasks of one step of a job, at most.
pub const MOST_TASKS: usize = 1_000_000;

/// A named graph of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// Of jobs with the same key at most one is live: a template over the payload. `None`: jobs are independent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What becomes of a job whose key is held.
    #[serde(default)]
    pub conflict: Conflict,
    /// Jobs at once; others are planned. A job that goes on because what failed of it was done again, or is put back to work, has tasks
    /// in queues by then and counts without being kept waiting: there may be more for that while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Limit of a whole job, from its begin. While the job is frozen its time stands still.
    #[serde(default, with = "millis", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// A queue that gets one task with the job's summary when the job failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// When a failed job is wiped, likewise; `None`: only by hand.
    #[serde(default, with = "millis", skip_serializing_if = "Option::is_none")]
    pub wipe_failed_after: Option<Duration>,
    /// How long a job can be listed after its end.
    #[serde(with = "whole_millis")]
    pub remember: Duration,
    /// The steps, each after those that it needs. At least one.
    pub steps: Vec<Step>,
}

impl Pipeline {
    /// When a failed job is wiped, if the settings do not say it.
    pub const WIPE_FAILED_AFTER: Duration = Duration::from_hours(96);
    /// How long an ended job is remembered, if the settings do not say it.
    pub const REMEMBER: Duration = Duration::from_hours(30 * 24);

    /// A pipeline of these steps with every setting at its default.
    #[must_use]
    pub fn new(name: &str, steps: Vec<Step>) -> Self {
        Self {
            name: name.to_owned(),
            key: None,
            conflict: Conflict::Refuse,
            max_running: None,
            timeout: None,
            on_failure: None,
            wipe_failed_after: Some(Self::WIPE_FAILED_AFTER),
            remember: Self::REMEMBER,
            steps,
        }
    }

    /// The position of a step.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// All queues that tasks of its jobs go to, `on_failure` included, each once.
    #[must_use]
    pub fn queues(&self) -> Vec<&str> {
        let of_steps = self.steps.iter().flat_map(|step| [Some(&step.queue), Some(&step.each), step.wipe.as_ref()]);
        let mut queues: Vec<&str> = of_steps.flatten().chain(&self.on_failure).map(String::as_str).collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }
}

/// One step of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// The queue of its first task.
    pub queue: String,
    /// The queue of its items; the same where the settings say nothing.
    pub each: String,
    /// The queue that wipes what it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wipe: Option<String>,
    /// What it leaves is final: wiped only by `wipe --all`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// Positions of the steps that must be done before; all are lower than its own.
    pub needs: Vec<usize>,
    /// It begins with a task for each element of this, instead of one with the job's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// How many of its tasks may be dead letters.
    #[serde(default)]
    pub allow_failed: Tolerance,
}

impl Step {
    /// A step with every setting at its default.
    #[must_use]
    pub fn new(name: &str, queue: &str, needs: Vec<usize>) -> Self {
        Self {
            name: name.to_owned(),
            queue: queue.to_owned(),
            each: queue.to_owned(),
            wipe: None,
            keep: false,
            needs,
            for_each: None,
            allow_failed: Tolerance::default(),
        }
    }
}

/// What becomes of a job whose key another one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// It is not made.
    #[default]
    Refuse,
    /// It is planned until the key is free; one at most waits so.
    Wait,
}

impl Conflict {
    /// The word used in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Wait => "wait",
        }
    }
}

/// The elements that a step begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForEach {
    /// These payloads.
    List(Vec<JsonText>),
    /// A list in the result of a step that it needs, `{inputs.export.years}`.
    Result {
        /// Position of that step.
        step: usize,
        /// Names of fields in its result, from the outside in; none: the result itself is the list.
        path: Vec<String>,
    },
}

/// How many of a step's tasks may be dead letters for it to be done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tolerance {
    /// So many.
    Tasks(u64),
    /// So many of a hundred.
    Percent(f64),
    /// All of them.
    All,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::Tasks(0)
    }
}

impl Tolerance {
    /// Whether a step with so many failed tasks is done all the same.
    #[must_use]
    pub fn allows(self, failed: u64, known: u64) -> bool {
        match self {
            Self::Tasks(most) => failed <= most,
            Self::Percent(percent) => failed as f64 * 100.0 <= percent * known as f64,
            Self::All => true,
        }
    }
}

/// An optional duration as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    // The signature is serde's.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_millis() as u64).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

/// A duration as whole milliseconds.
mod whole_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        (duration.as_millis() as u64).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_read_as_it_was_written() {
        let mut pipeline = Pipeline::new("registry", vec![Step::new("a", "qa", vec![]), Step::new("b", "qb", vec![0])]);
        pipeline.timeout = Some(Duration::from_secs(90));
        pipeline.wipe_failed_after = None;
        pipeline.steps[1].for_each = Some(ForEach::Result { step: 0, path: vec!["years".to_owned()] });
        pipeline.steps[1].allow_failed = Tolerance::Percent(5.0);
        let text = serde_json::to_string(&pipeline).unwrap();
        assert_eq!(serde_json::from_str::<Pipeline>(&text).unwrap(), pipeline);
        assert_eq!(pipeline.queues(), ["qa", "qb"]);
    }

    #[test]
    fn a_tolerance_is_a_number_a_part_or_all() {
        assert!(Tolerance::default().allows(0, 9) && !Tolerance::default().allows(1, 9));
        assert!(Tolerance::Percent(5.0).allows(5, 100) && !Tolerance::Percent(5.0).allows(6, 100));
        assert!(Tolerance::All.allows(9, 9));
    }
}
