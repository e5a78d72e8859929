//! Schedules: `held_lease` is the lease of the one scheduler of an application and what its holder remembers, `lease_holder`
//! takes it, keeps it and fires, `lease` asks for it.

pub(super) mod held_lease;
pub(super) mod lease;
pub(super) mod lease_holder;
