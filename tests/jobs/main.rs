//! Pipelines: jobs of several steps.
//!
//! | What is shown | Where |
//! | --- | --- |
//! | the ledger under dying masters and coordinators, doubles, reordering, strays; each of seven mutants is seen | `simulation` |
//! | `asynctask jobs` with real processes: no master, one, one that does not answer; refusals; keys, ids, restarts | `commands` |
//! | jobs of many items while workers and masters are killed, two masters on one file | `storm` |
//! | the example project, as its page says it | `example` |

#[path = "../support/mod.rs"]
mod support;

mod again;
mod commands;
mod coordinators;
mod deaths;
mod ends;
mod example;
mod halting;
mod items;
mod keys;
mod simulation;
mod steps;
mod storm;
