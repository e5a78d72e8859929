//! Whether workers wait for what is done next: what those that have ended a task had left, and whether a seat is free.

/// A worker with so many tasks ahead does not miss the next ones for a fraction of a millisecond.
pub(in crate::master::core) const MANY: usize = 16;

/// What workers that have ended a task had left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::master::core) enum Backlog {
    /// None has ended one.
    #[default]
    Unknown,
    /// Each has at least [`MANY`] that were sent ahead.
    Deep,
    /// One has fewer.
    Shallow,
}

/// What was seen since it was asked for last.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::master::core) struct Demand {
    pub(in crate::master::core) backlog: Backlog,
    /// A seat was free, with nothing here for it.
    pub(in crate::master::core) seat_waits: bool,
}
