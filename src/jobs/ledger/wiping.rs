//! What a job left is wiped: step after step, those that need others first.

use uuid::Uuid;

use super::{
    inputs,
    out::Out,
    state::{Job, Wipe},
    view::Wiped,
};
use crate::{
    jobs::entry::{End, How},
    membership::Membership,
    task::NewTask,
};

impl Job {
    /// The job has ended, or was kept long enough.
    pub(super) fn wipe_at_end(&mut self, out: &mut Out) {
        if self.keep || !self.has_to_wipe(false) {
            self.closed = true;
            return;
        }
        self.begin_wipe(false, false, out);
    }

    /// Whether there is something left to wipe.
    pub(super) fn has_to_wipe(&self, all: bool) -> bool {
        (0..self.steps.len()).any(|step| self.is_to_wipe(step, all))
    }

    /// Wipes what is left to wipe; of a job that was wiped, all of it again.
    pub(super) fn begin_wipe(&mut self, all: bool, forget: bool, out: &mut Out) {
        if let Some(wipe) = self.wipe.take() {
            out.void(wipe.at.map(|(_, round)| round));
        }
        if !self.has_to_wipe(all) {
            for step in &mut self.steps {
                step.wiped = false;
            }
        }
        self.closed = false;
        self.wiped = Wiped::UnderWay;
        self.wipe = Some(Wipe { all, forget, at: None, error: None });
        if !self.frozen {
            self.go_on_wiping(out);
        }
    }

    fn is_to_wipe(&self, place: usize, all: bool) -> bool {
        let (step, record) = (&self.definition.steps[place], &self.steps[place]);
        step.wipe.is_some() && record.ever_begun && !record.wiped && (all || !step.keep)
    }

    /// The next step is wiped, if one is to be and none is under way.
    pub(super) fn go_on_wiping(&mut self, out: &mut Out) {
        let Some(wipe) = self.wipe.as_ref().filter(|wipe| wipe.at.is_none()) else { return };
        let (all, forget) = (wipe.all, wipe.forget);
        let next = (0..self.steps.len()).rev().find(|step| self.is_to_wipe(*step, all));
        let Some(next) = next else {
            self.wipe = None;
            self.wiped = Wiped::Yes;
            self.closed = true;
            out.info(format!("Job {} is wiped", self.id));
            if forget {
                out.forgotten.insert(self.id.clone());
            }
            return;
        };
        let round = out.id();
        out.step.advance.tasks.push(self.task_that_wipes(next, round, &out.application));
        if let Some(wipe) = &mut self.wipe {
            wipe.at = Some((next, round));
        }
    }

    fn task_that_wipes(&self, place: usize, round: Uuid, application: &str) -> NewTask {
        let step = &self.definition.steps[place];
        let queue = step.wipe.clone().unwrap_or_default();
        NewTask {
            queue: queue.clone(),
            id: round.to_string(),
            body: self.payload.as_str().as_bytes().to_vec(),
            membership: Some(Box::new(Membership {
                application: application.to_owned(),
                job: self.id.clone(),
                pipeline: self.definition.name.clone(),
                key: self.key.clone(),
                step: step.name.clone(),
                queue: queue.clone(),
                each: queue,
                round,
                feeder: round,
                index: 0,
                wipe: true,
                // A result and a memo: together less than inputs may have.
                inputs: inputs::of_steps(self, &[place]).ok(),
            })),
            ..NewTask::default()
        }
    }

    /// A task that wipes has ended; whether it is the one that is under way.
    pub(super) fn wipe_ended(&mut self, end: &End, out: &mut Out) -> bool {
        let member = &end.member;
        let Some(wipe) = &mut self.wipe else { return false };
        let Some((place, _)) =
            wipe.at.filter(|(_, round)| (member.round, member.feeder, member.index) == (*round, *round, 0))
        else {
            return false;
        };
        match &end.how {
            How::Done { .. } => {
                (wipe.at, wipe.error) = (None, None);
                self.wiped = Wiped::UnderWay;
                self.steps[place].wiped = true;
                if !self.frozen {
                    self.go_on_wiping(out);
                }
            }
            How::Failed { reason, error, .. } => {
                if self.wiped == Wiped::Failed {
                    return false;
                }
                let (name, error) = (&self.definition.steps[place].name, format!("{reason}: {error}"));
                out.warning(format!("Job {}: the wipe of step {name} failed: {error}", self.id));
                wipe.error = Some(format!("the wipe of step {name} failed: {error}"));
                self.wiped = Wiped::Failed;
            }
        }
        true
    }
}
