//! Delays that grow: `first`, `factor` and `longest`.

use crate::{
    backoff::Backoff,
    config::reader::{Section, check_longest},
};

/// Reads `first`, `factor` and `longest` of a section; what is absent is as in `default`.
pub(super) fn backoff(section: &Section<'_>, default: Backoff) -> Backoff {
    let backoff = Backoff {
        first: section.get("first").and_then(|item| item.duration_or_zero()).unwrap_or(default.first),
        factor: section.get("factor").and_then(|item| item.factor()).unwrap_or(default.factor),
        longest: section.get("longest").and_then(|item| item.duration_or_zero()).unwrap_or(default.longest),
    };
    check_longest(section, "first", backoff.first, backoff.longest);
    backoff
}
