//! The retry policy: after a failed attempt, [`Policy::after_failure`] gives the delay until the next one, or says that there
//! is none and the task is a dead letter.

use std::time::Duration;

use crate::backoff::Backoff;

/// A queue's retry policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Attempts in all, the first included; at least 1.
    pub max_attempts: u32,
    /// Delays between attempts.
    pub backoff: Backoff,
    /// How much longer, at most, a delay may be drawn: 0.1 is 10 %. Never shorter.
    pub jitter: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: 1,
            backoff: Backoff { first: Duration::from_secs(2), factor: 2.0, longest: Duration::from_mins(10) },
            jitter: 0.1,
        }
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again after this long.
    RetryAfter(Duration),
    /// No attempt is left.
    GiveUp,
}

impl Policy {
    /// What follows when `used` attempts, the failed one included, are used. `asked` is the worker's own delay;
    /// `dice` in 0..1 draws the jitter.
    #[must_use]
    pub fn after_failure(&self, used: u32, asked: Option<Duration>, dice: f64) -> Next {
        if used >= self.max_attempts {
            return Next::GiveUp;
        }
        let delay = asked.unwrap_or_else(|| self.backoff.delay(used).mul_f64(1.0 + self.jitter * dice));
        Next::RetryAfter(delay)
    }

    /// The longest delay and all shorter ones that this policy can ask for, without jitter.
    #[must_use]
    pub fn delays(&self) -> Vec<Duration> {
        let mut delays: Vec<Duration> = (1..self.max_attempts.min(64)).map(|n| self.backoff.delay(n)).collect();
        delays.dedup();
        delays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_attempt_is_no_retry() {
        assert_eq!(Policy::default().after_failure(1, None, 0.5), Next::GiveUp);
        assert_eq!(Policy::default().after_failure(1, Some(Duration::ZERO), 0.5), Next::GiveUp);
    }

    #[test]
    fn jitter_only_lengthens() {
        let policy = Policy { max_attempts: 5, ..Policy::default() };
        assert_eq!(policy.after_failure(2, None, 0.0), Next::RetryAfter(Duration::from_secs(4)));
        assert_eq!(policy.after_failure(2, None, 1.0), Next::RetryAfter(Duration::from_millis(4400)));
        assert_eq!(policy.after_failure(5, None, 0.0), Next::GiveUp);
    }

    #[test]
    fn the_workers_own_delay_is_taken_as_it_is() {
        let policy = Policy { max_attempts: 5, ..Policy::default() };
        let asked = Some(Duration::from_millis(70));
        assert_eq!(policy.after_failure(1, asked, 1.0), Next::RetryAfter(Duration::from_millis(70)));
    }
}
