//! The core's chapter on its lines of the log: the name before each, and the queue, slot, process and task that it is about. A line
//! below the log level is never made.

use std::sync::Arc;

use super::{Core, event::Action, state::slot::Slot};
use crate::logging::{Level, LogContext};

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
        Some(Box::new(LogContext {
            queue: here.map(|here| self.pools[here.queue].name().to_owned()).unwrap_or_default(),
            slot: here.map(|here| here.name.clone()),
            pid: here.and_then(Slot::process).and_then(|life| life.pid),
            task: self.subject.clone(),
        }))
    }

    /// From here to the end of the event, lines are about this task.
    pub(super) fn set_log_subject(&mut self, id: &str) {
        if self.plan.structured {
            self.subject = Some(id.to_owned());
        }
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
