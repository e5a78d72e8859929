//! The settings.
//!
//! [`Config`] is the result of reading, merging and checking; everything in it is valid. The text of the settings, and the place
//! of each value in it, stay inside this module:
//!
//! ```text
//! files, --set ── index (positions) ─┐
//!              └─ raw (values) ──────┴─ node ── file (merging) ── check ── Config ── show
//!                                                  └─ report ── problem: all that is wrong, at once
//! ```
//!
//! Nothing here starts, creates or connects to anything; only the files named are read.

#![warn(clippy::missing_panics_doc)]

mod check;
pub mod dashboard;
mod file;
mod index;
mod json;
mod load;
mod names;
mod node;
mod problem;
mod raw;
mod reader;
mod report;
mod reserved_names;
mod set;
mod show;
mod substitute;
mod types;
mod working_folder;
mod zone;

pub(crate) use self::working_folder::working_folder;
pub use self::{
    file::Sources,
    index::Position,
    load::{load, load_to_fire},
    names::Names,
    problem::{Origin, Problem, Problems},
    reserved_names::ReservedNames,
    types::{
        Acks, Breaker, Celery, CeleryControl, CeleryEvents, CeleryFailures, Command, Config, MANY, Mode, Queue, Rate,
        Recycle, Supervisor,
    },
};
pub use crate::schedule::{Misfire, Schedule, Target};
pub use crate::units::parse_duration;
