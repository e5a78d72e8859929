//! How much of what others say is kept: one limit for all transports, applied where a text comes in.
//!
//! Workers, producers and brokers say whatever they like. What becomes part of a dead letter, of `status` or of a line of
//! the log is bounded here, in bytes and at whole characters.

/// Longest error of a task. It must fit into a message's headers, beside all others.
pub(crate) const ERROR: usize = 2 * 1024;
/// Longest detail of an error, and longest output, likewise.
pub(crate) const DETAIL: usize = 32 * 1024;
/// Longest note of a task's progress.
pub(crate) const NOTE: usize = 256;
/// Longest text about what a worker, or a broker, did wrong.
pub(crate) const FAULT: usize = 300;
/// Tasks that one outcome may submit: as many as a transport can be asked to store in one step without being deaf for
/// long.
pub(crate) const FOLLOW_UPS: usize = 65_536;
/// Names of queues, chosen by workers, that a transport knows by heart. When there are more, it asks for them again.
pub(crate) const KNOWN_QUEUES: usize = 4096;
