//! A job goes on: steps begin, are done, fail; and with them the job.

use super::{
    inputs::{self, Elements},
    members::{MOST, Members},
    out::{Out, StepDone, seconds},
    state::Job,
    view::{StepState, Summary, View, Wiped},
};
use crate::{
    clock::Timestamp,
    jobs::{definition::ForEach, record::JobState},
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
        self.count_time_anew(out.now);
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
        let ended_at = out.moment(self.running_since);
        self.ended_at = Some(ended_at);
        self.count_time_anew(out.now);
        out.info(format!("Job {} of {} is done in {}", self.id, self.place(), seconds(self.began_at, ended_at)));
        if !self.is_wiped_later() || !self.has_to_wipe(false) {
            self.wipe_at_end(out);
        }
        out.step.ended.push(self.end_told());
    }

    /// The job is failed: nothing of it begins any more. What failed can be done again until what it left is wiped. Where some of it
    /// was done again and nothing has failed since, that is nothing new.
    pub(super) fn fail(&mut self, error: String, out: &mut Out) {
        out.warning(format!("Job {} of {} failed: {error}", self.id, self.place()));
        self.state = JobState::Failed;
        self.ended_at = Some(out.moment(self.running_since));
        self.count_time_anew(out.now);
        self.error = Some(error);
        self.failures += 1;
        for step in self.steps.iter_mut().filter(|step| step.state == StepState::Planned) {
            step.state = StepState::Skipped;
        }
        let is_news = !std::mem::replace(&mut self.is_told, true);
        if let Some(queue) = self.definition.on_failure.as_ref().filter(|_| is_news) {
            let id =
                Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("failure {} of job {}", self.failures, self.id).as_bytes());
            // Maps with text keys and texts that were JSON before: writing them cannot fail.
            let body = serde_json::to_vec(&Summary(&View::of_job(self))).unwrap_or_default();
            out.step.advance.tasks.push(NewTask {
                queue: queue.clone(),
                id: id.to_string(),
                body,
                ..NewTask::default()
            });
        }
        out.step.ended.push(self.end_told());
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
            step.void(out);
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
        let ended_at = out.moment(record.began_at);
        record.ended_at = Some(ended_at);
        (record.retrying, record.snoozed) = (None, None);
        if record.members.failed == 0 {
            (record.error, record.reason) = (None, None);
        }
        let (tasks, failed) = (counted(record.members.known, "task"), record.members.failed);
        let time = seconds(record.began_at, ended_at);
        let took = ended_at.remaining(record.began_at.unwrap_or(ended_at));
        out.step.steps_done.push(StepDone { pipeline: self.definition.name.clone(), step: name.clone(), took });
        out.info(format!("Job {}: step {name} is done: {tasks}, {failed} failed, in {time}", self.id));
    }

    fn step_failed(&mut self, place: usize, out: &mut Out) {
        let (name, record) = (&self.definition.steps[place].name, &mut self.steps[place]);
        record.state = StepState::Failed;
        record.asked = false;
        record.ended_at = Some(out.moment(record.began_at));
        (record.retrying, record.snoozed) = (None, None);
        let why = told(record.reason.as_ref(), record.error.as_ref());
        out.warning(format!("Job {}: step {name} failed: {why}", self.id));
    }

    /// A step fails by itself: nothing of its round counts any more.
    pub(super) fn break_step(&mut self, place: usize, error: String, out: &mut Out) {
        let record = &mut self.steps[place];
        record.void(out);
        self.is_told = false;
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
        // With nothing left to begin it needs no key; what it left is wiped when it can have that.
        let is_done = self.steps.iter().all(|step| step.state == StepState::Done);
        if let Some(holder) = holder.filter(|_| !is_done) {
            let error = format!("what failed is done now, but its key is held by job {holder}");
            if self.error.as_ref() != Some(&error) {
                out.warning(format!("Job {} of {} does not go on: {error}", self.id, self.place()));
                self.error = Some(error);
            }
            return;
        }
        self.waits_for_key = holder.is_some();
        self.unskip(out);
        out.info(format!("Job {} of {} goes on", self.id, self.place()));
        self.run(out);
    }

    /// What was not begun because the job ended can begin: these steps.
    pub(super) fn unskip(&mut self, out: &mut Out) -> Vec<usize> {
        let ended = |state| matches!(state, StepState::Skipped | StepState::Cancelled);
        let steps: Vec<usize> = (0..self.steps.len()).filter(|step| ended(self.steps[*step].state)).collect();
        for step in &steps {
            self.steps[*step].redo(&self.definition.steps[*step], out);
        }
        steps
    }

    /// Whether its time is over.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Its time is over: that of a job that runs, or that for which what a job left is kept.
    pub(super) fn time_is_over(&mut self, out: &mut Out) {
        if self.state == JobState::Running {
            self.stop(out);
            self.is_told = false;
            self.fail("timeout".to_owned(), out);
        } else if self.is_wiped_later() {
            self.stop(out);
            self.wipe_at_end(out);
        } else {
            self.stop(out);
            self.closed = true;
            let line = format!("Job {} of {} ended so long ago that it is forgotten", self.id, self.place());
            match self.wiped {
                Wiped::Failed => out.warning(format!("{line}; what it left is not wiped")),
                _ => out.info(line),
            }
        }
    }
}

