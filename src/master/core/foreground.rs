//! Decisions about the tasks of one queue that are run in this process, one at a time, without a [`Core`](super::Core): by the
//! drain and by `asynctask run`.
//!
//! The rules are those of the core: what is refused unrun, when the rate allows a start, and which settlement follows an outcome.
//! No more than that crosses the border of the core. Never I/O, and never a clock: time is an argument.

use std::{borrow::Cow, time::Duration};

use uuid::Uuid;

use super::{
    checked::within_limits,
    event::QueuePlan,
    state::window::Window,
    verdict::{self, Attempt},
};
use crate::{
    celery,
    clock::{Instant, Timestamp},
    config::Queue,
    outcome::Report,
    payload::Body,
    task::{Reason, Settlement, Task},
};

/// A queue whose tasks are run in this process.
#[derive(Debug)]
pub(crate) struct ForegroundQueue {
    plan: QueuePlan,
    rate: Option<Window>,
    application: String,
    host: String,
    pid: u32,
}

/// What is drawn for the end of a task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drawn {
    /// In 0..1: varies the pause before a retry.
    pub(crate) jitter: f64,
    /// Names this run of a task of a job; no other run ever has it.
    pub(crate) execution: Uuid,
}

impl ForegroundQueue {
    /// The queue of these settings, in this application. `host`, `pid`: where its tasks are run, for dead letters.
    pub(crate) fn new(settings: Queue, application: String, host: String, pid: u32) -> Self {
        let plan = QueuePlan { is_program: false, ..QueuePlan::of(settings) };
        Self { rate: plan.settings.rate.map(Window::new), plan, application, host, pid }
    }

    pub(crate) const fn settings(&self) -> &Queue {
        &self.plan.settings
    }

    /// The payload of a task that is to be run; else the settlement of one that cannot or must not be.
    pub(crate) fn payload<'a>(&self, task: &'a Task, wall: Timestamp) -> Result<Cow<'a, str>, Settlement> {
        let refused = |(reason, error)| self.refused(task, reason, error, wall);
        if let Some(objection) = verdict::objection(task, self.plan.settings.max_deliveries, wall) {
            return Err(refused(objection));
        }
        let payload = if self.plan.settings.protocol.is_celery() {
            celery::payload::json(Body::from(task)).map(Cow::Owned)
        } else {
            Body::from(task).json(self.plan.settings.unwrap)
        };
        payload.map_err(|error| refused((Reason::Malformed, error)))
    }

    /// When the queue's rate allows the next start; `None`: now.
    pub(crate) fn opens_at(&self, now: Instant) -> Option<Instant> {
        self.rate.as_ref()?.closed_until(now)
    }

    /// Counts a start.
    pub(crate) fn started(&mut self, now: Instant) {
        if let Some(rate) = &mut self.rate {
            rate.started(now);
        }
    }

    /// The settlement of a task that was run for `took`.
    pub(crate) fn settlement(
        &self,
        task: &Task,
        report: Report,
        took: Duration,
        wall: Timestamp,
        drawn: Drawn,
    ) -> Settlement {
        self.attempt(task, Some(took), wall, drawn).told(within_limits(report, task.membership.as_deref()))
    }

    /// The settlement of a task that is not run.
    pub(crate) fn refused(&self, task: &Task, reason: Reason, error: String, wall: Timestamp) -> Settlement {
        // A refusal is not retried: there is no pause to vary, and it is no execution.
        self.attempt(task, None, wall, Drawn::default()).refused(reason, error)
    }

    fn attempt<'a>(&'a self, task: &'a Task, in_hand: Option<Duration>, wall: Timestamp, drawn: Drawn) -> Attempt<'a> {
        Attempt {
            task,
            plan: &self.plan,
            host: &self.host,
            application: &self.application,
            execution: task.membership.is_some().then_some(drawn.execution),
            pid: Some(self.pid),
            wall,
            in_hand,
            jitter: drawn.jitter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    fn queue(settings: Queue) -> ForegroundQueue {
        ForegroundQueue::new(settings, String::new(), "here".to_owned(), 7)
    }

    fn reason(settlement: &Settlement) -> Reason {
        let Settlement::Dead(failure) = settlement else { panic!("{settlement:?} is no dead letter") };
        assert_eq!((failure.host.as_str(), failure.pid), ("here", Some(7)));
        failure.reason
    }

    #[test]
    fn what_must_not_be_run_is_refused_before_its_body_is_read() {
        let queue = queue(Queue { max_deliveries: 2, ..Queue::new("a", "k") });
        let (wall, body) = (Timestamp(1_000), b"1".to_vec());
        let task = |change: fn(&mut Task)| {
            let mut task = Task { body: body.clone(), ..Task::default() };
            change(&mut task);
            task
        };
        assert_eq!(queue.payload(&task(|_| {}), wall).unwrap(), "1");
        let refused = |change| reason(&queue.payload(&task(change), wall).unwrap_err());
        assert_eq!(refused(|task| task.body = b"{".to_vec()), Reason::Malformed);
        assert_eq!(refused(|task| (task.body, task.deliveries) = (b"{".to_vec(), 2)), Reason::Deliveries);
        assert_eq!(refused(|task| task.expires_at = Some(Timestamp(1_000))), Reason::Expired);
    }

    #[test]
    fn the_rate_says_when_the_next_task_may_begin() {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let rate = Rate { calls: 1, period: Duration::from_millis(200) };
        let mut queue = queue(Queue { rate: Some(rate), ..Queue::new("a", "k") });
        assert_eq!(queue.opens_at(at(5)), None);
        queue.started(at(5));
        assert_eq!((queue.opens_at(at(6)), queue.opens_at(at(205))), (Some(at(205)), None));
    }
}
