//! From the settings of a run to its loop: descriptors, signals, transport, control socket and metrics, in this order.

use std::io;

use tokio::sync::mpsc;

use super::{
    finished::Finished,
    kept_file::KeptFiles,
    run_config::RunConfig,
    shell::{celery::Celery, event_loop::EventReceivers, orphans::Orphans, state::Shell},
};
use crate::{
    control::presence,
    exit_code::{Code, Error},
    logging::{Level, Logger, MASTER},
    metrics, plural,
    process::{self, Signals},
    transport::{self, Transport, Uri},
};

/// Descriptors that a run opens for itself after they were counted: for signals, the event loop, the watches of its sockets and
/// the memory cgroup, and for the transport's files or connections.
const fn planned_files(uri: &Uri, with_celery: bool) -> u64 {
    13 + match uri {
        Uri::Localmem(_) => 0,
        Uri::Sqlite(_) => 7,
        Uri::Amqp(_) if with_celery => 8 + 4,
        Uri::Amqp(_) => 8,
        Uri::Postgres(_) => 10,
    }
}

/// Runs a master to its end. On the main thread.
///
/// # Errors
/// As [`run_on`].
pub fn run(run: RunConfig, logger: &Logger) -> Result<Finished, Error> {
    let uri = run.uri.clone();
    let protocols = run.protocols.clone();
    run_on(run, logger, |events| {
        let transport = transport::open(&uri, events)?;
        transport::tell(&*transport, protocols);
        Ok(transport)
    })
}

/// [`run()`] on a transport that `open` makes. It has to answer every settlement, each [`Accept`](crate::task::Settlement::Accept)
/// included: without the answer to an acceptance the run takes the one to the settlement for it, and waits for another until the
/// stall limit.
///
/// # Errors
/// [`Code::Config`] if `open` refuses the address ([`transport::Error::BadUri`]), [`Code::Unavailable`] at any other error of it;
/// [`Code::Internal`] if signals, descriptors, the event loop, the control socket or the metrics page cannot be set up or waited
/// for, and if the transport's thread ends. Every other end of a run is [`Finished`], with an exit code of its own.
pub fn run_on(
    run: RunConfig,
    logger: &Logger,
    open: impl FnOnce(transport::Events) -> Result<Box<dyn Transport>, transport::Error>,
) -> Result<Finished, Error> {
    let internal = |what: &str, error: io::Error| Error::new(Code::Internal, format!("{what}: {error}"));
    process::descriptor_limit::raise_files();
    let mut run = run;
    run.plan.descriptors =
        process::descriptor_limit::files_for_workers(0, planned_files(&run.uri, run.celery.is_some()));
    process::reserve_frame_fd().map_err(|error| internal("cannot reserve descriptor 3", error))?;
    // Before anything else: a TERM from here on is an orderly stop.
    let signals = Signals::listen().map_err(|error| internal("cannot listen to signals", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| internal("cannot make the event loop", error))?;
    let (events, transport_events) = mpsc::unbounded_channel();
    let transport = open(events).map_err(|error| {
        let code = if let transport::Error::BadUri { .. } = error { Code::Config } else { Code::Unavailable };
        Error::new(code, error.to_string())
    })?;
    let log = logger.clone();
    if !signals.hear_hang_ups() {
        log.line(
            Level::Info,
            MASTER,
            "HUP is ignored, as it was at the start (nohup): control reload does what it would",
        );
    }
    process::payload_file::remove_left(move |count| {
        let text = format!("{} removed that a killed master left", plural::were(count, "payload file"));
        log.line(Level::Info, MASTER, &text);
    });
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let arrivals = signals.watch().map_err(|error| internal("cannot watch signals", error))?;
        let (command_sender, commands) = mpsc::unbounded_channel();
        let control = run.control.take();
        // A run that is to halt ends when a queue is parked, and is not held up by what another one paused.
        let kept_files = control.as_ref().filter(|_| !run.plan.halt_when_empty);
        let kept_files = kept_files.map(|socket| KeptFiles::beside(&socket.path(), logger));
        if let Some(socket) = &control {
            let log = logger.clone();
            let log_change = move |change: presence::Change| {
                let (level, text) = change.line();
                log.line(level, MASTER, &text);
            };
            socket
                .serve(command_sender.clone(), log_change)
                .map_err(|error| internal("cannot watch the control socket", error))?;
        }
        let (question_sender, questions) = mpsc::unbounded_channel();
        let mut celery = Celery::new(&run.uri, &command_sender, logger);
        celery.start(run.celery.take());
        let senders = metrics::Master { questions: question_sender, commands: command_sender };
        let metrics = run.metrics.take().map(|listener| listener.serve(senders.clone())).transpose();
        let _metrics = metrics.map_err(|error| internal("cannot serve metrics", error))?;
        let (sender, orphans_ended) = mpsc::unbounded_channel();
        let orphans = Orphans::new(&run.uri, &run.application, logger, sender);
        let receivers =
            EventReceivers { transport: transport_events, commands, questions, orphans_ended, _senders: senders };
        celery.remembers().await;
        Shell::new(run, transport, logger.clone(), orphans, celery, kept_files)
            .run(&signals, &arrivals, receivers)
            .await
    })
}
