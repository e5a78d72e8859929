//! The suites of jobs: a case for each step, and one for each of its items that ended in this run.
//!
//! What became of a job and its steps is known at the end of the run alone, by whatever is stored of it then. The first task of a step
//! is the step's own case. A task that failed in a step that is done all the same (`allow_failed`) is no failure of the run: it is
//! skipped, with its error.

use std::collections::HashMap;

use super::{
    failure::FailureTexts,
    xml::{Case, Suite, Verdict},
};
use crate::{
    clock::Timestamp,
    jobs::{
        entry::MemberId,
        ledger::{StepState, StepView, View},
        record::JobState,
    },
    plural::counted,
};

/// Jobs with a suite of their own; tasks of others are cases of their queues.
const JOBS: usize = 1_000;

/// Jobs of which tasks ended in this run.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    ids: HashMap<String, usize>,
    jobs: Vec<Job>,
}

#[derive(Debug)]
struct Job {
    id: String,
    /// What is stored of it at the end.
    view: Option<Box<View>>,
    members: Vec<Member>,
}

/// A task of a job that ended.
#[derive(Debug)]
struct Member {
    id: MemberId,
    task: String,
    seconds: f64,
    failure: Option<Box<FailureTexts>>,
}

impl Jobs {
    /// The place of a job, if there is room for it.
    fn place(&mut self, id: &str) -> Option<usize> {
        if let Some(place) = self.ids.get(id) {
            return Some(*place);
        }
        if self.jobs.len() == JOBS {
            return None;
        }
        self.ids.insert(id.to_owned(), self.jobs.len());
        self.jobs.push(Job { id: id.to_owned(), view: None, members: Vec::new() });
        Some(self.jobs.len() - 1)
    }

    /// Whether tasks of this job have a suite of their own.
    pub(super) fn has_room(&mut self, member: &MemberId) -> bool {
        self.place(&member.job).is_some()
    }

    /// A task of a job has ended, for which there is room.
    pub(super) fn ended(&mut self, id: MemberId, task: String, seconds: f64, failure: Option<Box<FailureTexts>>) {
        if let Some(place) = self.place(&id.job) {
            self.jobs[place].members.push(Member { id, task, seconds, failure });
        }
    }

    /// A task that was said to be done has not ended; whether it is one of these.
    pub(super) fn reopened(&mut self, task: &str) -> bool {
        let is_it = |member: &Member| member.failure.is_none() && member.task == task;
        self.jobs.iter_mut().rev().any(|job| {
            let place = job.members.iter().rposition(is_it);
            place.map(|place| job.members.remove(place)).is_some()
        })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.jobs.iter().map(|job| job.id.as_str())
    }

    /// What is stored of a job.
    pub(super) fn found(&mut self, view: Box<View>) {
        if let Some(place) = self.place(&view.id) {
            self.jobs[place].view = Some(view);
        }
    }

    /// Whether a case of theirs says that something failed.
    pub(super) fn have_failures(&self) -> bool {
        self.jobs.iter().flat_map(Job::cases).any(|case| matches!(case.verdict, Verdict::Failure { .. }))
    }

    pub(super) fn suites(&self) -> impl Iterator<Item = Suite<'_>> {
        self.jobs.iter().map(Job::suite)
    }
}

