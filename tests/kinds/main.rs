//! Worker kinds: the frames of a child process, programs in other languages, one process per task, and the options that
//! programs are executed with.

mod ahead;
mod exec_options;
mod languages;
mod once;
#[path = "../support/mod.rs"]
mod support;
mod worker;
