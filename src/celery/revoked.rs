//! How many ids of revoked tasks are remembered, and for how long: as Celery's own workers do (`celery.worker.state`). The node and
//! the core of a master each keep them, and are to forget the same ones.

use std::time::Duration;

/// Most ids; of more, the oldest are forgotten.
pub const MOST: usize = 50_000;
/// How long one is remembered.
pub const KEPT_FOR: Duration = Duration::from_hours(3);
/// Longest id that is remembered, in bytes; Celery's have 36.
pub const ID_LIMIT: usize = 255;
