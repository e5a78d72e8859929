//! The schema: its steps (`steps`), how a database is brought to it (`migrate`), names of queues (`queue_ids`).

pub(super) mod migrate;
pub(super) mod queue_ids;
pub(super) mod steps;
