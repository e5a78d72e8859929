//! The ledger: the jobs of one application, and what entries and time make of them.
//!
//! [`Ledger::fold`] takes entries and the time, and gives one [`Step`]: what is to be stored together, and what is to be said once it
//! is. Nothing here reads a clock or draws from chance: time is an argument, and ids come from a seed and a counter.

mod view;

use crate::{
    Level,
    clock::Timestamp,
    jobs::{
        definition::Pipeline,
        record::{Advance, EntryId, Frozen, JobFilter, Record, StoredEntry},
    },
};

pub use view::{DeadTask, Line, Retrying, Snoozed, StepState, StepView, Tasks, View, Wiped, place};

/// The open jobs of one application.
#[derive(Debug)]
#[allow(dead_code)]
pub struct Ledger {
    application: String,
    pipelines: Vec<Pipeline>,
    frozen: Vec<Frozen>,
    open: Vec<Record>,
}

/// What a fold gives.
#[derive(Debug, Default)]
pub struct Step {
    /// To be stored; its serial is the caller's.
    pub advance: Advance,
    /// To be logged once it is stored.
    pub lines: Vec<(Level, String)>,
    /// To be looked up: [`Ledger::found`] takes the answers.
    pub lookups: Vec<Lookup>,
    /// Jobs that ended.
    pub ended: Vec<View>,
}

/// An order that cannot be folded before it is known which jobs there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The order.
    pub entry: EntryId,
    /// What it has to know, all in one answer.
    pub filters: Vec<JobFilter>,
}

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

impl Ledger {
    /// The ledger of an application, as it is stored. Ids are drawn from the seed: it is another one each time.
    #[must_use]
    pub fn new(
        application: &str,
        _epoch: u64,
        pipelines: Vec<Pipeline>,
        open: Vec<Record>,
        frozen: Vec<Frozen>,
        _seed: u64,
    ) -> Self {
        Self { application: application.to_owned(), pipelines, frozen, open }
    }

    /// The pipelines of the settings have changed. Jobs go on with the definitions that they began with.
    pub fn reload(&mut self, pipelines: Vec<Pipeline>) {
        self.pipelines = pipelines;
    }

    /// Folds entries, and what time brings: timers, admission. The step is to be stored before the next fold.
    pub fn fold(&mut self, _now: Timestamp, entries: Vec<StoredEntry>) -> Step {
        let advance = Advance { entries: entries.iter().map(|entry| entry.id).collect(), ..Advance::default() };
        Step { advance, ..Step::default() }
    }

    /// The answer to a [`Lookup`]; the next fold folds the order.
    pub fn found(&mut self, _entry: EntryId, _records: Vec<Record>) {}

    /// When time brings something, if it will.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// How many open jobs there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// The open jobs.
    pub fn jobs(&self) -> impl Iterator<Item = View> {
        self.open.iter().filter_map(|record| View::of(record).ok())
    }

    /// Live jobs that have a step, a wipe or a failure notice on a queue: "ID of PIPELINE/KEY".
    #[must_use]
    pub fn users_of(&self, _queue: &str) -> Vec<String> {
        Vec::new()
    }
}

impl Step {
    /// Whether there is nothing to be stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.advance == Advance { serial: self.advance.serial, ..Advance::default() }
    }
}

impl View {
    /// Reads a job as it is stored.
    ///
    /// # Errors
    /// What cannot be read, in one line.
    pub fn of(record: &Record) -> Result<Self, String> {
        Err(format!("the state of job {} cannot be read", record.id))
    }
}

/// What is said of a job whose tasks are in no queue: "job J waits for step S: 3 tasks are in no queue".
#[must_use]
pub fn stranded(record: &Record) -> String {
    format!("job {} waits", record.id)
}

/// The queues of the definition that a job has.
#[must_use]
pub fn queues_of(_record: &Record) -> Vec<String> {
    Vec::new()
}
