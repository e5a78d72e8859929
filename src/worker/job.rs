//! The place of a task in a job, as its code sees it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{
    frames::job::{self, Place},
    unicode::from_json,
};

/// The place of a task in a job: one passage of a pipeline.
///
/// ```
/// use asynctask::{Context, Outcome};
///
/// /// Submits an item for each file that the step `collect` has named.
/// fn split(_: serde_json::Value, context: &Context) -> asynctask::TaskResult {
///     let Some(collected) = context.job().and_then(|job| job.input("collect")) else {
///         return Ok(Outcome::Dead("a step of a pipeline, after collect".to_owned()));
///     };
///     let files: Vec<String> = collected.result()?.unwrap_or_default();
///     for file in &files {
///         context.item(file)?;
///     }
///     context.set_result(&files.len())?;
///     Ok(Outcome::Done)
/// }
/// ```
#[derive(Debug)]
pub struct Job {
    id: String,
    pipeline: String,
    key: Option<String>,
    step: String,
    index: u32,
    wipes: bool,
    inputs: BTreeMap<String, Input>,
}

impl Job {
    pub(super) fn of(place: Place) -> Self {
        let Place { id, pipeline, key, step, index, wipe, inputs } = place;
        let inputs = inputs.into_iter().map(|(step, input)| (step, Input(input))).collect();
        Self { id, pipeline, key, step, index, wipes: wipe, inputs }
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its pipeline.
    #[must_use]
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Its key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The step that the task is of.
    #[must_use]
    pub fn step(&self) -> &str {
        &self.step
    }

    /// The task's number among those that were submitted with it, from 0.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether the task is there to wipe what the step left.
    #[must_use]
    pub fn wipes(&self) -> bool {
        self.wipes
    }

    /// What a step gave that this one needs; `None` of any other step, and for an item.
    #[must_use]
    pub fn input(&self, step: &str) -> Option<&Input> {
        self.inputs.get(step)
    }

    /// What the steps gave that this one needs, by their names.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &Input)> {
        self.inputs.iter().map(|(step, input)| (step.as_str(), input))
    }
}

/// What a step gave to those that need it.
#[derive(Debug)]
pub struct Input(job::Input);

impl Input {
    /// Its state: `done`; with `allow_failed` some of its tasks may have failed. For a task that wipes, whatever it came to.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.0.state
    }

    /// The result of its first task; `None` if it gave none.
    ///
    /// # Errors
    /// It cannot be read as this type.
    pub fn result<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        read(self.0.result.as_deref())
    }

    /// The last memo of its first task; `None` if it left none.
    ///
    /// # Errors
    /// It cannot be read as this type.
    pub fn memo<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        read(self.0.memo.as_deref())
    }
}

/// Reads what may be there.
pub(super) fn read<T: DeserializeOwned>(text: Option<&RawValue>) -> Result<Option<T>, serde_json::Error> {
    text.map(|text| from_json(text.get())).transpose()
}
