//! What becomes of a task: from a worker's outcome or death to the settlement. Pure rules, one place.

use std::time::Duration;

use uuid::Uuid;

use super::{
    event::{Ended, QueuePlan},
    state::{in_flight::Withdrawn, slot::KillReason},
};
use crate::{
    clock::Timestamp,
    limits,
    outcome::{LONGEST_DELAY, Report},
    plural::counted,
    retry::Next,
    task::{Failure, Reason, Settlement, Task},
    text,
};

/// What a dead letter says that was made by hand.
pub(super) const CANCELLED: &str = "a person cancelled it";

/// Why a task is not to be run at all.
pub(super) fn objection(task: &Task, max_deliveries: u32, wall: Timestamp) -> Option<(Reason, String)> {
    if let Some(what) = &task.unreadable {
        return Some((Reason::Malformed, what.clone()));
    }
    if task.expires_at.is_some_and(|at| at <= wall) {
        return Some((Reason::Expired, "it was not run before its expiry".to_owned()));
    }
    let times = task.deliveries;
    (times >= max_deliveries)
        .then(|| (Reason::Deliveries, format!("delivered {} without any outcome", counted(times, "time"))))
}

/// An attempt at a task, for its verdict.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) task: &'a Task,
    pub(super) plan: &'a QueuePlan,
    pub(super) host: &'a str,
    /// Whose ledger is told of jobs that a task of none starts.
    pub(super) application: &'a str,
    /// Names this handing of a task of a job.
    pub(super) execution: Option<Uuid>,
    pub(super) pid: Option<u32>,
    pub(super) wall: Timestamp,
    /// How long it was in the worker's hands; `None` if it was not run.
    pub(super) in_hand: Option<Duration>,
    /// Draws the jitter, in 0..1.
    pub(super) jitter: f64,
}

