//! The child's loop: frames in, user code, frames out.
//!
//! A task costs one write, and one read unless it came with others. What the master says while a task runs is read by a thread of
//! `frame_reader`, as a recall cannot wait; all else waits for the task's end. INT, TERM and HUP are caught and do nothing: only
//! the master stops a worker, so that a signal to the whole group interrupts no task. The loop ends with a halt, or with the
//! socket.

use std::{
    io,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{
    Kind,
    child_io::{Broken, answer, take_socket},
    context::{Context, Surroundings},
    frame_reader::{AHEAD, FrameReader},
    frame_writer::FrameWriter,
    kind::{Built, RunOne, run_one},
    lines::Lines,
    panics, serve_async, tracing_lines,
};
use crate::frames::{
    from_worker,
    to_worker::{self, ToWorker},
};

/// What an asynchronous worker says it can do at once: how many it does is the master's to decide.
const MANY: u32 = 1024;

/// Lives as a worker of `kind`, which is registered as `name`, until the master ends it.
#[must_use]
pub(crate) fn serve(name: &str, kind: &Kind) -> ExitCode {
    match live(name, kind) {
        Ok(()) => ExitCode::SUCCESS,
        // The master has ended, and with it the task in hand: there is nothing to report.
        Err(Broken::Io(error))
            if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
        {
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("error: {}", with_causes(&broken));
            match broken {
                Broken::NoSocket { .. } => ExitCode::from(64),
                Broken::NotBuilt { .. } => ExitCode::FAILURE,
                Broken::Io(_) | Broken::Fault(_) => ExitCode::from(70),
            }
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = source.source();
    }
    text
}

fn live(name: &str, kind: &Kind) -> Result<(), Broken> {
    let socket = take_socket()?;
    let nobody = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // A handler, not SIG_IGN: programs that the worker starts get the default again.
        signal_hook::flag::register(signal, Arc::clone(&nobody))?;
    }
    panics::watch();
    let lines = Lines::from_environment(kind.shown_as(name));
    let worker =
        kind.build().map_err(|error| Broken::NotBuilt { kind: name.to_owned(), text: with_causes(&*error) })?;
    tracing_lines::install(lines.clone());
    let writer = Arc::new(FrameWriter::to(socket.try_clone()?));
    let ready = |concurrency, ahead| {
        writer.send(|frame| from_worker::ready(lines.name(), concurrency, ahead, kind.wants_properties(), frame))
    };
    match worker {
        Built::One(mut worker) => {
            let mut frames = FrameReader::start(socket, &writer, &lines)?;
            ready(1, AHEAD)?;
            one_at_a_time(&mut *worker, &mut frames, &writer, &lines)
        }
        Built::Many(worker) => {
            ready(MANY, 0)?;
            serve_async::many_at_once(&worker, socket, &writer, &lines)
        }
    }
}

/// Serves until a halt or the end of the socket.
pub(super) fn one_at_a_time(
    worker: &mut dyn RunOne,
    frames: &mut FrameReader,
    writer: &Arc<FrameWriter>,
    lines: &Lines,
) -> Result<(), Broken> {
    let surroundings = Surroundings::new(lines, writer);
    while let Some(frame) = frames.next()? {
        match to_worker::parse(frame)? {
            ToWorker::Task(task) => {
                let context = Context::new(&task, &surroundings);
                let outcome = run_one(worker, &task, &context, lines);
                context.report(&outcome)?;
            }
            ToWorker::Halt(_) => {
                super::lines::flush();
                return Ok(writer.send(from_worker::bye)?);
            }
            other => answer(&other, writer, lines)?,
        }
    }
    Ok(())
}