/// Why something failed: `REASON: ERROR`. A reason that only says that it did is left out where there is an error.
pub(super) fn told(reason: Option<&String>, error: Option<&String>) -> String {
    let (reason, error) = (reason.map_or("failed", String::as_str), error.map_or("", String::as_str));
    match reason {
        _ if error.is_empty() => reason.to_owned(),
        "error" | "failed" => error.to_owned(),
        _ => format!("{reason}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{Bench, chain, of};
    use crate::{
        clock::Timestamp,
        jobs::{
            definition::{ForEach, Pipeline, Step, Tolerance},
            order::{Scope, Wanted},
        },
        json_text::JsonText,
    };

    fn list(texts: &[&str]) -> ForEach {
        ForEach::List(texts.iter().map(|text| JsonText::parse(text).unwrap()).collect())
    }

    #[test]
    fn a_step_without_tasks_is_done_at_once() {
        let mut pipeline = chain("p", &["a", "b", "c"]);
        pipeline.steps[0].for_each = Some(list(&[]));
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        assert_eq!(bench.states("j"), "running a:done b:waiting c:planned");
        // A splitter without items.
        bench.done("b", "");
        assert_eq!(bench.states("j"), "running a:done b:done c:waiting");
        let mut empty = chain("e", &["a"]);
        empty.steps[0].for_each = Some(list(&[]));
        bench.reload(vec![empty]);
        bench.start("e", "k", "{}");
        assert_eq!(bench.states("k"), "done a:done");
    }

    #[test]
    fn a_step_begins_with_a_task_for_each_element() {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.steps[0].for_each = Some(list(&["1e400", "{\"x\": 1}"]));
        pipeline.steps[1].for_each = Some(ForEach::Result { step: 0, path: Vec::new() });
        let mut bench = Bench::new(vec![pipeline.clone()]);
        bench.start("p", "j", "{}");
        let tasks = [bench.take("items-a"), bench.take("items-a")];
        assert_eq!((tasks[0].body.as_slice(), tasks[1].body.as_slice()), (&b"1e400"[..], &b"{\"x\": 1}"[..]));
        assert_ne!(tasks[0].id, tasks[1].id);
        assert!(
            of(&tasks[1]).feeder == of(&tasks[1]).round && of(&tasks[1]).index == 1 && of(&tasks[1]).inputs.is_none()
        );
        let (end, _) = bench.done_with(&tasks[0], 0, "[1]");
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "running a:running b:planned");
        let (end, _) = bench.done_with(&tasks[1], 0, "[1]");
        bench.fold(vec![end]);
        let error = "step b failed: for_each wants a list at inputs.a, and there is none in the result of step a";
        assert_eq!(
            (bench.states("j").as_str(), bench.view("j").error.as_deref()),
            ("failed a:done b:failed", Some(error))
        );

        pipeline.steps[0].for_each = None;
        pipeline.steps[1].for_each = Some(ForEach::Result { step: 0, path: vec!["of".to_owned(), "years".to_owned()] });
        bench.reload(vec![pipeline]);
        bench.tasks.clear();
        bench.start("p", "k", "{}");
        bench.done("a", r#"{"of":{"years":[2001, "x"]}}"#);
        assert_eq!(bench.take("items-b").body, b"2001");
        assert_eq!(bench.take("items-b").body, b"\"x\"");
    }

    #[test]
    fn what_a_step_is_given_is_bounded() {
        let mut steps = vec![Step::new("first", "first", vec![]), Step::new("second", "second", vec![])];
        steps.push(Step::new("third", "third", vec![0, 1]));
        let mut bench = Bench::new(vec![Pipeline::new("p", steps)]);
        bench.start("p", "j", "{}");
        let long = format!("\"{}\"", "x".repeat(32_766));
        bench.done("first", &long);
        bench.done("second", &long);
        assert_eq!(bench.states("j"), "failed first:done second:done third:failed");
        let error = bench.view("j").error.unwrap();
        assert!(error.contains("what first, second gave has 65") && error.contains("put it into a file"), "{error}");
    }

    #[test]
    fn when_a_step_failed_none_begins_and_what_is_under_way_goes_on() {
        let mut steps = vec![Step::new("a", "a", vec![]), Step::new("b", "b", vec![]), Step::new("c", "c", vec![1])];
        steps.push(Step::new("d", "d", vec![0]));
        let mut bench = Bench::new(vec![Pipeline::new("p", steps)]);
        bench.start("p", "j", "{}");
        let task = bench.take("a");
        bench.failed(&task);
        assert_eq!(bench.states("j"), "running a:failed b:waiting c:planned d:planned");
        bench.done("b", "");
        assert_eq!(bench.states("j"), "failed a:failed b:done c:skipped d:skipped");
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "running a:done b:done c:waiting d:waiting");
    }

    #[test]
    fn a_job_has_only_so_much_time() {
        let mut pipeline = chain("p", &["a", "b", "c"]);
        pipeline.timeout = Some(Duration::from_mins(1));
        pipeline.on_failure = Some("notices".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        assert_eq!(bench.ledger.next_deadline(), Some(bench.now.plus(Duration::from_mins(1))));
        bench.done("a", "");
        let task = bench.take("b");
        bench.pass(59_999);
        assert_eq!(bench.states("j"), "running a:done b:waiting c:planned");
        bench.pass(1);
        assert_eq!(bench.states("j"), "failed a:done b:cancelled c:skipped");
        assert_eq!(bench.last.void, [of(&task).round]);
        assert_eq!(bench.view("j").error.as_deref(), Some("timeout"));
        assert_eq!((bench.take("notices").queue.as_str(), bench.said("Job j of p failed: timeout")), ("notices", 1));
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "failed a:done b:cancelled c:skipped");
    }

    #[test]
    fn the_time_of_a_frozen_job_stands_still() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.timeout = Some(Duration::from_mins(1));
        pipeline.wipe_failed_after = Some(Duration::from_mins(2));
        pipeline.steps[0].wipe = Some("wipe".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        let freeze = || Wanted::Freeze(Scope::Job("j".to_owned()));
        let resume = || Wanted::Resume(Scope::Job("j".to_owned()));
        bench.pass(30_000);
        bench.order(freeze());
        bench.pass(86_400_000);
        bench.take_over();
        assert_eq!(
            (bench.states("j").as_str(), bench.ledger.next_deadline()),
            ("running a:waiting", Some(Timestamp(0)))
        );
        bench.pass(0);
        assert_eq!(bench.ledger.next_deadline(), None);
        bench.order(resume());
        bench.pass(29_999);
        assert_eq!(bench.states("j"), "running a:waiting");
        bench.pass(1);
        assert_eq!(bench.view("j").error.as_deref(), Some("timeout"));
        // The same of what wipes it.
        bench.pass(60_000);
        bench.order(freeze());
        bench.pass(86_400_000);
        bench.order(resume());
        bench.pass(59_999);
        assert!(bench.tasks.iter().all(|task| task.queue != "wipe"));
        bench.pass(1);
        let task = bench.take("wipe");
        bench.failed(&task);
        bench.pass(31 * 86_400_000);
        assert_eq!(bench.said("Job j of p ended so long ago that it is forgotten; what it left is not wiped"), 1);
    }

    #[test]
    fn a_step_takes_as_long_as_its_tasks_however_late_a_coordinator_hears_of_them() {
        let mut bench = Bench::new(vec![chain("p", &["a", "b"])]);
        bench.start("p", "j", "{}");
        let task = bench.take("a");
        bench.now.0 += 2_000;
        let (end, _) = bench.done_with(&task, 0, "");
        bench.pass(3_600_000);
        bench.fold(vec![end]);
        let step = &bench.view("j").steps[0];
        assert_eq!(step.ended_at.unwrap().0 - step.began_at.unwrap().0, 2_000);
        assert_eq!(bench.said("step a is done: 1 task, 0 failed, in 2 s"), 1);
        // A clock that is ahead, or behind, is not believed.
        let task = bench.take("b");
        let now = bench.now;
        bench.now.0 -= 7_200_000;
        let (end, _) = bench.done_with(&task, 0, "");
        bench.now = now;
        bench.pass(1_000);
        bench.fold(vec![end]);
        let step = &bench.view("j").steps[1];
        assert_eq!(step.ended_at, step.began_at);
    }

    #[test]
    fn a_job_whose_time_is_over_is_not_healed_by_a_task_that_was_allowed_to_fail() {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.timeout = Some(Duration::from_mins(1));
        pipeline.steps[0].allow_failed = Tolerance::All;
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        let task = bench.take("a");
        bench.failed(&task);
        assert_eq!(bench.states("j"), "running a:done b:waiting");
        bench.pass(60_000);
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "failed a:done b:cancelled");
        assert_eq!((bench.view("j").error.as_deref(), bench.view("j").tasks.done), (Some("timeout"), 1));
    }

    #[test]
    fn a_clock_that_is_set_back_ends_nothing_early_and_changes_no_order() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.timeout = Some(Duration::from_mins(1));
        pipeline.max_running = Some(1);
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "first", "{}");
        bench.start("p", "second", "{}");
        bench.pass(-3_600_000);
        bench.start("p", "third", "{}");
        bench.pass(59_000);
        assert_eq!(bench.states("first"), "running a:waiting");
        bench.done("a", "");
        assert_eq!(
            (bench.states("second").as_str(), bench.states("third").as_str()),
            ("running a:waiting", "planned a:planned")
        );
        bench.pass(59_000);
        assert_eq!(bench.states("second"), "running a:waiting");
        assert!(bench.lines.iter().any(|(_, line)| line == "Job first of p is done in 0 s"));
    }

    #[test]
    fn a_job_that_failed_is_closed_when_time_has_passed() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.wipe_failed_after = None;
        pipeline.remember = Duration::from_secs(100);
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        let task = bench.take("a");
        bench.failed(&task);
        bench.pass(99_999);
        assert!(bench.stored["j"].open);
        bench.pass(1);
        assert!(!bench.stored["j"].open && bench.last.void == [of(&task).round]);
        assert_eq!(bench.ledger.next_deadline(), None);
    }

    #[test]
    fn the_ids_of_two_coordinators_differ() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        let first = bench.ledger.fold(bench.now, Vec::new());
        assert!(first.is_empty());
        bench.start("p", "j", "{}");
        let round = of(&bench.take("a")).round;
        bench.take_over();
        bench.start("p", "k", "{}");
        assert_ne!(of(&bench.take("a")).round, round);
        assert!(matches!(bench.order(Wanted::Cancel { job: "j".to_owned() }), crate::jobs::order::Answer::Done { .. }));
    }
}
