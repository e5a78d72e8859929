//! Moments and durations as values: nothing here reads a clock.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point on the monotonic clock: the time since the process's [`Clock`](super::Clock) was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The instant `since_start` after the clock was made.
    #[must_use]
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Time since the clock was made.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long before `self` the instant `earlier` was; zero if it was not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, before: Duration) -> Self {
        Self(self.0.saturating_sub(before))
    }
}

/// A point on the wall clock: milliseconds since 1970-01-01T00:00:00Z. What is stored and shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `after` later, saturating.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long until this moment, seen from `now`; zero if it has passed.
    #[must_use]
    pub fn remaining(self, now: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }
}

/// A time in milliseconds, for people: `96 h`, `1.5 h`, `10 min`, `30 s`.
#[must_use]
pub fn in_words(time: u64) -> String {
    let (unit, name) = match time {
        3_600_000.. => (3_600_000, "h"),
        120_000.. => (60_000, "min"),
        _ => (1000, "s"),
    };
    // Rounded to a tenth; multiplied after the division, because a foreign number may be as large as there are.
    let time = time.saturating_add(unit / 20);
    let (whole, tenths) = (time / unit, time % unit * 10 / unit);
    if tenths == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenths} {name}") }
}

/// Both clocks, read once for one event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic: for deadlines and durations. In the master less the time in which it did not run.
    pub at: Instant,
    /// Wall clock: for what is stored and shown, and for schedules.
    pub wall: Timestamp,
}

/// The wall clock and the time since the boot, which cannot be set, read at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Wall clock.
    pub wall: Timestamp,
    /// Milliseconds since the machine was booted, those in which it slept included.
    pub since_boot: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        let words = [0, 900, 30_000, 119_000, 600_000, 3_600_000, 5_400_000, 345_600_000, 431_999_998].map(in_words);
        assert_eq!(words, ["0 s", "0.9 s", "30 s", "119 s", "10 min", "1 h", "1.5 h", "96 h", "120 h"]);
        assert_eq!(in_words(i64::MIN.unsigned_abs()), "2562047788015.2 h", "a number out of a file");
        assert_eq!(in_words(u64::MAX), "5124095576030.4 h");
    }
}
