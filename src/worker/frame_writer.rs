//! Writes frames from a worker to its master.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::{Mutex, PoisonError},
};

/// What may stay allocated between frames.
const KEPT: usize = 64 * 1024;

/// Writes frames, each with one `write`. Shared by the worker's loop and the contexts of its tasks.
#[derive(Debug)]
pub(super) struct FrameWriter(Option<Mutex<Writing>>);

#[derive(Debug)]
struct Writing {
    socket: UnixStream,
    frame: Vec<u8>,
}

impl FrameWriter {
    pub(super) fn to(socket: UnixStream) -> Self {
        Self(Some(Mutex::new(Writing { socket, frame: Vec::new() })))
    }

    /// To no master: everything is taken and forgotten.
    pub(super) const fn nowhere() -> Self {
        Self(None)
    }

    /// Sends what `fill` appends.
    pub(super) fn send(&self, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let Some(writing) = &self.0 else { return Ok(()) };
        let mut writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Writing { socket, frame } = &mut *writing;
        frame.clear();
        fill(frame);
        let sent = socket.write_all(frame);
        if frame.capacity() > KEPT {
            *frame = Vec::new();
        }
        sent
    }
}
