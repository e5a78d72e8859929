//! What monitors hear of tasks: Celery's events, made only while somebody listens.

use std::time::Duration;

use super::super::{
    Core,
    event::Action,
    state::celery::{Lost, WorkedBy},
};
use crate::{
    celery::{
        event::{Received, TEXT_LIMIT, TaskEvent, What},
        message,
    },
    frames,
    outcome::Report,
    task::{Delivery, Reason, Task},
    text::cut,
};

/// SIGKILL, which ends a task in hand.
const KILLED_BY: i32 = 9;
/// Longest text of a traceback, in bytes.
const TRACEBACK_LIMIT: usize = 8 * TEXT_LIMIT;

impl Core {
    /// From now on events are made, or not.
    pub(super) fn tell_events(&mut self, wanted: bool) {
        if std::mem::replace(&mut self.celery.tells_events, wanted) == wanted {
            return;
        }
        let method = if wanted { "enable_events" } else { "disable_events" };
        self.tell_applications(&frames::celery::control(method, &serde_json::json!({}), None));
    }

    /// Sends a frame to each worker of a Celery application.
    pub(super) fn tell_applications(&mut self, frame: &[u8]) {
        let wants = |slot: &super::super::state::slot::Slot| {
            slot.process().filter(|life| life.wants_celery && life.takes_frames()).map(|life| life.id)
        };
        let workers: Vec<_> = self.slots.iter().filter_map(wants).collect();
        for worker in workers {
            if let Some(life) = self.slots[worker.slot].life_of(worker) {
                life.last_sent = None;
            }
            self.actions.push(Action::Send { worker, frame: frame.to_vec() });
        }
    }

    fn tell_event(&mut self, index: usize, task: &Task, what: impl FnOnce() -> What) {
        if self.celery.tells_events && self.pools[index].celery.is_some() {
            let event = TaskEvent { uuid: task.id.clone(), at: self.now.wall, what: what() };
            self.actions.push(Action::TaskEvent(Box::new(event)));
        }
    }

    /// A task came.
    pub(in crate::master::core) fn tell_received(&mut self, delivery: &Delivery) {
        self.tell_event(delivery.queue.0, &delivery.task, || What::Received(Box::new(received(&delivery.task))));
    }

    /// A worker begins a task.
    pub(super) fn tell_started(&mut self, slot: usize, delivery: &Delivery) {
        let pid = self.slots[slot].process().and_then(|life| life.pid).unwrap_or_default();
        self.tell_event(delivery.queue.0, &delivery.task, || What::Started { pid });
    }

    /// A worker has ended a task.
    pub(super) fn tell_reported(&mut self, delivery: &Delivery, outcome: &Report, took: Duration) {
        self.tell_event(delivery.queue.0, &delivery.task, || match outcome {
            Report::Done { given, .. } => {
                let given = given.as_deref();
                if let Some(raised) = given.and_then(|given| given.retried.as_ref()) {
                    What::Retried {
                        exception: cut(&raised.exception, TEXT_LIMIT).to_owned(),
                        traceback: cut(&raised.traceback, TRACEBACK_LIMIT).to_owned(),
                    }
                } else if let Some(raised) = given.and_then(|given| given.failure.as_ref()) {
                    failed(&raised.exception, &raised.traceback)
                } else {
                    let result = given.and_then(|given| given.result.as_deref()).map_or("", |result| result.get());
                    // A worker gives Python's text as a string; any other value is shown as it is.
                    let text = serde_json::from_str(result).unwrap_or_else(|_| result.to_owned());
                    What::Succeeded { result: cut(&text, TEXT_LIMIT).to_owned(), runtime: took.as_secs_f64() }
                }
            }
            Report::Error { error, detail, .. } => What::Retried {
                exception: cut(error, TEXT_LIMIT).to_owned(),
                traceback: cut(detail, TRACEBACK_LIMIT).to_owned(),
            },
            Report::Retry { error, .. } => {
                What::Retried { exception: cut(error, TEXT_LIMIT).to_owned(), traceback: String::new() }
            }
            Report::Snooze { .. } => What::Rejected { requeue: true },
            Report::DeadLetter { error, detail, .. } => failed(error, detail),
            Report::Malformed { error } => failed(error, ""),
        });
    }

    /// A task is a dead letter.
    pub(super) fn tell_lost_event(&mut self, index: usize, lost: &Lost) {
        let was_told = match self.pools[index].celery.as_deref().map(|celery| &celery.worked_by) {
            Some(WorkedBy::Application(_)) => lost.reported,
            // Its errors were told as such, which may have been tried again.
            _ => lost.reported && lost.reason != Reason::Error,
        };
        if was_told {
            return;
        }
        let was_run = lost.was_run;
        self.tell_event(index, &lost.task, || match lost.reason {
            Reason::Expired => What::Revoked { terminated: false, signum: None, expired: true },
            Reason::Cancelled => {
                What::Revoked { terminated: was_run, signum: was_run.then_some(KILLED_BY), expired: false }
            }
            _ => failed(&lost.error, &lost.detail),
        });
    }
}

fn failed(exception: &str, traceback: &str) -> What {
    What::Failed {
        exception: cut(exception, TEXT_LIMIT).to_owned(),
        traceback: cut(traceback, TRACEBACK_LIMIT).to_owned(),
    }
}

/// What a task says of itself, each text bounded.
fn received(task: &Task) -> Received {
    let message = message::read(&task.headers, task.properties.as_deref(), &task.body);
    let bounded = |text: Option<&str>| cut(text.unwrap_or_default(), TEXT_LIMIT).to_owned();
    let maybe = |text: Option<&str>| text.map(|text| cut(text, TEXT_LIMIT).to_owned());
    let header = |name: &str| task.headers.get(name).and_then(serde_json::Value::as_str);
    Received {
        name: bounded(message.name.as_deref()),
        args: bounded(message.argsrepr.as_deref()),
        kwargs: bounded(message.kwargsrepr.as_deref()),
        root_id: maybe(message.root_id.as_deref()),
        parent_id: maybe(message.parent_id.as_deref()),
        retries: message.retries,
        eta: maybe(header("eta")),
        expires: maybe(header("expires")),
    }
}
