//! Jobs in halt mode: one that is live and not frozen is work, unless it waits in vain; one that failed is told by the exit code.

use super::super::Core;
use crate::{
    exit_code::Code,
    frames::HaltReason,
    jobs::{
        ledger,
        record::{JobState, Record},
    },
    logging::Level,
    plural::counted,
};

/// Jobs that the last error names; each has a line of the log.
const NAMED: usize = 5;

impl Core {
    /// Nothing is left to do. `stranded`: live jobs all of whose tasks are gone.
    pub(in crate::master::core) fn end_empty(&mut self, stranded: &[Record]) {
        let (planned, running): (Vec<_>, Vec<_>) = stranded.iter().partition(|job| job.state == JobState::Planned);
        for job in planned {
            self.log(Level::Warning, || ledger::left_planned(job, stranded));
        }
        let lines: Vec<String> = running.into_iter().map(ledger::stranded).collect();
        let Some(last) = lines.len().checked_sub(1) else {
            return self.drain(Code::Ok, None, HaltReason::Empty);
        };
        if last > 0 {
            for line in &lines {
                self.log(Level::Error, || line.clone());
            }
        }
        let more = lines.len().saturating_sub(NAMED);
        let mut error = lines[..lines.len() - more].join("; ");
        if more > 0 {
            error = format!("{error}; and {} more", counted(more, "job"));
        }
        self.end_badly(Code::Refused, error);
    }

    /// A job has ended. One that failed may be healed and end anew.
    pub(in crate::master::core) fn job_ended(&mut self, id: String, state: JobState) {
        if !self.plan.halt_when_empty {
            return;
        }
        if state == JobState::Failed {
            self.jobs.failed.insert(id);
        } else {
            self.jobs.failed.remove(&id);
        }
        self.tally.failed_jobs = self.jobs.failed.len() as u64;
    }
}
