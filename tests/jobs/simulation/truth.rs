//! What really happened: which executions there were, and what each submitted. What the ledger says is held against it.

use std::collections::{HashMap, HashSet};

use asynctask::{
    jobs::{
        definition::{Pipeline, Tolerance},
        ledger::{StepState, StepView, View},
        record::{JobState, Record},
    },
    membership::Membership,
};
use serde_json::Value;
use uuid::Uuid;

/// Where a task came from: the round, or the execution that really submitted it, and its number.
pub(super) type Source = (Uuid, u32);

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Something waits for what never comes.
    Stuck(String),
    /// A step was done before its tasks were.
    Early(String),
    /// A step was done with what earlier rounds gave.
    Stale(String),
    /// Anything else.
    Wrong(String),
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Executions that came to a good end, by the task, and by the round that it belongs to.
    done: HashMap<(Uuid, Source), Vec<Uuid>>,
    /// How many tasks an execution submitted.
    submitted: HashMap<Uuid, u32>,
    /// What a round was begun with: inputs, and how many tasks.
    begun: HashMap<Uuid, (Option<String>, u32)>,
    /// Rounds that were seen done.
    judged: HashSet<Uuid>,
    /// Jobs of which steps were restarted alone: later ones stay done.
    pub(super) loose: HashSet<String>,
    /// Jobs that were done again, and by which orders.
    restarted: HashMap<String, HashSet<String>>,
    /// Rounds of which a task was begun or removed.
    touched: HashSet<Uuid>,
    /// The rounds of each step of a job.
    rounds: HashMap<(String, String), HashSet<Uuid>>,
    /// Jobs whose time was over.
    timed_out: HashSet<String>,
    /// Rounds that are one and the same to a mutant.
    pub(super) same: HashMap<Uuid, Uuid>,
    /// Steps of a job whose output was wiped, by an execution that came to a good end.
    wiped: HashSet<(String, String)>,
}

impl Truth {
    /// A task was begun with by the coordinator.
    pub(super) fn begins(&mut self, task: &Membership) {
        let inputs = task.inputs.as_ref().map(|inputs| inputs.as_str().to_owned());
        let round = self.begun.entry(task.round).or_insert((inputs, 0));
        round.1 = round.1.max(task.index + 1);
    }

    /// Something happens to a task.
    pub(super) fn touches(&mut self, task: &Membership) {
        self.touched.insert(task.round);
    }

    /// A job is done again because of an order, perhaps not for the first time.
    pub(super) fn restarts(&mut self, job: &str, order: &str) {
        self.restarted.entry(job.to_owned()).or_default().insert(order.to_owned());
    }

    /// A later job may have its id.
    pub(super) fn forgets(&mut self, job: &str) {
        self.rounds.retain(|(of, _), _| of != job);
    }

    /// An execution came to a good end.
    pub(super) fn executed(&mut self, task: &Membership, source: Source, execution: Uuid, submitted: u32) {
        if task.wipe {
            self.wiped.insert((task.job.clone(), task.step.clone()));
        }
        let source = (self.canonical(source.0), source.1);
        self.done.entry((self.canonical(task.round), source)).or_default().push(execution);
        self.submitted.insert(execution, submitted);
    }

    fn canonical(&self, id: Uuid) -> Uuid {
        self.same.get(&id).copied().unwrap_or(id)
    }

    /// Holds a stored job against what happened.
    pub(super) fn judge(&mut self, record: &Record) -> Result<(), Fault> {
        let view = View::of(record).map_err(Fault::Wrong)?;
        if self.timed_out.contains(&view.id) && !self.restarted.contains_key(&view.id) && view.state != JobState::Failed
        {
            return Err(Fault::Wrong(format!("job {} failed by its timeout, and is {:?}", view.id, view.state)));
        }
        if view.state == JobState::Failed && view.error.as_deref() == Some("timeout") {
            self.timed_out.insert(view.id.clone());
        }
        if !record.open && record.frozen {
            return Err(Fault::Wrong(format!("job {} is closed and frozen", view.id)));
        }
        for (place, step) in view.steps.iter().enumerate() {
            let tasks = step.tasks;
            if tasks.done + tasks.failed > tasks.known {
                return Err(Fault::Wrong(format!("{}: {tasks:?}", step.name)));
            }
            if let Some(round) = step.round {
                self.is_begun_as_often(&view.id, &step.name, round)?;
                if step.state == StepState::Running && !self.is_touched(round) {
                    return Err(Fault::Wrong(format!("{} runs, and no task of it has begun", step.name)));
                }
            }
            if matches!(step.state, StepState::Waiting | StepState::Running | StepState::Done) {
                self.is_fresh(&view, place)?;
            }
            if let Some(round) = step.round.filter(|round| step.state == StepState::Done && self.judged.insert(*round))
            {
                self.is_whole(&view.definition, place, step, round)?;
            }
        }
        Ok(())
    }

