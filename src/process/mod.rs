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
    host::host,
    interrupts::{Interrupt, Interrupts},
    mark::{Mark, Marker},
    memory::OomWatch,
    orphans::{Left, Trace},
    output::Output,
    payload_file::PayloadFile,
    read_state::ReadState,
    readiness::{Room, Watch},
    reap::{Ended, kill_group, next_exit, next_stop},
    signals::{Signal, Signals},
    spawn::{Environment, FRAME_FD, Program, Spawned, SpawnedOnce, reserve_frame_fd, spawn, spawn_once, spawn_task},
    table::Identity,
};
