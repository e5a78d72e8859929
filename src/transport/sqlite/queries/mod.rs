//! Requests that are answered at once: submits, counts, dead letters, the lease.

pub(super) mod dead_letters;
pub(super) mod depth;
pub(super) mod reader;
pub(super) mod requests;
