//! A job's state becomes what is shown of it.

use std::collections::BTreeSet;

use super::{
    state::{Job, StepRecord},
    view::{DeadTask, Retrying, Snoozed, StepState, StepView, Tasks, View, place},
};
use crate::{
    jobs::record::{JobState, Record},
    plural::are,
};

impl View {
    /// Reads a job as it is stored.
    ///
    /// # Errors
    /// What cannot be read, in one line.
    pub fn of(record: &Record) -> Result<Self, String> {
        Job::read(record).map(|job| Self::of_job(&job))
    }

    /// What is said of a job all of whose tasks that are under way are in queues other than these: "Job J of p waits for step s, whose
    /// queue q this run does not work".
    #[must_use]
    pub fn waits_for_others(&self, worked: &BTreeSet<String>) -> Option<String> {
        let is_under_way = |step: &&StepView| matches!(step.state, StepState::Waiting | StepState::Running);
        let steps = self.steps.iter().filter(is_under_way).filter_map(|step| {
            let defined = &self.definition.steps[self.definition.step(&step.name)?];
            let is_worked = worked.contains(&defined.queue) || worked.contains(&defined.each);
            Some((step, defined, is_worked))
        });
        let mut waited_for = None;
        for (step, defined, is_worked) in steps {
            if is_worked {
                return None;
            }
            waited_for.get_or_insert((&step.name, &defined.queue));
        }
        let (step, queue) = waited_for?;
        Some(format!(
            "Job {} of {} waits for step {step}, whose queue {queue} this run does not work",
            self.id,
            self.place()
        ))
    }

    pub(super) fn of_job(job: &Job) -> Self {
        let steps: Vec<StepView> = job.pairs().map(|(_, step, record)| step_view(&step.name, record)).collect();
        let mut tasks = Tasks::default();
        for step in &steps {
            tasks.done += step.tasks.done;
            tasks.failed += step.tasks.failed;
            tasks.known += step.tasks.known;
        }
        let of_wipe = || job.wipe.as_ref().and_then(|wipe| wipe.error.clone());
        Self {
            id: job.id.clone(),
            pipeline: job.definition.name.clone(),
            key: job.key.clone(),
            state: job.state,
            frozen: job.frozen,
            wiped: job.wiped,
            priority: job.priority,
            steps,
            tasks,
            made_at: job.made_at,
            began_at: job.began_at,
            ended_at: job.ended_at,
            heard_at: job.heard_at,
            error: job.error.clone().or_else(of_wipe),
            payload: job.payload.clone(),
            definition: job.definition.clone(),
        }
    }
}

fn step_view(name: &str, record: &StepRecord) -> StepView {
    let members = &record.members;
    let dead_letters = members.shown.iter().map(|failed| DeadTask {
        id: failed.dead_letter.clone(),
        index: failed.index,
        reason: failed.reason.clone(),
        error: failed.error.clone(),
    });
    let retrying = record.retrying.clone();
    StepView {
        name: name.to_owned(),
        state: record.state,
        round: record.round,
        tasks: Tasks { done: members.done, failed: members.failed, known: members.known },
        began_at: record.began_at,
        ended_at: record.ended_at,
        result: record.result.clone(),
        memo: record.memo.clone(),
        error: record.error.clone(),
        reason: record.reason.clone(),
        dead_letters: dead_letters.collect(),
        retrying: retrying.map(|(error, again_at)| Retrying { error, again_at }),
        snoozed: record.snoozed.map(|again_at| Snoozed { again_at }),
    }
}

/// What is said of a running job whose tasks are in no queue: "job J waits for step S: 3 tasks are in no queue".
#[must_use]
pub fn stranded(record: &Record) -> String {
    let job = match Job::read(record) {
        Ok(job) => job,
        Err(error) => return error,
    };
    let under_way = job.pairs().find(|(_, _, record)| record.is_under_way());
    let Some((_, step, StepRecord { members, .. })) = under_way else {
        return format!("job {} of {} runs, and no step of it has begun", job.id, job.place());
    };
    let tasks = are(members.known - members.done - members.failed, "task");
    format!("job {} waits for step {}: {tasks} in no queue", job.id, step.name)
}

/// What is said of a job that is left planned, beside other live jobs that wait in vain.
#[must_use]
pub fn left_planned(record: &Record, others: &[Record]) -> String {
    let job = Job::read(record).ok();
    let mut running =
        others.iter().filter(|other| other.state == JobState::Running && other.pipeline == record.pipeline);
    let cause = if job.as_ref().is_some_and(|job| job.waits_for_key) {
        let holder = running.find(|other| other.holds_key && other.key == record.key);
        holder.map_or_else(
            || "the job that has its key is frozen".to_owned(),
            |holder| format!("its key is held by job {}, which waits in vain", holder.id),
        )
    } else if job.is_some_and(|job| job.definition.max_running.is_some()) && running.next().is_some() {
        "as many jobs of its pipeline run as may, and wait in vain".to_owned()
    } else {
        "what it waits for is frozen".to_owned()
    };
    format!("Job {} of {} is left planned: {cause}", record.id, place(&record.pipeline, record.key.as_deref()))
}

/// The queues of the definition that a job has; none if it cannot be read.
#[must_use]
pub fn queues_of(record: &Record) -> Vec<String> {
    let queues = |job: Job| job.definition.queues().into_iter().map(str::to_owned).collect();
    Job::read(record).map(queues).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Bench, chain},
        *,
    };
    use crate::jobs::definition::Conflict;

    #[test]
    fn what_waits_for_a_key_says_whose() {
        let mut pipeline = chain("p", &["a"]);
        (pipeline.key, pipeline.conflict) = (Some("{payload}".to_owned()), Conflict::Wait);
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "7");
        bench.start("p", "k", "7");
        let stored: Vec<Record> = bench.stored.values().cloned().collect();
        let left = |others: &[Record]| left_planned(&stored[1], others);
        assert_eq!(left(&stored), "Job k of p/7 is left planned: its key is held by job j, which waits in vain");
        assert_eq!(left(&[]), "Job k of p/7 is left planned: the job that has its key is frozen");
    }

    #[test]
    fn what_waits_for_tasks_in_no_queue_is_told() {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.max_running = Some(1);
        pipeline.steps[1].wipe = Some("wipe".to_owned());
        pipeline.on_failure = Some("notices".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        bench.start("p", "k", "{}");
        assert_eq!(stranded(&bench.stored["j"]), "job j waits for step a: 1 task is in no queue");
        let stored: Vec<Record> = bench.stored.values().cloned().collect();
        let left = |others: &[Record]| left_planned(&stored[1], others);
        assert_eq!(
            left(&stored),
            "Job k of p is left planned: as many jobs of its pipeline run as may, and wait in vain"
        );
        assert_eq!(left(&stored[1..]), "Job k of p is left planned: what it waits for is frozen");
        let splitter = bench.take("a");
        let (end, _) = bench.done_with(&splitter, 3, "");
        bench.fold(vec![end]);
        assert_eq!(stranded(&bench.stored["j"]), "job j waits for step a: 3 tasks are in no queue");
        assert_eq!(queues_of(&bench.stored["j"]), ["a", "b", "items-a", "items-b", "notices", "wipe"]);
        let record = Record { content: "{}".to_owned(), ..bench.stored["j"].clone() };
        assert!(stranded(&record).contains("the state of job j cannot be read") && queues_of(&record).is_empty());
    }
}
