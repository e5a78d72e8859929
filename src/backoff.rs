//! Delays that grow: between attempts of a task (through `retry`), between restarts of a worker, between tries to reach a
//! broker.

use std::time::Duration;

/// An exponential series with an upper bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first delay.
    pub first: Duration,
    /// Each delay is the one before times this.
    pub factor: f64,
    /// No delay is longer.
    pub longest: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row, counted from 1.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.powi(exponent);
        let longest = self.longest.as_secs_f64();
        // Not `min` on Durations: the series overflows a Duration long before it overflows an f64.
        if seconds.is_finite() && seconds < longest { Duration::from_secs_f64(seconds) } else { self.longest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_stops_growing() {
        let backoff = Backoff { first: Duration::from_millis(100), factor: 2.0, longest: Duration::from_secs(30) };
        let delays: Vec<u128> = (1..=4).map(|n| backoff.delay(n).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800]);
        assert_eq!(backoff.delay(1000), Duration::from_secs(30));
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(30));
        assert_eq!(backoff.delay(0), Duration::from_millis(100));
    }
}
