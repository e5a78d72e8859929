//! Records: a job's state as a transport stores it, and one step of the coordinator.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::member_set::MemberSet;
use crate::{clock::Timestamp, membership::Membership, task::NewTask};

/// What a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for its turn, its key, or a person.
    Planned,
    /// Its steps are worked.
    Running,
    /// All its steps are done.
    Done,
    /// A step failed, or its time is over.
    Failed,
    /// A person ended it.
    Cancelled,
}

impl JobState {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::Planned, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// The word used in tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether it has not ended.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Planned | Self::Running)
    }
}

/// A job, as it is stored. What a transport must know of it stands beside its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The job's id.
    pub id: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Its key.
    pub key: Option<String>,
    /// Of the jobs of one pipeline with one key, one holds it.
    pub holds_key: bool,
    /// What it is.
    pub state: JobState,
    /// Nothing of it is begun.
    pub frozen: bool,
    /// Entries can change it: it is live, or it failed and is not wiped, or is being wiped. The coordinator has these in memory.
    pub open: bool,
    /// The higher, the earlier it is admitted.
    pub priority: i32,
    /// When it was made.
    pub made_at: Timestamp,
    /// When it is to be forgotten; `None` while it is open.
    pub purge_at: Option<Timestamp>,
    /// Counts its changes.
    pub version: u64,
    /// The ids of the rounds of which tasks may be worked, now or when they are retried: they are under way, failed, or done with
    /// tasks that failed, and not wiped; and that of a wipe.
    pub rounds: Vec<Uuid>,
    /// All of it, as JSON (`ledger::state`).
    pub content: String,
}

/// What is frozen beside jobs: a pipeline, or one key of it. Stored like a job, loaded with the open ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frozen {
    /// The pipeline.
    pub pipeline: String,
    /// Only this key.
    pub key: Option<String>,
}

/// A job that is frozen, among those of all applications: two of them may have jobs of one id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrozenJob {
    /// The application whose ledger holds it.
    pub application: String,
    /// Its id.
    pub id: String,
}

impl From<&Membership> for FrozenJob {
    fn from(place: &Membership) -> Self {
        Self { application: place.application.clone(), id: place.job.clone() }
    }
}

/// Names an entry that is stored, for as long as this transport holds the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// An entry that is stored, unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Names it.
    pub id: EntryId,
    /// One entry, or a [list](super::entry_list) of them, for [`Entry::parse`](super::entry::Entry::parse).
    pub body: Vec<u8>,
}

/// One step of the coordinator. All of it is stored, or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// Names the answer.
    pub serial: u64,
    /// Entries that are folded: they go.
    pub entries: Vec<EntryId>,
    /// Jobs that are new or changed.
    pub records: Vec<Record>,
    /// Jobs that are forgotten.
    pub forgotten: Vec<String>,
    /// Tasks of theirs. One whose id waits already in its queue is stored again: ids are new each time.
    pub tasks: Vec<NewTask>,
    /// Rounds of which nothing counts any more: tasks that wait are removed, masters end those in hand. Dead letters stay
    /// where the round is not superseded, too.
    pub void: Vec<Uuid>,
    /// Rounds, void by now, whose dead letters are removed: their steps are done again. Where there are very many, some may stay.
    pub superseded: Vec<Uuid>,
    /// The queues of their tasks, for a transport that does not find dead letters by their round.
    pub superseded_from: Vec<String>,
    /// Rounds whose dead letters go back to their queues, with their attempts at zero. A transport that is not told of each dead letter
    /// that goes, because its broker deletes them by itself, refuses the step with
    /// [`Error::NotRevived`](crate::transport::Error::NotRevived) where one of a member that the ledger knows is not there: else the
    /// ledger would wait for that for ever.
    pub revived: Vec<Revived>,
    /// The queues of their tasks, for a transport that does not find dead letters by their round.
    pub revived_from: Vec<String>,
    /// Jobs of which nothing is to be begun from now on.
    pub frozen: Vec<String>,
    /// Jobs of which tasks can be begun again. None of them is in `frozen`; one that is closed is in here if it was frozen.
    pub thawed: Vec<String>,
    /// Pipelines and keys that are frozen: all of them, if that changed.
    pub frozen_pipelines: Option<Vec<Frozen>>,
    /// Answers to orders, as JSON, by the orders' ids. Kept for an hour.
    pub answers: Vec<(String, String)>,
}

/// A round whose dead letters go back to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revived {
    /// The round.
    pub round: Uuid,
    /// The members that failed, as far as the ledger knows. Numbers alone would not do: a member may have two dead letters, and one may
    /// have failed of which is not told yet.
    pub failed: MemberSet,
}

/// Which jobs are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobFilter {
    /// Whose id begins so.
    pub id: Option<String>,
    /// Whose id is [`id`](Self::id) and no longer one.
    pub whole_id: bool,
    /// Whose id is one of these; none of them: whatever its id is.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ids: BTreeSet<String>,
    /// Of this pipeline.
    pub pipeline: Option<String>,
    /// With this key.
    pub key: Option<String>,
    /// In this state.
    pub state: Option<JobState>,
    /// Only open ones.
    pub open: bool,
    /// Only those that run, with no task of theirs anywhere and nothing left to fold: a transport that cannot see that ignores it.
    pub stranded: bool,
    /// At most so many, the newest; 0: all.
    pub limit: usize,
}

impl JobFilter {
    /// Whether a job is asked for. Its limit is the asker's.
    #[must_use]
    pub fn holds(&self, record: &Record) -> bool {
        let named = |id: &String| if self.whole_id { record.id == *id } else { record.id.starts_with(id.as_str()) };
        self.id.as_ref().is_none_or(named)
            && (self.ids.is_empty() || self.ids.contains(&record.id))
            && self.pipeline.as_ref().is_none_or(|pipeline| record.pipeline == *pipeline)
            && self.key.as_ref().is_none_or(|key| record.key.as_ref() == Some(key))
            && self.state.is_none_or(|state| record.state == state)
            && (!self.open || record.open)
    }
}
