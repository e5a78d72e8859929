//! Draining one queue in this process, without a master: for scripts, tests and the `process` command.
//!
//! One task is in hand at a time. What becomes of it follows the same rule as under a master (`master::verdict`), and
//! is confirmed by the transport before the next task begins or an error is returned, so that no task is lost. What
//! only a master can do is not done here: user code runs in this very process, so a time limit cannot be kept, and a
//! death of the worker is the death of this process; then the task comes again.
//!
//! A drain blocks its thread. Called while Tokio polls a future it is refused ([`Error::InFuture`]).

#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod settle;
mod start;
mod waiting;

use std::{
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    async_context,
    clock::{Clock, Instant, RunningClock},
    config::{Acks, Config, Queue},
    frames::{
        self, Payload, TaskFrame,
        to_worker::{self, ToWorker},
    },
    logging::Level,
    master::core::{
        event::QueuePlan,
        state::pool::Window,
        verdict::{self, Attempt},
    },
    outcome::Report,
    payload::Body,
    properties::Properties,
    task::{Accepts, Delivery, QueueIndex, Reason, Settlement},
    transport::{self, Event, QueueSetup, Request, Transport},
    worker::{self, Foreground, registry::Registry},
};

/// How long the transport may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(6);
/// How long the transport may store nothing before that is an error.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Why a queue was not drained to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No kind was named, and the queue is not configured.
    #[error("Cannot identify worker for queue \"{queue}\"")]
    NoKind {
        /// The queue.
        queue: String,
    },
    /// No queue was named, and none is configured for the kind.
    #[error("Cannot identify queue for worker \"{kind}\"")]
    NoQueue {
        /// The kind.
        kind: String,
    },
    /// There is no such kind.
    #[error("Worker \"{kind}\" does not exist")]
    NoSuchKind {
        /// Its name.
        kind: String,
    },
    /// The kind is a program, which needs a master.
    #[error("Worker \"{kind}\" is a program; only a master can start it: asynctask workers --halt-when-empty")]
    Program {
        /// The kind.
        kind: String,
    },
    /// No queue can have this name.
    #[error("\"{queue}\" is not a properly-formatted queue name")]
    QueueName {
        /// The name.
        queue: String,
    },
    /// The kind's worker could not be made.
    #[error("Worker \"{kind}\" could not be started: {source}")]
    Start {
        /// The kind.
        kind: String,
        /// What the registered function said.
        source: worker::TaskError,
    },
    /// The drain was called by a future, which it would block. Nothing was done.
    #[error("a queue cannot be drained by a future: use spawn_blocking")]
    InFuture,
    /// A task ended in an error. It is settled: tried again later or dead-lettered, by the queue's retry policy.
    #[error("{error}")]
    Task {
        /// Its id.
        id: String,
        /// What its code said.
        error: String,
        /// Causes.
        detail: String,
        /// What was done before, in this drain.
        done: u64,
    },
    /// The transport's reason. A task in hand comes again.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// The operating system's reason.
    #[error("cannot run a task: {0}")]
    Io(#[from] std::io::Error),
}

/// Does the tasks of a queue until nothing is left in it, waiting for delayed ones, and gives the number of those
/// that were done. Without a `kind`: the one that is configured for the queue.
///
/// # Errors
/// [`Error`]; the first error of a task ends the drain.
#[doc(hidden)]
pub fn process_queue(
    registry: &Registry,
    config: &Config,
    queue: &str,
    kind: Option<&str>,
    level: Level,
) -> Result<u64, Error> {
    let kind = match kind {
        Some(kind) => kind,
        None => configured(config, |configured| configured.name == queue)
            .map(|configured| configured.kind.as_str())
            .ok_or_else(|| Error::NoKind { queue: queue.to_owned() })?,
    };
    Drain::new(registry, config, queue, kind, level)?.run()
}

/// Has a worker kind do the tasks of a queue, as [`process_queue`] does. Without a `queue`: the first one that is
/// configured for the kind.
///
/// # Errors
/// [`Error`]; the first error of a task ends the drain.
#[doc(hidden)]
pub fn run_worker(
    registry: &Registry,
    config: &Config,
    kind: &str,
    queue: Option<&str>,
    level: Level,
) -> Result<u64, Error> {
    known(registry, config, kind)?;
    let queue = match queue {
        Some(queue) => queue,
        None => configured(config, |configured| configured.kind == kind)
            .map(|configured| configured.name.as_str())
            .ok_or_else(|| Error::NoQueue { kind: kind.to_owned() })?,
    };
    Drain::new(registry, config, queue, kind, level)?.run()
}

