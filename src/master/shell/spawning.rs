//! Starting worker processes. On the main thread only: the kernel ties their lives to the thread that made them.

use std::{io, rc::Rc};

use super::{
    once_files::{OnceFiles, place_in_job},
    state::Shell,
    workers::{Process, Worker},
};
use crate::{
    exec_options::ExecOptions,
    logging::LogContext,
    master::{
        core::event::{Event, Once, WorkerId},
        queue_run::Launch,
    },
    process::{self, Environment, Mark, Program, reap::GroupSignal},
};

impl Shell {
    pub(super) fn spawn(&mut self, id: WorkerId, slot: String, launch: usize) {
        let mark = self.orphans.mark(id);
        let Launch { program, environment } = &self.launches[&launch];
        let context =
            LogContext { queue: environment.queue.clone(), slot: Some(slot.clone()), ..LogContext::default() };
        let environment = self.environment(slot, mark, environment);
        let oom_before = self.oom.count();
        let spawned = process::spawn(program, &environment);
        self.watch(id, spawned.map(Process::from), context, oom_before);
    }

    fn environment(&self, slot: String, mark: Option<Mark>, of_queue: &Environment) -> Environment {
        let log_level = self.log_level.map_or_else(|| of_queue.log_level.clone(), |level| level.to_string());
        Environment { slot, log_level, mark, ..of_queue.clone() }
    }

    pub(super) fn spawn_once(&mut self, id: WorkerId, slot: String, launch: usize, once: &Once) {
        let mark = self.orphans.mark(id);
        let Launch { program, environment } = &self.launches[&launch];
        let context = LogContext {
            queue: environment.queue.clone(),
            slot: Some(slot.clone()),
            pid: None,
            task: Some(once.id.clone()),
            job: once.job.as_ref().map(|place| place.job.clone()),
            step: once.job.as_ref().map(|place| place.step.clone()),
        };
        let mut environment = self.environment(slot, mark, environment);
        environment.pairs.extend([
            ("ASYNCTASK_TASK_ID".into(), once.id.clone().into()),
            ("ASYNCTASK_ATTEMPT".into(), once.attempt.to_string().into()),
            ("ASYNCTASK_MAX_ATTEMPTS".into(), once.max_attempts.to_string().into()),
        ]);
        let encoding = once.content_encoding.as_ref();
        environment.pairs.extend(encoding.map(|word| ("ASYNCTASK_CONTENT_ENCODING".into(), word.into())));
        let options = match program {
            Program::Command { options, .. } => Some(&**options),
            Program::Own { .. } => None,
        };
        let files = OnceFiles::of(once, options.unwrap_or(&ExecOptions::default()));
        if let Ok(Some(files)) = &files {
            environment.pairs.extend(files.variables());
        }
        environment.pairs.extend(once.job.iter().flat_map(|place| place_in_job(place)));
        let oom_before = self.oom.count();
        let spawned = files.and_then(|files| {
            let spawned = process::spawn_task(program, &environment, &once.payload)?;
            Ok(Process::from(spawned).with_files(files))
        });
        self.watch(id, spawned, context, oom_before);
    }

    fn watch(&mut self, id: WorkerId, spawned: io::Result<Process>, context: LogContext, oom_before: Option<u64>) {
        let started = spawned.and_then(|process| {
            let pid = process.pid;
            self.pids.insert(pid, id);
            let worker = Worker::watch(id, process, context, oom_before, Rc::clone(&self.inbox), self.logger.clone());
            if worker.is_err() {
                // Its frames and its output would not be read.
                let _ = process::kill_group(pid, GroupSignal::Kill);
            }
            worker
        });
        match started {
            Ok(worker) => {
                self.inbox.push(Event::Spawned { worker: id, pid: worker.pid });
                if self.workers.len() <= id.slot {
                    self.workers.resize(id.slot + 1, None);
                }
                self.workers[id.slot] = Some(worker);
            }
            Err(error) => {
                self.orphans.trace_of(id);
                self.inbox.push(Event::SpawnFailed { worker: id, error: error.to_string() });
            }
        }
    }
}
