//! Orders of people, schedules and workers.

mod answers;
mod carry_out;
mod change;
mod names;
mod restart;
mod start;
