//! A job goes on: steps begin, are done, fail; and with them the job.

use super::{
    inputs::{self, Elements},
    members::{MOST, Members},
    out::{Out, seconds},
    state::Job,
    view::{StepState, Summary, View},
};
use crate::{
    clock::Timestamp,
    jobs::{definition::ForEach, record::JobState},
    json_text::JsonText,
    membership::Membership,
    plural::counted,
    task::NewTask,
};
use uuid::Uuid;

impl Job {
    /// The job begins, or begins again.
    pub(super) fn begin(&mut self, out: &mut Out) {
        let again = if self.began_at.is_some() { " again" } else { "" };
        out.info(format!("Job {} of {} begins{again}", self.id, self.place()));
        self.run(out);
    }

    /// It runs from now on.
    pub(super) fn run(&mut self, out: &mut Out) {
        self.state = JobState::Running;
        self.began_at.get_or_insert(out.now);
        self.running_since = Some(out.now);
        self.ended_at = None;
        self.error = None;
        self.go_on(out);
    }

    /// Whatever can begin does, and what is over ends.
    pub(super) fn go_on(&mut self, out: &mut Out) {
        if self.state == JobState::Running {
            // Needs are above, so one way down sees what the way itself has done at once.
            for step in 0..self.steps.len() {
                if !self.frozen && self.may_begin(step) {
                    self.begin_step(step, out);
                }
            }
            self.end_if_over(out);
        }
        if !self.frozen {
            self.go_on_wiping(out);
        }
    }

    fn may_begin(&self, step: usize) -> bool {
        let any_failed = || self.steps.iter().any(|step| step.state == StepState::Failed);
        self.steps[step].state == StepState::Planned
            && self.has_needs(step)
            && (self.steps[step].asked || !any_failed())
    }

    fn end_if_over(&mut self, out: &mut Out) {
        if self.steps.iter().all(|step| step.state == StepState::Done) {
            return self.done(out);
        }
        let is_over = !self.steps.iter().any(super::state::StepRecord::is_under_way)
            && !(0..self.steps.len()).any(|step| self.may_begin(step));
        let failed = self.pairs().find(|(_, _, step)| step.state == StepState::Failed);
        if let Some((_, step, record)) = failed.filter(|_| is_over) {
            let error = format!("step {} failed: {}", step.name, told(record.reason.as_ref(), record.error.as_ref()));
            self.fail(error, out);
        }
    }

    fn done(&mut self, out: &mut Out) {
        self.state = JobState::Done;
        self.ended_at = Some(out.now);
        out.info(format!("Job {} of {} is done in {}", self.id, self.place(), seconds(self.began_at, out.now)));
        self.wipe_at_end(out);
        out.step.ended.push(View::of_job(self));
    }

