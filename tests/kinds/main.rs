//! Worker kinds: the frames of a child process, programs in other languages, one process per task, and the terms on which
//! programs run.

mod languages;
mod once;
#[path = "../support/mod.rs"]
mod support;
mod terms;
mod worker;
