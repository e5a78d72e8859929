//! A schedule as the settings define it.

use super::when::When;
use crate::{protocol::Protocol, redact::redact};

/// A schedule: tasks for one queue at the moments of a calendar.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Stable name under which its last moment is remembered.
    pub id: String,
    /// The queue its tasks go to.
    pub queue: String,
    /// What it runs.
    pub target: Target,
    /// When.
    pub when: When,
    /// The payload of its tasks; `{}` without one.
    pub payload: Option<Payload>,
    /// What becomes of moments that passed while no master held the lease.
    pub misfire: Misfire,
    /// The time fields as they were written, for the log: `{"second":"*/5"}`.
    pub fields: String,
}

impl Schedule {
    /// The log line with which a scheduler begins to fire it. Passwords of addresses in a command line are masked.
    #[must_use]
    pub fn announcement(&self) -> String {
        format!("Scheduling \"{}\" for {}", redact(self.target.name()), self.fields)
    }

    /// What of its settings is given as it is: its payload or arguments, by their keys.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&'static str, &Payload)> {
        let (payload, arguments) = match &self.target {
            Target::Celery(task) => (None, Some([("args", &task.args), ("kwargs", &task.kwargs)])),
            Target::Worker(_) | Target::Queue(_) | Target::Ctl(_) | Target::Pipeline(_) => {
                (self.payload.as_ref(), None)
            }
        };
        payload.map(|payload| ("payload", payload)).into_iter().chain(arguments.into_iter().flatten())
    }
}

/// What a schedule gives its tasks. Its `Debug` form hides passwords of addresses, and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// JSON text.
    pub text: String,
    /// The same as the settings show it: passwords of addresses masked, `${` escaped.
    pub(crate) shown: String,
}

impl Payload {
    /// JSON text that is nobody's secret.
    pub(crate) fn of(text: &str) -> Self {
        Self { text: text.to_owned(), shown: text.to_owned() }
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What a schedule runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A worker kind, in a queue of the schedule's own.
    Worker(String),
    /// A task for a queue that is configured.
    Queue(String),
    /// A command line, by the built-in kind `ctl_executor`.
    Ctl(String),
    /// A task of Celery's, for whatever workers there are.
    Celery(Box<CeleryTask>),
    /// A job of a pipeline. Its queue is that of the ledger, and its task the order to start the job.
    Pipeline(String),
}

impl Target {
    /// Its name, or its command line.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Worker(name) | Self::Queue(name) | Self::Ctl(name) | Self::Pipeline(name) => name,
            Self::Celery(task) => &task.name,
        }
    }
}

/// A task of Celery's, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CeleryTask {
    /// Its name.
    pub name: String,
    /// Positional arguments: a JSON list.
    pub args: Payload,
    /// Named arguments: a JSON object.
    pub kwargs: Payload,
    /// How the queue is declared if it does not exist.
    pub protocol: Protocol,
}

impl CeleryTask {
    /// Whether it has any.
    #[must_use]
    pub fn has_arguments(&self) -> bool {
        self.args.text != "[]" || self.kwargs.text != "{}"
    }

    /// The payload of which its message is made.
    #[must_use]
    pub fn payload(&self) -> String {
        let Self { name, args, kwargs, .. } = self;
        format!(
            r#"{{"task":{},"args":{},"kwargs":{}}}"#,
            serde_json::Value::from(name.as_str()),
            args.text,
            kwargs.text
        )
    }
}

/// What to do about missed moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misfire {
    /// Nothing.
    #[default]
    Skip,
    /// Fire once for all of them.
    RunOnce,
}
