//! How fast dead letters go back to work.

use std::time::Duration;

use crate::clock::Clock;

/// Between two groups at least this much time passes.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// … and at most this much, after which it is looked again.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// So many in so much time.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    per_second: f64,
    clock: Clock,
    gone: u64,
}

impl RateLimit {
    /// Reads `50/s`, `10/m`, `1/h`; a bare number is per second. `None`: it is no rate.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, seconds) = match text.split_once('/') {
            None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3_600.0),
            Some(_) => return None,
        };
        let number = number.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0)?;
        Some(Self { per_second: number / seconds, clock: Clock::start(), gone: 0 })
    }

    /// Time until the next may go; `None`: now. The first goes at once.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let due = self.gone as f64 / self.per_second;
        let wait = due - self.clock.now().at.since_start().as_secs_f64();
        let longest = LONGEST_WAIT;
        (wait > 0.0).then(|| Duration::try_from_secs_f64(wait).unwrap_or(longest).clamp(SHORTEST_WAIT, longest))
    }

    /// One has gone.
    pub(crate) fn count(&mut self) {
        self.gone += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_minute_or_hour() {
        for (text, per_second) in [("50/s", 50.0), ("50", 50.0), ("30/m", 0.5), ("1.5/s", 1.5), ("36/h", 0.01)] {
            assert!((RateLimit::parse(text).unwrap().per_second - per_second).abs() < 1e-9, "{text}");
        }
        for text in ["", "/s", "0/s", "-1/s", "5/d", "inf", "NaN/s", "5/s/s"] {
            assert!(RateLimit::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_first_goes_at_once_and_the_next_in_its_time() {
        let mut rate = RateLimit::parse("1/h").unwrap();
        assert_eq!(rate.wait(), None);
        rate.count();
        assert_eq!(rate.wait(), Some(LONGEST_WAIT));
    }
}
