//! `asynctask` runs other people's tasks in the background and does not lose them.

pub mod app;
pub mod backoff;
mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod drain;
pub mod error;
pub mod frames;
pub mod logging;
pub mod master;
pub mod outcome;
pub mod process;
pub mod retry;
pub mod schedule;
pub mod task;
pub mod transport;
pub mod worker;

pub use app::App;
pub use client::Client;
pub use logging::Level;
pub use worker::{AsyncWorker, Context, Outcome, Result, Worker};
