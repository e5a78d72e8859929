//! Dead letters as a person looks through them: in groups of one mistake, and page by page, without their bodies.

use std::collections::BTreeMap;

use crate::{
    clock::Timestamp,
    task::{Exit, Failure},
    transport::DeadLetter,
};

/// Groups that are told, at most: the largest.
pub const MOST_GROUPS: usize = 1000;
/// Dead letters in a page, at most.
pub const MOST_ROWS: usize = 500;

/// Which dead letters of a queue are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// With this reason's word.
    pub reason: Option<String>,
    /// With this [fingerprint](DeadLetter::fingerprint).
    pub fingerprint: Option<String>,
}

impl DeadFilter {
    /// Whether it is asked for.
    #[must_use]
    pub fn holds(&self, reason: &str, fingerprint: &str) -> bool {
        self.reason.as_ref().is_none_or(|wanted| wanted == reason)
            && self.fingerprint.as_ref().is_none_or(|wanted| wanted == fingerprint)
    }
}

/// The place of a dead letter among all of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadPlace {
    /// When it died.
    pub died_at: Timestamp,
    /// Tells those of one moment apart.
    pub number: i64,
}

/// Which dead letter is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadKey {
    /// With this id: of several the one of the place, else the oldest.
    pub id: Option<String>,
    /// Where it was when it was told.
    pub place: Option<DeadPlace>,
}

/// What was found of one dead letter.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadFound {
    /// It is there.
    Letter(Box<DeadLetter>),
    /// It is not.
    Absent,
    /// This transport can only [walk](super::Request::WalkDead).
    Impossible,
}

/// What a list says of a dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadRow {
    /// Its place.
    pub place: DeadPlace,
    /// The task's id.
    pub id: String,
    /// The reason's word.
    pub reason: String,
    /// The error's fingerprint.
    pub fingerprint: String,
    /// What ended it, without the detail and the last output, which are long.
    pub failure: Failure,
    /// When the first failure was.
    pub first_failed_at: Option<Timestamp>,
    /// The job that it is of.
    pub job: Option<String>,
    /// The step.
    pub step: Option<String>,
    /// Its number in the step.
    pub index: Option<u32>,
}

impl DeadRow {
    /// The row of a dead letter.
    #[must_use]
    pub fn of(place: DeadPlace, letter: &DeadLetter) -> Self {
        let Failure { reason, error, attempts, failed_at, kind, host, pid, exit, .. } = &letter.failure;
        let member = letter.membership.as_deref();
        Self {
            place,
            id: letter.id.clone(),
            reason: letter.reason.clone(),
            fingerprint: letter.fingerprint(),
            failure: Failure {
                attempts: *attempts,
                kind: kind.clone(),
                host: host.clone(),
                pid: *pid,
                exit: Option::<Exit>::clone(exit),
                oom: letter.failure.oom,
                max_rss_bytes: letter.failure.max_rss_bytes,
                cpu_seconds: letter.failure.cpu_seconds,
                in_hand_seconds: letter.failure.in_hand_seconds,
                ..Failure::new(*reason, error.clone(), *failed_at)
            },
            first_failed_at: letter.first_failed_at,
            job: member.map(|member| member.job.clone()),
            step: member.map(|member| member.step.clone()),
            index: member.map(|member| member.index),
        }
    }
}

const HOUR: i64 = 3_600_000;

/// The page that is asked for of these rows, of which there may be more. Those alone are cloned that are on it.
#[must_use]
pub fn page_of<'a>(
    rows: impl Iterator<Item = &'a DeadRow>,
    filter: &DeadFilter,
    after: Option<DeadPlace>,
    limit: usize,
) -> DeadPage {
    let limit = limit.clamp(1, MOST_ROWS);
    let is_wanted =
        |row: &&DeadRow| filter.holds(&row.reason, &row.fingerprint) && after.is_none_or(|after| row.place < after);
    let mut rows: Vec<&DeadRow> = rows.filter(is_wanted).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.place));
    let is_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().map(|row| row.place).filter(|_| is_more);
    DeadPage { rows: rows.into_iter().cloned().collect(), next }
}

/// The groups of these rows, the largest first.
#[must_use]
pub fn groups_of<'a>(rows: impl Iterator<Item = &'a DeadRow>, now: Timestamp) -> Vec<DeadGroup> {
    struct Group<'a> {
        count: u64,
        last_hour: u64,
        last_day: u64,
        first: Timestamp,
        latest: &'a DeadRow,
    }
    let mut groups: BTreeMap<(&str, &str), Group<'_>> = BTreeMap::new();
    for row in rows {
        let died_at = row.place.died_at;
        let key = (row.reason.as_str(), row.fingerprint.as_str());
        let none = Group { count: 0, last_hour: 0, last_day: 0, first: died_at, latest: row };
        let group = groups.entry(key).or_insert(none);
        group.count += 1;
        group.last_hour += u64::from(died_at.0 > now.0.saturating_sub(HOUR));
        group.last_day += u64::from(died_at.0 > now.0.saturating_sub(24 * HOUR));
        group.first = group.first.min(died_at);
        if died_at >= group.latest.place.died_at {
            group.latest = row;
        }
    }
    let told = |group: Group<'_>| DeadGroup {
        reason: group.latest.reason.clone(),
        fingerprint: group.latest.fingerprint.clone(),
        error: group.latest.failure.error.clone(),
        count: group.count,
        last_hour: group.last_hour,
        last_day: group.last_day,
        first: group.first,
        last: group.latest.place.died_at,
    };
    let mut groups: Vec<DeadGroup> = groups.into_values().map(told).collect();
    groups.sort_by_key(|group| std::cmp::Reverse((group.count, group.last)));
    groups.truncate(MOST_GROUPS);
    groups
}

/// A page of dead letters, the newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadPage {
    /// Those asked for, in their order.
    pub rows: Vec<DeadRow>,
    /// There are older ones: ask for those after this place.
    pub next: Option<DeadPlace>,
}

/// Dead letters of one mistake.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadGroup {
    /// The reason's word.
    pub reason: String,
    /// The error's fingerprint.
    pub fingerprint: String,
    /// The error of the latest of them.
    pub error: String,
    /// How many there are.
    pub count: u64,
    /// How many of them died within the last hour.
    pub last_hour: u64,
    /// How many of them died within the last day.
    pub last_day: u64,
    /// When the first of them died.
    pub first: Timestamp,
    /// When the latest of them died.
    pub last: Timestamp,
}
