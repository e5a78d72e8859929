//! `asynctask run`: one payload through one worker kind, without a queue.
//!
//! A kind of this program does it in this process. A kind that is a program gets a master of its own, on a transport
//! that holds this one task: so it is started, fed, judged and killed as it would be elsewhere.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    args::{Global, RunArgs},
    output::{LAST_LINES, escape_control, logger, print},
    plan::{plan_of, queue_run},
    settings::{load, log_level},
};
use crate::{
    clock::Clock,
    config::{Acks, Config, Queue},
    exit_code::{Code, Error},
    frames::to_worker::Assignment,
    jobs::{entry::Entry, order::Wanted},
    logging::{Format, Level},
    master::{
        self, QueueRun, RunConfig,
        core::{
            event::Plan,
            foreground::{Drawn, ForegroundQueue},
        },
    },
    membership::ledger_of,
    retry::Policy,
    task::{Accepts, Delivery, Handle, NewTask, QueueIndex, Settlement, Task, without_mark},
    text,
    transport::{Event, Events, Request, Transport},
    worker::{Foreground, Kind, registry::Registry},
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &RunArgs) -> Result<Code, Error> {
    let level = log_level(global)?;
    let asked_for = global.log_level.is_some() || std::env::var_os("LOG_LEVEL").is_some();
    let config = load(registry, global)?;
    let kind = verb.kind.as_str();
    let settings = settings(&config, kind);
    let body = payload(verb)?;
    let is_json = config.kinds.get(kind).is_none_or(|command| command.accepts == Accepts::Json);
    let body = if is_json { readable(body)? } else { body };
    let task = Task { id: uuid::Uuid::now_v7().to_string(), body, ..Task::default() };
    let settlement = if config.kinds.contains_key(kind) {
        // Of the master's lines only those that explain a failure.
        let level = if asked_for { level } else { Level::Error };
        as_program(&config, queue_run(&config, &settings, level), level, task)?
    } else if let Some(code) = registry.kinds().get(kind) {
        in_process(&config, kind, code, settings, level, &task)?
    } else {
        let known: Vec<&str> = registry.kinds().keys().chain(config.kinds.keys()).map(String::as_str).collect();
        let error = Error::new(Code::Refused, format!("Worker \"{kind}\" does not exist"));
        return Err(error.hint(format!("known kinds: {}", known.join(", "))));
    };
    let (outcome, text) = in_words(&settlement);
    print(&if verb.json { format!("{outcome}\n") } else { escape_control(&text) })?;
    Ok(if matches!(settlement, Settlement::Done { .. }) { Code::Ok } else { Code::Refused })
}

/// As the first queue of this kind is configured, but for what belongs to many tasks.
fn settings(config: &Config, kind: &str) -> Queue {
    let configured = config.queues.iter().find(|queue| queue.kind == kind);
    let settings = configured.map_or_else(|| Queue::new(kind, kind), Queue::clone);
    Queue {
        processes: 1,
        concurrency: 1,
        rate: None,
        acks: Acks::Late,
        retry: Policy { max_attempts: 1, ..settings.retry },
        ..settings
    }
}

fn payload(verb: &RunArgs) -> Result<Vec<u8>, Error> {
    match verb.payload.as_deref() {
        Some("-") => {
            let mut body = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut body)
                .map_err(|error| Error::new(Code::Usage, format!("standard input: {error}")))?;
            Ok(body)
        }
        Some(payload) => Ok(payload.as_bytes().to_vec()),
        // What a schedule gives.
        None => Ok(b"{}".to_vec()),
    }
}

/// The payload of a kind that wants JSON, without a byte order mark.
fn readable(mut body: Vec<u8>) -> Result<Vec<u8>, Error> {
    let usage = |error| Error::new(Code::Usage, format!("the payload: {error}"));
    let mark = body.len() - without_mark(&body).map_err(usage)?.len();
    body.drain(..mark);
    Ok(body)
}

fn in_process(
    config: &Config,
    kind: &str,
    code: &Kind,
    settings: Queue,
    level: Level,
    task: &Task,
) -> Result<Settlement, Error> {
    let clock = Clock::start();
    let refused = |text: String| Error::new(Code::Refused, text);
    let queue = ForegroundQueue::new(settings, config.application.clone(), String::new(), std::process::id());
    let wall = Clock::wall();
    let text = match queue.payload(task, wall) {
        Ok(text) => text.into_owned(),
        Err(settlement) => return Ok(settlement),
    };
    let payload = serde_json::value::RawValue::from_string(text)
        .map_err(|error| Error::new(Code::Internal, format!("the payload: {error}")))?;
    let mut worker = Foreground::start(kind, code, level)
        .map_err(|error| refused(format!("Worker \"{kind}\" could not be started: {error}")))?;
    let outcome = worker
        .run(&Assignment::new(&task.id, &queue.settings().name, &payload))
        .map_err(|error| Error::new(Code::Internal, format!("cannot run the task: {error}")))?;
    Ok(queue.settlement(task, outcome, clock.now().at.since_start(), wall, Drawn::default()))
}

