//! What workers that have ended a task had left.

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
