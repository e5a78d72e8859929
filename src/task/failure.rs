//! Why a task failed, and how its process ended.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, json_text::JsonText};

/// Why a task failed; with [`Task`](super::Task) this is all that a dead letter says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The class of the cause.
    pub reason: Reason,
    /// One line.
    pub error: String,
    /// Causes, a traceback, whatever the worker told.
    pub detail: String,
    /// Times the task was run, this one included.
    pub attempts: u32,
    /// When.
    pub failed_at: Timestamp,
    /// The worker kind.
    pub kind: String,
    /// Name of the host whose master settled it.
    pub host: String,
    /// The worker process, if one ran it.
    pub pid: Option<u32>,
    /// How the worker process ended, if it did.
    pub exit: Option<Exit>,
    /// Whether the kernel ended it for want of memory; `None`: not knowable.
    pub oom: Option<bool>,
    /// Peak memory of the process since its start, in bytes, where it is known to be its own.
    pub max_rss_bytes: Option<u64>,
    /// CPU time of the process, in seconds.
    pub cpu_seconds: Option<f64>,
    /// How long the task was in the worker's hands, in seconds.
    pub in_hand_seconds: Option<f64>,
    /// The last output of the process (at most 8 KiB).
    pub output_tail: String,
    /// What the task is to have when it comes again, be it from the dead letters; `None`: what it had. Stored with the task.
    #[serde(skip)]
    pub memo: Option<JsonText>,
}

impl Failure {
    /// A failure with a reason and an error, of no process.
    #[must_use]
    pub fn new(reason: Reason, error: impl Into<String>, failed_at: Timestamp) -> Self {
        Self {
            reason,
            error: error.into(),
            detail: String::new(),
            attempts: 0,
            failed_at,
            kind: String::new(),
            host: String::new(),
            pid: None,
            exit: None,
            oom: None,
            max_rss_bytes: None,
            cpu_seconds: None,
            in_hand_seconds: None,
            output_tail: String::new(),
            memo: None,
        }
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Exit {
    /// It returned or called `exit`.
    Code {
        /// The exit status.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// The signal's name, `SIGSEGV`.
        signal: String,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code { code } => write!(f, "exit status {code}"),
            Self::Signal { signal, core_dumped: false } => write!(f, "killed by {signal}"),
            Self::Signal { signal, core_dumped: true } => write!(f, "killed by {signal} (core dumped)"),
        }
    }
}

/// The class of what ended a task for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The worker reported an error on the last attempt.
    Error,
    /// The worker said it can never be done.
    Failed,
    /// The worker process died.
    Crash,
    /// The worker was killed at the task's time limit.
    Timeout,
    /// The body is not what the kind accepts.
    Malformed,
    /// It was not run before its expiry.
    Expired,
    /// It was delivered too often without any outcome.
    Deliveries,
    /// A person cancelled it.
    Cancelled,
}

impl Reason {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Error,
        Self::Failed,
        Self::Crash,
        Self::Timeout,
        Self::Malformed,
        Self::Expired,
        Self::Deliveries,
        Self::Cancelled,
    ];

    /// The word used in settings, tables and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Failed => "failed",
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Deliveries => "deliveries",
            Self::Cancelled => "cancelled",
        }
    }
}
