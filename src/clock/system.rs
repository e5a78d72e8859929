//! Reads the operating system's clocks. No other file does.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    jumps::TOLERANCE,
    time::{Instant, Now, Reading, Timestamp},
};

/// Milliseconds within which two clocks are read at once, and how often that is tried.
const AT_ONCE: i64 = 100;
const READINGS: u32 = 5;

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
        Now { at: Instant::from_start(self.start.elapsed()), wall: Self::wall() }
    }

    /// Reads the wall clock and the time since the boot, which cannot be set. Read again where this process did not run in between, which
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
        if jump.unsigned_abs() > TOLERANCE.unsigned_abs() {
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_steady_clock_follows_small_steps_and_no_jumps() {
        let now = |at: u64, wall| Now { at: Instant::from_start(Duration::from_millis(at)), wall: Timestamp(wall) };
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
}
