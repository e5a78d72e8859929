//! Processes of workers: starts them, reaps them, exchanges frames with them, and collects the evidence of their ends. Nothing
//! here decides: the decisions are the core's.
//!
//! - [`spawn()`] starts a worker with its frame socket, its output pipe and its own session; [`exec`] executes its program
//!   and never a shell.
//! - [`frame_channel`] is the master's end of the frame socket, [`output`] of the output pipe.
//! - [`interrupts`] receives the signals that stop a command in the foreground.
//! - [`signals`] turns signals into values; [`reap`] turns a SIGCHLD into the end of one process after the other.
//! - [`orphans`] ends the processes that a worker left running, [`predecessors`] those that workers of an ended master left;
//!   both know them by their [`mark`].
//! - [`memory`] reads the kernel's numbers about memory, [`self_usage`] the resources that the master itself uses;
//!   [`descriptor_limit`] raises the master's own limits.
//!
//! All `unsafe` of this crate is in this folder, a sentence at each block.

#![warn(clippy::missing_panics_doc)]

pub mod descriptor_limit;
pub mod exec;
mod exec_options;
mod folder_content;
pub mod frame_channel;
mod frame_fd;
mod host;
pub mod inherited_fd;
pub mod interrupts;
pub mod mark;
pub mod memory;
pub mod orphans;
pub mod output;
pub mod payload_file;
mod pidfd;
pub mod predecessors;
mod read_state;
pub mod readiness;
pub mod reap;
pub mod self_usage;
pub mod signals;
pub mod spawn;
pub mod stacks;
mod start_error;
mod table;

pub use self::{
    frame_channel::FrameChannel,
    frame_fd::{FRAME_FD, reserve_frame_fd},
    host::host,
    interrupts::{Interrupt, Interrupts},
    mark::{Mark, Marker},
    memory::OomWatch,
    orphans::{Left, Trace},
    output::Output,
    payload_file::{PayloadFile, TaskFiles},
    read_state::ReadState,
    readiness::{Room, Watch},
    reap::{Ended, kill_group, next_exit, next_stop},
    signals::{Signal, Signals},
    spawn::{Environment, Program, Spawned, SpawnedOnce, spawn, spawn_once, spawn_task},
    table::Identity,
};
