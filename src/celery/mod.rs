//! Celery's messages as a form of task: which queues have them, what is in them, and how they are written.
//!
//! A queue with `protocol: celery` carries messages as Celery's own producers write them, in its protocol 2 (what is said of the
//! task stands in headers) or 1 (all of it stands in the body). They are read here and never rewritten: body, headers and
//! properties stay as they came, so that Celery's own workers can take any of them again.
//!
//! But for [`node`], which has a thread and a connection, nothing here does input or output. Nothing trusts a byte of what it reads. What a message says in a wrong type counts as not said, or,
//! where the task would then be run otherwise than its producer wanted, as a message that cannot be read.

pub mod event;
pub mod message;
pub mod node;
pub mod payload;
mod repr;
pub mod result;
pub mod revoked;
pub mod stamps;

pub use crate::protocol::{CeleryQueue, DeclareAs, Protocol};
