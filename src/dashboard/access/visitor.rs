//! Who asks.

use crate::config::dashboard::Role;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// The user's name; `None`: whoever has the key.
    pub(crate) name: Option<String>,
    /// What they may do.
    pub(crate) role: Role,
}

impl Visitor {
    /// As it stands in the master's log and in lists.
    pub(crate) fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or("the key's holder")
    }
}
