//! The settings, checked: everything in these types is valid.

use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    backoff::Backoff,
    celery::Protocol,
    config::dashboard::Dashboard,
    exec_options::ExecOptions,
    jobs::definition::Pipeline,
    retry,
    schedule::Schedule,
    task::Accepts,
    transport::{DeadQueue, QueueSetup, Uri},
    unique::{Conflict, Unique},
};

/// All settings, checked: what [`App::settings`](crate::App::settings) gives. The fields are no promise.
#[derive(Clone, Debug)]
pub struct Config {
    /// Separates the schedules of applications on one broker.
    #[doc(hidden)]
    pub application: String,
    /// What carries the tasks.
    #[doc(hidden)]
    pub transport: Uri,
    /// The environment variables that its address, and what is secret of the page, were taken from; workers do not inherit them.
    #[doc(hidden)]
    pub withheld_variables: Vec<String>,
    /// Never create queues; those absent are an error (`declare: passive`).
    #[doc(hidden)]
    pub declare_passive: bool,
    /// The queues to work, in the order of the files, schedules' queues last.
    #[doc(hidden)]
    pub queues: Vec<Queue>,
    /// Queues that are configured and disabled (`null`).
    #[doc(hidden)]
    pub disabled: Vec<String>,
    /// There is a map of workers, be it an empty one: the queues to work are configured.
    #[doc(hidden)]
    pub says_workers: bool,
    /// Worker kinds that are programs, by name.
    #[doc(hidden)]
    pub kinds: BTreeMap<String, Command>,
    /// Pipelines, in the order of the files.
    #[doc(hidden)]
    pub pipelines: Vec<Pipeline>,
    /// Schedules, in the order of the files.
    #[doc(hidden)]
    pub schedules: Vec<Schedule>,
    /// Limits of the master itself.
    #[doc(hidden)]
    pub supervisor: Supervisor,
    /// The control socket, if one was asked for by name; `none` alone (a relative path) asks for none.
    #[doc(hidden)]
    pub control_socket: Option<PathBuf>,
    /// The page, if the master is to keep one.
    #[doc(hidden)]
    pub dashboard: Option<Dashboard>,
    /// Where metrics are served, if they are.
    #[doc(hidden)]
    pub metrics_listen: Option<SocketAddr>,
    /// How this program shows itself to Celery's tools: where a queue has `protocol: celery`, or the section is there.
    #[doc(hidden)]
    pub celery: Option<Celery>,
    /// Folder of the first file; the current one without a file.
    #[doc(hidden)]
    pub folder: PathBuf,
    /// Files that were read, in order.
    #[doc(hidden)]
    pub files: Vec<PathBuf>,
}

impl Config {
    /// The queues whose messages are not in our form: what a transport has to be told, if there are any.
    pub(crate) fn protocols(&self) -> Vec<(String, Protocol)> {
        let queues = self.queues.iter().filter(|queue| queue.protocol.is_celery());
        queues.map(|queue| (queue.name.clone(), queue.protocol.clone())).collect()
    }
}

/// One queue and the pool that works it.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Its name on the transport.
    pub name: String,
    /// The worker kind.
    pub kind: String,
    /// Worker processes.
    pub processes: u32,
    /// Tasks at once inside one process.
    pub concurrency: u32,
    /// Limit on starts.
    pub rate: Option<Rate>,
    /// When a task leaves the queue.
    pub acks: Acks,
    /// Hard limit of one task.
    pub timeout: Option<Duration>,
    /// What happens after a failed attempt.
    pub retry: retry::Policy,
    /// Where dead letters go.
    pub dead_letter: DeadQueue,
    /// Deliveries without any outcome before it is dead-lettered.
    pub max_deliveries: u32,
    /// When to stop trying the whole queue.
    pub breaker: Breaker,
    /// When a worker is renewed.
    pub recycle: Recycle,
    /// Unwrap JSON strings that hold an object or array.
    pub unwrap: bool,
    /// Of tasks with the same key, one is in hand at a time.
    pub unique: Option<Unique>,
    /// The form of its messages.
    pub protocol: Protocol,
}

impl Queue {
    /// A queue with every setting at its default.
    #[must_use]
    pub fn new(name: &str, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            processes: 1,
            concurrency: 1,
            rate: None,
            acks: Acks::Late,
            timeout: None,
            retry: retry::Policy::default(),
            dead_letter: DeadQueue::of(name),
            max_deliveries: 20,
            breaker: Breaker::default(),
            recycle: Recycle::default(),
            unwrap: true,
            unique: None,
            protocol: Protocol::default(),
        }
    }

    /// The delays that its settings can ask for, jitter aside: retries, and tasks whose key is held.
    #[must_use]
    pub fn delays(&self) -> Vec<Duration> {
        let snoozed = self.unique.as_ref().filter(|unique| unique.conflict == Conflict::Snooze);
        self.retry.delays().into_iter().chain(snoozed.map(|unique| unique.after)).collect()
    }

    /// The queue as the transport needs to know it.
    #[must_use]
    pub fn setup(&self) -> QueueSetup {
        QueueSetup {
            name: self.name.clone(),
            dead: self.dead_letter.clone(),
            delays: self.delays(),
            protocol: self.protocol.clone(),
        }
    }
}

