//! Requests that are answered at once: submits, counts, purges, dead letters.

pub(super) mod answer;
pub(super) mod dead_letters;
pub(super) mod depth;
pub(super) mod reader;
