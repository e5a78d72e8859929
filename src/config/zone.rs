//! The time zone of the system, by which schedules go that name none of their own.
//!
//! It is what the environment's `TZ` says, else what `/etc/localtime` is. Where that leads to no zone, UTC is not taken in its
//! place silently: a command that fires or shows schedules reports a problem. No other command needs the zone.

use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::problem::Origin;
use crate::{clock::Timestamp, schedule::Schedule, text};

/// What is read where `TZ` is not set; `localtime(5)`.
const LOCALTIME: &str = "/etc/localtime";

/// Most bytes of a name that are shown.
const SHOWN: usize = 200;

impl Schedule {
    /// [`Self::announcement`] with the zone that it goes by and the next moment on the clocks there.
    #[must_use]
    pub fn announcement_at(&self, now: Timestamp) -> String {
        let next = match self.when.next_after(now) {
            Some(next) => format!("next {}", self.when.in_its_zone(next)),
            None => "no moment to come".to_owned(),
        };
        format!("{} ({}; {next})", self.announcement(), self.zone())
    }

    /// The zone that it goes by: its name, or where the system says it.
    #[must_use]
    pub fn zone(&self) -> String {
        let named_by =
            || std::env::var_os("TZ").map_or_else(|| LOCALTIME.to_owned(), |zone| shown(&zone.to_string_lossy()));
        self.when.zone_name().map_or_else(named_by, str::to_owned)
    }
}

/// Why the system's zone is not known: where it is said, and what is wrong there. `None`: it is known.
pub(super) fn unknown() -> Option<(Origin, String)> {
    // There is a name for the unknown zone, which says nothing either.
    if TimeZone::try_system().is_ok_and(|zone| !zone.is_unknown()) {
        return None;
    }
    if let Some(zone) = std::env::var_os("TZ") {
        let cause = format!("\"{}\" is not a known time zone", shown(&zone.to_string_lossy()));
        return Some((Origin::Option("$TZ".to_owned()), cause));
    }
    let path = PathBuf::from(LOCALTIME);
    let cause = match (std::fs::symlink_metadata(&path), std::fs::read_link(&path)) {
        (Err(error), _) => format!("it tells no time zone ({error}), nor does $TZ"),
        (Ok(_), Ok(target)) => format!("it leads to no time zone data ({})", shown(&target.to_string_lossy())),
        (Ok(_), Err(_)) => "it holds no time zone data".to_owned(),
    };
    Some((Origin::File { path, position: None }, cause))
}

/// What may help where a zone is not known.
pub(super) fn hint() -> Option<String> {
    let is_missing = jiff::tz::db().is_definitively_empty();
    is_missing.then(|| "no time zone data is installed here (tzdata)".to_owned())
}

/// Text of others: short, and nothing in it that a terminal obeys.
fn shown(text: &str) -> String {
    text::cut(text, SHOWN).escape_debug().to_string()
}