impl Attempt<'_> {
    /// The settlement after what the worker said.
    pub(super) fn told(&self, outcome: Report) -> Settlement {
        match outcome {
            Report::Done { submit, given } => Settlement::Done { submit: self.submitted(submit, given) },
            Report::Error { error, detail, memo } => {
                self.retry_or_dead(Failure { memo, ..self.failure(Reason::Error, error, detail) }, None)
            }
            Report::Retry { error, delay, memo } => {
                let error = if error.is_empty() { "the worker asked for a retry".to_owned() } else { error };
                let delay = delay.map(|delay| delay.min(LONGEST_DELAY));
                self.retry_or_dead(Failure { memo, ..self.failure(Reason::Error, error, String::new()) }, delay)
            }
            Report::Snooze { delay, memo } => Settlement::Snooze { after: delay.min(LONGEST_DELAY), memo },
            Report::DeadLetter { error, detail, memo } => {
                Settlement::Dead(Box::new(Failure { memo, ..self.failure(Reason::Failed, error, detail) }))
            }
            Report::Malformed { error } => {
                Settlement::Dead(Box::new(self.failure(Reason::Malformed, error, String::new())))
            }
        }
    }

    /// The settlement after what a process of its own said by its end, with the evidence.
    pub(super) fn ended(&self, outcome: Report, ended: &Ended) -> Settlement {
        let mut settlement = self.told(outcome);
        if let Settlement::Retry { failure, .. } | Settlement::Dead(failure) = &mut settlement {
            attach_exit_evidence(failure, ended);
        }
        settlement
    }

    /// The settlement of a task that was not run, because it cannot or must not be.
    pub(super) fn refused(&self, reason: Reason, error: String) -> Settlement {
        Settlement::Dead(Box::new(self.failure(reason, error, String::new())))
    }

    /// The settlement of a task that was withdrawn while a worker had it.
    pub(super) fn withdrawn(&self, how: Withdrawn) -> Settlement {
        match how {
            Withdrawn::Cancelled => self.refused(Reason::Cancelled, CANCELLED.to_owned()),
            Withdrawn::Void => Settlement::Discard,
        }
    }

    /// The settlement after the worker's death. `together`: how many tasks the process held.
    pub(super) fn died(&self, reason: Option<&KillReason>, ended: &Ended, together: usize) -> Settlement {
        let (reason, mut error) = match reason {
            // Nothing in this process asked for its end: what is taken from it has used no attempt.
            Some(KillReason::Stop | KillReason::Cancelled | KillReason::Void) => return Settlement::Release,
            Some(KillReason::TimeLimit { id, limit }) if *id == self.task.id => {
                (Reason::Timeout, format!("the task ran into its time limit of {} s", limit.as_secs_f64()))
            }
            Some(KillReason::TimeLimit { id, .. }) => {
                (Reason::Crash, format!("the worker was killed at the time limit of task {id}"))
            }
            Some(KillReason::Fault(fault)) => (Reason::Crash, format!("protocol fault: {fault}")),
            Some(KillReason::StartLimit | KillReason::Silent) | None => {
                (Reason::Crash, format!("the worker died: {}", ended.exit))
            }
        };
        if ended.oom == Some(true) {
            error.push_str(", out of memory");
        }
        if together > 1 {
            error = format!("{error}; one of {together} in this process");
        }
        let mut failure = self.failure(reason, error, String::new());
        attach_exit_evidence(&mut failure, ended);
        self.retry_or_dead(failure, None)
    }

    fn retry_or_dead(&self, failure: Failure, asked: Option<Duration>) -> Settlement {
        let failure = Box::new(failure);
        match self.plan.settings.retry.after_failure(failure.attempts, asked, self.jitter) {
            Next::RetryAfter(after) => Settlement::Retry { after, failure },
            Next::GiveUp => Settlement::Dead(failure),
        }
    }

    fn failure(&self, reason: Reason, mut error: String, mut detail: String) -> Failure {
        text::bound(&mut error, limits::ERROR);
        text::bound(&mut detail, limits::DETAIL);
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
fn attach_exit_evidence(failure: &mut Failure, ended: &Ended) {
    failure.exit = Some(ended.exit.clone());
    failure.oom = ended.oom;
    failure.max_rss_bytes = ended.max_rss_bytes;
    failure.cpu_seconds = ended.cpu_seconds;
    failure.output_tail.clone_from(&ended.output_tail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Queue,
        outcome::{FollowUp, Target},
    };

    #[test]
    fn no_delay_of_a_worker_is_longer_than_a_year() {
        let (task, settings) = (Task::default(), Queue::new("foo", "kind"));
        let settings = Queue { retry: crate::retry::Policy { max_attempts: 2, ..settings.retry }, ..settings };
        let plan = QueuePlan { is_program: false, ..QueuePlan::of(settings) };
        let attempt = Attempt {
            task: &task,
            plan: &plan,
            host: "",
            application: "",
            execution: None,
            pid: None,
            wall: Timestamp(0),
            in_hand: Some(Duration::ZERO),
            jitter: 0.0,
        };
        let (error, delay, ever) = (String::new(), Duration::from_millis(7), Duration::from_millis(u64::MAX));
        let after = |outcome| match attempt.told(outcome) {
            Settlement::Retry { after, .. } | Settlement::Snooze { after, .. } => after,
            Settlement::Done { submit } => submit[0].delay,
            other => panic!("{other:?}"),
        };
        let payload = serde_json::value::RawValue::from_string("1".to_owned()).unwrap();
        let follow_up = |delay| FollowUp { target: Target::Queue("bar".to_owned()), payload: payload.clone(), delay };
        for (asked, given) in [(delay, delay), (ever, LONGEST_DELAY)] {
            assert_eq!(after(Report::Retry { error: error.clone(), delay: Some(asked), memo: None }), given);
            assert_eq!(after(Report::Snooze { delay: asked, memo: None }), given);
            assert_eq!(after(Report::Done { submit: vec![follow_up(asked)], given: None }), given);
        }
    }
}
