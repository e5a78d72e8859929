//! Dead letters in groups of one mistake, and page by page.

use super::tables::{Dead, Queue, Tables};
use crate::{
    clock::Timestamp,
    transport::dead_page::{self, DeadFilter, DeadFound, DeadGroup, DeadKey, DeadPage, DeadPlace, DeadRow},
};

impl Tables {
    pub(super) fn dead_groups(&mut self, now: Timestamp, queue: &str) -> Vec<DeadGroup> {
        dead_page::groups_of(self.dead_rows(now, queue).iter(), now)
    }

    pub(super) fn dead_page(
        &mut self,
        now: Timestamp,
        queue: &str,
        filter: &DeadFilter,
        after: Option<DeadPlace>,
        limit: usize,
    ) -> DeadPage {
        dead_page::page_of(self.dead_rows(now, queue).iter(), filter, after, limit)
    }

    pub(super) fn dead_letter(&mut self, now: Timestamp, queue: &str, key: &DeadKey) -> DeadFound {
        self.expire(now, queue);
        let Some(queue) = self.queues.get(queue) else { return DeadFound::Absent };
        let number = key.place.and_then(|place| u64::try_from(place.number).ok());
        let there = number.and_then(|number| queue.dead.get(&number)).filter(|dead| {
            key.place.is_some_and(|place| place.died_at == dead.letter.failure.failed_at)
                && key.id.as_ref().is_none_or(|id| *id == dead.letter.id)
        });
        let by_id = || queue.dead.values().find(|dead| key.id.as_ref() == Some(&dead.letter.id));
        let found = there.or_else(by_id);
        found.map_or(DeadFound::Absent, |dead| DeadFound::Letter(Box::new(dead.letter.clone())))
    }

    fn dead_rows(&mut self, now: Timestamp, queue: &str) -> Vec<DeadRow> {
        self.expire(now, queue);
        let dead = self.queues.get(queue).into_iter().flat_map(|queue: &Queue| &queue.dead);
        let row = |(number, dead): (&u64, &Dead)| {
            let number = i64::try_from(*number).unwrap_or(i64::MAX);
            DeadRow::of(DeadPlace { died_at: dead.letter.failure.failed_at, number }, &dead.letter)
        };
        dead.map(row).collect()
    }
}
