//! The core's chapter on tasks of jobs: what their ledger is told, and what becomes of those that count for nothing any more.
//!
//! ```text
//! done ── items, orders, the end ──> stored with its settlement                                    `entries`
//! a step's first task is begun ── news ──> Action::TellLedger
//! JobsStopped ─ void ───> waits: discarded · ahead: recalled · in hand: its worker is ended        `stopped`
//!            └─ frozen ─> waits, ahead: back to its queue · in hand: goes on
//! nothing is left ── live jobs whose tasks are gone ──> the run ends with an error                  `halting`
//! ```
//!
//! Whatever else ends a task of a job, the transport tells the ledger with the settlement. A task of no job costs one look at an
//! empty place.

mod entries;
mod halting;
mod stopped;
#[cfg(test)]
mod tests;
