//! Dead letters as a person looks through them: in groups of one mistake, and page by page, without their bodies.

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
        }
    }
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
