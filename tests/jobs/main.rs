//! Pipelines: jobs of several steps.
//!
//! | What is shown | Where |
//! | --- | --- |
//! | the ledger under dying masters and coordinators, doubles, reordering, strays; each of six mutants is seen | `simulation` |

mod simulation;
