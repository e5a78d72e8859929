//! The beginning of a drain: its names, its worker, in a process that has room for hostile messages, and its transport.

use tokio::sync::mpsc;

use super::{error::Error, state::Drain};
use crate::{
    async_context,
    config::{Config, Queue},
    level::Level,
    master::core::foreground::ForegroundQueue,
    process::{self, stacks},
    transport::{self, Uri},
    worker::{self, Foreground, Kind, registry::Registry},
};

/// The first queue of the settings that is meant.
pub(super) fn configured(config: &Config, is_it: impl Fn(&Queue) -> bool) -> Option<&Queue> {
    config.queues.iter().find(|queue| is_it(queue))
}

/// The code of a kind that can be run here.
pub(super) fn known<'a>(registry: &'a Registry, config: &Config, kind: &str) -> Result<&'a worker::Kind, Error> {
    if config.kinds.contains_key(kind) {
        return Err(Error::Program { kind: kind.to_owned() });
    }
    registry.kinds().get(kind).ok_or_else(|| Error::NoSuchKind { kind: kind.to_owned() })
}

impl Drain {
    /// Opens the transport, once the worker is made.
    ///
    /// # Errors
    /// [`Error`]: what is wrong with the names, the worker or the transport.
    pub(super) fn new(
        registry: &Registry,
        config: &Config,
        queue: &str,
        kind: &str,
        level: Level,
    ) -> Result<Self, Error> {
        if async_context::is_polled() {
            return Err(Error::InFuture);
        }
        let code = known(registry, config, kind)?;
        if !config.transport.may_have(queue) {
            return Err(Error::QueueName { queue: queue.to_owned() });
        }
        let mut settings = configured(config, |configured| configured.name == queue)
            .map_or_else(|| Queue::new(queue, kind), Queue::clone);
        kind.clone_into(&mut settings.kind);
        let worker = worker(kind, code, level, &config.transport)?;
        let (sender, events) = mpsc::unbounded_channel();
        let queue = ForegroundQueue::new(settings, config.application.clone(), process::host(), std::process::id());
        let transport = transport::open(&config.transport, sender)?;
        transport::tell(&*transport, config.protocols());
        let drain = Self::of(queue, worker, transport, events)?;
        Ok(Self { passive: config.declare_passive, wants_properties: code.wants_properties(), ..drain })
    }
}

/// Makes the worker. Where tasks come from RabbitMQ, threads of the client library are to have large stacks: see
/// [`stacks`]. A process where it is too late for that is told what it can do.
///
/// # Errors
/// [`Error::Start`].
fn worker(name: &str, kind: &Kind, level: Level, transport: &Uri) -> Result<Foreground, Error> {
    // Before the user's code, which may start threads.
    let has_room = !matches!(transport, Uri::Amqp(_)) || stacks::enlarge();
    let worker =
        Foreground::start(name, kind, level).map_err(|source| Error::Start { kind: name.to_owned(), source })?;
    if !has_room {
        let text = format!(
            "This program had threads before: a message whose headers are thousands of tables in tables would end it. \
             RUST_MIN_STACK={} in its environment, or asynctask::enlarge_stacks() at the beginning of its \
             main, prevents that",
            stacks::LARGE
        );
        worker.log(Level::Info, &text);
    }
    Ok(worker)
}
