//! How much the node does for requests in a second, which anyone with an account at the broker can send. Pure.

use std::time::Duration;

use crate::clock::Instant;

/// Tokens that come back over time, up to so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    most: f64,
    per_second: f64,
    left: f64,
    since: Instant,
}

impl Budget {
    /// A full one.
    pub(super) fn full(most: u32, per_second: u32) -> Self {
        let most = f64::from(most);
        Self { most, per_second: f64::from(per_second), left: most, since: Instant::default() }
    }

    /// Takes so many tokens, more than all of which nothing costs. `false`: there are not so many, and nothing was taken.
    pub(super) fn take(&mut self, now: Instant, tokens: f64) -> bool {
        self.left = self.most.min(self.left + now.since(self.since).as_secs_f64() * self.per_second);
        self.since = now;
        let tokens = tokens.min(self.most);
        let enough = self.left >= tokens;
        if enough {
            self.left -= tokens;
        }
        enough
    }
}

/// A sentence that is said at most once in so long, with what it is about counted meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seldom {
    pause: Duration,
    count: u64,
    quiet_until: Instant,
}

impl Seldom {
    pub(super) const fn every(pause: Duration) -> Self {
        Self { pause, count: 0, quiet_until: Instant::from_start(Duration::ZERO) }
    }

    /// So many more; whatever was counted, if it is to be said now.
    pub(super) fn count(&mut self, now: Instant, more: u64) -> Option<u64> {
        self.count += more;
        if self.count == 0 || now < self.quiet_until {
            return None;
        }
        self.quiet_until = now + self.pause;
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn tokens_come_back_over_time() {
        let mut budget = Budget::full(3, 10);
        assert!((0..3).all(|_| budget.take(at(0), 1.0)));
        assert!(!budget.take(at(50), 1.0), "half of one");
        assert!(budget.take(at(100), 1.0) && !budget.take(at(100), 1.0));
        assert!(budget.take(at(60_000), 1000.0), "what costs more than all costs all");
        assert!(!budget.take(at(60_000), 1.0) && budget.take(at(61_000), 3.0));
    }

    #[test]
    fn a_sentence_is_said_once_in_a_while_with_its_count() {
        let mut seldom = Seldom::every(Duration::from_mins(1));
        assert_eq!(seldom.count(at(5), 0), None);
        assert_eq!(seldom.count(at(5), 2), Some(2));
        assert_eq!(seldom.count(at(30_000), 7), None);
        assert_eq!(seldom.count(at(60_005), 0), Some(7), "the rest is not forgotten");
        assert_eq!(seldom.count(at(200_000), 0), None);
    }
}
