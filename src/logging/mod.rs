//! The log: one event stream on stdout, one `write` per line.
//!
//! A thread of its own writes, because a write to stdout can block for as long as it likes (`| less`, a stuck journal)
//! and the master must not. In front of it is a queue of at most [`QUEUE_LIMIT`] bytes. When that is full, the
//! master's own lines are counted and dropped, and the workers' output is not read until
//! [`Logger::has_room`] again; once the master stops it is, and what does not fit is dropped, so that workers can end who wait
//! for somebody to take what they say. A closed stdout ends the log, not the work.

use std::{
    fmt::{self, Display},
    fs::File,
    io,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer};

pub use self::format::{Format, LogContext};
use self::{format::Form, queue::Queue};
use crate::{
    clock::{Clock, Timestamp},
    redact::redact,
};

mod format;
pub mod journal;
mod queue;

/// The name under which the master logs.
pub const MASTER: &str = "AsyncTaskWorkerTask";

/// What the log queue holds before it counts as full, in bytes.
pub const QUEUE_LIMIT: usize = 1024 * 1024;

/// Longest message of one line, in bytes.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What a person must look at.
    Error,
    /// What a person should look at.
    Warning,
    /// What happened.
    Info,
    /// How it happened.
    Debug,
}

impl Level {
    const ALL: [Self; 4] = [Self::Error, Self::Warning, Self::Info, Self::Debug];

    /// The word in a log line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}

impl Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a log level: error, warning, info or debug")]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Any case. The neighbours in other libraries' scales are taken too: `warn`, `critical` and `fatal`, `notice`,
    /// `trace`.
    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        match word.to_ascii_lowercase().as_str() {
            "error" | "critical" | "fatal" => Ok(Self::Error),
            "warning" | "warn" => Ok(Self::Warning),
            "info" | "notice" => Ok(Self::Info),
            "debug" | "trace" => Ok(Self::Debug),
            _ => Err(UnknownLevel(word.to_owned())),
        }
    }
}

/// A line of the log in the plain form, with its newline: `LEVEL:Name:message`. Of a message of
/// several lines those after the first are indented, unless the second is of another shape than the log's own lines;
/// control characters are escaped; a message over 64 KiB is cut.
#[must_use]
pub fn format_line(level: Level, name: &str, message: &str) -> String {
    Form::default().line(Timestamp::default(), level, name, message, None)
}

/// A handle to the log; its clones write to the same one.
#[derive(Clone, Debug)]
pub struct Logger {
    form: Form,
    queue: Arc<Queue>,
    level: Arc<AtomicU8>,
}

impl Logger {
    /// A log that goes to `output`, a duplicate of stdout, and its writer thread.
    pub fn start(output: File, level: Level) -> io::Result<Self> {
        Self::start_with(output, level, Format::Plain)
    }

    /// [`Self::start`] with a form of its lines. Where `output` is systemd's journal, lines have its priorities.
    pub fn start_with(output: File, level: Level, format: Format) -> io::Result<Self> {
        let named = std::env::var("JOURNAL_STREAM").ok();
        let form = Form { format, journal: journal::is_journal(named.as_deref(), &output) };
        Ok(Self { form, queue: Queue::start(output, form)?, level: Arc::new(AtomicU8::new(level as u8)) })
    }

    /// A log that discards everything and never fills up.
    #[must_use]
    pub fn quiet() -> Self {
        Self { form: Form::default(), queue: Queue::closed(), level: Arc::new(AtomicU8::new(Level::Error as u8)) }
    }

    /// The least important level that is written.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::ALL[usize::from(self.level.load(Ordering::Relaxed)).min(Level::ALL.len() - 1)]
    }

    /// Changes [`level`](Self::level), for all clones.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Whether a line of this level would be written: ask before making a costly message.
    #[must_use]
    pub fn enabled(&self, level: Level) -> bool {
        level as u8 <= self.level.load(Ordering::Relaxed) && !self.queue.is_closed()
    }

    /// The form of its lines.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.form.format
    }

    /// Writes a line (`LEVEL:Name:message` in the plain form), if the level is enabled and the queue has room.
    pub fn line(&self, level: Level, name: &str, message: &str) {
        self.line_in_context(level, name, message, None);
    }

    /// [`Self::line`], with its context for the forms that show it.
    pub fn line_in_context(&self, level: Level, name: &str, message: &str, context: Option<&LogContext>) {
        if self.enabled(level) {
            // Whatever an error quotes: no address in it shows its password.
            let text = self.form.line(Clock::wall(), level, name, &redact(message), context);
            self.queue.try_push(text.into_bytes());
        }
    }

    /// Writes a worker's line, given without its newline, whatever the level. Offer it only while
    /// [`has_room`](Self::has_room); the last lines of a worker that has ended are taken up to twice the limit.
    pub fn worker_line(&self, line: &str, context: &LogContext) {
        if !self.queue.is_closed() {
            self.queue.push_over_limit(self.form.worker_line(Clock::wall(), line, context).into_bytes());
        }
    }

    /// [`Self::worker_line`] of nobody in particular.
    pub fn raw(&self, line: &str) {
        self.worker_line(line, &LogContext::default());
    }

    /// Whether workers' output may be read. Once the queue has been full, not before it is half empty.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    /// Waits until [`has_room`](Self::has_room), or, in a [`hurry`](Self::hurry), for a second. Within a tokio runtime with time.
    pub async fn room(&self) {
        self.queue.room().await;
    }

    /// From now on workers' output is read though nobody takes it from here for a second: what goes beyond twice the limit is
    /// counted and dropped. Their ends matter more than their lines.
    pub fn hurry(&self) {
        self.queue.hurry();
    }

    /// Lines that were dropped so far, because nobody read in time or the disk was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped_in_all()
    }

    /// Whether stdout was closed (or the log was): nothing is written any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    /// Blocks until all lines so far are written, at most `limit`. Whether they are.
    #[must_use = "the lines may not have been written"]
    pub fn flush(&self, limit: Duration) -> bool {
        self.queue.wait_written(limit)
    }

    /// Ends the log: takes no more lines, and blocks until those it has are written, at most `limit`, so that a stuck
    /// stdout does not keep the process. Whether they are.
    #[expect(clippy::must_use_candidate, reason = "at the end there is nobody left to tell")]
    pub fn close(&self, limit: Duration) -> bool {
        self.queue.close(limit)
    }

    /// A layer through which `tracing` events of this crate become lines of the master. Other targets are ignored.
    #[must_use]
    pub fn layer(&self) -> Events {
        Events { logger: self.clone() }
    }
}

/// See [`Logger::layer`].
#[derive(Debug)]
pub struct Events {
    logger: Logger,
}

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn register_callsite(&self, metadata: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        // "Sometimes": the level can change. "Never" makes the events of the libraries below us cost nothing.
        if is_ours(metadata.target()) {
            tracing::subscriber::Interest::sometimes()
        } else {
            tracing::subscriber::Interest::never()
        }
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        is_ours(metadata.target()) && self.logger.enabled(level_of(*metadata.level()))
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let level = level_of(*event.metadata().level());
        if is_ours(event.metadata().target()) && self.logger.enabled(level) {
            let mut text = Text::default();
            event.record(&mut text);
            self.logger.line(level, MASTER, &(text.message + &text.fields));
        }
    }
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix("asynctask").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

const fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
    }
}

/// A `tracing` event as text: its message, then its fields as ` key=value`.
#[derive(Default)]
pub(crate) struct Text {
    pub(crate) message: String,
    pub(crate) fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {field}={value:?}")
        };
    }
}

#[cfg(test)]
mod tests;
