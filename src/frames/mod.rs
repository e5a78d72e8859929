//! Frames between master and worker, protocol 1: newline-delimited JSON over a Unix stream socket.
//!
//! The format is described field by field in `examples/README.md`. The bytes are written and read here, in [`to_worker`] and
//! [`from_worker`]; they are carried by `process::frame_channel` on the master's side and `worker::frame_writer` on the other.
//!
//! A frame is one line that holds an object; its key names the frame: `{"done":{"id":"…"}}`. Unknown keys
//! and unknown frames are ignored by both sides, so that either may be newer; anything else that is not as
//! said here is a [`Fault`], and whoever sent it is not to be trusted any further.
//!
//! The two directions are two files, each with the writing and the reading of the same frames:
//! [`to_worker`] and [`from_worker`]; [`celery`] has what only workers of a Celery application hear and say. What the master uses is named here as well.
#![doc = include_str!("MASTER_SIDE.md")]

pub mod celery;
mod fault;
pub mod from_worker;
pub mod job;
mod lines;
mod messages;
pub mod to_worker;
mod values;
mod wants;

pub(crate) use self::to_worker::is_task;
pub use self::{
    fault::{Fault, LIMIT},
    from_worker::parse,
    lines::LineBuffer,
    messages::{FromWorker, HaltReason, PROTOCOL, Payload, Ready, TaskFrame},
    to_worker::{halt, log_level, ping, recall, task},
    wants::Wants,
};
