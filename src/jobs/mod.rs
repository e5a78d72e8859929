//! Jobs: passages of pipelines, from step to step.
//!
//! A *pipeline* is a named graph of *steps* in the settings. A *job* is one passage of it. What happens to its tasks becomes
//! *entries* of the *ledger*, which the *coordinator*, one master, folds into the states of jobs: it counts members, begins steps,
//! ends jobs. All of it is pure here: no I/O, no clock, no randomness of its own.
//!
//! ```text
//! settlement of a task ──> entry ──> ledger: fold(state, entry, now) ──> Advance: states, tasks, void rounds, answers
//! order of a person ─────────┘                                            stored in one step, with the entries gone
//! ```

mod bits;
pub mod definition;
pub mod entry;
pub mod entry_list;
pub mod ledger;
pub mod member_set;
pub mod naming;
pub mod order;
pub mod record;
pub(crate) mod void_rounds;
