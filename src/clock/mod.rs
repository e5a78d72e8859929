//! Time as an argument.
//!
//! The core never reads a clock: each event comes with a [`Now`], and deadlines are [`Instant`]s that the
//! caller compares. Only [`Clock`] touches the operating system, and only the shell, the transports' threads
//! and the command line own one. That is what lets the simulation run an hour of faults in a millisecond.

pub(super) mod jumps;
mod running;
mod system;
mod time;

pub(crate) use self::system::boot_id;
pub use self::{
    running::{Running, RunningClock},
    system::Clock,
    time::{Instant, Now, Reading, Timestamp, in_words},
};
