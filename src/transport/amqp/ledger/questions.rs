//! What the coordinator answers.

use serde::{Deserialize, Serialize};

use super::{
    held_ledger::HeldLedger,
    names::{Announcement, Question},
    stored::StoredJob,
};
use crate::jobs::record::Frozen;

/// What a job's record has beside its content, nearly.
const BESIDE: usize = 1 << 10;
/// A part of an answer has about so many bytes of jobs at most: a broker takes no message of more than 16 MiB.
const PART: usize = 1 << 20;
/// An answer to another process has about so many at most, since it waits in memory until it is sent.
pub(super) const ANSWER: usize = 8 << 20;

/// A part of the answer to [`Question::Jobs`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct OpenJobs {
    /// Open jobs, oldest first.
    #[serde(default)]
    pub(crate) jobs: Vec<StoredJob>,
    #[serde(default)]
    pub(crate) frozen: Vec<Frozen>,
    /// Of whoever answers.
    #[serde(default)]
    pub(crate) epoch: u64,
    /// Entries that came to the coordinator and are not folded.
    #[serde(default)]
    pub(crate) entries: usize,
    /// Another part follows.
    #[serde(default)]
    pub(crate) more: bool,
    /// This was the last part, and there are more jobs: those after the last one are to be asked for.
    #[serde(default)]
    pub(crate) rest: bool,
}

impl HeldLedger {
    /// The answer to a question, in parts, with about so many bytes at most.
    pub(crate) fn answer(&self, question: &Question, most: usize) -> Vec<Vec<u8>> {
        match question {
            Question::Stopped => vec![bytes(&self.stopped())],
            Question::Jobs { filter, after } => {
                let mut parts = vec![OpenJobs::default()];
                let (mut length, mut all, mut rest) = (0, 0, false);
                let is_asked = |job: &&StoredJob| {
                    filter.holds(&job.record) && after.as_ref().is_none_or(|after| job.place() > *after)
                };
                for job in self.jobs.all().into_iter().filter(is_asked) {
                    let bytes = job.record.content.len() + BESIDE;
                    rest = all > 0 && all + bytes > most;
                    if rest {
                        break;
                    }
                    (length, all) = (length + bytes, all + bytes);
                    if length > PART {
                        length = bytes;
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
                (part.epoch, part.rest) = (self.jobs.epoch(), rest);
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