fn configured(config: &Config, is_it: impl Fn(&Queue) -> bool) -> Option<&Queue> {
    config.queues.iter().find(|queue| is_it(queue))
}

/// Whether the kind can be run here.
fn known<'a>(registry: &'a Registry, config: &Config, kind: &str) -> Result<&'a worker::Kind, Error> {
    if config.kinds.contains_key(kind) {
        return Err(Error::Program { kind: kind.to_owned() });
    }
    registry.kinds().get(kind).ok_or_else(|| Error::NoSuchKind { kind: kind.to_owned() })
}

struct Drain {
    plan: QueuePlan,
    passive: bool,
    wants_properties: bool,
    worker: Foreground,
    transport: Box<dyn Transport>,
    events: mpsc::UnboundedReceiver<Event>,
    /// For waiting alone: user code runs outside of it.
    runtime: Runtime,
    clock: Clock,
    /// What waiting for the transport is measured by: user code is no part of it, nor is time in which nothing ran.
    waiting: RunningClock,
    window: Option<Window>,
    host: String,
    /// Tasks that came before the confirmation of the one before them.
    early: Vec<Delivery>,
    /// A survey was answered before the confirmation.
    surveyed: bool,
    /// Since when the transport can store nothing, and why.
    stalled: Option<(Instant, transport::Error)>,
    done: u64,
}

impl Drain {
    fn new(registry: &Registry, config: &Config, queue: &str, kind: &str, level: Level) -> Result<Self, Error> {
        if async_context::is_polled() {
            return Err(Error::InFuture);
        }
        let code = known(registry, config, kind)?;
        if !config.transport.may_have(queue) {
            return Err(Error::QueueName { queue: queue.to_owned() });
        }
        let mut settings = configured(config, |configured| configured.name == queue)
            .map_or_else(|| Queue::new(queue, kind), Queue::clone);
        kind.clone_into(&mut settings.kind);
        let worker = start::worker(kind, code, level, &config.transport)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (sender, events) = mpsc::unbounded_channel();
        Ok(Self {
            window: settings.rate.map(Window::new),
            plan: QueuePlan {
                settings,
                accepts: Accepts::Json,
                is_program: false,
                is_once: false,
                payload_in_file: false,
                launch: 0,
            },
            passive: config.declare_passive,
            wants_properties: code.wants_properties(),
            worker,
            transport: transport::open(&config.transport, sender)?,
            events,
            runtime,
            clock: Clock::start(),
            waiting: RunningClock::start(),
            host: crate::process::host(),
            early: Vec::new(),
            surveyed: false,
            stalled: None,
            done: 0,
        })
    }

    fn run(mut self) -> Result<u64, Error> {
        let queue = &self.plan.settings;
        self.worker.log(Level::Info, &format_args!("Starting; queue={}", queue.name));
        let setup = QueueSetup { name: queue.name.clone(), dead: queue.dead_letter.clone(), delays: queue.delays() };
        self.transport.ask(Request::Attach { queues: vec![setup], passive: self.passive });
        let drained = self.work();
        // What is not settled goes back to its queue.
        let (reply, closed) = oneshot::channel();
        self.transport.ask(Request::Close { reply });
        let _ = self.runtime.block_on(async { timeout(CLOSE_LIMIT, closed).await });
        drained?;
        self.worker.log(Level::Info, &"No tasks found in queue");
        self.worker.log(Level::Info, &"Terminating");
        Ok(self.done)
    }

    /// Takes tasks until the transport says that nothing is left. One survey at a time: a reading of a broker takes
    /// its time, and a task that came meanwhile makes its answer worth nothing.
    fn work(&mut self) -> Result<(), Error> {
        let (mut serial, mut is_stale) = (0, false);
        let mut ask_again = None;
        loop {
            match self.next(ask_again)? {
                None => (serial, is_stale, ask_again) = (self.survey(serial), false, None),
                Some(Event::Attached { .. }) => {
                    self.transport.ask(Request::Credit { queue: QueueIndex(0), credit: 1 });
                    serial = self.survey(serial);
                }
                Some(Event::Delivered(deliveries)) => {
                    is_stale = true;
                    self.early.extend(deliveries);
                    while let Some(delivery) = self.early.pop() {
                        self.begin(&delivery)?;
                    }
                    if std::mem::take(&mut self.surveyed) {
                        ask_again = Some(Duration::ZERO);
                    }
                }
                Some(Event::CameAgain(deliveries)) => {
                    is_stale = true;
                    self.pass(deliveries);
                }
                Some(Event::Surveyed { serial: of, empty, again_in }) if of == serial => {
                    if empty && !is_stale {
                        return Ok(());
                    }
                    ask_again = Some(if is_stale { Duration::ZERO } else { again_in });
                }
                Some(Event::Warning(text)) => self.worker.log(Level::Warning, &text),
                Some(Event::Notice(text)) => self.worker.log(Level::Info, &text),
                Some(_) => {}
            }
        }
    }

