//! The totals of a run: tasks done, attempts failed, attempts to be made again, tasks dead-lettered. Queues and slots have
//! counts of their own.

/// What a run did, for its summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tasks done.
    pub processed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts that are to be made again.
    pub retried: u64,
    /// Tasks dead-lettered.
    pub dead_lettered: u64,
}
