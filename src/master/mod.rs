//! The master: decides in `core`, acts here.
mod core;
mod death;
mod dispatch;
pub mod event;
mod memory;
mod pool;
mod report;
mod shutdown;
mod slot;
mod timers;
mod verdict;
pub use self::core::{Core, MASTER, Tally};