    /// Nothing is known here of what came again.
    fn pass(&self, deliveries: Vec<Delivery>) {
        let pass = deliveries.into_iter().map(|delivery| (delivery.handle, Settlement::Pass));
        self.transport.ask(Request::Settle(pass.collect()));
    }

    fn survey(&self, last: u64) -> u64 {
        self.transport.ask(Request::Survey { serial: last + 1 });
        last + 1
    }

    /// Does one task, or refuses it, and waits until that is settled.
    fn begin(&mut self, delivery: &Delivery) -> Result<(), Error> {
        let settings = &self.plan.settings;
        let refused = verdict::objection(&delivery.task, settings.max_deliveries, Clock::wall());
        let refused = match (refused, Body::from(&*delivery.task).json(settings.unwrap)) {
            (Some(refused), _) => refused,
            (None, Err(error)) => (Reason::Malformed, error),
            (None, Ok(payload)) => {
                if self.gives_way(delivery)? {
                    return Ok(());
                }
                let settings = &self.plan.settings;
                let mut frame = Vec::new();
                let made = frames::task(
                    &TaskFrame {
                        id: &delivery.task.id,
                        queue: &settings.name,
                        attempt: delivery.task.attempts.saturating_add(1),
                        max_attempts: settings.retry.max_attempts,
                        payload: Payload::Json(&payload),
                        headers: &delivery.task.headers,
                        properties: self
                            .wants_properties
                            .then(|| delivery.task.properties.as_deref().unwrap_or(Properties::NONE)),
                        deadline: None,
                    },
                    &mut frame,
                );
                match made {
                    Ok(()) => return self.process(delivery, &payload, &frame),
                    Err(fault) => (Reason::Malformed, format!("it cannot be put into a frame: {fault}")),
                }
            }
        };
        let settlement = self.circumstances(delivery, None).refused(refused.0, refused.1);
        self.settle(delivery, settlement)
    }

    fn process(&mut self, delivery: &Delivery, payload: &str, frame: &[u8]) -> Result<(), Error> {
        self.keep_rate();
        if self.plan.settings.acks == Acks::Early {
            self.transport.ask(Request::Settle(vec![(delivery.handle, Settlement::Accept)]));
        }
        let line = frame.strip_suffix(b"\n").unwrap_or(frame);
        let Ok(ToWorker::Task(assignment)) = to_worker::parse(line) else {
            unreachable!("a task frame that was just written can be read");
        };
        self.worker.log(Level::Debug, &settle::GotPayload(payload));
        let begun_at = self.clock.now().at;
        let outcome = self.worker.run(&assignment)?;
        let took = self.clock.now().at.since(begun_at);
        let failed = match &outcome {
            Report::Done { .. } => {
                self.worker.log(Level::Debug, &"Processing complete");
                None
            }
            Report::Error { error, detail } => Some((error.clone(), detail.clone())),
            Report::Retry { .. } | Report::Snooze { .. } | Report::DeadLetter { .. } | Report::Malformed { .. } => None,
        };
        let is_done = matches!(outcome, Report::Done { .. });
        let settlement = self.circumstances(delivery, Some(took)).told(outcome);
        self.settle(delivery, settlement)?;
        self.done += u64::from(is_done);
        match failed {
            Some((error, detail)) => Err(Error::Task { id: delivery.task.id.clone(), error, detail, done: self.done }),
            None => Ok(()),
        }
    }

    /// Waits until the queue's rate allows one more start.
    fn keep_rate(&mut self) {
        let Some(window) = &mut self.window else { return };
        while let Some(opens_at) = window.closed_until(self.clock.now().at) {
            let wait = opens_at.since(self.clock.now().at);
            self.runtime.block_on(async { tokio::time::sleep(wait).await });
        }
        window.started(self.clock.now().at);
    }

    fn circumstances<'a>(&'a self, delivery: &'a Delivery, in_hand: Option<Duration>) -> Attempt<'a> {
        // The standard library's own source of randomness for hash maps: as good as jitter needs.
        let jitter = std::hash::RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        Attempt {
            task: &delivery.task,
            plan: &self.plan,
            host: &self.host,
            pid: Some(std::process::id()),
            wall: Clock::wall(),
            in_hand,
            jitter,
        }
    }
}
