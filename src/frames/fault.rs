//! What makes a line no frame: its length, or its text.

use std::fmt;

use crate::{
    limits::{self, FAULT},
    text::shorten,
};

/// Longest frame in bytes, its newline included.
pub const LIMIT: usize = limits::FRAME;

/// What one side may not send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is longer than [`LIMIT`], or has not ended within it.
    #[error("a frame is longer than {} MiB", LIMIT >> 20)]
    TooLong,
    /// The line is not a frame, or lacks what its frame requires.
    #[error("a frame does not parse: {cause}")]
    Unreadable {
        /// What is wrong, and in which column.
        cause: String,
    },
}

impl Fault {
    pub(super) fn unreadable(cause: &dyn fmt::Display) -> Self {
        // A type error quotes what it found, which may be megabytes.
        let cause = shorten(cause.to_string(), FAULT);
        Self::Unreadable { cause: cause.replace(" at line 1 column ", " at column ") }
    }
}
