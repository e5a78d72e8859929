//! Rounds of pings to idle workers.

use crate::clock::Instant;

/// The rounds.
#[derive(Debug, Default)]
pub(in crate::master::core) struct PingRounds {
    /// Of the last one.
    pub(in crate::master::core) number: u64,
    pub(in crate::master::core) next_at: Instant,
    /// Somebody was asked and has until then to answer.
    pub(in crate::master::core) answers_by: Option<Instant>,
}
