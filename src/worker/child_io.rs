//! The child's end of the frame socket: taking it over, waiting for it, and the frames that both loops answer alike.

use std::{
    env, io,
    os::{fd::AsFd, unix::net::UnixStream},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{frame_writer::FrameWriter, lines::Lines};
use crate::{
    frames::{Fault, from_worker, to_worker::ToWorker},
    level::Level,
    process::inherited_fd,
};

/// Why a worker cannot begin, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("a worker is started by the master alone: {variable} names no socket: {source}")]
    NoSocket { variable: &'static str, source: io::Error },
    #[error("{kind} cannot start: {text}")]
    NotBuilt { kind: String, text: String },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("from the master: {0}")]
    Fault(#[from] Fault),
}

/// Takes the frame socket that the master passed on.
pub(super) fn take_socket() -> Result<UnixStream, Broken> {
    const VARIABLE: &str = "ASYNCTASK_FD";
    let missing = |source| Broken::NoSocket { variable: VARIABLE, source };
    let number = env::var(VARIABLE).map_err(|error| missing(io::Error::other(error)))?;
    let number = number.parse().map_err(|error| missing(io::Error::other(error)))?;
    let socket = UnixStream::from(inherited_fd::take(number).map_err(missing)?);
    socket.local_addr().map_err(missing)?;
    Ok(socket)
}

/// Waits until something, or the end, has come.
///
/// In poll(2), not in the read: on Linux the master's taking of our last frame wakes a blocked read of a Unix socket, to find
/// nothing, and for short tasks that costs more than the second call.
pub(super) fn wait_until_readable(socket: &UnixStream) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            polled => return Ok(polled.map(drop)?),
        }
    }
}

/// Answers a frame that begins and ends nothing.
pub(super) fn answer(frame: &ToWorker<'_>, writer: &FrameWriter, lines: &Lines) -> io::Result<()> {
    match frame {
        ToWorker::Ping { n } => writer.send(|frame| from_worker::pong(*n, frame)),
        // Of a kind that begins at once what comes, so that there is never anything to give back.
        ToWorker::Recall => writer.send(|frame| from_worker::returned(&[], frame)),
        ToWorker::LogLevel(level) => {
            lines.set_level(*level);
            Ok(())
        }
        ToWorker::Unknown(name) => {
            lines.write(Level::Debug, &format_args!("Unknown frame ignored: {name}"));
            Ok(())
        }
        ToWorker::Task(_) | ToWorker::Halt(_) => Ok(()),
    }
}
