//! Dead letters in groups of one mistake, and page by page.

use std::collections::BTreeMap;

use super::tables::{Queue, Tables};
use crate::{
    clock::Timestamp,
    transport::dead_page::{DeadFilter, DeadGroup, DeadPage, DeadPlace, DeadRow, MOST_GROUPS, MOST_ROWS},
};

const HOUR: i64 = 3_600_000;

impl Tables {
    pub(super) fn dead_groups(&mut self, now: Timestamp, queue: &str) -> Vec<DeadGroup> {
        let mut groups: BTreeMap<(String, String), DeadGroup> = BTreeMap::new();
        for row in self.dead_rows(now, queue) {
            let died_at = row.place.died_at;
            let group = groups.entry((row.reason.clone(), row.fingerprint.clone())).or_insert_with(|| DeadGroup {
                reason: row.reason,
                fingerprint: row.fingerprint,
                error: String::new(),
                count: 0,
                last_hour: 0,
                last_day: 0,
                first: died_at,
                last: died_at,
            });
            group.count += 1;
            group.last_hour += u64::from(died_at.0 > now.0.saturating_sub(HOUR));
            group.last_day += u64::from(died_at.0 > now.0.saturating_sub(24 * HOUR));
            group.first = group.first.min(died_at);
            if died_at >= group.last {
                (group.last, group.error) = (died_at, row.failure.error);
            }
        }
        let mut groups: Vec<DeadGroup> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse((group.count, group.last)));
        groups.truncate(MOST_GROUPS);
        groups
    }

    pub(super) fn dead_page(
        &mut self,
        now: Timestamp,
        queue: &str,
        filter: &DeadFilter,
        after: Option<DeadPlace>,
        limit: usize,
    ) -> DeadPage {
        let limit = limit.clamp(1, MOST_ROWS);
        let is_wanted =
            |row: &DeadRow| filter.holds(&row.reason, &row.fingerprint) && after.is_none_or(|after| row.place < after);
        let mut rows: Vec<DeadRow> = self.dead_rows(now, queue).filter(is_wanted).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.place));
        let is_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().map(|row| row.place).filter(|_| is_more);
        DeadPage { rows, next }
    }

    fn dead_rows(&mut self, now: Timestamp, queue: &str) -> impl Iterator<Item = DeadRow> {
        self.expire(now, queue);
        let dead = self.queues.get(queue).into_iter().flat_map(|queue: &Queue| &queue.dead);
        dead.map(|(number, dead)| {
            let number = i64::try_from(*number).unwrap_or(i64::MAX);
            DeadRow::of(DeadPlace { died_at: dead.letter.failure.failed_at, number }, &dead.letter)
        })
    }
}