impl Job {
    fn suite(&self) -> Suite<'_> {
        let view = self.view.as_deref();
        let seconds = view.map_or(0.0, |view| between(view.began_at, view.ended_at));
        let mut properties = vec![("job", self.id.clone())];
        if let Some(view) = view {
            properties.push(("pipeline", view.pipeline.clone()));
            properties.extend(view.key.clone().map(|key| ("key", key)));
            properties.push(("state", view.state.as_str().to_owned()));
            properties.extend(view.error.clone().map(|error| ("error", error)));
            properties.push(("seconds", format!("{seconds:.3}")));
        }
        Suite {
            name: view.map_or_else(|| self.id.clone(), |view| format!("{} {}", view.place(), self.id)),
            began_at: view.and_then(|view| view.began_at).unwrap_or(Timestamp(0)),
            seconds,
            properties,
            cases: self.cases(),
        }
    }

    fn cases(&self) -> Vec<Case<'_>> {
        let class = self.view.as_ref().map_or(self.id.as_str(), |view| view.pipeline.as_str());
        let steps = self.view.iter().flat_map(|view| (0..view.steps.len()).map(|step| self.step(class, view, step)));
        let others = self.members.iter().filter(|member| !self.is_of_step(member));
        steps.chain(others.map(|member| self.item(class, member))).collect()
    }

    fn step<'a>(&'a self, class: &'a str, view: &'a View, place: usize) -> Case<'a> {
        let step = &view.steps[place];
        let verdict = match step.state {
            StepState::Done => Verdict::Good,
            StepState::Failed => self.failure(step),
            // A job whose time is over has no step that failed, and has failed all the same.
            StepState::Cancelled if view.state == JobState::Failed => {
                let error = view.error.as_deref().unwrap_or_default();
                Verdict::Failure { kind: "cancelled", message: error, text: error }
            }
            StepState::Cancelled => Verdict::Skipped { why: "cancelled".to_owned() },
            StepState::Planned | StepState::Skipped => Verdict::Skipped { why: "never begun".to_owned() },
            StepState::Waiting | StepState::Running => {
                let (state, ended) = (step.state.as_str(), step.tasks.done + step.tasks.failed);
                Verdict::Skipped { why: format!("{state}: {ended} of {} ended", counted(step.tasks.known, "task")) }
            }
        };
        Case { class, name: step.name.clone(), seconds: between(step.began_at, step.ended_at), verdict }
    }

    /// Why a step failed: what is known of its own task, if that is the one that did.
    fn failure<'a>(&'a self, step: &'a StepView) -> Verdict<'a> {
        let error = step.error.as_deref().unwrap_or_default();
        let own = self.members.iter().rev().find(|member| member.id.step == step.name && self.is_of_step(member));
        match own.and_then(|member| member.failure.as_deref()) {
            Some(failure) => failure.verdict(),
            None => Verdict::Failure { kind: step.reason.as_deref().unwrap_or("failed"), message: error, text: error },
        }
    }

    /// Whether it is the first task of a step that has a case.
    fn is_of_step(&self, member: &Member) -> bool {
        let MemberId { step, round, feeder, wipe, .. } = &member.id;
        let Some(view) = &self.view else { return false };
        let Some(place) = view.definition.step(step) else { return false };
        feeder == round && !wipe && view.definition.steps[place].for_each.is_none()
    }

    fn item<'a>(&'a self, class: &'a str, member: &'a Member) -> Case<'a> {
        let MemberId { step, index, wipe, .. } = &member.id;
        let name = if *wipe { format!("wipe of {step}") } else { format!("{step}[{index}]") };
        let is_allowed =
            |view: &View| view.steps.iter().any(|known| known.name == *step && known.state == StepState::Done) && !wipe;
        let verdict = match &member.failure {
            None => Verdict::Good,
            Some(failure) if self.view.as_deref().is_some_and(is_allowed) => {
                let (reason, message) = (failure.reason.as_str(), &failure.message);
                Verdict::Skipped { why: format!("its step is done without it: {reason}: {message}") }
            }
            Some(failure) => failure.verdict(),
        };
        Case { class, name, seconds: member.seconds, verdict }
    }
}

/// Seconds from one moment to the other; 0 if there is none, or the clock was set back.
fn between(began_at: Option<Timestamp>, ended_at: Option<Timestamp>) -> f64 {
    let (Some(from), Some(to)) = (began_at, ended_at) else { return 0.0 };
    to.remaining(from).as_secs_f64()
}
