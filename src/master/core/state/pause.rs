//! The pause of a queue that a person asked for.

use crate::clock::{Instant, Timestamp};

/// A person wants no tasks of a queue taken.
#[derive(Clone, Debug)]
pub(in crate::master::core) struct Pause {
    /// Who, and for whom.
    pub(in crate::master::core) by: String,
    /// When it was asked for.
    pub(in crate::master::core) since: Timestamp,
    /// When it ends by itself.
    pub(in crate::master::core) until: Option<Instant>,
    /// The next run is to know it.
    pub(in crate::master::core) is_kept: bool,
}
