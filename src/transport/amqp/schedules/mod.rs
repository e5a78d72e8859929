//! The lease of the one scheduler of an application, and what its holder remembers.

pub(super) mod lease;
pub(super) mod lease_holder;
pub(super) mod lease_memory;
