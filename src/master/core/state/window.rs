//! The rate of a queue: at most so many starts in any window of time.

use std::collections::VecDeque;

use crate::{clock::Instant, config::Rate};

/// A sliding window over starts.
#[derive(Debug)]
pub(in crate::master::core) struct Window {
    rate: Rate,
    starts: VecDeque<Instant>,
    /// The wait was told in the log.
    pub(in crate::master::core) told: bool,
}

impl Window {
    pub(in crate::master::core) fn new(rate: Rate) -> Self {
        Self { rate, starts: VecDeque::new(), told: false }
    }

    /// Another rate in the place of this one: what was started stays in sight.
    pub(in crate::master::core) fn after(old: Option<Self>, rate: Rate) -> Self {
        let mut starts = old.map(|old| old.starts).unwrap_or_default();
        starts.drain(..starts.len().saturating_sub(rate.calls as usize));
        Self { rate, starts, told: false }
    }

    /// Whether all that was started is too long ago to count.
    pub(in crate::master::core) fn is_over(&self, now: Instant) -> bool {
        self.starts.back().is_none_or(|last| *last + self.rate.period <= now)
    }

    /// When the next start is allowed; `None`: now.
    pub(in crate::master::core) fn closed_until(&self, now: Instant) -> Option<Instant> {
        if self.starts.len() < self.rate.calls as usize {
            return None;
        }
        let opens = *self.starts.front()? + self.rate.period;
        (opens > now).then_some(opens)
    }

    pub(in crate::master::core) fn started(&mut self, now: Instant) {
        if self.starts.len() >= self.rate.calls as usize {
            self.starts.pop_front();
        }
        self.starts.push_back(now);
        self.told = false;
    }

    pub(in crate::master::core) fn per_second(&self) -> u32 {
        let calls = f64::from(self.rate.calls) / self.rate.period.as_secs_f64();
        (calls.min(f64::from(self.rate.calls)).ceil() as u32).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn a_window_lets_through_what_the_rate_allows_and_no_more() {
        let mut window = Window::new(Rate { calls: 2, period: Duration::from_millis(100) });
        window.started(at(0));
        assert_eq!(window.closed_until(at(10)), None);
        window.started(at(10));
        assert_eq!(window.closed_until(at(10)), Some(at(100)));
        assert_eq!(window.closed_until(at(100)), None);
        window.started(at(100));
        assert_eq!(window.closed_until(at(100)), Some(at(110)));
    }
}
