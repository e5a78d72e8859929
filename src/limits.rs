//! Limits on texts of workers, producers and brokers, the same for all transports and applied where a text comes in.
//!
//! Such a text may have any length. The part of it that goes into a dead letter, `status` or a line of the log is bounded by
//! these, in bytes and at whole characters.

/// Longest error of a task. It must fit into a message's headers, beside all others.
pub(crate) const ERROR: usize = 2 * 1024;
/// Longest detail of an error, and longest output, likewise.
pub(crate) const DETAIL: usize = 32 * 1024;
/// Longest note of a task's progress.
pub(crate) const NOTE: usize = 256;
/// Longest text about what a worker, or a broker, did wrong.
pub(crate) const FAULT: usize = 300;
/// Longest frame in bytes, its newline included.
pub(crate) const FRAME: usize = 16 * 1024 * 1024;
/// Tasks that one outcome may submit: as many as a transport can be asked to store in one step without being deaf for
/// long.
pub(crate) const FOLLOW_UPS: usize = 65_536;
/// Longest result that a process for one task leaves in its file.
pub(crate) const RESULT: u64 = 1024 * 1024;
/// Longest payload of a job: with what steps gave it goes into the frame of each first task, and with the states of its steps into what
/// is stored of the job, which a broker of today takes up to 16 MiB.
pub(crate) const JOB_PAYLOAD: usize = 8 * 1024 * 1024;
/// Open jobs of an application: whoever coordinates them has all of them in its memory, and on a broker it holds a message for each, of which a
/// channel bears 65,535, while some are written anew.
pub(crate) const OPEN_JOBS: usize = 50_000;
/// Longest result that a task of a job gives to the steps after it.
pub(crate) const JOB_RESULT: usize = 32 * 1024;
/// Longest memo of a task.
pub(crate) const MEMO: usize = 16 * 1024;
/// Names of queues, chosen by workers, that a transport knows by heart. When there are more, it asks for them again.
pub(crate) const KNOWN_QUEUES: usize = 4096;
