//! Finds jumps of the wall clock by comparing it with the time since the boot, which cannot be set.
//!
//! What is kept for so long is deleted by the wall clock, and a clock may be wrong for seconds: a bad battery, a first answer of
//! a time server, a machine restored from an image. So a new difference between the two is trusted only once it has held for
//! [`HOLD`]; until then nothing may be deleted for its age. To a difference that was trusted before the clock may return at
//! once. At the start nothing is known, unless the same was seen before and remembered.
//!
//! Pure: what the clocks show is an argument.

use super::time::Reading;

/// How long a difference must hold, in milliseconds, before anything is deleted by it.
pub(crate) const HOLD: i64 = 10 * 60 * 1000;

/// A smaller step, in milliseconds, is none: clocks are kept in time by such.
pub(crate) const TOLERANCE: i64 = 2000;

/// What the wall clock shows more than the time since the boot, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    /// The difference.
    pub(crate) by: i64,
    /// Since when, in milliseconds since the boot, it has been about that.
    pub(crate) since: i64,
}

impl Offset {
    /// That of a reading, which is its first.
    #[must_use]
    pub(crate) const fn of(reading: Reading) -> Self {
        Self { by: reading.wall.0.saturating_sub(reading.since_boot), since: reading.since_boot }
    }

    /// Whether the two are the same, but for the small steps by which a clock is kept in time.
    #[must_use]
    pub(crate) const fn is_about(self, by: i64) -> bool {
        self.by.abs_diff(by) <= TOLERANCE as u64
    }
}

/// Follows the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jumps {
    current: Offset,
    /// One that has held for long enough, the last.
    trusted: Option<i64>,
}

impl Jumps {
    /// Begins with what was remembered of this boot, or with what the clocks show now.
    #[must_use]
    pub(crate) fn begin(reading: Reading, remembered: Option<Offset>) -> Self {
        // What began in the future is no memory of this boot.
        let known = remembered.filter(|offset| offset.since <= reading.since_boot);
        Self { current: known.unwrap_or_else(|| Offset::of(reading)), trusted: None }
    }

    /// Takes in what the clocks show. `Some`: the wall clock has jumped by so many milliseconds, ahead or (below 0) back.
    pub(crate) fn look(&mut self, reading: Reading) -> Option<i64> {
        if self.is_trusted(reading) {
            self.trusted = Some(self.current.by);
        }
        let seen = Offset::of(reading);
        if self.current.is_about(seen.by) {
            // The small steps add up: each is judged by itself.
            self.current.by = seen.by;
            return None;
        }
        let jump = seen.by.saturating_sub(self.current.by);
        self.current = seen;
        Some(jump)
    }

    /// Whether the wall clock may be believed for good.
    #[must_use]
    pub(crate) fn is_trusted(&self, reading: Reading) -> bool {
        self.trusted.is_some_and(|trusted| self.current.is_about(trusted))
            || reading.since_boot.saturating_sub(self.current.since) >= HOLD
    }

    /// What there is to remember.
    #[must_use]
    pub(crate) const fn current(&self) -> Offset {
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const DAY: i64 = 24 * 60 * 60 * 1000;
    /// What the wall clock of these tests shows at the boot.
    const BOOT: i64 = 1_800_000_000_000;

    fn reading(since_boot: i64, wrong_by: i64) -> Reading {
        Reading { wall: Timestamp(BOOT + since_boot + wrong_by), since_boot }
    }

    #[test]
    fn a_clock_is_trusted_once_it_has_held() {
        let mut jumps = Jumps::begin(reading(5_000, 0), None);
        for second in 5..605 {
            assert_eq!(jumps.look(reading(second * 1000, 0)), None);
            assert!(!jumps.is_trusted(reading(second * 1000, 0)), "{second}");
        }
        assert_eq!(jumps.look(reading(605_000, 0)), None);
        assert!(jumps.is_trusted(reading(605_000, 0)));
    }

    #[test]
    fn a_jump_ahead_is_told_and_has_to_hold_and_the_way_back_has_not() {
        let mut jumps = Jumps::begin(reading(0, 0), None);
        assert_eq!(jumps.look(reading(HOLD, 0)), None);
        assert_eq!(jumps.look(reading(HOLD + 1000, 5 * DAY)), Some(5 * DAY));
        for later in [0, 4000, HOLD - 1] {
            assert_eq!(jumps.look(reading(HOLD + 1000 + later, 5 * DAY)), None);
            assert!(!jumps.is_trusted(reading(HOLD + 1000 + later, 5 * DAY)));
        }
        let mut held = jumps;
        assert_eq!(held.look(reading(2 * HOLD + 1000, 5 * DAY)), None);
        assert!(held.is_trusted(reading(2 * HOLD + 1000, 5 * DAY)));
        // Back to what was trusted …
        assert_eq!(jumps.look(reading(2 * HOLD, 0)), Some(-5 * DAY));
        assert!(jumps.is_trusted(reading(2 * HOLD, 0)));
        // … and what was trusted for good meanwhile is what counts.
        assert_eq!(held.look(reading(2 * HOLD + 2000, 0)), Some(-5 * DAY));
        assert!(!held.is_trusted(reading(2 * HOLD + 2000, 0)));
    }

    #[test]
    fn small_steps_are_none_however_many() {
        let mut jumps = Jumps::begin(reading(0, 0), None);
        for step in 0..1000 {
            assert_eq!(jumps.look(reading(step * 1000, step * TOLERANCE)), None);
        }
        assert!(jumps.is_trusted(reading(1_000_000, 1000 * TOLERANCE)));
        assert_eq!(jumps.look(reading(1_000_000, 999 * TOLERANCE + TOLERANCE + 1)), Some(TOLERANCE + 1));
    }

    #[test]
    fn what_was_seen_before_in_this_boot_counts() {
        let mut first = Jumps::begin(reading(1000, 0), None);
        assert_eq!(first.look(reading(2000, 0)), None);
        let again = Jumps::begin(reading(HOLD + 1000, 0), Some(first.current()));
        assert!(again.is_trusted(reading(HOLD + 1000, 0)), "two short runs in ten minutes are as good as a long one");
        // Set while nobody looked.
        let mut set = Jumps::begin(reading(HOLD, DAY), Some(Offset { by: BOOT, since: HOLD - 1000 }));
        assert_eq!(set.look(reading(HOLD, DAY)), Some(DAY));
        assert!(!set.is_trusted(reading(HOLD, DAY)));
        let nonsense = Jumps::begin(reading(1000, 0), Some(Offset { by: i64::MIN, since: i64::MAX }));
        assert_eq!(nonsense.current(), Offset { by: BOOT, since: 1000 });
    }
}
