//! Requests that are answered at once: submits, counts, purges, dead letters.

pub(super) mod answer;
pub(super) mod dead_letters;
pub(crate) mod dead_page;
pub(super) mod depth;
pub(super) mod reader;
