//! The core's chapter on its lines of the log: the name before each, and the queue, slot, process and task that it is about. A line
//! below the log level is never made.

use std::sync::Arc;

use super::{Core, event::Action, state::slot::Slot};
use crate::{
    logging::{Level, LogContext},
    task::Task,
};

impl Core {
    /// Logs in the master's name.
    pub(super) fn log(&mut self, level: Level, message: impl FnOnce() -> String) {
        if level <= self.plan.log_level {
            let name = Arc::clone(&self.master);
            let about = self.about(None);
            self.actions.push(Action::Log { level, name, message: message(), about });
        }
    }

    /// What a line is about, where the log's form says so.
    pub(super) fn about(&self, slot: Option<usize>) -> Option<Box<LogContext>> {
        if !self.plan.structured || (slot.is_none() && self.subject.is_none()) {
            return None;
        }
        let here = slot.map(|slot| &self.slots[slot]);
        let subject = self.subject.clone().unwrap_or_default();
        Some(Box::new(LogContext {
            queue: here.map(|here| self.pools[here.queue].name().to_owned()).unwrap_or_default(),
            slot: here.map(|here| here.name.clone()),
            pid: here.and_then(Slot::process).and_then(|life| life.pid),
            ..*subject
        }))
    }

    /// From here to the end of the event, lines are about this task.
    pub(super) fn set_log_subject(&mut self, task: &Task) {
        self.subject = self.log_subject(task);
    }

    /// The same of a task of which only the id is known, and which is of no job.
    pub(super) fn set_log_subject_id(&mut self, id: &str) {
        self.subject =
            self.plan.structured.then(|| Box::new(LogContext { task: Some(id.to_owned()), ..LogContext::default() }));
    }

    /// What lines about a task say of it, where the log's form says what they are about.
    pub(super) fn log_subject(&self, task: &Task) -> Option<Box<LogContext>> {
        let place = task.membership.as_deref();
        self.plan.structured.then(|| {
            Box::new(LogContext {
                task: Some(task.id.clone()),
                job: place.map(|place| place.job.clone()),
                step: place.map(|place| place.step.clone()),
                ..LogContext::default()
            })
        })
    }

    /// Logs in a worker's name.
    pub(super) fn log_as(&mut self, slot: usize, level: Level, message: impl FnOnce() -> String) {
        if level <= self.plan.log_level {
            let name = Arc::clone(&self.slots[slot].log_name);
            let about = self.about(Some(slot));
            self.actions.push(Action::Log { level, name, message: message(), about });
        }
    }
}
