//! How long jobs and steps took that ended here, for the page of metrics.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Timestamp,
    jobs::{
        ledger::{StepState, View},
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
    /// A job has ended, or has done so again after it was healed or restarted.
    pub(super) fn ended(&mut self, view: &View) {
        if let Some(took) = took(view.began_at, view.ended_at) {
            let key = (view.pipeline.clone(), view.state);
            self.jobs.entry(key).or_default().observe_among(&JOB_BOUNDS, took);
        }
        for step in view.steps.iter().filter(|step| step.state == StepState::Done) {
            if let Some(took) = took(step.began_at, step.ended_at) {
                let key = (view.pipeline.clone(), step.name.clone());
                self.steps.entry(key).or_default().observe_among(&JOB_BOUNDS, took);
            }
        }
    }

    /// Times of jobs, by pipeline and state.
    pub fn jobs(&self) -> impl Iterator<Item = (&str, JobState, &Times)> {
        self.jobs.iter().map(|((pipeline, state), times)| (pipeline.as_str(), *state, times))
    }

    /// Times of the steps of ended jobs that were done, by pipeline and step.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &str, &Times)> {
        self.steps.iter().map(|((pipeline, step), times)| (pipeline.as_str(), step.as_str(), times))
    }
}

fn took(began_at: Option<Timestamp>, ended_at: Option<Timestamp>) -> Option<Duration> {
    Some(ended_at?.remaining(began_at?))
}
