//! The ledger: the jobs of one application, and what entries and time make of them.
//!
//! [`Ledger::fold`] takes entries and the time, and gives one [`Step`]: what is to be stored together, and what is to be said once it
//! is. Nothing here reads a clock or draws from chance: time is an argument, and ids come from a seed and a counter.

mod admission;
mod bounds;
mod census;
mod ends;
mod fold;
mod inputs;
mod members;
mod orders;
mod out;
mod state;
mod steps;
mod view;
mod views;
mod waiting;
mod wiping;

pub use census::{Census, Counts};
pub use fold::Ledger;
pub use out::{Ended, Lookup, Step, StepDone};
pub use view::{DeadTask, Line, Retrying, Snoozed, StepState, StepView, Tasks, View, Wiped, place};
pub use views::{left_planned, queues_of, stranded};

#[cfg(test)]
mod tests;
