//! Answers to commands: what the core says of itself, completed by what only the shell can see, which is the depths of
//! the queues on the transport, the memory of processes, and the timer of schedules.
//!
//! The transport is asked beside the loop, and for three seconds at most: a broker that does not answer must not delay
//! the answer that it does not. Counts that do not come are null, never 0.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{jobs::count_open, state::Shell};
use crate::{
    control::{
        server::Asked,
        types::{Answer, Command},
    },
    logging::{Level, MASTER},
    master::{core::event::Event, page_keeper::PageKeeper},
    process,
    transport::{Cancelled, Depth, Error, Request},
};

/// How long a transport may take to count; after that the counts are null.
const COUNTING: Duration = Duration::from_secs(3);

/// Processes that are measured before other tasks of the loop have a turn.
const AT_ONCE: usize = 32;

impl Shell {
    /// A command came. The core answers; some answers are completed here.
    pub(super) fn command(&mut self, asked: Asked) {
        self.last_command += 1;
        if let Some(view) = self.view(&asked.command) {
            // The client may be gone.
            let _ = asked.reply.send(Answer::Done(view));
            return;
        }
        if let Command::DashboardLink {} = asked.command {
            let opened = self.page.as_ref().map(PageKeeper::opened);
            let answer = match opened {
                Some(Some(link)) => Answer::said(link),
                Some(None) => Answer::refused("the page does not listen yet; the log says why"),
                None => Answer::refused(
                    "this master keeps no page: `dashboard: { listen: 127.0.0.1:5555 }` has it keep one",
                ),
            };
            return drop(asked.reply.send(answer));
        }
        if let Command::RunNow { schedule } = &asked.command {
            let schedule = schedule.clone();
            return self.run_now(asked, &schedule);
        }
        let (number, command, by) = (self.last_command, asked.command.clone(), asked.by.clone());
        self.pending_commands.insert(number, asked);
        if let Command::Reload { wait } = command
            && self.reader.is_some()
        {
            return self.reload(Some(number), wait, &by);
        }
        if let Command::Scale { .. } = command {
            self.count_descriptors();
        }
        self.handle(Event::Commanded { number, command, by });
    }

    pub(super) fn answer(&mut self, number: u64, answer: Answer) {
        let Some(asked) = self.pending_commands.remove(&number) else { return };
        match (&asked.command, answer) {
            (Command::Status {}, Answer::Done(status)) => self.answer_status(asked, status),
            (Command::Health {}, Answer::Done(health)) => self.answer_health(asked, health),
            // The client may be gone.
            (_, answer) => drop(asked.reply.send(answer)),
        }
    }

    fn answer_status(&self, asked: Asked, mut status: Value) {
        self.complete(&mut status);
        self.add_stopped(&mut status);
        self.add_left_running(&mut status);
        let open = self.add_jobs(&mut status);
        let queues = self.core.queues();
        let names: Vec<String> = queues.iter().map(|dead| dead.queue.clone()).collect();
        let (reply, counted) = oneshot::channel();
        self.transport.ask(Request::Depths { queues, reply });
        tokio::task::spawn_local(async move {
            measure(&mut status).await;
            if let Some(open) = open {
                status["jobs"] = count_open(open).await;
            }
            let depths = counts(counted).await;
            let _ = asked.reply.send(Answer::Done(with_depths(&status, &names, &depths)));
        });
    }

    /// What is ready is asked for where a free worker should have it, and nothing else.
    fn answer_health(&self, asked: Asked, health: Value) {
        let hungry = health["hungry"].as_array().into_iter().flatten();
        let queues: Vec<String> = hungry.filter_map(Value::as_str).map(str::to_owned).collect();
        if queues.is_empty() {
            let _ = asked.reply.send(Answer::Done(with_backlog(&health, &[], &[])));
            return;
        }
        let names = queues.clone();
        let (reply, counted) = oneshot::channel();
        self.transport.ask(Request::Ready { queues, reply });
        tokio::task::spawn_local(async move {
            let ready = counts(counted).await;
            let _ = asked.reply.send(Answer::Done(with_backlog(&health, &names, &ready)));
        });
    }

