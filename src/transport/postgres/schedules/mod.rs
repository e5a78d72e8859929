//! The memory of schedules: a row for each moment that fired, stored in one transaction with its task. Who may fire holds a lock of the
//! session that claims.

pub(super) mod memory;
