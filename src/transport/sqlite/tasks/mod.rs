//! What happens to a task in the file, a statement or two each, inside the caller's transaction.

pub(super) mod cancel;
pub(super) mod claim;
pub(super) mod purge;
pub(super) mod settle;
pub(super) mod submit;
pub(super) mod unique_keys;
