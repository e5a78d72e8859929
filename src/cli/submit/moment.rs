//! When a task is due, and until when: durations from now, and moments.

use std::{str::FromStr, time::Duration};

use jiff::{civil::DateTime, tz::TimeZone};

use crate::{
    cli::{args::Submit, settings::duration},
    clock::{Clock, Timestamp},
    exit_code::{Code, Error},
};

/// The last moment that can be told: a day and some hours before the end of the year, so that it has a date in every zone.
const LAST: &str = "9999-12-30T22:00:00Z";

/// When tasks are due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// So long after each is stored.
    After(Duration),
    /// All at this moment.
    At(Timestamp),
}

impl Due {
    pub(super) fn of(verb: &Submit) -> Result<Self, Error> {
        if let Some(text) = &verb.at {
            return moment(text)
                .map(Self::At)
                .map_err(|wrong| wrong.error("--at", text, "is no moment", "; --delay 10m counts from now"));
        }
        let delay = verb.delay.as_deref().map(|text| duration("--delay", text)).transpose()?;
        Ok(Self::After(delay.unwrap_or_default()))
    }

    /// Time until then, seen from `now`.
    pub(super) fn delay(&self, now: Timestamp) -> Duration {
        match self {
            Self::After(delay) => *delay,
            Self::At(moment) => moment.remaining(now),
        }
    }

    pub(super) const fn is_moment(&self) -> bool {
        matches!(self, Self::At(_))
    }

    pub(super) fn is_past(&self) -> bool {
        matches!(self, Self::At(moment) if *moment < Clock::wall())
    }
}

/// A duration from now, or a moment.
pub(super) fn expiry(option: &str, text: &str) -> Result<Timestamp, Error> {
    if let Some(after) = crate::config::parse_duration(text) {
        return Ok(Clock::wall().plus(after));
    }
    moment(text).map_err(|wrong| wrong.error(option, text, "is neither a duration nor a moment", "; or 10m, from now"))
}

/// Why a text is no moment.
enum Wrong {
    Text,
    /// It says no zone, and that of the system is not known.
    Zone(jiff::Error),
}

impl Wrong {
    fn error(&self, option: &str, text: &str, what: &str, durations: &str) -> Error {
        match self {
            Self::Text => Error::new(Code::Usage, format!("{option}: \"{text}\" {what}")).hint(format!(
                "as in 2027-01-31T12:00:00Z, or 2027-01-31T12:00 in the zone of this system, up to {LAST}{durations}"
            )),
            Self::Zone(error) => Error::new(
                Code::Usage,
                format!("{option}: \"{text}\" says no zone, and that of this system is not known: {error}"),
            )
            .hint("as in 2027-01-31T12:00:00Z"),
        }
    }
}

/// RFC 3339 with its zone, or a local time in the zone of the system.
fn moment(text: &str) -> Result<Timestamp, Wrong> {
    if let Ok(moment) = jiff::Timestamp::from_str(text) {
        return Ok(Timestamp(moment.as_millisecond()));
    }
    let local = DateTime::from_str(text).map_err(|_| Wrong::Text)?;
    let zone = TimeZone::try_system().map_err(Wrong::Zone)?;
    let moment = local.to_zoned(zone).map_err(|_| Wrong::Text)?;
    Ok(Timestamp(moment.timestamp().as_millisecond()))
}
