//! Rounds of which nothing counts any more, as those remember them who have tasks.

use std::collections::{HashSet, VecDeque};

use uuid::Uuid;

/// Void rounds that are remembered; the oldest are forgotten. A task of one that is forgotten is worked in vain: its ledger counts it
/// for nothing.
const REMEMBERED: usize = 65_536;

/// Rounds of which nothing counts any more, the latest ones.
#[derive(Debug, Default)]
pub(crate) struct VoidRounds {
    rounds: HashSet<Uuid>,
    oldest: VecDeque<Uuid>,
}

impl VoidRounds {
    /// Whether it is news.
    pub(crate) fn add(&mut self, round: Uuid) -> bool {
        if !self.rounds.insert(round) {
            return false;
        }
        self.oldest.push_back(round);
        if self.oldest.len() > REMEMBERED
            && let Some(round) = self.oldest.pop_front()
        {
            self.rounds.remove(&round);
        }
        true
    }

    pub(crate) fn contains(&self, round: Uuid) -> bool {
        self.rounds.contains(&round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_void_rounds_the_oldest_are_forgotten() {
        let mut void = VoidRounds::default();
        for round in 0..=REMEMBERED as u128 {
            assert!(void.add(Uuid::from_u128(round)));
            assert!(!void.add(Uuid::from_u128(round)));
        }
        assert!(!void.contains(Uuid::from_u128(0)) && void.contains(Uuid::from_u128(1)));
        assert_eq!((void.rounds.len(), void.oldest.len()), (REMEMBERED, REMEMBERED));
    }
}
