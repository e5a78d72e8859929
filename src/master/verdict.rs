//! What becomes of a task: from a worker's outcome or death to the settlement. Pure rules, one place.

use std::time::Duration;

use uuid::Uuid;

use super::{
    event::{Ended, QueuePlan},
    slot::Doom,
};
use crate::{
    clock::Timestamp,
    outcome::{FollowUp, Outcome},
    retry::Next,
    task::{Failure, NewTask, Reason, Settlement, Task},
};

/// Why a task is not to be run at all.
pub(crate) fn objection(task: &Task, max_deliveries: u32, wall: Timestamp) -> Option<(Reason, String)> {
    if task.expires_at.is_some_and(|at| at <= wall) {
        return Some((Reason::Expired, "it was not run before its expiry".to_owned()));
    }
    let times = task.deliveries;
    (times >= max_deliveries).then(|| (Reason::Deliveries, format!("delivered {times} times without any outcome")))
}

/// The circumstances of a run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) task: &'a Task,
    pub(crate) plan: &'a QueuePlan,
    pub(crate) host: &'a str,
    pub(crate) pid: Option<u32>,
    pub(crate) wall: Timestamp,
    /// How long it was in the worker's hands; `None` if it was not run.
    pub(crate) in_hand: Option<Duration>,
    /// Draws the jitter, in 0..1.
    pub(crate) dice: f64,
}

impl Run<'_> {
    /// The settlement after what the worker said.
    pub(crate) fn told(&self, outcome: Outcome) -> Settlement {
        match outcome {
            Outcome::Done { submit } => Settlement::Done { submit: follow_ups(&self.task.id, submit) },
            Outcome::Error { error, detail } => self.retry_or_dead(self.failure(Reason::Error, error, detail), None),
            Outcome::Retry { error, delay } => {
                let error = if error.is_empty() { "the worker asked for a retry".to_owned() } else { error };
                self.retry_or_dead(self.failure(Reason::Error, error, String::new()), delay)
            }
            Outcome::Snooze { delay } => Settlement::Snooze { after: delay },
            Outcome::Failed { error, detail } => {
                Settlement::Dead(Box::new(self.failure(Reason::Failed, error, detail)))
            }
            Outcome::Malformed { error } => {
                Settlement::Dead(Box::new(self.failure(Reason::Malformed, error, String::new())))
            }
        }
    }

    /// The settlement after what a process of its own said by its end, with the evidence.
    pub(super) fn ended(&self, outcome: Outcome, ended: &Ended) -> Settlement {
        let mut settlement = self.told(outcome);
        if let Settlement::Retry { failure, .. } | Settlement::Dead(failure) = &mut settlement {
            prove(failure, ended);
        }
        settlement
    }

    /// The settlement of a task that was not run, because it cannot or must not be.
    pub(crate) fn refused(&self, reason: Reason, error: String) -> Settlement {
        Settlement::Dead(Box::new(self.failure(reason, error, String::new())))
    }

    /// The settlement after the worker's death. `together`: how many tasks the process held.
    pub(super) fn died(&self, doom: Option<&Doom>, ended: &Ended, together: usize) -> Settlement {
        let (reason, mut error) = match doom {
            Some(Doom::Stop) => return Settlement::Release,
            Some(Doom::TimeLimit { id }) if *id == self.task.id => {
                let limit = self.plan.settings.timeout.unwrap_or_default();
                (Reason::Timeout, format!("the task ran into its time limit of {} s", limit.as_secs_f64()))
            }
            Some(Doom::TimeLimit { id }) => {
                (Reason::Crash, format!("the worker was killed at the time limit of task {id}"))
            }
            Some(Doom::Cancelled { id }) if *id == self.task.id => {
                return Settlement::Dead(Box::new(self.failure(
                    Reason::Cancelled,
                    "a person cancelled it".to_owned(),
                    String::new(),
                )));
            }
            Some(Doom::Cancelled { id }) => {
                (Reason::Crash, format!("the worker was stopped because task {id} was cancelled"))
            }
            Some(Doom::Fault(fault)) => (Reason::Crash, format!("protocol fault: {fault}")),
            Some(Doom::StartLimit) | None => (Reason::Crash, format!("the worker died: {}", ended.exit)),
        };
        if ended.oom == Some(true) {
            error.push_str(", out of memory");
        }
        if together > 1 {
            error = format!("{error}; one of {together} in this process");
        }
        let mut failure = self.failure(reason, error, String::new());
        prove(&mut failure, ended);
        self.retry_or_dead(failure, None)
    }

    fn retry_or_dead(&self, failure: Failure, asked: Option<Duration>) -> Settlement {
        let failure = Box::new(failure);
        match self.plan.settings.retry.after_failure(failure.attempts, asked, self.dice) {
            Next::RetryAfter(after) => Settlement::Retry { after, failure },
            Next::GiveUp => Settlement::Dead(failure),
        }
    }

    fn failure(&self, reason: Reason, error: String, detail: String) -> Failure {
        let ran = u32::from(self.in_hand.is_some());
        Failure {
            attempts: self.task.attempts.saturating_add(ran),
            kind: self.plan.settings.kind.clone(),
            host: self.host.to_owned(),
            pid: self.pid,
            in_hand_seconds: self.in_hand.map(|time| time.as_secs_f64()),
            detail,
            ..Failure::new(reason, error, self.wall)
        }
    }
}

/// Adds what is known of the process's end.
fn prove(failure: &mut Failure, ended: &Ended) {
    failure.exit = Some(ended.exit.clone());
    failure.oom = ended.oom;
    failure.max_rss_bytes = ended.max_rss_bytes;
    failure.cpu_seconds = ended.cpu_seconds;
    failure.output_tail.clone_from(&ended.output_tail);
}

/// Follow-up tasks with ids that a repeated run makes again: uuid v5 of (task id, index).
fn follow_ups(id: &str, submit: Vec<FollowUp>) -> Vec<NewTask> {
    if submit.is_empty() {
        return Vec::new();
    }
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"asynctask.follow-up");
    let parent = Uuid::new_v5(&namespace, id.as_bytes());
    let task = |(index, follow_up): (usize, FollowUp)| NewTask {
        queue: follow_up.queue,
        id: Uuid::new_v5(&parent, index.to_string().as_bytes()).to_string(),
        body: String::from(Box::<str>::from(follow_up.payload)).into_bytes(),
        delay: follow_up.delay,
        ..NewTask::default()
    };
    submit.into_iter().enumerate().map(task).collect()
}