    /// A task that is not in hand here is to be removed where it waits.
    pub(super) fn cancel_waiting(&mut self, number: u64, id: String) {
        let Some(asked) = self.pending_commands.remove(&number) else { return };
        let (reply, cancelled) = oneshot::channel();
        self.transport.ask(Request::Cancel { id: id.clone(), reply });
        let (logger, by) = (self.logger.clone(), asked.by);
        tokio::task::spawn_local(async move {
            let answer = match tokio::time::timeout(COUNTING, cancelled).await {
                Ok(Ok(Ok(cancelled))) => cancel_answer(&id, &cancelled),
                Ok(Ok(Err(error))) => Answer::refused(format!("task \"{id}\" is not in hand here, and {error}")),
                Ok(Err(_)) | Err(_) => {
                    let seconds = COUNTING.as_secs();
                    Answer::refused(format!(
                        "the transport did not answer within {seconds} s; the task may still be removed"
                    ))
                }
            };
            if let Answer::Done(_) = &answer {
                logger.line(
                    Level::Warning,
                    MASTER,
                    &format!("Task {id} was removed where it waited: {by} cancelled it"),
                );
            }
            let _ = asked.reply.send(answer);
        });
    }

    fn complete(&self, status: &mut Value) {
        status["pid"] = std::process::id().into();
        status["version"] = env!("CARGO_PKG_VERSION").into();
        status["transport"]["uri"] = self.connected_to.clone().unwrap_or_else(|| self.uri.to_string()).into();
        let next = self.timer.as_ref().and_then(crate::schedule::Timer::next);
        let next_at = next.and_then(|(_, moment)| jiff::Timestamp::from_millisecond(moment.0).ok());
        status["scheduler"] = json!({
            "enabled": self.timer.is_some(),
            "leading": self.leading,
            "next_at": next_at.map(|moment| moment.to_string()),
            "next": next.map(|(schedule, moment)| json!({
                "schedule": schedule.id,
                "at": schedule.when.in_its_zone(moment),
                "zone": schedule.zone(),
            })),
        });
    }
}

/// The memory of each process, a few at a time: there may be thousands, and the loop has other things to do.
async fn measure(status: &mut Value) {
    let queues = status.get_mut("queues").and_then(Value::as_object_mut).into_iter().flatten();
    let slots = queues.flat_map(|(_, queue)| queue["slots"].as_array_mut().into_iter().flatten());
    for (count, slot) in slots.enumerate() {
        let pid = slot["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        slot["rss_bytes"] = pid.and_then(process::memory::resident_bytes).into();
        if count % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
}

fn cancel_answer(id: &str, cancelled: &Cancelled) -> Answer {
    match cancelled {
        Cancelled::Removed { queue } => Answer::said(format!("it waited in queue {queue} and is removed")),
        Cancelled::Held { pid: None } => {
            Answer::refused(format!("task \"{id}\" is on its way to a worker here or has just ended; ask again"))
        }
        Cancelled::Held { pid: Some(pid) } => {
            Answer::refused(format!("task \"{id}\" is in the hands of another master (pid {pid}); cancel it there"))
        }
        Cancelled::Dead { queue } => {
            Answer::refused(format!("task \"{id}\" is a dead letter of queue {queue} already; see asynctask failed"))
        }
        Cancelled::Absent => Answer::refused(format!("no such task: \"{id}\"")),
        Cancelled::Impossible => Answer::refused(format!(
            "task \"{id}\" is not in hand here; to find one that waits by its id is not possible on this transport"
        )),
    }
}

pub(super) async fn counts<T>(counted: oneshot::Receiver<Result<Vec<T>, Error>>) -> Vec<T> {
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
        let depth = depths.get(position).filter(|depth| !depth.unknown);
        queue["ready"] = depth.map(|depth| depth.ready).into();
        queue["delayed"] = depth.map(|depth| depth.delayed).into();
        queue["failed"] = depth.map(|depth| depth.failed).into();
        if depth.is_some_and(|depth| depth.failed_shared) {
            queue["failed_shared"] = true.into();
        }
    }
    status
}

/// Tasks that wait beside idle workers are not delivered: the proof of consuming has failed.
fn with_backlog(health: &Value, hungry: &[String], ready: &[u64]) -> Value {
    let mut problems = health["problems"].as_array().cloned().unwrap_or_default();
    for (name, ready) in hungry.iter().zip(ready).filter(|(_, ready)| **ready > 0) {
        problems.push(if *ready == 1 {
            format!("1 task waits in queue {name} and is not delivered").into()
        } else {
            format!("{ready} tasks wait in queue {name} and are not delivered").into()
        });
    }
    json!({ "healthy": problems.is_empty(), "problems": problems })
}
