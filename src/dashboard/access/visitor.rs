//! Who asks.

use crate::config::dashboard::Role;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// The user's name; `None`: whoever has the key.
    pub(crate) name: Option<String>,
    /// What they may do.
    pub(crate) role: Role,
    /// They have a session, which they can end: who brings the key, or is vouched for by a proxy, is let in each time anew.
    pub(crate) has_session: bool,
}

impl Visitor {
    /// As it stands in the master's log and in lists.
    pub(crate) fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or("the key's holder")
    }
}
