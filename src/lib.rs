//! `asynctask` runs other people's tasks in the background and does not lose them.
//!
//! A *master* reads a map of *queues* to *worker kinds*, starts *worker processes*, hands them *tasks* from a
//! *transport*, restarts what dies, retries what fails, and moves what cannot be done to a *dead-letter queue* with the
//! exact cause.
//!
//! ```text
//!   Client, submit ──> transport (SQLite, RabbitMQ) <──> master ── foo[1]  worker process: runs user code,
//!                        queues, dead letters            │ │  └─── foo[2]  speaks frames over one socket
//!                                                        │ └────── bar[1]  python3 worker.py: the same frames
//!                                                     core: decides
//! ```
//!
//! # For users of the library
//!
//! [`App`] is a program with worker kinds; [`Worker`] is a kind, [`Context`] what it knows of its task, [`Outcome`] what it
//! says. [`Client`] submits from any program. [`App::process_queue`] drains a queue without a master ([`drain`]).
//!
//! # Words
//!
//! A *task* is a message in a queue: id, payload, attempts used. A *slot* is the place a worker fills, `foo[1]`; a *pool* the
//! slots of one queue. A *delivery* is a task in our hands, owed one *settlement* (done, retry, dead letter, snooze,
//! release; before its end perhaps accept). An *outcome* is what the worker said. A *session* is one life of the
//! connections to a broker.
//!
//! # Reading order
//!
//! [`task`], [`properties`], [`outcome`], [`frames`], [`retry`] and [`unique`] are the vocabulary; [`payload`] reads what is in a
//! body. [`transport`] is the contract of what
//! carries tasks, with its implementations below it. `master::core` holds every decision; `master::shell` does what it says. [`process`]
//! starts and reaps, [`worker`] is the child's side, [`config`] the settings, [`schedule`] the calendar. [`control`],
//! [`metrics`], [`junit`], [`systemd`] and [`logging`] show the state to people and machines; [`client`] submits tasks from a program that
//! runs none.

pub mod app;
mod async_context;
pub mod backoff;
mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod drain;
pub mod error;
pub mod exec_options;
mod file_owner;
pub mod frames;
pub mod junit;
pub mod level;
mod limits;
pub mod logging;
pub mod master;
pub mod metrics;
pub(crate) mod net;
pub mod outcome;
pub mod payload;
mod plural;
pub mod process;
pub mod properties;
mod redact;
pub mod retry;
pub mod schedule;
pub mod shell_words;
mod suggest;
pub mod systemd;
pub mod task;
mod text;
pub mod transport;
mod unicode;
pub mod unique;
pub mod worker;

pub use app::App;
pub use client::Client;
pub use level::Level;
pub use worker::{AsyncWorker, Context, Outcome, TaskError, TaskResult, Worker};

/// The README's programs are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
