//! The beginning of a drain: its worker, in a process that has room for hostile messages.

use super::Error;
use crate::{
    logging::Level,
    process::stacks,
    transport::Uri,
    worker::{Foreground, Kind},
};

/// Makes the worker. Where tasks come from RabbitMQ, threads of the client library are to have large stacks: see
/// [`stacks`]. A process where it is too late for that is told what it can do.
///
/// # Errors
/// [`Error::Start`].
pub(super) fn worker(name: &str, kind: &Kind, level: Level, transport: &Uri) -> Result<Foreground, Error> {
    // Before the user's code, which may start threads.
    let has_room = !matches!(transport, Uri::Amqp(_)) || stacks::enlarge();
    let worker =
        Foreground::start(name, kind, level).map_err(|source| Error::Start { kind: name.to_owned(), source })?;
    if !has_room {
        let text = format!(
            "This program had threads before: a message whose headers are thousands of tables in tables would end it. \
             RUST_MIN_STACK={} in its environment, or asynctask::process::stacks::enlarge() at the beginning of its \
             main, prevents that",
            stacks::LARGE
        );
        worker.log(Level::Info, &text);
    }
    Ok(worker)
}
