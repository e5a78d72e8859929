//! What happens to a task in its table, a statement or two each, inside the caller's transaction.

pub(super) mod cancel;
pub(super) mod claim;
mod copies;
pub(super) mod members;
pub(super) mod pending;
pub(super) mod purge;
pub(super) mod settle;
pub(super) mod settle_sql;
pub(super) mod submit;
pub(super) mod unique_keys;
