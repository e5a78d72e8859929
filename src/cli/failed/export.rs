//! `asynctask failed export`: JSON lines, while they are read.
//!
//! A slow reader (`| less`) must not hold up the transport's thread, which keeps the connection alive: the lines go
//! through a short queue, and while it is full the transport is asked to wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::selection::condition;
use crate::{
    cli::{
        connection::{from_transport_error, open},
        failed_args::FailedExport,
        output::print,
        settings::dead_queue,
    },
    config::Config,
    dead_letters::letter::whole,
    exit_code::{Code, Error},
    transport::{self, DeadLetter, Request, Visit},
};

/// Bytes between the transport and the writer.
const BYTES: usize = 4 << 20;
/// How long the transport waits for the writer, before it looks again.
const FULL: Duration = Duration::from_millis(5);

pub(super) fn run(config: &Config, verb: &FailedExport) -> Result<Code, Error> {
    let condition = condition(&verb.filter)?;
    let queue = dead_queue(config, &verb.queue);
    let transport = open(config)?;
    let (sender, lines) = mpsc::channel::<String>();
    let unwritten = Arc::new(AtomicUsize::new(0));
    let waiting = Arc::clone(&unwritten);
    let visit = move |letter: &DeadLetter| {
        if !condition.holds(letter) {
            return Visit::Keep;
        }
        if waiting.load(Ordering::Relaxed) > BYTES {
            return Visit::Wait(FULL);
        }
        let line = format!("{}\n", whole(letter));
        waiting.fetch_add(line.len(), Ordering::Relaxed);
        sender.send(line).map_or(Visit::Stop, |()| Visit::Keep)
    };
    let (reply, answer) = oneshot::channel();
    transport.ask(Request::WalkDead { queue, visit: Box::new(visit), reply });
    // Ends when the visitor is dropped, or with the reader of our output.
    let written = lines.iter().try_for_each(|line| {
        unwritten.fetch_sub(line.len(), Ordering::Relaxed);
        print(&line)
    });
    drop(lines);
    answer.blocking_recv().unwrap_or(Err(transport::Error::Closed)).map_err(|error| from_transport_error(&error))?;
    written.map(|()| Code::Ok)
}
