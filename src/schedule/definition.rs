//! A schedule as the settings define it.

use super::when::When;
use crate::redact::redact;

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
        let (Target::Worker(target) | Target::Queue(target) | Target::Ctl(target)) = &self.target;
        format!("Scheduling \"{}\" for {}", redact(target), self.fields)
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