    /// A step begins once, and once more each time that somebody wants that.
    fn is_begun_as_often(&mut self, job: &str, step: &str, round: Uuid) -> Result<(), Fault> {
        let rounds = self.rounds.entry((job.to_owned(), step.to_owned())).or_default();
        let (is_new, begun) = (rounds.insert(round), rounds.len());
        let restarted = self.restarted.get(job).map_or(0, HashSet::len);
        if is_new && begun > restarted + 1 {
            return Err(Fault::Wrong(format!("{job}: step {step} began {begun} times, restarted {restarted} times")));
        }
        Ok(())
    }

    fn is_touched(&self, round: Uuid) -> bool {
        let is_same = |touched: &Uuid| self.canonical(*touched) == self.canonical(round);
        self.touched.contains(&round) || !self.same.is_empty() && self.touched.iter().any(is_same)
    }

    /// What a step needs is done, and is what it was begun with.
    fn is_fresh(&self, view: &View, place: usize) -> Result<(), Fault> {
        if self.loose.contains(&view.id) {
            return Ok(());
        }
        let (step, needs) = (&view.steps[place], &view.definition.steps[place].needs);
        let stale = |why: &str| Err(Fault::Stale(format!("job {}: step {} {why}", view.id, step.name)));
        if needs.iter().any(|need| view.steps[*need].state != StepState::Done) {
            return stale("began before what it needs was done");
        }
        let begun = step.round.and_then(|round| self.begun.get(&round));
        let Some((Some(inputs), _)) = begun.filter(|_| step.state == StepState::Done) else { return Ok(()) };
        let inputs: Value = serde_json::from_str(inputs).expect("inputs are JSON");
        for need in needs {
            let need = &view.steps[*need];
            let given = need
                .result
                .as_ref()
                .map_or(Value::Null, |result| serde_json::from_str(result.as_str()).expect("results are JSON"));
            if inputs[&need.name]["result"] != given {
                return stale("was done with what an earlier round gave");
            }
        }
        Ok(())
    }

    /// All that a step's tasks submitted was done, but for as many as failed.
    fn is_whole(&self, definition: &Pipeline, place: usize, step: &StepView, round: Uuid) -> Result<(), Fault> {
        let early = |why: String| Err(Fault::Early(format!("step {}: {why}", step.name)));
        let (round, allow_failed) = (self.canonical(round), definition.steps[place].allow_failed);
        let (tasks, is_list) = (step.tasks, definition.steps[place].for_each.is_some());
        let is_short = tasks.done + tasks.failed < tasks.known || (step.result.is_none() && !is_list);
        if allow_failed != Tolerance::default() && is_short {
            // It was done when a task of it had failed, which was done later.
            return Ok(());
        }
        let missing: u64 = if is_list {
            let count = self.begun.get(&round).map_or(0, |(_, count)| *count);
            (0..count).map(|index| self.missing(round, (round, index))).sum()
        } else {
            match step.result.as_ref().map(|result| serde_json::from_str::<Value>(result.as_str())) {
                Some(Ok(result)) => {
                    let execution = result["execution"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
                    let first = self.done.get(&(round, (round, 0)));
                    if !first.is_some_and(|executions| executions.contains(&execution)) {
                        return early("its first task is not done in this round".to_owned());
                    }
                    let most = 1 + self.most_of(round, execution);
                    if tasks.known > most {
                        let known = tasks.known;
                        return Err(Fault::Wrong(format!("step {}: {known} tasks, where {most} may be", step.name)));
                    }
                    self.missing_of(round, execution)
                }
                _ => return early("its first task is not done".to_owned()),
            }
        };
        if missing > tasks.failed {
            return early(format!("{missing} tasks are not done, and {} failed", tasks.failed));
        }
        Ok(())
    }

    fn missing_of(&self, round: Uuid, execution: Uuid) -> u64 {
        let submitted = self.submitted.get(&execution).copied().unwrap_or(0);
        (0..submitted).map(|index| self.missing(round, (execution, index))).sum()
    }

    /// How many tasks come of what an execution submitted, if of each the execution counts that submitted most.
    fn most_of(&self, round: Uuid, execution: Uuid) -> u64 {
        let most = |index| {
            let executions = self.done.get(&(round, (execution, index))).into_iter().flatten();
            1 + executions.map(|execution| self.most_of(round, *execution)).max().unwrap_or(0)
        };
        (0..self.submitted.get(&execution).copied().unwrap_or(0)).map(most).sum()
    }

    /// A task counts as one at most: if it failed, what an execution of it submitted that was never stored is of no one.
    fn missing(&self, round: Uuid, source: Source) -> u64 {
        let executions = self.done.get(&(round, source)).into_iter().flatten();
        executions.map(|execution| self.missing_of(round, *execution)).min().unwrap_or(1).min(1)
    }

    /// A job that says that it is wiped is.
    pub(super) fn is_wiped(&self, view: &View, step: &str) -> bool {
        self.wiped.contains(&(view.id.clone(), step.to_owned()))
    }
}
