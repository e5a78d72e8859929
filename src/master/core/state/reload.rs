//! A reload that is under way.

/// A reload whose changes do not all stand yet.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Reload {
    /// The commands that are answered at its end.
    pub(in crate::master::core) waiting: Vec<u64>,
    /// What did not work.
    pub(in crate::master::core) problems: Vec<String>,
    /// Whatever can be waited for is so; tasks in hand may take hours, and a transport may be away.
    pub(in crate::master::core) is_ready: bool,
    /// Something happened that may have brought it further.
    pub(in crate::master::core) has_moved: bool,
}
