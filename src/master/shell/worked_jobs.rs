//! Jobs that ended, or of which tasks did, in this run. What became of them is read at its end, whoever coordinated them, for the report and the exit
//! code of the run.

use std::{collections::BTreeSet, time::Duration};

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
        if wanted.is_empty() {
            return;
        }
        // What does not come in time is missing in the report.
        let read = tokio::time::timeout(WITHIN, self.read_jobs(wanted)).await;
        let Ok(Ok(Ok((records, _)))) = read else { return };
        let found: Vec<View> = records.iter().filter_map(|record| View::of(record).ok()).collect();
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

    fn read_jobs(&self, ids: BTreeSet<String>) -> Read {
        let (reply, found) = oneshot::channel();
        let filter = JobFilter { ids, ..JobFilter::default() };
        self.transport.ask(Request::Jobs { application: self.application.clone(), filter, reply });
        found
    }
}
