//! What a fold gathers: the step that is to be stored, and ids for what is new in it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    Level,
    clock::Timestamp,
    jobs::record::{Advance, EntryId, JobFilter, JobState},
};

/// What a fold gives.
#[derive(Debug, Default)]
pub struct Step {
    /// To be stored; its serial is the caller's.
    pub advance: Advance,
    /// To be logged once it is stored.
    pub lines: Vec<(Level, String)>,
    /// To be looked up: [`Ledger::found`](super::Ledger::found) takes the answers.
    pub lookups: Vec<Lookup>,
    /// Jobs that ended.
    pub ended: Vec<Ended>,
    /// Steps that were done, each time that they were.
    pub steps_done: Vec<StepDone>,
}

/// A job that has ended, or has done so again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The job's id.
    pub id: String,
    /// Its pipeline.
    pub pipeline: String,
    /// As what it ended.
    pub state: JobState,
    /// Since it began to run, or to run again; `None`: it never did.
    pub took: Option<Duration>,
}

/// A step that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepDone {
    /// The pipeline of its job.
    pub pipeline: String,
    /// Its name.
    pub step: String,
    /// Since its begin.
    pub took: Duration,
}

impl Step {
    /// Whether there is nothing to be stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.advance == Advance { serial: self.advance.serial, ..Advance::default() }
    }
}

/// An order that cannot be folded before it is known which jobs there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The order.
    pub entry: EntryId,
    /// What it has to know, all in one answer.
    pub filters: Vec<JobFilter>,
}

/// Ids that nobody has drawn before: of the application, the epoch, the seed of this coordinator, and a counter.
#[derive(Debug, Default)]
pub(super) struct Ids {
    space: Uuid,
    next: u64,
}

impl Ids {
    pub(super) fn new(application: &str, epoch: u64, seed: u64) -> Self {
        let name = format!("asynctask ledger {epoch} {seed} {application}");
        Self { space: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()), next: 0 }
    }

    fn draw(&mut self) -> Uuid {
        self.next += 1;
        Uuid::new_v5(&self.space, &self.next.to_le_bytes())
    }
}

/// What a fold has gathered so far.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) now: Timestamp,
    /// When what is being folded happened, by the clock of whoever told it: not after `now`.
    pub(super) happened_at: Timestamp,
    pub(super) application: Arc<str>,
    pub(super) step: Step,
    /// Jobs whose records are to be written.
    pub(super) changed: BTreeSet<String>,
    /// Jobs that are to be forgotten.
    pub(super) forgotten: BTreeSet<String>,
    /// Jobs that were frozen or resumed: what they are in the end is told, however often that changed.
    pub(super) refrozen: BTreeSet<String>,
    /// How many jobs of each pipeline run, while all that can begin has begun; `None`: others may be able to.
    pub(super) running: Option<HashMap<String, usize>>,
    /// Another fold is due at once.
    pub(super) is_due_again: bool,
    pub(super) ids: Ids,
}

impl Out {
    pub(super) fn new(now: Timestamp, application: Arc<str>, ids: Ids) -> Self {
        let (changed, forgotten, refrozen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self {
            now,
            happened_at: now,
            application,
            step: Step::default(),
            changed,
            forgotten,
            refrozen,
            running: None,
            is_due_again: false,
            ids,
        }
    }

    /// When what is being folded happened, not before something else did.
    pub(super) fn moment(&self, after: Option<Timestamp>) -> Timestamp {
        self.happened_at.max(after.unwrap_or(self.happened_at)).min(self.now)
    }

    /// A new id.
    pub(super) fn id(&mut self) -> Uuid {
        self.ids.draw()
    }

    pub(super) fn info(&mut self, line: String) {
        self.step.lines.push((Level::Info, line));
    }

    pub(super) fn warning(&mut self, line: String) {
        self.step.lines.push((Level::Warning, line));
    }

    pub(super) fn debug(&mut self, line: String) {
        self.step.lines.push((Level::Debug, line));
    }

    /// Nothing of this round counts any more.
    pub(super) fn void(&mut self, round: Option<Uuid>) {
        self.step.advance.void.extend(round);
    }

    /// Nothing of this round counts any more, and its dead letters have a successor. Its tasks are in these queues.
    pub(super) fn supersede<'a>(&mut self, round: Option<Uuid>, queues: impl IntoIterator<Item = &'a String>) {
        self.void(round);
        self.drop_dead(round, queues);
    }

    /// The dead letters of this round, which is void, have a successor.
    pub(super) fn drop_dead<'a>(&mut self, round: Option<Uuid>, queues: impl IntoIterator<Item = &'a String>) {
        let Some(round) = round else { return };
        let advance = &mut self.step.advance;
        advance.superseded.push(round);
        for queue in queues {
            if !advance.superseded_from.contains(queue) {
                advance.superseded_from.push(queue.clone());
            }
        }
    }
}

/// A time in seconds, to a tenth: `2 s`, `0.4 s`.
pub(super) fn seconds(from: Option<Timestamp>, to: Timestamp) -> String {
    let tenths = from.map_or(0, |from| to.0.saturating_sub(from.0).max(0).saturating_add(50) / 100);
    if tenths % 10 == 0 { format!("{} s", tenths / 10) } else { format!("{}.{} s", tenths / 10, tenths % 10) }
}
