//! The handle to the log: checks the level, forms the line and passes it to the queue. It never blocks but in
//! [`Logger::flush`] and [`Logger::close`].

use std::{
    fmt,
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use super::{
    events::{EventSubscriber, Sink},
    format::{Form, Format, LogContext, MASTER},
    journal,
    queue::Queue,
};
use crate::{clock::Clock, level::Level, redact::redact};

/// A handle to the log; its clones write to the same one.
#[derive(Clone, Debug)]
pub struct Logger {
    form: Form,
    queue: Arc<Queue>,
    level: Arc<AtomicU8>,
}

impl Logger {
    /// A log that goes to `output`, a duplicate of stdout, and its writer thread.
    ///
    /// # Errors
    /// If the writer thread cannot be started.
    pub fn start(output: File, level: Level) -> io::Result<Self> {
        Self::start_with(output, level, Format::Plain)
    }

    /// [`Self::start`] with a form of its lines. Where `output` is systemd's journal, lines have its priorities.
    ///
    /// # Errors
    /// If the writer thread cannot be started.
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

    /// [`Self::worker_line`] without a context.
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

    /// From now on workers' output is read also when stdout has not been read for a second: lines beyond twice the limit are
    /// counted and dropped. The ends of workers matter more than their lines.
    pub fn hurry(&self) {
        self.queue.hurry();
    }

    /// Lines that were dropped so far, because stdout was not read in time or the disk was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped_in_all()
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

    /// A subscriber that turns the `tracing` events of this crate into lines of the master. Events of other targets are ignored.
    #[must_use]
    pub(crate) fn subscriber(&self) -> EventSubscriber<impl Sink> {
        EventSubscriber(self.clone())
    }
}

impl Sink for Logger {
    fn takes(&self, target: &str) -> bool {
        target.strip_prefix("asynctask").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }

    fn shows(&self, level: Level) -> bool {
        self.enabled(level)
    }

    fn write(&self, level: Level, message: &dyn fmt::Display) {
        self.line(level, MASTER, &message.to_string());
    }
}

#[cfg(test)]
mod tests;
