//! How many ids of revoked tasks are remembered, and for how long. The node and the core of a master each keep them, and are to
//! forget the same ones.
//!
//! Celery's own workers (`celery.worker.state`) keep as many, and tell those of the last three hours to a worker that starts; those
//! that are older they forget by the way, so that a delayed task may be run that was revoked. Here a task may be delayed for long without
//! taking memory, so its revocation is remembered for long.

use std::time::Duration;

/// Most ids; of more, the oldest are forgotten.
pub const MOST: usize = 50_000;
/// How long one is remembered.
pub const KEPT_FOR: Duration = Duration::from_hours(31 * 24);
/// How long one is told to nodes that start.
pub const TOLD_FOR: Duration = Duration::from_hours(3);
/// Longest id that is remembered, in bytes; Celery's have 36.
pub const ID_LIMIT: usize = 255;
