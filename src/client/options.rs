//! How a task is put into its queue.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::task::Headers;

/// How a task is put into its queue: due at once, under a new id, without headers, unless a method says otherwise.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use asynctask::client::SubmitOptions;
///
/// let day = Duration::from_secs(24 * 60 * 60);
/// let options = SubmitOptions::new()
///     .delay(Duration::from_secs(30))
///     .expires_at(SystemTime::now() + day)
///     .header("tenant", "acme");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options change nothing until a task is submitted with them"]
pub struct SubmitOptions {
    pub(super) id: Option<String>,
    pub(super) due: Due,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) headers: Headers,
    pub(super) priority: Option<u8>,
}

/// When a task is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Due {
    #[default]
    AtOnce,
    After(Duration),
    At(SystemTime),
}

impl SubmitOptions {
    /// Options without any.
    pub fn new() -> Self {
        Self::default()
    }

    /// The task's id; without it a new one is made. A queue can hold two tasks of one id.
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Not due before this much time has passed since the submit. Takes the place of [`Self::at`].
    pub fn delay(self, delay: Duration) -> Self {
        Self { due: Due::After(delay), ..self }
    }

    /// Due at `moment`; at once, if it has passed. If the wall clock is set meanwhile the task is still due at that moment
    /// (not so in memory, `localmem:`, where it is due after the time that was left). Takes the place of [`Self::delay`].
    pub fn at(self, moment: SystemTime) -> Self {
        Self { due: Due::At(moment), ..self }
    }

    /// Dead-lettered instead of run after this moment.
    pub fn expires_at(self, moment: SystemTime) -> Self {
        Self { expires_at: Some(moment), ..self }
    }

    /// Adds a header for the worker to read; a second one of the same name takes the place of the first.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The higher, the earlier, in a queue that has priorities (RabbitMQ, `x-max-priority`). SQLite and memory (`localmem:`) have
    /// none: a submit with a priority fails there.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority: Some(priority), ..self }
    }
}
