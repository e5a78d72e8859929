//! A queue as a run of the master works it: its plan for the core, and the program of its workers.

use super::core::event::QueuePlan;
use crate::process::{Environment, Program};

/// A worker program with its environment. Equal ones are started alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: Program,
    /// Its environment, but for the slot and the mark of each process.
    pub environment: Environment,
}

/// A queue of a run.
#[derive(Debug)]
pub struct QueueRun {
    /// For the core. The number of its launch is given by the shell.
    pub plan: QueuePlan,
    /// What is started for it.
    pub launch: Launch,
}
