//! A schedule's task outside its moments, because a person wants it now.

use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::state::Shell;
use crate::{
    control::{server::Asked, types::Answer},
    logging::{Level, MASTER},
    redact::redact,
    suggest,
    transport::Request,
};

/// How long the transport may take to store the task, as far as whoever asked waits for it.
const STORING: Duration = Duration::from_secs(10);

impl Shell {
    /// Submits it, whoever the scheduler is; the answer comes when it is stored.
    pub(super) fn run_now(&self, asked: Asked, schedule: &str) {
        let task = match self.task_now(schedule) {
            Ok(task) => task,
            Err(message) => return drop(asked.reply.send(Answer::refused(message))),
        };
        let by = &asked.by;
        self.logger.line(Level::Info, MASTER, &format!("{by} asks: run-now {schedule}"));
        let (id, queue, target) = (task.0.id.clone(), task.0.queue.clone(), task.1);
        let (reply, stored) = oneshot::channel();
        self.transport.ask(Request::Submit { tasks: vec![task.0], reply });
        let (logger, schedule) = (self.logger.clone(), schedule.to_owned());
        tokio::task::spawn_local(async move {
            let answer = match tokio::time::timeout(STORING, stored).await {
                Ok(Ok(Ok(()))) => {
                    let text = format!("Triggering execution of {} now: schedule {schedule}", redact(&target));
                    logger.line(Level::Info, MASTER, &text);
                    Answer::Done(json!({ "schedule": schedule, "id": id, "queue": queue }))
                }
                Ok(Ok(Err(error))) => {
                    Answer::refused(format!("the task of schedule \"{schedule}\" is not stored: {error}"))
                }
                Ok(Err(_)) | Err(_) => {
                    let seconds = STORING.as_secs();
                    Answer::refused(format!(
                        "the transport did not answer within {seconds} s; task {id} may still be stored"
                    ))
                }
            };
            // The client may be gone.
            let _ = asked.reply.send(answer);
        });
    }

    fn task_now(&self, schedule: &str) -> Result<(crate::task::NewTask, String), String> {
        let Some(timer) = &self.timer else {
            return Err("this master has no schedules: it was not started with --scheduler".to_owned());
        };
        let number = Uuid::now_v7();
        if let Some((task, target)) = timer.task_now(schedule, self.clock.now().wall, number) {
            return Ok((task, target.name().to_owned()));
        }
        let known = timer.known().map(|(known, _)| known.id.as_str());
        let hint =
            suggest::nearest(schedule, known).map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        Err(format!("there is no schedule \"{schedule}\"{hint}"))
    }
}
