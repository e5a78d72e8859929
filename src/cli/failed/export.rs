//! `asynctask failed export`: JSON lines, while they are read.
//!
//! A slow reader (`| less`) must not hold up the transport's thread, which keeps the connection alive: the lines go
//! through a short queue, and while it is full the transport is asked to wait.

use std::{
    sync::mpsc::{TrySendError, sync_channel},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{DeadLetter, Request, Visit, chosen::Condition, dead_queue, open, print, told, whole};
use crate::{
    cli::args::FailedExport,
    config::Config,
    error::{Code, Error},
    transport,
};

/// Lines between the transport and the writer.
const LINES: usize = 64;
/// How long the transport waits for the writer, before it looks again.
const FULL: Duration = Duration::from_millis(20);

pub(super) fn run(config: &Config, verb: &FailedExport) -> Result<Code, Error> {
    let condition = Condition::of(&verb.filter)?;
    let queue = dead_queue(config, &verb.queue);
    let transport = open(config)?;
    let (sender, lines) = sync_channel::<String>(LINES);
    let visit = move |letter: &DeadLetter| {
        if !condition.holds(letter) {
            return Visit::Keep;
        }
        match sender.try_send(format!("{}\n", whole(letter))) {
            Ok(()) => Visit::Keep,
            Err(TrySendError::Full(_)) => Visit::Wait(FULL),
            Err(TrySendError::Disconnected(_)) => Visit::Stop,
        }
    };
    let (reply, answer) = oneshot::channel();
    transport.ask(Request::WalkDead { queue, visit: Box::new(visit), reply });
    // Ends when the visitor is dropped, or with the reader of our output.
    let written = lines.iter().try_for_each(|line| print(&line));
    drop(lines);
    answer.blocking_recv().unwrap_or(Err(transport::Error::Closed)).map_err(|error| told(&error))?;
    written.map(|()| Code::Ok)
}
