//! Exit codes, and the lines that explain a failure.
//!
//! The code of a master's run is chosen by the chapter of `master::core` that ends it: callers of `Core::end_badly`,
//! `halt_when_empty`, `shutdown`. `master::run`, `master::shell::event_loop` and `cli::workers` choose it for what fails around the run.
//! That of a command is chosen by its file in `cli`, or by what commands share there: `connection` (errors of a transport), `settings`,
//! `waiting`, `control_client`, `output`. Worker processes of the library have codes of their own: `worker::serve`, `worker::registry`.
//! What the exit status of a process with `mode: once` means for its task: `master::core::process_per_task`.

use std::fmt;

/// Exit codes, as documented for scripts and unit files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Stopped or drained.
    Ok = 0,
    /// Refused or not found; in halt mode a kind could not be started or a queue is parked.
    Refused = 1,
    /// No master answers.
    NoMaster = 3,
    /// The command line cannot be read.
    Usage = 64,
    /// The transport cannot be reached, or all queues are parked.
    Unavailable = 69,
    /// A mistake of ours.
    Internal = 70,
    /// Another master holds this control socket.
    Taken = 73,
    /// The configuration cannot be used.
    Config = 78,
    /// Drained, but tasks were dead-lettered and that was to be told.
    DeadLettered = 80,
    /// The time limit of a halt-mode run passed.
    HaltTimeout = 81,
    /// Stopped, but tasks had to be interrupted.
    Interrupted = 82,
    /// A command in the foreground was stopped by SIGINT.
    Sigint = 130,
    /// A command in the foreground was stopped by SIGTERM.
    Sigterm = 143,
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A failed command: its exit code, what is wrong, and what may help.
#[derive(Clone, Debug)]
pub struct Error {
    /// The exit code.
    pub code: Code,
    /// What is wrong, in one line or, for a configuration, one block a problem.
    pub message: String,
    /// What may help.
    pub hint: Option<String>,
}

impl Error {
    /// A failure without a hint.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for Error {}
