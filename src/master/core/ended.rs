//! How a worker process ended, as the core is told: data alone.

use crate::task::Exit;

/// How a worker process ended, with the evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Status or signal.
    pub exit: Exit,
    /// Peak memory where it is known to be its own.
    pub max_rss_bytes: Option<u64>,
    /// CPU time, user and system.
    pub cpu_seconds: Option<f64>,
    /// Whether the kernel ended it for want of memory.
    pub oom: Option<bool>,
    /// The last of its output.
    pub output_tail: String,
    /// It ended without having read the last frame that was sent to it.
    pub unread: bool,
    /// Of what it started, what could not be ended with it, a process each.
    pub left_running: Vec<String>,
    /// What it wrote into the files that it was given for that; `None`: none were.
    pub written: Option<Box<Written>>,
}

impl Ended {
    /// An end of which nothing else is known.
    #[must_use]
    pub const fn of(exit: Exit) -> Self {
        Self {
            exit,
            max_rss_bytes: None,
            cpu_seconds: None,
            oom: None,
            output_tail: String::new(),
            unread: false,
            left_running: Vec::new(),
            written: None,
        }
    }
}

/// What a process for one task wrote for its master, of each file that it was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// The result of its task.
    pub result: Option<WrittenFile>,
    /// Follow-ups, one a line.
    pub submit: Option<WrittenFile>,
    /// For the next attempt.
    pub memo: Option<WrittenFile>,
    /// For how long the task is put off, with no attempt used.
    pub snooze: Option<WrittenFile>,
}

/// A file that was written, or why it cannot be read.
pub type WrittenFile = Result<FileText, String>;

/// The text of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileText {
    /// No more of it than counts.
    pub text: Vec<u8>,
    /// Length of the file.
    pub bytes: u64,
}
