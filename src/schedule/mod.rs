//! Schedules: tasks that are submitted by the calendar.
//!
//! [`cron`] and [`when`] say which moments a schedule names, [`Timer`] which of them fire. Nothing here reads a clock.

pub mod cron;
mod definition;
pub(crate) mod shown;
mod timer;
pub mod when;

pub use self::{
    definition::{CeleryTask, Misfire, Payload, Schedule, Target},
    timer::{Act, SET_BACK, Timer},
};
