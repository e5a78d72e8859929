//! The log: one event stream on stdout, one `write` per line.
//!
//! A thread of its own writes, because a write to stdout can block for as long as it likes (`| less`, a stuck journal)
//! and the master must not. In front of it is a queue of at most [`QUEUE_LIMIT`] bytes. When that is full, the
//! master's own lines are counted and dropped, and the workers' output is not read until
//! [`Logger::has_room`] again; once the master stops it is, and lines that do not fit are dropped, so that workers can end that
//! wait for their output to be read. A closed stdout ends the log, not the work.
//!
//! [`Logger`] is the handle; a line gets its form in `format` (and its priority in [`journal`]), and waits in `queue` for the
//! writer. `events` turns events of the `tracing` crate into lines.
#![doc = include_str!("LINES.md")]
#![warn(clippy::missing_panics_doc)]

pub(crate) mod events;
mod format;
pub mod journal;
mod logger;
mod queue;

pub use self::{
    format::{Format, LogContext, MASTER, format_line},
    logger::Logger,
    queue::QUEUE_LIMIT,
};
pub use crate::level::{Level, UnknownLevel};
