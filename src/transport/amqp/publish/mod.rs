//! What goes: messages that are confirmed, and tasks that move from one queue to another.

pub(super) mod bulk;
pub(super) mod bulk_results;
pub(super) mod forward;
pub(super) mod outbox;
pub(super) mod pending_copy;
pub(super) mod publisher;
pub(super) mod replies;
pub(super) mod submit;
pub(super) mod undeliverable;
