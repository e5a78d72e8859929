//! `asynctask` runs other people's tasks in the background and does not lose them.

pub mod backoff;
pub mod clock;
pub mod config;
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