    /// The job is failed: nothing of it begins any more. What failed can be done again until what it left is wiped.
    pub(super) fn fail(&mut self, error: String, out: &mut Out) {
        out.warning(format!("Job {} of {} failed: {error}", self.id, self.place()));
        self.state = JobState::Failed;
        self.ended_at = Some(out.now);
        self.error = Some(error);
        self.failures += 1;
        for step in self.steps.iter_mut().filter(|step| step.state == StepState::Planned) {
            step.state = StepState::Skipped;
        }
        let view = View::of_job(self);
        if let Some(queue) = &self.definition.on_failure {
            let id =
                Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("failure {} of job {}", self.failures, self.id).as_bytes());
            // Maps with text keys and texts that were JSON before: writing them cannot fail.
            let body = serde_json::to_vec(&Summary(&view)).unwrap_or_default();
            out.step.advance.tasks.push(NewTask {
                queue: queue.clone(),
                id: id.to_string(),
                body,
                ..NewTask::default()
            });
        }
        out.step.ended.push(view);
    }

    /// Ends what is under way: nothing of it counts any more, nor of what failed.
    pub(super) fn stop(&mut self, out: &mut Out) {
        for step in &mut self.steps {
            match step.state {
                StepState::Waiting | StepState::Running => {
                    step.state = StepState::Cancelled;
                    step.ended_at = Some(out.now);
                }
                StepState::Planned => step.state = StepState::Skipped,
                StepState::Done => continue,
                StepState::Failed | StepState::Cancelled | StepState::Skipped => {}
            }
            (step.retrying, step.snoozed) = (None, None);
            out.void(step.round.take());
        }
    }

    fn begin_step(&mut self, place: usize, out: &mut Out) {
        let step = &self.definition.steps[place];
        out.info(format!("Job {}: step {} begins", self.id, step.name));
        let round = out.id();
        let tasks = self.tasks_of(place, round, &out.application);
        let record = &mut self.steps[place];
        record.reset();
        record.began_at = Some(out.now);
        match tasks {
            Ok(tasks) => {
                record.ever_begun = true;
                record.wiped = false;
                record.round = Some(round);
                record.state = StepState::Waiting;
                record.members = Members::of(round, tasks.len() as u32);
                out.step.advance.tasks.extend(tasks);
                if record.members.known == 0 {
                    self.step_done(place, out);
                }
            }
            Err(error) => self.break_step(place, error, out),
        }
    }

    /// The tasks that a step begins with.
    fn tasks_of(&self, place: usize, round: Uuid, application: &str) -> Result<Vec<NewTask>, String> {
        let step = &self.definition.steps[place];
        let mut first = NewTask {
            queue: step.queue.clone(),
            id: round.to_string(),
            membership: Some(Box::new(Membership {
                application: application.to_owned(),
                job: self.id.clone(),
                pipeline: self.definition.name.clone(),
                key: self.key.clone(),
                step: step.name.clone(),
                queue: step.queue.clone(),
                each: step.each.clone(),
                round,
                feeder: round,
                index: 0,
                wipe: false,
                inputs: None,
            })),
            ..NewTask::default()
        };
        let elements = match &step.for_each {
            None => {
                first.body = self.payload.as_str().as_bytes().to_vec();
                if let Some(membership) = &mut first.membership {
                    membership.inputs = inputs::of_needs(self, place)?;
                }
                return Ok(vec![first]);
            }
            Some(ForEach::List(list)) => Elements::Written(list),
            Some(ForEach::Result { step, path }) => inputs::elements(self, *step, path)?,
        };
        if elements.count() as u64 > MOST {
            return Err(format!("for_each has {} elements, more than {MOST}", elements.count()));
        }
        first.queue.clone_from(&step.each);
        let task = |(index, element): (usize, &str)| {
            let mut task = first.clone();
            task.id = Uuid::new_v5(&round, &(index as u32).to_le_bytes()).to_string();
            task.body = element.as_bytes().to_vec();
            if let Some(membership) = &mut task.membership {
                membership.index = index as u32;
            }
            task
        };
        Ok(elements.texts().enumerate().map(task).collect())
    }

    /// A step is judged anew, after its members have changed.
    pub(super) fn judge_step(&mut self, place: usize, out: &mut Out) {
        let record = &mut self.steps[place];
        // Late ends of a step that is done change its numbers, and nothing that followed from it.
        if !record.may_go_on() {
            return;
        }
        let members = &record.members;
        if !members.all_ended() {
            record.state = StepState::Running;
            record.ended_at = None;
        } else if self.definition.steps[place].allow_failed.allows(members.failed, members.known) {
            self.step_done(place, out);
        } else if record.state != StepState::Failed {
            self.step_failed(place, out);
        }
    }

    fn step_done(&mut self, place: usize, out: &mut Out) {
        let (name, record) = (&self.definition.steps[place].name, &mut self.steps[place]);
        record.state = StepState::Done;
        record.asked = false;
        record.ended_at = Some(out.now);
        (record.retrying, record.snoozed) = (None, None);
        if record.members.failed == 0 {
            (record.error, record.reason) = (None, None);
        }
        let (tasks, failed) = (counted(record.members.known, "task"), record.members.failed);
        let time = seconds(record.began_at, out.now);
        out.info(format!("Job {}: step {name} is done: {tasks}, {failed} failed, in {time}", self.id));
    }

    fn step_failed(&mut self, place: usize, out: &mut Out) {
        let (name, record) = (&self.definition.steps[place].name, &mut self.steps[place]);
        record.state = StepState::Failed;
        record.asked = false;
        record.ended_at = Some(out.now);
        (record.retrying, record.snoozed) = (None, None);
        let why = told(record.reason.as_ref(), record.error.as_ref());
        out.warning(format!("Job {}: step {name} failed: {why}", self.id));
    }

    /// A step fails by itself: nothing of its round counts any more.
    pub(super) fn break_step(&mut self, place: usize, error: String, out: &mut Out) {
        let record = &mut self.steps[place];
        out.void(record.round.take());
        record.reason = Some("failed".to_owned());
        record.error = Some(error);
        self.step_failed(place, out);
    }

    /// It has failed, and goes on: nothing of it is failed any more. `holder`: another job that has its key.
    pub(super) fn heal(&mut self, holder: Option<&str>, out: &mut Out) {
        let is_whole = !self.steps.iter().any(|step| step.state == StepState::Failed);
        if self.state != JobState::Failed || self.wipe.is_some() || !is_whole {
            return;
        }
        if let Some(holder) = holder {
            let error = format!("what failed is done now, but its key is held by job {holder}");
            if self.error.as_ref() != Some(&error) {
                out.warning(format!("Job {} of {} does not go on: {error}", self.id, self.place()));
                self.error = Some(error);
            }
            return;
        }
        self.unskip();
        out.info(format!("Job {} of {} goes on", self.id, self.place()));
        self.run(out);
    }

    /// What was not begun because the job ended can begin.
    pub(super) fn unskip(&mut self) {
        let ended = |state| matches!(state, StepState::Skipped | StepState::Cancelled);
        for step in self.steps.iter_mut().filter(|step| ended(step.state)) {
            step.reset();
        }
    }

    /// Whether its time is over.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Its time is over: that of a job that runs, or that for which what a job left is kept.
    pub(super) fn time_is_over(&mut self, out: &mut Out) {
        if self.state == JobState::Running {
            self.stop(out);
            self.fail("timeout".to_owned(), out);
        } else if self.is_wiped_later() {
            self.stop(out);
            self.wipe_at_end(out);
        } else {
            self.stop(out);
            self.closed = true;
        }
    }

    /// What a step's first task gave is the step's.
    pub(super) fn give(&mut self, place: usize, result: Option<JsonText>) {
        if self.definition.steps[place].for_each.is_none() {
            self.steps[place].result = result;
        }
    }
}

/// `REASON: ERROR`.
fn told(reason: Option<&String>, error: Option<&String>) -> String {
    let (reason, error) = (reason.map_or("failed", String::as_str), error.map_or("", String::as_str));
    if error.is_empty() { reason.to_owned() } else { format!("{reason}: {error}") }
}
