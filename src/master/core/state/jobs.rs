//! What is known of jobs: the ids of executions, and the rounds of which nothing counts any more.

use std::collections::HashSet;

use uuid::{Builder, Uuid, Variant, Version};

use crate::jobs::void_rounds::VoidRounds;

/// What the core knows of jobs.
#[derive(Debug)]
pub(in crate::master::core) struct Jobs {
    pub(in crate::master::core) executions: Executions,
    pub(in crate::master::core) void: VoidRounds,
    /// Ids of jobs that failed and were not healed, in halt mode.
    pub(in crate::master::core) failed: HashSet<String>,
}

impl Jobs {
    pub(in crate::master::core) fn new(seed: u64) -> Self {
        Self { executions: Executions { seed, count: 0 }, void: VoidRounds::default(), failed: HashSet::new() }
    }
}

/// Draws the ids of executions, no two of which are equal: the master's own random number, and a count.
#[derive(Debug)]
pub(in crate::master::core) struct Executions {
    seed: u64,
    count: u64,
}

impl Executions {
    pub(in crate::master::core) fn draw(&mut self) -> Uuid {
        self.count += 1;
        let bytes = (u128::from(self.seed) << 64) | u128::from(self.count);
        Builder::from_u128(bytes).with_version(Version::Custom).with_variant(Variant::RFC4122).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_executions_have_one_id_nor_those_of_two_masters() {
        let draw = |seed| {
            let mut jobs = Jobs::new(seed);
            [jobs.executions.draw(), jobs.executions.draw()]
        };
        let ids: HashSet<Uuid> = [draw(1), draw(2), draw(u64::MAX)].into_iter().flatten().collect();
        assert_eq!(ids.len(), 6);
        assert!(ids.iter().all(|id| id.get_version_num() == 8 && id.get_variant() == Variant::RFC4122));
    }
}
