//! The log: one event stream on stdout, one `write` per line.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What a person must look at.
    Error,
    /// What a person should look at.
    Warning,
    /// What happened.
    Info,
    /// How it happened.
    Debug,
}
