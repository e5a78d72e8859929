//! Time as an argument.
//!
//! The core never reads a clock: each event comes with a [`Now`], and deadlines are [`Instant`]s that the
//! caller compares. Only [`Clock`] touches the operating system, and only the shell, the transports' threads
//! and the command line own one. That is what lets the simulation run an hour of faults in a millisecond.

pub(super) mod jumps;
mod running;

use std::{
    ops::{Add, Sub},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use running::{Running, RunningClock};

/// Milliseconds within which two clocks are read at once, and how often that is tried.
const AT_ONCE: i64 = 100;
const READINGS: u32 = 5;

/// A point on the monotonic clock: the time since the process's [`Clock`] was made.
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

/// The wall clock beside the one that nobody sets, read at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Wall clock.
    pub wall: Timestamp,
    /// Milliseconds since the machine was booted, those in which it slept included.
    pub since_boot: i64,
}

/// The one reader of the operating system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

#[expect(clippy::disallowed_methods, reason = "this is the one file that reads the clock")]
impl Clock {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { at: Instant(self.start.elapsed()), wall: Self::wall() }
    }

    /// Reads the wall clock beside the one that nobody sets. Read again where this process did not run in between, which
    /// would look like a step of the wall clock.
    #[must_use]
    pub fn reading() -> Reading {
        let mut tries = 0;
        loop {
            let before = since_boot();
            let reading = Reading { wall: Self::wall(), since_boot: since_boot() };
            tries += 1;
            if reading.since_boot - before <= AT_ONCE || tries == READINGS {
                return reading;
            }
        }
    }

    /// What the wall clock would show if it had not jumped since the first call: for what lives no longer than this process.
    #[must_use]
    pub fn steady() -> Timestamp {
        static STEADY: Mutex<Option<(Clock, Steady)>> = Mutex::new(None);
        // A panic cannot leave it half written.
        let mut steady = STEADY.lock().unwrap_or_else(PoisonError::into_inner);
        let (clock, steady) = steady.get_or_insert_with(|| {
            let clock = Self::start();
            (clock, Steady { last: clock.now(), ahead: 0 })
        });
        steady.at(clock.now())
    }

    /// Reads the wall clock alone. A clock set before 1970 reads as 1970.
    #[must_use]
    pub fn wall() -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A wall clock without its jumps.
#[derive(Debug)]
struct Steady {
    last: Now,
    /// What the jumps so far come to, in milliseconds.
    ahead: i64,
}

impl Steady {
    fn at(&mut self, now: Now) -> Timestamp {
        let jump = now.wall.0.saturating_sub(self.last.wall.plus(now.at.since(self.last.at)).0);
        // By smaller steps a clock is kept in time.
        if jump.unsigned_abs() > jumps::TOLERANCE.unsigned_abs() {
            self.ahead += jump;
        }
        self.last = now;
        Timestamp(now.wall.0.saturating_sub(self.ahead))
    }
}

/// Names this start of the machine; `None` where the kernel does not say.
pub(crate) fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Milliseconds since the boot, to the hundredth of a second: of the file in `/proc`, as std knows no clock that can be compared
/// between processes and goes on while the machine sleeps. Without it: since the first call.
#[expect(clippy::disallowed_methods, reason = "this is the one file that reads the clock")]
fn since_boot() -> i64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: Option<f64> = text.split_ascii_whitespace().next().and_then(|seconds| seconds.parse().ok());
    let of_start = || START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64();
    (seconds.unwrap_or_else(of_start) * 1000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_clock_follows_small_steps_and_no_jumps() {
        let now = |at: u64, wall| Now { at: Instant(Duration::from_millis(at)), wall: Timestamp(wall) };
        let mut steady = Steady { last: now(0, 1_000_000), ahead: 0 };
        for (at, wall, shown) in [
            (10_000, 1_010_000, 1_010_000),
            (20_000, 1_021_500, 1_021_500),
            // Five days ahead for a while, and two days back.
            (21_000, 433_022_500, 1_022_500),
            (25_000, 433_026_501, 1_026_501),
            (26_000, 1_027_501, 1_027_501),
            (27_000, -171_771_499, 1_028_501),
            (28_000, -171_770_499, 1_029_501),
        ] {
            assert_eq!(steady.at(now(at, wall)), Timestamp(shown), "{at}");
        }
    }

    #[test]
    fn times_read_well() {
        let words = [0, 900, 30_000, 119_000, 600_000, 3_600_000, 5_400_000, 345_600_000, 431_999_998].map(in_words);
        assert_eq!(words, ["0 s", "0.9 s", "30 s", "119 s", "10 min", "1 h", "1.5 h", "96 h", "120 h"]);
        assert_eq!(in_words(i64::MIN.unsigned_abs()), "2562047788015.2 h", "a number out of a file");
        assert_eq!(in_words(u64::MAX), "5124095576030.4 h");
    }
}
