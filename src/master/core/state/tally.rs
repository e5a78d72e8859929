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
    /// Of these, tasks of steps of jobs: what they mean is said by the states of their jobs.
    pub dead_of_jobs: u64,
    /// Jobs that failed, in halt mode.
    pub failed_jobs: u64,
}

impl Tally {
    /// Whether a task of no job is a dead letter, or a job failed.
    #[must_use]
    pub const fn has_dead_letters(&self) -> bool {
        self.dead_lettered > self.dead_of_jobs || self.failed_jobs > 0
    }
}
