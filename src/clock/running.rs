//! Time in which this process ran.

use std::{cell::Cell, time::Duration};

use super::{
    system::Clock,
    time::{Instant, Now},
};

/// The time in which a process ran, out of the time that passed: what passes while it is stopped (SIGSTOP, a frozen
/// container, a machine that is moved), or gets no processor, is left out: no limit of a worker runs on meanwhile. In a
/// suspended machine the monotonic clock stands still by itself.
///
/// Input: the moments at which it is read, and until when its process is going to sleep. A process that wakes later than that, or
/// does not read the clock for long, has not run. The beginning of the pause is not known: all of the time since the last
/// reading is taken for it, so never sleep longer than that may cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Running {
    lost: Duration,
    last: Instant,
    until: Instant,
}

/// What a busy machine may add to a sleep, or a turn take, before it is a pause.
const LATE: Duration = Duration::from_secs(1);

impl Running {
    /// The process sleeps from `at` on the monotonic clock for that long, unless something wakes it. Gives the pause that has just ended,
    /// if one has: the sleep counts from its end, so that nobody would notice it later.
    pub fn sleeps(&mut self, at: Instant, time: Duration) -> Option<Duration> {
        let (_, pause) = self.read(at);
        self.until = at + time;
        pause
    }

    /// The running time at `at` on the monotonic clock, and the pause that has just ended, if one has.
    pub fn read(&mut self, at: Instant) -> (Instant, Option<Duration>) {
        let pause = (at > self.until.max(self.last) + LATE).then(|| at.since(self.last));
        self.lost += pause.unwrap_or_default();
        (self.last, self.until) = (at, Instant::default());
        (at - self.lost, pause)
    }

    /// All pauses so far.
    #[must_use]
    pub const fn lost(&self) -> Duration {
        self.lost
    }
}

/// A clock that reads the time in which this process ran.
#[derive(Debug)]
pub struct RunningClock {
    clock: Clock,
    running: Cell<Running>,
    paused: Cell<Duration>,
}

impl RunningClock {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { clock: Clock::start(), running: Cell::default(), paused: Cell::default() }
    }

    /// Reads both clocks: running time and wall clock.
    #[must_use]
    pub fn now(&self) -> Now {
        let Now { at, wall } = self.clock.now();
        let mut running = self.running.get();
        let (at, pause) = running.read(at);
        self.running.set(running);
        self.paused.set(self.paused.get() + pause.unwrap_or_default());
        Now { at, wall }
    }

    /// Says that this process runs, in the middle of a long turn: what is measured from here on is no longer than it is.
    pub fn looked(&self) {
        let _ = self.now();
    }

    /// The monotonic clock, pauses included: for what others measure, too.
    #[must_use]
    pub fn real(&self) -> Instant {
        self.clock.now().at
    }

    /// This process sleeps for that long, unless something wakes it.
    pub fn sleeps(&self, time: Duration) {
        let mut running = self.running.get();
        let pause = running.sleeps(self.real(), time);
        self.running.set(running);
        self.paused.set(self.paused.get() + pause.unwrap_or_default());
    }

    /// The time of pauses that was found since the last call.
    #[must_use]
    pub fn paused(&self) -> Option<Duration> {
        Some(self.paused.take()).filter(|paused| !paused.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn who_wakes_in_time_has_run() {
        let mut running = Running::default();
        assert_eq!(running.sleeps(at(0), Duration::from_mins(1)), None);
        assert_eq!(running.read(at(500)), (at(500), None), "something woke it");
        assert_eq!(running.sleeps(at(1), Duration::from_millis(8_999)), None);
        assert_eq!(running.read(at(10_000)), (at(10_000), None), "a busy machine");
        assert_eq!(running.read(at(10_900)), (at(10_900), None), "a turn that takes its time");
    }

    #[test]
    fn a_pause_in_the_middle_of_a_turn_is_noticed_though_a_sleep_follows_it() {
        let mut running = Running::default();
        assert_eq!(running.read(at(100)), (at(100), None));
        // Stopped, and then it goes to sleep for what it took for four seconds.
        assert_eq!(running.sleeps(at(6_100), Duration::from_secs(4)), Some(Duration::from_secs(6)));
        assert_eq!(running.read(at(6_200)), (at(200), None));
    }

    #[test]
    fn a_pause_counts_from_the_last_look_and_time_goes_on_from_there() {
        let mut running = Running::default();
        assert_eq!(running.read(at(400)), (at(400), None));
        assert_eq!(running.sleeps(at(400), Duration::from_secs(1)), None);
        assert_eq!(running.read(at(9_400)), (at(400), Some(Duration::from_secs(9))));
        assert_eq!(running.read(at(9_500)), (at(500), None));
        // In the middle of a turn.
        assert_eq!(running.read(at(12_500)), (at(500), Some(Duration::from_secs(3))));
        assert_eq!(running.sleeps(at(12_500), Duration::MAX), None);
        assert_eq!(running.read(at(100_000)), (at(88_000), None), "nothing was to be done");
        assert_eq!(running.lost(), Duration::from_secs(12));
    }
}
