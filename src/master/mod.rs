//! The master: one loop that waits for the next event or deadline, asks the core, and does what it says.
//!
//! ```text
//!   signals ─┐                          ┌─> spawn, kill          (process)
//!   frames  ─┼─> Event ─> core ─> Action┼─> frames               (workers)
//!   transport┘      (decides)           ├─> settle, credit       (transport)
//!                                       └─> lines                (logging)
//! ```
//!
//! `run` goes from a [`RunConfig`] to the loop of `shell`, and gives how it [`Finished`]. The shell decides nothing, and nothing
//! blocks in it: the transport, the log's writer and the disk have threads of their own.
#![doc = include_str!("PROMISES.md")]

pub mod coordinator;
pub mod core;
mod finished;
mod kept_file;
pub mod page_keeper;
mod queue_run;
mod run;
mod run_config;
mod shell;

pub use self::{
    core::{Core, Passed, Tally},
    finished::{Finished, LEFT_UNKNOWN},
    queue_run::{Launch, QueueRun},
    run::{run, run_on},
    run_config::RunConfig,
    shell::settings_reader::{Fresh, Objection, Reader},
};
