//! Answers to commands: what the core says of itself, completed by what only the shell can see, which is the depths of
//! the queues on the transport, the memory of processes, and the timer of schedules.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Asked, Command, Event, Shell};
use crate::{
    control::types::Answer,
    process,
    transport::{Depth, Error, Request},
};

/// How long a transport may take to count; after that the counts are null.
const COUNTING: Duration = Duration::from_secs(3);

impl Shell {
    /// A command came. The core answers; some answers are completed here.
    pub(super) fn asked(&mut self, asked: Asked) {
        self.commands += 1;
        let (number, command, by) = (self.commands, asked.command.clone(), asked.by.clone());
        self.asked.insert(number, asked);
        self.handle(Event::Commanded { number, command, by });
    }

    pub(super) fn answer(&mut self, number: u64, answer: Answer) {
        let Some(asked) = self.asked.remove(&number) else { return };
        let complete: fn(&Value, &[String], &[Depth]) -> Value = match asked.command {
            Command::Status {} => with_depths,
            Command::Health {} => with_backlog,
            _ => {
                // Whoever asked may be gone.
                let _ = asked.reply.send(answer);
                return;
            }
        };
        let Answer::Done(mut value) = answer else { return };
        if matches!(asked.command, Command::Status {}) {
            self.complete(&mut value);
        }
        let names: Vec<String> = self.dead.iter().map(|dead| dead.queue.clone()).collect();
        let (reply, counted) = oneshot::channel();
        self.transport.ask(Request::Depths { queues: self.dead.clone(), reply });
        tokio::task::spawn_local(async move {
            let depths = counts(counted).await;
            let _ = asked.reply.send(Answer::Done(complete(&value, &names, &depths)));
        });
    }

    fn complete(&self, status: &mut Value) {
        status["pid"] = std::process::id().into();
        status["version"] = env!("CARGO_PKG_VERSION").into();
        status["transport"]["uri"] = self.uri.to_string().into();
        let next = self.timer.as_ref().and_then(crate::schedule::Timer::next_moment);
        let next = next.and_then(|moment| jiff::Timestamp::from_millisecond(moment.0).ok());
        status["scheduler"] = json!({
            "enabled": self.timer.is_some(),
            "leading": self.leading,
            "next_at": next.map(|moment| moment.to_string()),
        });
        let queues = status["queues"].as_object_mut().into_iter().flatten();
        for slot in queues.flat_map(|(_, queue)| queue["slots"].as_array_mut().into_iter().flatten()) {
            let pid = slot["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            slot["rss_bytes"] = pid.and_then(process::limits::resident_bytes).into();
        }
    }
}

async fn counts(counted: oneshot::Receiver<Result<Vec<Depth>, Error>>) -> Vec<Depth> {
    match tokio::time::timeout(COUNTING, counted).await {
        Ok(Ok(Ok(depths))) => depths,
        // Out of reach: the status says that it is not connected, and the counts are null.
        _ => Vec::new(),
    }
}

fn with_depths(status: &Value, names: &[String], depths: &[Depth]) -> Value {
    let mut status = status.clone();
    for (position, name) in names.iter().enumerate() {
        let queue = &mut status["queues"][name];
        let depth = depths.get(position);
        queue["ready"] = depth.map(|depth| depth.ready).into();
        queue["delayed"] = depth.map(|depth| depth.delayed).into();
        queue["failed"] = depth.map(|depth| depth.failed).into();
    }
    status
}

/// Tasks that wait beside idle workers are not delivered: the proof of consuming has failed.
fn with_backlog(health: &Value, names: &[String], depths: &[Depth]) -> Value {
    let mut problems = health["problems"].as_array().cloned().unwrap_or_default();
    let hungry = health["hungry"].as_array().cloned().unwrap_or_default();
    for (name, depth) in names.iter().zip(depths) {
        if depth.ready > 0 && hungry.iter().any(|queue| queue == name) {
            problems.push(format!("{} tasks wait in queue {name} and are not delivered", depth.ready).into());
        }
    }
    json!({ "healthy": problems.is_empty(), "problems": problems })
}
