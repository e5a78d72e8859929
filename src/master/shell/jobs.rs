//! The shell's end of the coordinator: what it looked up comes back to the loop here.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{
    jobs::{
        definition::Pipeline,
        record::{EntryId, Frozen, JobState, Record},
    },
    master::coordinator::Coordinator,
    transport::{Error, Event},
};

/// How long the transport may take to read jobs for a status.
const COUNTING: Duration = Duration::from_secs(3);

/// Jobs that are remembered; those that the coordinator of this master saw fail are counted by the core.
const MOST_WORKED: usize = 1_000;

/// The answer to a question about jobs.
pub(super) type Read = oneshot::Receiver<Result<(Vec<Record>, Vec<Frozen>), Error>>;

/// Jobs that an order names, or why they cannot be read.
pub(super) struct Found {
    pub(super) epoch: u64,
    pub(super) entry: EntryId,
    pub(super) records: Result<Vec<Record>, Error>,
}

/// The coordinator of this master; it wants the ledger only where there are pipelines.
pub(super) struct Jobs {
    pub(super) coordinator: Coordinator,
    pub(super) worked: WorkedJobs,
    pub(super) sender: mpsc::UnboundedSender<Found>,
    pub(super) found: mpsc::UnboundedReceiver<Found>,
}

impl Jobs {
    pub(super) fn new(application: &str, pipelines: Vec<Pipeline>, seed: u64) -> Self {
        let (sender, found) = mpsc::unbounded_channel();
        let coordinator = Coordinator::new(application, pipelines, seed);
        Self { coordinator, worked: WorkedJobs::default(), sender, found }
    }
}

/// The ids of jobs that ended, or of which tasks did that were no wipes: a job that failed before is not a failure of the run that wipes
/// it.
#[derive(Debug, Default)]
pub(super) struct WorkedJobs(BTreeSet<String>);

impl WorkedJobs {
    pub(super) fn add(&mut self, job: &str) {
        if self.0.len() < MOST_WORKED && !self.0.contains(job) {
            self.0.insert(job.to_owned());
        }
    }

    pub(super) const fn ids(&self) -> &BTreeSet<String> {
        &self.0
    }
}

/// What the transport tells the coordinator alone.
pub(super) const fn is_of_the_ledger(event: &Event) -> bool {
    matches!(
        event,
        Event::LedgerHeld { .. }
            | Event::LedgerRefused
            | Event::LedgerLost
            | Event::Entries(_)
            | Event::Advanced { .. }
    )
}

/// The counts of open jobs, as the transport has them; null where it does not answer.
pub(super) async fn count_open(open: Read) -> Value {
    let Ok(Ok(Ok((records, _)))) = tokio::time::timeout(COUNTING, open).await else { return Value::Null };
    let count = |frozen: bool, state: Option<JobState>| {
        let is_counted = |record: &&Record| record.frozen == frozen && state.is_none_or(|state| record.state == state);
        records.iter().filter(is_counted).count()
    };
    json!({
        "running": count(false, Some(JobState::Running)),
        "planned": count(false, Some(JobState::Planned)),
        "failed": count(false, Some(JobState::Failed)),
        "frozen": count(true, None),
    })
}
