//! How many jobs are open, kept with each change: whoever asks for it does not look at all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::state::Job;
use crate::{clock::Timestamp, jobs::record::JobState};

/// Open jobs, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Under way, not frozen.
    pub running: u64,
    /// Planned, not frozen.
    pub planned: u64,
    /// Failed, and not wiped.
    pub failed: u64,
    /// Frozen, whatever their state.
    pub frozen: u64,
}

/// How many open jobs there are, of which pipeline and in which state. Those that cannot be read are in none of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Census {
    counts: Counts,
    /// By pipeline; one without open jobs is not in it.
    open: BTreeMap<String, [u64; JobState::ALL.len()]>,
    /// Live ones, by age.
    live: BTreeSet<(Timestamp, String)>,
    /// As what each job is counted.
    known: BTreeMap<String, Known>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    pipeline: String,
    state: JobState,
    frozen: bool,
    made_at: Timestamp,
}

impl Census {
    /// Of these jobs.
    pub(super) fn of<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Self {
        let mut census = Self::default();
        for job in jobs {
            census.count(job);
        }
        census
    }

    /// Counts a job that is new or has changed.
    pub(super) fn count(&mut self, job: &Job) {
        self.forget(&job.id);
        let pipeline = job.definition.name.clone();
        let known = Known { pipeline, state: job.state, frozen: job.frozen, made_at: job.made_at };
        *self.place(&known) += 1;
        if let Some(count) = self.counts.place(&known) {
            *count += 1;
        }
        if known.state.is_live() {
            self.live.insert((known.made_at, job.id.clone()));
        }
        self.known.insert(job.id.clone(), known);
    }

    /// A job is not open any more.
    pub(super) fn forget(&mut self, id: &str) {
        let Some(known) = self.known.remove(id) else { return };
        *self.place(&known) -= 1;
        if self.open.get(&known.pipeline).is_some_and(|counts| counts.iter().all(|count| *count == 0)) {
            self.open.remove(&known.pipeline);
        }
        if let Some(count) = self.counts.place(&known) {
            *count -= 1;
        }
        self.live.remove(&(known.made_at, id.to_owned()));
    }

    fn place(&mut self, known: &Known) -> &mut u64 {
        &mut self.open.entry(known.pipeline.clone()).or_default()[known.state as usize]
    }

    /// Over all pipelines.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Of one pipeline, in each of [`JobState::ALL`].
    #[must_use]
    pub fn open(&self, pipeline: &str) -> [u64; JobState::ALL.len()] {
        self.open.get(pipeline).copied().unwrap_or_default()
    }

    /// When the oldest live job was made.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.live.first().map(|(made_at, _)| *made_at)
    }
}

impl Counts {
    fn place(&mut self, known: &Known) -> Option<&mut u64> {
        Some(match known.state {
            _ if known.frozen => &mut self.frozen,
            JobState::Planned => &mut self.planned,
            JobState::Running => &mut self.running,
            JobState::Failed => &mut self.failed,
            JobState::Done | JobState::Cancelled => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, chain};
    use super::*;
    use crate::jobs::order::{Scope, Wanted};

    #[test]
    fn it_is_kept_with_each_change() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.max_running = Some(2);
        pipeline.wipe_failed_after = None;
        let mut bench = Bench::new(vec![pipeline, chain("q", &["b"])]);
        let begun_at = bench.now;
        for id in ["1", "2", "3"] {
            bench.start("p", id, "{}");
            bench.pass(1_000);
        }
        bench.start("q", "4", "{}");
        bench.order(Wanted::Freeze(Scope::Job("4".to_owned())));
        let census = bench.ledger.census();
        assert_eq!(census.counts(), Counts { running: 2, planned: 1, failed: 0, frozen: 1 });
        assert_eq!((census.open("p"), census.open("q"), census.open("r")), ([1, 2, 0, 0, 0], [0, 1, 0, 0, 0], [0; 5]));
        assert_eq!(census.oldest(), Some(begun_at));
        let task = bench.take("a");
        bench.failed(&task);
        bench.done("a", "");
        let census = bench.ledger.census();
        assert_eq!(census.counts(), Counts { running: 1, planned: 0, failed: 1, frozen: 1 });
        assert_eq!(census.open("p"), [0, 1, 0, 1, 0], "the one that is done is not open");
        assert!(census.oldest() > Some(begun_at));
        bench.done("a", "");
        bench.order(Wanted::Resume(Scope::Job("4".to_owned())));
        bench.done("b", "");
        let census = bench.ledger.census();
        assert_eq!(census.counts(), Counts { failed: 1, ..Counts::default() });
        assert_eq!((census.open("q"), census.oldest()), ([0; 5], None));
    }
}
