//! The state of the rounds of pings to idle workers: the number of the last round, when the next is due, and until when
//! answers are awaited. Never decides whom to ping: that is the chapter `ping`.

use crate::clock::Instant;

/// The rounds of pings of a run.
#[derive(Debug, Default)]
pub(in crate::master::core) struct PingRounds {
    /// The number of the last round.
    pub(in crate::master::core) number: u64,
    /// When the next round is due.
    pub(in crate::master::core) next_at: Instant,
    /// Until when the workers that were pinged have to answer. `None`: no answer is awaited.
    pub(in crate::master::core) answers_by: Option<Instant>,
}