/// At most `calls` starts in any window of `period`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Starts.
    pub calls: u32,
    /// Length of the sliding window.
    pub period: Duration,
}

/// When a task is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// After its outcome.
    #[default]
    Late,
    /// When it is handed to a worker.
    Early,
}

/// Parks a queue after that many crashes or time-outs in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Outcomes in a row, of different tasks.
    pub failures: u32,
    /// First pause; doubled each time.
    pub pause: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// Count error outcomes too.
    pub errors: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 10, pause: Duration::from_secs(30), longest: Duration::from_mins(10), errors: false }
    }
}

/// When a worker is renewed although it is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recycle {
    /// After that many tasks.
    pub max_tasks: Option<u64>,
    /// Above that resident size, in bytes.
    pub max_memory: Option<u64>,
    /// After that long.
    pub max_age: Option<Duration>,
}

/// A worker kind that is a program. Its `Debug` form hides the environment's values.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; a program with a slash is absolute.
    pub argv: Vec<OsString>,
    /// The folder it runs in.
    pub folder: PathBuf,
    /// Long-lived with frames, or one process per task.
    pub mode: Mode,
    /// What it takes as payload.
    pub accepts: Accepts,
    /// Environment variables it gets beyond the master's own. Their values may be secret.
    pub env: BTreeMap<String, String>,
    /// As whom and with which limits it runs.
    pub options: ExecOptions,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("argv", &self.argv)
            .field("folder", &self.folder)
            .field("mode", &self.mode)
            .field("accepts", &self.accepts)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("options", &self.options)
            .finish()
    }
}

/// How a program does tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Long-lived, speaks frames.
    #[default]
    Frames,
    /// One process per task, payload on stdin.
    Once,
}

/// More processes of a queue, or tasks in one process, than any machine has use for.
pub const MANY: u32 = 10_000;

/// What concerns Celery's messages and tools, beside the queues themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Celery {
    /// The name under which its tools see this program, as it was written: see [`Celery::node_name`].
    pub node: String,
    /// When events of tasks are told.
    pub events: CeleryEvents,
    /// What may be asked for from afar.
    pub control: CeleryControl,
    /// What becomes of a task whose code raised an error.
    pub failures: CeleryFailures,
}

impl Default for Celery {
    fn default() -> Self {
        Self {
            node: "asynctask@%h".to_owned(),
            events: CeleryEvents::default(),
            control: CeleryControl::default(),
            failures: CeleryFailures::default(),
        }
    }
}

impl Celery {
    /// The node's name on a host, as Celery reads it: `%h` is the host's name, `%n` its part before the first dot, `%d` the part
    /// behind it, and `%%` a percent sign.
    #[must_use]
    pub fn node_name(&self, host: &str) -> String {
        let (first, domain) = host.split_once('.').unwrap_or((host, ""));
        let mut name = String::new();
        let mut rest = self.node.as_str();
        while let Some((before, after)) = rest.split_once('%') {
            name.push_str(before);
            let letter = after.chars().next();
            name.push_str(match letter {
                Some('h') => host,
                Some('n') => first,
                Some('d') => domain,
                Some(_) | None => "%",
            });
            rest = match letter {
                Some('h' | 'n' | 'd' | '%') => &after[1..],
                Some(_) | None => after,
            };
        }
        name.push_str(rest);
        name
    }
}

/// When events of tasks are told; those of workers are told always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CeleryEvents {
    /// While somebody has asked for them.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What Celery's remote control may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CeleryControl {
    /// Look.
    #[default]
    Look,
    /// Whatever it does with workers of Celery.
    Work,
}

/// What becomes of a task whose code raised an error, which Celery forgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CeleryFailures {
    /// It is a dead letter.
    #[default]
    Keep,
    /// It leaves its queue.
    Drop,
}

impl CeleryEvents {
    /// The word used in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl CeleryControl {
    /// The word used in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Work => "work",
        }
    }
}

impl CeleryFailures {
    /// The word used in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
        }
    }
}

/// Limits of the master itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Supervisor {
    /// How long a stop waits for tasks in hand.
    pub grace: Duration,
    /// How long a worker may take until it is ready.
    pub start_timeout: Duration,
    /// How often idle workers are asked whether they still listen, and, up to 10 s, how long they have to answer.
    pub ping: Duration,
    /// Delays between restarts of a worker that died idle or could not start.
    pub restart: Backoff,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            start_timeout: Duration::from_secs(10),
            ping: Duration::from_secs(30),
            restart: Backoff { first: Duration::from_millis(100), factor: 2.0, longest: Duration::from_secs(30) },
        }
    }
}
