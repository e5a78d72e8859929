//! The logical clock that Celery's nodes and monitors order events by. Pure.

/// A clock that a foreign message shows is not followed beyond this: from there on ours could not count any more.
const LATEST: u64 = 1 << 62;

/// Lamport's clock: each message sent is later than all that were seen before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lamport(u64);

impl Lamport {
    /// What it shows.
    pub(super) const fn value(self) -> u64 {
        self.0
    }

    /// A message is sent, or something happens: the next value.
    pub(super) const fn forward(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    /// A message was seen whose sender's clock showed this.
    pub(super) fn adjust(&mut self, other: u64) {
        let other = if other > LATEST { 0 } else { other };
        self.0 = self.0.max(other) + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_later_than_all_that_it_saw() {
        let mut clock = Lamport::default();
        assert_eq!(clock.forward(), 1);
        clock.adjust(40);
        assert_eq!(clock.value(), 41);
        clock.adjust(3);
        assert_eq!(clock.value(), 42);
        clock.adjust(u64::MAX);
        assert_eq!((clock.forward(), clock.value()), (44, 44), "a forged clock does not end ours");
    }
}
