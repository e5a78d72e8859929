//! What a step is given of those that it needs: their results, and the elements that it begins with.

use std::{borrow::Cow, collections::HashMap};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    state::{Job, StepRecord},
    view::StepState,
};
use crate::json_text::JsonText;

/// Bytes of the inputs of a task.
const LONGEST: usize = 64 * 1024;

/// What a step gave.
#[derive(Serialize)]
struct Gave<'a> {
    state: StepState,
    result: Option<&'a JsonText>,
    memo: Option<&'a JsonText>,
}

/// What the steps gave that a step needs; `None` if it needs none.
///
/// # Errors
/// It is too long, and how much so.
pub(super) fn of_needs(job: &Job, step: usize) -> Result<Option<JsonText>, String> {
    let needs = &job.definition.steps[step].needs;
    if needs.is_empty() {
        return Ok(None);
    }
    of_steps(job, needs).map(Some)
}

/// What steps gave: `{"collect":{"state":…,"result":…,"memo":…}}`.
///
/// # Errors
/// It is too long, and how much so.
pub(super) fn of_steps(job: &Job, steps: &[usize]) -> Result<JsonText, String> {
    let mut text = String::from("{");
    for (place, step) in steps.iter().enumerate() {
        let StepRecord { state, result, memo, .. } = &job.steps[*step];
        let gave = Gave { state: *state, result: result.as_ref(), memo: memo.as_ref() };
        let parts = (serde_json::to_string(&job.definition.steps[*step].name), serde_json::to_string(&gave));
        // A name, and texts that were JSON before: writing them cannot fail.
        let (name, gave) = (parts.0.unwrap_or_default(), parts.1.unwrap_or_default());
        text.push_str(if place == 0 { "" } else { "," });
        text.extend([name.as_str(), ":", gave.as_str()]);
    }
    text.push('}');
    if text.len() > LONGEST {
        let names: Vec<&str> = steps.iter().map(|step| job.definition.steps[*step].name.as_str()).collect();
        return Err(format!(
            "what {} gave has {} bytes, more than the {LONGEST} that a task can be given: put it into a file and give its name",
            names.join(", "),
            text.len()
        ));
    }
    JsonText::parse(&text).map_err(|error| format!("its inputs are no JSON: {error}"))
}

/// Payloads.
pub(super) enum Elements<'a> {
    /// Of the settings.
    Written(&'a [JsonText]),
    /// Of a result.
    Given(Vec<&'a RawValue>),
}

impl Elements<'_> {
    pub(super) const fn count(&self) -> usize {
        match self {
            Self::Written(list) => list.len(),
            Self::Given(list) => list.len(),
        }
    }

    pub(super) fn texts(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Written(list) => Box::new(list.iter().map(JsonText::as_str)),
            Self::Given(list) => Box::new(list.iter().map(|element| element.get())),
        }
    }
}

/// The list in the result of a step.
///
/// # Errors
/// There is none.
pub(super) fn elements<'a>(job: &'a Job, step: usize, path: &[String]) -> Result<Elements<'a>, String> {
    let name = &job.definition.steps[step].name;
    let place = std::iter::once(name).chain(path).map(String::as_str).collect::<Vec<_>>().join(".");
    let missing = || format!("for_each wants a list at inputs.{place}, and there is none in the result of step {name}");
    let mut text = job.steps[step].result.as_ref().ok_or_else(missing)?.as_str();
    for field in path {
        let fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).map_err(|_| missing())?;
        text = fields.get(field.as_str()).ok_or_else(missing)?.get();
    }
    serde_json::from_str(text).map(Elements::Given).map_err(|_| missing())
}
