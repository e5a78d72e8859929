//! The state of a reload: which commands await its end, what failed, and whether it must be examined again. Never holds
//! settings: those are in the plan and in the pools.

/// A reload that has not applied all changes yet.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Reload {
    /// Numbers of the commands that are answered when it ends.
    pub(in crate::master::core) waiting: Vec<u64>,
    /// Errors so far, in words; the answer at the end lists them.
    pub(in crate::master::core) problems: Vec<String>,
    /// All changes are applied but those that wait for tasks in hand, which may take hours, or for the transport to return.
    pub(in crate::master::core) is_ready: bool,
    /// An event happened after which more of it may be complete.
    pub(in crate::master::core) has_moved: bool,
}
