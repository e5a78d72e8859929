//! Workers that are stopped and not ended (state T of `ps`: SIGSTOP, a debugger): reported in log and status, and left stopped.
//!
//! The core is not asked: a stopped worker keeps its task, and limits, pings and stops end it as they end any other.

use serde_json::Value;

use super::state::Shell;
use crate::{
    logging::{Level, MASTER},
    process,
};

impl Shell {
    /// Logs which workers were stopped or continued. Called after exited workers were reaped.
    pub(super) fn log_stopped(&mut self) {
        loop {
            let change = match process::next_stop() {
                Ok(Some(change)) => change,
                Ok(None) => return,
                Err(error) => {
                    self.logger.line(Level::Error, MASTER, &format!("cannot look for stopped workers: {error}"));
                    return;
                }
            };
            let pid = change.pid;
            let Some(worker) = self.pids.get(&pid).and_then(|id| self.workers.get(id.slot)?.as_ref()) else { continue };
            let text = match change.signal {
                Some(signal) => {
                    self.stopped.insert(pid);
                    format!(
                        "{} (pid {pid}) was stopped by {signal}, and does nothing until it gets SIGCONT",
                        worker.slot()
                    )
                }
                None if self.stopped.remove(&pid) => format!("{} (pid {pid}) goes on", worker.slot()),
                None => continue,
            };
            self.logger.line(Level::Warning, MASTER, &text);
        }
    }

    /// Marks the slots of stopped workers in a status.
    pub(super) fn add_stopped(&self, status: &mut Value) {
        if self.stopped.is_empty() {
            return;
        }
        let queues = status.get_mut("queues").and_then(Value::as_object_mut).into_iter().flatten();
        for slot in queues.flat_map(|(_, queue)| queue["slots"].as_array_mut().into_iter().flatten()) {
            let pid = slot["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            if pid.is_some_and(|pid| self.stopped.contains(&pid)) {
                slot["stopped"] = true.into();
            }
        }
    }
}
