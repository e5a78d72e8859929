//! A worker's own log lines: on its stdout, among the output of its code, as `LEVEL:Name:message`.

use std::{
    env, fmt,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::{level::Level, logging::events::Sink};

/// Writes lines under one name. Clones share the level.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    name: Arc<str>,
    level: Arc<AtomicU8>,
}

impl Lines {
    /// Lines of the level that the master told in `ASYNCTASK_LOG_LEVEL`, INFO without it.
    pub(super) fn from_environment(name: &str) -> Self {
        let level = env::var("ASYNCTASK_LOG_LEVEL").ok().and_then(|word| word.parse().ok()).unwrap_or(Level::Info);
        Self::new(name, level)
    }

    pub(super) fn new(name: &str, level: Level) -> Self {
        Self { name: name.into(), level: Arc::new(AtomicU8::new(level as u8)) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes a line if its level is shown. An output that is closed is no reason to fail a task.
    pub(super) fn write(&self, level: Level, message: &dyn fmt::Display) {
        if self.shows(level) {
            let line = format!("{}:{}:{message}\n", level, self.name);
            let _ = std::io::stdout().lock().write_all(line.as_bytes());
        }
    }
}

impl Sink for Lines {
    fn takes(&self, _: &str) -> bool {
        true
    }

    fn shows(&self, level: Level) -> bool {
        level as u8 <= self.level.load(Ordering::Relaxed)
    }

    fn write(&self, level: Level, message: &dyn fmt::Display) {
        self.write(level, message);
    }
}

/// Hands over what user code printed without a line end, so that it stands before the outcome's lines.
pub(super) fn flush() {
    let _ = std::io::stdout().lock().flush();
}
