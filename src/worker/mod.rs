//! What user code sees, and the process that runs it.
//!
//! A worker is a process of its own, started by the master from the same binary. It reads frames from one
//! socket, does what they ask, and says how each task ended; it knows no queue, no transport and no other
//! worker. A kind that is not asynchronous is served without a runtime, by blocking reads and writes: a worker
//! costs little memory, so that there can be many. It takes tasks ahead, and gives back what it has not begun: see
//! `frame_reader`.
//!
//! Reading order: the traits ([`Worker`], [`AsyncWorker`]), [`Outcome`], [`Context`], [`Kind`], then `serve` (the child's loop) with
//! `frame_reader` and `inbox`.

#![warn(clippy::missing_panics_doc)]

mod child_io;
mod context;
pub(crate) mod ctl;
mod frame_reader;
mod frame_writer;
mod inbox;
mod job;
mod kind;
mod lines;
mod outcome;
mod panics;
pub(crate) mod registry;
mod serve;
mod serve_async;
mod tracing_lines;
mod traits;

pub use self::{
    context::{Context, SubmitError},
    job::{Input, Job},
    outcome::{Outcome, TaskError, TaskResult},
    traits::{AsyncWorker, Worker},
};
pub(crate) use self::{
    kind::{Foreground, Kind},
    serve::serve,
};
