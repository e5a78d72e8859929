//! What the loop works with: worker processes, questions from outside, settings read again. Performs, never decides.
//!
//! `state` holds it all, `event_loop` waits and handles, `actions` does what the core says; the other files are one duty each.

mod actions;
pub(super) mod celery;
mod commands;
mod coordination;
mod deadlines;
pub(super) mod event_loop;
mod exits;
mod jobs;
mod metrics_questions;
mod once_files;
pub(super) mod orphans;
mod reload_settings;
mod run_now;
pub(super) mod settings_reader;
mod spawning;
pub(super) mod state;
mod stopped;
mod transport_events;
mod views;
mod worked_jobs;
mod workers;
