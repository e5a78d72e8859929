//! Pipelines: jobs of several steps.
//!
//! | What is shown | Where |
//! | --- | --- |
//! | the ledger under dying masters and coordinators, doubles, reordering, strays; each of six mutants is seen | `simulation` |
//! | the example project, as its page says it | `example` |

#[path = "../support/mod.rs"]
mod support;

mod example;
mod simulation;
