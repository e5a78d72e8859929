//! A set of members of one round, a bit each: which of them, and not only how many.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::bits::Bits;

/// Members of a round, each by its feeder and its number among the tasks of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberSet {
    by_feeder: BTreeMap<Uuid, Bits>,
}

impl MemberSet {
    /// Adds those of a feeder.
    pub(crate) fn add_all(&mut self, feeder: Uuid, numbers: Bits) {
        if !numbers.is_empty() {
            self.by_feeder.insert(feeder, numbers);
        }
    }

    /// Takes a member away; whether it was there.
    pub fn remove(&mut self, feeder: Uuid, index: u32) -> bool {
        self.by_feeder.get_mut(&feeder).is_some_and(|numbers| numbers.remove(index))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.by_feeder.values().map(|numbers| u64::from(numbers.count())).sum()
    }
}

impl FromIterator<(Uuid, u32)> for MemberSet {
    fn from_iter<I: IntoIterator<Item = (Uuid, u32)>>(members: I) -> Self {
        let mut set = Self::default();
        for (feeder, index) in members {
            set.by_feeder.entry(feeder).or_default().add(index);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_taken_away_once() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut set: MemberSet = [(one, 0), (one, 9), (two, 9), (two, 9)].into_iter().collect();
        assert_eq!(set.count(), 3);
        assert!(set.remove(one, 9) && !set.remove(one, 9) && !set.remove(two, 0) && !set.remove(Uuid::nil(), 0));
        assert_eq!(set.count(), 2);
        assert!(set.remove(one, 0) && set.remove(two, 9) && set.count() == 0);
    }
}
