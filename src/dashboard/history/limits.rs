//! How much the history keeps.

use std::time::Duration;

/// What is kept, at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: u64,
    /// Of the file.
    pub(crate) bytes: u64,
    /// How long failures are kept.
    pub(crate) failures: Duration,
    /// How long other ends are kept.
    pub(crate) others: Duration,
}

impl Limits {
    pub(crate) const DEFAULT: Self = Self {
        rows: 100_000,
        bytes: 64 * 1024 * 1024,
        failures: Duration::from_hours(7 * 24),
        others: Duration::from_hours(24),
    };
}
