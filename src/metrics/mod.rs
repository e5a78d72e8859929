//! Numbers for Prometheus and answers for probes, over HTTP: `/metrics`, `/livez`, `/readyz`.
//!
//! ```text
//!   scraper, probe ── server (a thread of its own) ── Question ──> the master's loop ── Reading ──> page
//! ```
//!
//! The core counts as it goes ([`counts`]); the master's loop copies the numbers when it is asked and does nothing
//! else here. Everything that clients can make long or large, which is reading their requests, writing
//! the page and waiting for the transport's counts, happens in the server's thread. The answers to probes come from the
//! loop: a thread that runs proves nothing about another one.
//!
//! Labels are names from the configuration and words of ours. Nothing that a task, a worker or a broker says becomes
//! one, so the number of series is known before the first task.

#![warn(clippy::missing_panics_doc)]

pub mod counts;
mod family;
mod form;
mod jobs_page;
mod page;
mod reading;
mod server;

pub use self::{
    reading::{JobsReading, LedgerReading, Master, QUEUE_STATES, Question, QueueReading, Reading, SLOT_STATES},
    server::{Listener, Server},
};
