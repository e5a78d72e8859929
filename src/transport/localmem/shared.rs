//! What the transports of one name share: the tables, under one lock, and the condition by which each learns of changes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::tables::Tables;

/// The tables of one name.
#[derive(Default)]
pub(super) struct Shared {
    tables: Mutex<Tables>,
    /// Notified after each change of the tables.
    pub(super) changed: Condvar,
}

impl Shared {
    /// The tables. A panic in a visitor happens outside of the lock, so what a poisoned lock holds is whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
