//! Jobs that ended, or of which tasks did, in this run. What became of them is read at its end, whoever coordinated them, for the report and the exit
//! code of the run.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{jobs::Read, state::Shell};
use crate::{
    jobs::{
        ledger::View,
        record::{JobFilter, JobState},
    },
    transport::Request,
};

/// How long all of them may take to be read.
const WITHIN: Duration = Duration::from_secs(3);

impl Shell {
    /// Reads them, as far as the transport answers soon.
    pub(super) async fn find_worked_jobs(&mut self) {
        if self.report.is_none() && !self.core.halts_when_empty() {
            return;
        }
        let mut wanted = self.jobs.worked.ids().clone();
        if let Some(report) = &self.report {
            wanted.extend(report.borrow().jobs().map(str::to_owned));
        }
        let asked: Vec<Read> = wanted.into_iter().map(|id| self.read_job(id)).collect();
        let mut found = Vec::new();
        let reading = async {
            for read in asked {
                if let Ok(Ok((records, _))) = read.await {
                    found.extend(records.iter().filter_map(|record| View::of(record).ok()));
                }
            }
        };
        // What does not come in time is missing in the report.
        let _ = tokio::time::timeout(WITHIN, reading).await;
        let has_failed = |view: &&View| view.state == JobState::Failed && self.jobs.worked.ids().contains(&view.id);
        let failed = found.iter().filter(has_failed).count() as u64;
        if let Some(finished) = &mut self.finished {
            finished.tally.failed_jobs = finished.tally.failed_jobs.max(failed);
        }
        if let Some(report) = &self.report {
            for view in found {
                report.borrow_mut().job_found(Box::new(view));
            }
        }
    }

    fn read_job(&self, id: String) -> Read {
        let (reply, found) = oneshot::channel();
        let filter = JobFilter { id: Some(id), whole_id: true, limit: 1, ..JobFilter::default() };
        self.transport.ask(Request::Jobs { application: self.application.clone(), filter, reply });
        found
    }
}
