//! The settings that a command works with, from its global options, and the values of options that several commands have.

use std::{env, path::PathBuf, str::FromStr, time::Duration};

use super::args::Global;
use crate::{
    config::{self, Config, Sources, parse_duration},
    exit_code::{Code, Error},
    logging::Level,
    transport::{DeadQueue, Uri},
    worker::registry::Registry,
};

/// Reads and checks the settings.
pub(in crate::cli) fn load(registry: &Registry, global: &Global) -> Result<Config, Error> {
    config::load(&sources(registry, global)).map_err(|problems| invalid(&problems.to_string()))
}

/// [`load`] for what fires or shows schedules.
pub(in crate::cli) fn load_to_fire(registry: &Registry, global: &Global) -> Result<Config, Error> {
    config::load_to_fire(&sources(registry, global)).map_err(|problems| invalid(&problems.to_string()))
}

/// [`load`] for what deals with tasks of other processes.
pub(in crate::cli) fn load_shared(registry: &Registry, global: &Global) -> Result<Config, Error> {
    let config = load(registry, global)?;
    if let Uri::Localmem(_) = config.transport {
        let message = format!("{}: that transport lives in one process, and ends with it", config.transport);
        return Err(Error::new(Code::Config, message)
            .hint("it is for tests and for run; tasks that others are to see need sqlite: or amqp:"));
    }
    Ok(config)
}

/// The settings are not right.
pub(in crate::cli) fn invalid(problems: &str) -> Error {
    // Each problem brings its own `error:`; the first one is what every error of ours begins with.
    Error::new(Code::Config, problems.strip_prefix("error: ").unwrap_or(problems))
}

/// What the settings are read from, for a command.
pub(in crate::cli) fn sources(registry: &Registry, global: &Global) -> Sources {
    sources_of(registry, global.config.clone(), global.set.clone())
}

/// What the settings of a program are read from: these files and overrides, its environment, its kinds.
pub(crate) fn sources_of(registry: &Registry, files: Vec<PathBuf>, set: Vec<String>) -> Sources {
    Sources {
        files,
        set,
        rust_kinds: registry.kinds().keys().cloned().collect(),
        env: env::vars_os().collect(),
        // A removed folder matters to relative paths alone, and is reported there.
        cwd: config::working_folder().unwrap_or_default(),
        application: registry.name().to_owned(),
        at_once: false,
    }
}

/// The level of the log: the option, else `$LOG_LEVEL`, else info.
pub(in crate::cli) fn log_level(global: &Global) -> Result<Level, Error> {
    let (text, from) = match (&global.log_level, env::var_os("LOG_LEVEL")) {
        (Some(text), _) => (text.clone(), "--log-level"),
        (None, Some(text)) if !text.is_empty() => (text.to_string_lossy().into_owned(), "LOG_LEVEL"),
        _ => return Ok(Level::Info),
    };
    Level::from_str(&text).map_err(|_| {
        Error::new(Code::Usage, format!("{from}: \"{text}\" is not a level")).hint("error, warning, info and debug are")
    })
}

/// Reads an option that is a duration.
pub(in crate::cli) fn duration(option: &str, text: &str) -> Result<Duration, Error> {
    parse_duration(text).ok_or_else(|| {
        Error::new(Code::Usage, format!("{option}: \"{text}\" is not a duration")).hint("as in 500ms, 30s, 10m, 2h")
    })
}

/// Where the dead letters of a queue lie: as configured, else under the default name.
pub(in crate::cli) fn dead_queue(config: &Config, name: &str) -> DeadQueue {
    let configured = config.queues.iter().find(|queue| queue.name == name);
    configured.map_or_else(|| DeadQueue::of(name), |queue| queue.dead_letter.clone())
}