fn as_program(config: &Config, queue: QueueRun, level: Level, task: Task) -> Result<Settlement, Error> {
    let logger = logger(level, Format::Plain, false)?;
    let (kind, is_once) = (queue.plan.settings.kind.clone(), queue.plan.is_once);
    let run = RunConfig {
        settings: serde_json::Value::Null,
        page: None,
        reader: None,
        control: None,
        metrics: None,
        notifier: None,
        plan: Plan { halt_when_empty: true, pipelines: Vec::new(), ..plan_of(config, level) },
        queues: vec![queue],
        protocols: Vec::new(),
        passive: false,
        application: config.application.clone(),
        pipelines: Vec::new(),
        uri: config.transport.clone(),
        timer: None,
        halt_timeout: None,
        report: None,
        celery: None,
    };
    let settled = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&settled);
    let finished = master::run_on(run, &logger, |events| {
        Ok(Box::new(OneTask { task: Mutex::new(Some(task)), events, settled: keep }))
    });
    logger.close(LAST_LINES);
    let finished = finished?;
    let settlement = settled.lock().unwrap_or_else(PoisonError::into_inner).take();
    let was_stopped = finished.stopped || finished.code == Code::Interrupted;
    match (settlement, finished.error) {
        (Some(settlement), _) if is_once && !was_stopped && !has_begun(&settlement) => {
            Err(Error::new(Code::Refused, format!("worker kind {kind} could not be started"))
                .hint("the line above says why; a program is looked for in the folder of the settings and in PATH"))
        }
        (Some(settlement), _) => Ok(settlement),
        (None, Some(message)) => Err(Error::new(finished.code, message)),
        (None, None) => Ok(Settlement::Release),
    }
}

/// Whether a process for one task began it: if none could be started it is given back, or put aside for a moment. Here such a process
/// has no file by which it could put a task off itself.
const fn has_begun(settlement: &Settlement) -> bool {
    !matches!(settlement, Settlement::Release | Settlement::Snooze { .. })
}

/// A transport that holds one task and keeps its settlement.
struct OneTask {
    task: Mutex<Option<Task>>,
    events: Events,
    settled: Arc<Mutex<Option<Settlement>>>,
}

impl Transport for OneTask {
    fn ask(&self, request: Request) {
        let settled = || self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        // A master that does not listen any more has what it wanted.
        let tell = |event| drop(self.events.send(event));
        match request {
            Request::Attach { .. } => tell(Event::Attached { session: 1 }),
            Request::Credit { credit: 1.., .. } => {
                if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    let (handle, queue) = (Handle(1), QueueIndex(0));
                    let task = Arc::new(task);
                    tell(Event::Delivered(vec![Delivery { handle, queue, task, redelivered: false, identity: None }]));
                }
            }
            Request::Settle(settlements) => {
                for (handle, settlement) in settlements {
                    // An acceptance is answered too; it settles nothing.
                    if settlement != Settlement::Accept {
                        settled().get_or_insert(settlement);
                    }
                    tell(Event::Settled(vec![handle]));
                }
            }
            Request::Survey { serial, .. } => {
                let empty = settled().is_some();
                tell(Event::Surveyed { serial, empty, stranded: Vec::new(), again_in: Duration::from_secs(1) });
            }
            Request::Close { reply } => drop(reply.send(Ok(()))),
            // A master asks for nothing else when it has no schedules.
            _ => {}
        }
    }
}

/// What is not submitted here. The start of a job would be an order to its ledger.
fn follow_up_in_words(task: &NewTask) -> (Value, String) {
    if ledger_of(&task.queue).is_some()
        && let Ok(Entry::Order(order)) = Entry::parse(&task.body)
        && let Wanted::Start { pipeline, id, payload, .. } = order.what
    {
        let line = format!("not started, since there is no ledger: {pipeline} {}\n", payload.as_str());
        return (json!({ "pipeline": pipeline, "id": id, "payload": payload }), line);
    }
    let payload: Value = serde_json::from_slice(&task.body).unwrap_or_default();
    let text = String::from_utf8_lossy(&task.body);
    let line = format!("not submitted, since there is no queue: {} {text}\n", task.queue);
    (json!({ "queue": task.queue, "payload": payload, "delay_ms": task.delay.as_millis() as u64 }), line)
}

/// The outcome for programs and for people.
fn in_words(settlement: &Settlement) -> (Value, String) {
    match settlement {
        Settlement::Done { submit } => {
            let (submitted, lines): (Vec<Value>, Vec<String>) = submit.iter().map(follow_up_in_words).unzip();
            (json!({ "outcome": "done", "submit": submitted }), lines.concat() + "done\n")
        }
        Settlement::Snooze { after, .. } => (
            json!({ "outcome": "snooze", "delay_ms": after.as_millis() as u64 }),
            format!("snooze: again in {} s\n", after.as_secs_f64()),
        ),
        Settlement::Dead(failure) | Settlement::Retry { failure, .. } => {
            let reason = failure.reason.as_str();
            let detail = if failure.detail.is_empty() { String::new() } else { format!("\n{}", failure.detail) };
            let text = text::indented(&format!("{reason}: {}{detail}", failure.error)) + "\n";
            let outcome = json!({
                "outcome": reason,
                "error": failure.error,
                "detail": failure.detail,
                "exit": failure.exit,
                "in_hand_seconds": failure.in_hand_seconds,
                "output_tail": failure.output_tail,
            });
            (outcome, text)
        }
        Settlement::Release | Settlement::Pass | Settlement::Accept | Settlement::Discard => {
            (json!({ "outcome": "interrupted" }), "interrupted\n".to_owned())
        }
    }
}
