//! What the coordinator answers.

use serde::{Deserialize, Serialize};

use super::{
    held_ledger::HeldLedger,
    names::{Announcement, Question},
    stored::StoredJob,
};
use crate::jobs::record::Frozen;

/// A part of an answer has about so many bytes of jobs at most: a broker takes no message of more than 16 MiB.
const PART: usize = 1 << 20;

/// A part of the answer to [`Question::Jobs`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct OpenJobs {
    /// Open jobs, oldest first.
    #[serde(default)]
    pub(crate) jobs: Vec<StoredJob>,
    #[serde(default)]
    pub(crate) frozen: Vec<Frozen>,
    /// Entries that came to the coordinator and are not folded.
    #[serde(default)]
    pub(crate) entries: usize,
    /// Another part follows.
    #[serde(default)]
    pub(crate) more: bool,
}

impl HeldLedger {
    /// The answer to a question, in parts.
    pub(crate) fn answer(&self, question: &Question) -> Vec<Vec<u8>> {
        match question {
            Question::Stopped => vec![bytes(&self.stopped())],
            Question::Jobs(filter) => {
                let mut parts = vec![OpenJobs::default()];
                let mut length = 0;
                for job in self.jobs.all().into_iter().filter(|job| filter.holds(&job.record)) {
                    length += job.record.content.len();
                    if length > PART {
                        length = job.record.content.len();
                        parts.push(OpenJobs::default());
                    }
                    if let Some(part) = parts.last_mut() {
                        part.jobs.push(job.clone());
                    }
                }
                let last = parts.len() - 1;
                for part in &mut parts[..last] {
                    part.more = true;
                }
                let part = &mut parts[last];
                (part.frozen, part.entries) = (self.jobs.memory().frozen.clone(), self.entries.left());
                parts.iter().map(bytes).collect()
            }
        }
    }

    /// All that is stopped.
    pub(crate) fn stopped(&self) -> Announcement {
        let (epoch, void, frozen) = (self.jobs.epoch(), self.jobs.void(), self.jobs.frozen());
        Announcement { epoch, complete: true, void, frozen, ..Announcement::default() }
    }
}

fn bytes(answer: &impl Serialize) -> Vec<u8> {
    // Maps with text keys: writing them cannot fail.
    serde_json::to_vec(answer).unwrap_or_default()
}
