//! Everything the master does to processes: starting them, hearing that they ended, talking to them, and knowing
//! why they died. It decides nothing: [`crate::task`] has the words, the master's core has the decisions.
//!
//! - [`spawn()`] starts a worker with its frame socket, its output pipe and its own session; [`exec`] executes its program
//!   and never a shell.
//! - [`frame_channel`] is the master's end of the frame socket, [`output`] of the output pipe.
//! - [`interrupts`] hears that a command in the foreground is to stop.
//! - [`signals`] turns signals into values; [`reap`] turns a SIGCHLD into the end of one process after the other.
//! - [`orphans`] ends what a worker left when it ended, [`predecessors`] what the workers of a master that is no more left;
//!   [`mark`] is by what that is known.
//! - [`memory`] reads what the kernel knows about memory, [`self_usage`] what the master itself takes;
//!   [`descriptor_limit`] is what it has more than its workers.
//!
//! All `unsafe` of this crate is in this folder, a sentence at each block.

pub mod descriptor_limit;
pub mod exec;
mod exec_options;
pub mod frame_channel;
pub mod inherited_fd;
pub mod interrupts;
pub mod mark;
pub mod memory;
pub mod orphans;
pub mod output;
pub mod payload_file;
mod pidfd;
pub mod predecessors;
pub mod readiness;
pub mod reap;
pub mod self_usage;
pub mod signals;
pub mod spawn;
pub mod stacks;
mod start_error;
mod table;

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, AsRawFd},
};

pub use self::{
    frame_channel::FrameChannel,
    interrupts::{Interrupt, Interrupts},
    mark::{Mark, Marker},
    memory::OomWatch,
    orphans::{Left, Trace},
    output::Output,
    payload_file::PayloadFile,
    readiness::{Room, Watch},
    reap::{Ended, kill_group, next_exit, next_stop},
    signals::{Signal, Signals},
    spawn::{Environment, FRAME_FD, Program, Spawned, SpawnedOnce, reserve_frame_fd, spawn, spawn_once, spawn_task},
    table::Identity,
};

/// What is left to read after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// Nothing at the moment: wait until the descriptor is readable.
    Drained,
    /// More is there already; the read stopped so that others get their turn.
    More,
    /// The other side has closed it. That says nothing about a process: wait for [`next_exit`].
    Closed,
}

/// The name of this host; empty where it has none that is text.
#[must_use]
pub fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// How many bytes a pipe or socket holds at this moment.
fn readable_bytes(descriptor: impl AsFd) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: FIONREAD writes one int through the pointer, which points to one, and the descriptor is open: it is borrowed.
    let result = unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}
