//! How long jobs and steps took that ended here, for the page of metrics.

use std::collections::BTreeMap;

use crate::{
    jobs::{
        ledger::{Ended, StepDone},
        record::JobState,
    },
    metrics::counts::{JOB_BOUNDS, Times},
};

/// Ended jobs and steps since the begin of the process.
#[derive(Debug, Default)]
pub struct Counted {
    jobs: BTreeMap<(String, JobState), Times>,
    steps: BTreeMap<(String, String), Times>,
}

impl Counted {
    /// A job has ended, or has done so again after it was healed or restarted: its time since then.
    pub(super) fn ended(&mut self, job: &Ended) {
        if let Some(took) = job.took {
            let key = (job.pipeline.clone(), job.state);
            self.jobs.entry(key).or_default().observe_among(&JOB_BOUNDS, took);
        }
    }

    /// A step was done.
    pub(super) fn step_done(&mut self, step: &StepDone) {
        let key = (step.pipeline.clone(), step.step.clone());
        self.steps.entry(key).or_default().observe_among(&JOB_BOUNDS, step.took);
    }

    /// Times of jobs, by pipeline and state.
    pub fn jobs(&self) -> impl Iterator<Item = (&str, JobState, &Times)> {
        self.jobs.iter().map(|((pipeline, state), times)| (pipeline.as_str(), *state, times))
    }

    /// Times of steps that were done, by pipeline and step.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &str, &Times)> {
        self.steps.iter().map(|((pipeline, step), times)| (pipeline.as_str(), step.as_str(), times))
    }
}
