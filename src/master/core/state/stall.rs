//! Since when the transport stores nothing, and why.

use std::time::Duration;

use crate::clock::Instant;

/// In halt mode: how long the transport, or a queue, may be out of reach, or store nothing, before the run ends with 69.
pub(in crate::master::core) const UNREACHABLE_LIMIT: Duration = Duration::from_secs(30);

/// Since when nothing is stored, and why as far as that is known.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Stall {
    /// The transport said that it cannot, and has not taken that back.
    pub(in crate::master::core) told: Option<(Instant, String)>,
    /// When it last settled something, or when the first settlement was owed that it has not answered.
    pub(in crate::master::core) moved_at: Instant,
}

impl Stall {
    /// Something was settled.
    pub(in crate::master::core) fn moved(&mut self, now: Instant) {
        self.moved_at = now;
    }

    /// What the transport says of it.
    pub(in crate::master::core) fn problem(&self) -> Option<&str> {
        self.told.as_ref().map(|(_, cause)| cause.as_str())
    }

    /// The same, to be put behind a sentence.
    pub(in crate::master::core) fn cause(&self) -> String {
        self.problem().map(|cause| format!(": {cause}")).unwrap_or_default()
    }
}
