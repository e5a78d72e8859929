//! Schedules: `lease` is who may fire (a lock of the file), `memory` is what has fired (rows).

pub(super) mod lease;
pub(super) mod memory;
