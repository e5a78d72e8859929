//! Tasks whose worker has died and whose verdict waits for a stop to explain the death.

use super::in_flight::InFlight;
use crate::{clock::Instant, master::core::event::Ended};

/// Tasks whose worker died of TERM or INT, until it is clear whether a stop explains that.
#[derive(Debug)]
pub(in crate::master::core) struct PendingVerdict {
    pub(in crate::master::core) until: Instant,
    pub(in crate::master::core) in_flight: Vec<InFlight>,
    pub(in crate::master::core) pid: Option<u32>,
    pub(in crate::master::core) ended: Ended,
    pub(in crate::master::core) slot: String,
}
