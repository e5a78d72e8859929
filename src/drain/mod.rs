//! Draining one queue in this process, without a master: for scripts, tests and the `process` command.
//!
//! One task is in hand at a time. What becomes of it follows the same rule as under a master (`master::core::foreground`), and
//! is confirmed by the transport before the next task begins or an error is returned, so that no task is lost. What
//! only a master can do is not done here: user code runs in this very process, so a time limit cannot be kept, and a
//! death of the worker is the death of this process; then the task comes again.
//!
//! A drain blocks its thread. Called while Tokio polls a future it is refused ([`Error::InFuture`]).

#![warn(clippy::missing_panics_doc)]

mod error;
mod run;
mod settle;
mod start;
mod state;
mod waiting;

pub use self::error::Error;
use self::{
    start::{configured, known},
    state::Drain,
};
use crate::{config::Config, level::Level, worker::registry::Registry};

/// Does the tasks of a queue until nothing is left in it, waiting for delayed ones, and gives the number of those
/// that were done. Without a `kind`: the one that is configured for the queue.
///
/// # Errors
/// [`Error`]; the first error of a task ends the drain.
#[doc(hidden)]
pub fn process_queue(
    registry: &Registry,
    config: &Config,
    queue: &str,
    kind: Option<&str>,
    level: Level,
) -> Result<u64, Error> {
    let kind = match kind {
        Some(kind) => kind,
        None => configured(config, |configured| configured.name == queue)
            .map(|configured| configured.kind.as_str())
            .ok_or_else(|| Error::NoKind { queue: queue.to_owned() })?,
    };
    Drain::new(registry, config, queue, kind, level)?.run()
}

/// Has a worker kind do the tasks of a queue, as [`process_queue`] does. Without a `queue`: the first one that is
/// configured for the kind.
///
/// # Errors
/// [`Error`]; the first error of a task ends the drain.
#[doc(hidden)]
pub fn run_worker(
    registry: &Registry,
    config: &Config,
    kind: &str,
    queue: Option<&str>,
    level: Level,
) -> Result<u64, Error> {
    known(registry, config, kind)?;
    let queue = match queue {
        Some(queue) => queue,
        None => configured(config, |configured| configured.kind == kind)
            .map(|configured| configured.name.as_str())
            .ok_or_else(|| Error::NoQueue { kind: kind.to_owned() })?,
    };
    Drain::new(registry, config, queue, kind, level)?.run()
}

#[cfg(test)]
mod tests;
