//! Going through a dead-letter queue: to show, to send again, to remove, to let expire. One dead letter is read in
//! `message::dead_letter`, and written in `message::properties`.

pub(super) mod ack_transaction;
pub(super) mod count;
pub(super) mod hindrances;
pub(super) mod requeue;
pub(super) mod sweep;
pub(super) mod sweep_schedule;
pub(super) mod visited;
pub(super) mod walk;
pub(super) mod walk_lock;
pub(super) mod walk_progress;
