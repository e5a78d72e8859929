//! What people and monitoring are shown of the core. Reads, never decides.

pub(crate) mod health;
pub(crate) mod json;
pub(crate) mod metrics;
pub(crate) mod slots;
