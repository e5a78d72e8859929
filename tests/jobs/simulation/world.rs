//! The model's state, and one history of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use asynctask::{
    clock::Timestamp,
    jobs::{
        definition::{Pipeline, Step},
        entry::Entry,
        ledger::{StepState, StepView, View},
        order::{Order, Wanted},
        record::{EntryId, Frozen, Record},
    },
    json_text::JsonText,
    task::NewTask,
};
use uuid::Uuid;

use super::{chance::Chance, coordinator::Coordinator, master::Hand, truth::Truth};

pub(super) const APPLICATION: &str = "app";

/// Where a step of the coordinator is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// In one transaction.
    File,
    /// One thing after the other.
    Broker,
}

/// Designs that are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Ends are counted: one that comes twice counts for a member that has not ended.
    CountInsteadOfSet,
    /// A member is known by its number in the step alone, whoever submitted it.
    IndexAsIdentity,
    /// The successor of a coordinator gives the same round ids.
    DerivedRoundId,
    /// A master stores its entry before the items.
    EntryBeforeItems,
    /// The coordinator removes entries before it stores states.
    AckBeforeState,
    /// An end of a member whose feeder is not counted yet is dropped.
    EarlyEndsDropped,
}

impl Mutant {
    pub(super) const ALL: [Self; 6] = [
        Self::CountInsteadOfSet,
        Self::IndexAsIdentity,
        Self::DerivedRoundId,
        Self::EntryBeforeItems,
        Self::AckBeforeState,
        Self::EarlyEndsDropped,
    ];
}

/// What is wrong with a history.
#[derive(Debug)]
pub(super) struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What arrives late: it was sent by a coordinator that is dead by then.
#[derive(Debug)]
pub(super) enum Late {
    Task(NewTask),
    State(u64, Record),
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) storage: Storage,
    pub(super) mutant: Option<Mutant>,
    pub(super) now: Timestamp,
    pub(super) pipeline: Pipeline,
    /// Nothing dies or fails any more.
    pub(super) is_calm: bool,
    /// Each step of it is printed.
    pub(super) is_told: bool,
    // What is stored.
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) tasks: Vec<NewTask>,
    pub(super) dead_letters: Vec<NewTask>,
    /// Of each job its states that are stored, with the epoch of who stored them.
    pub(super) states: BTreeMap<String, Vec<(u64, Record)>>,
    pub(super) frozen: Vec<Frozen>,
    pub(super) void: HashSet<Uuid>,
    pub(super) late: Vec<Late>,
    // Who is there.
    pub(super) epoch: u64,
    pub(super) coordinator: Option<Coordinator>,
    pub(super) hands: Vec<Hand>,
    // What is known besides.
    pub(super) truth: Truth,
    /// Entries of ends that were handed to a ledger; for mutants alone.
    pub(super) heard: HashSet<Uuid>,
    pub(super) folded: HashMap<(Uuid, u32), u32>,
    pub(super) jobs: Vec<String>,
    next_entry: u64,
    orders: u32,
}

impl World {
    pub(super) fn new(seed: u64, storage: Storage, mutant: Option<Mutant>) -> Self {
        let mut chance = Chance::new(seed);
        let mut steps = vec![Step::new("s0", "q0", vec![])];
        for number in 1..2 + chance.below(4) {
            let needs = match chance.below(4) {
                0 => vec![chance.below(number)],
                1 if number > 1 => vec![number - 2, number - 1],
                2 if chance.happens(200) => vec![],
                _ => vec![number - 1],
            };
            steps.push(Step::new(&format!("s{number}"), &format!("q{number}"), needs));
        }
        for step in &mut steps {
            step.wipe = chance.happens(300).then(|| "wipes".to_owned());
        }
        let mut pipeline = Pipeline::new("p", steps);
        pipeline.wipe_failed_after = None;
        Self {
            chance,
            storage,
            mutant,
            now: Timestamp(1_000_000),
            pipeline,
            is_calm: false,
            is_told: std::env::var_os("ASYNCTASK_JOBS_SEED").is_some(),
            entries: BTreeMap::new(),
            tasks: Vec::new(),
            dead_letters: Vec::new(),
            states: BTreeMap::new(),
            frozen: Vec::new(),
            void: HashSet::new(),
            late: Vec::new(),
            epoch: 0,
            coordinator: None,
            hands: Vec::new(),
            truth: Truth::default(),
            heard: HashSet::new(),
            folded: HashMap::new(),
            jobs: Vec::new(),
            next_entry: 0,
            orders: 0,
        }
    }

    /// Runs to its end.
    pub(super) fn run(mut self) -> Result<(), Fault> {
        for _ in 0..=self.chance.below(2) {
            self.start_a_job();
        }
        for _ in 0..60 + self.chance.below(120) {
            self.something_happens()?;
        }
        self.is_calm = true;
        self.calm_down()?;
        // People put dead letters back to work, and the jobs go on.
        if self.chance.happens(500) && !self.dead_letters.is_empty() {
            let back = std::mem::take(&mut self.dead_letters);
            self.tasks.extend(back);
            self.calm_down()?;
        }
        self.judge()
    }

    fn something_happens(&mut self) -> Result<(), Fault> {
        self.now = self.now.plus(std::time::Duration::from_millis(self.chance.below(50) as u64));
        match self.chance.below(20) {
            0..=6 => {
                self.coordinate()?;
            }
            7..=15 => self.work(),
            16 => self.arrives_late(),
            17 => self.coordinator_dies(),
            18 => self.order_something(),
            _ => self.dead_letter_goes_back(),
        }
        Ok(())
    }

    /// Until nothing is left to do.
    fn calm_down(&mut self) -> Result<(), Fault> {
        for _ in 0..5_000 {
            while !self.late.is_empty() {
                self.arrives_late();
            }
            let before = self.entries.len();
            let did = self.coordinate()?;
            if self.tasks.is_empty() && self.hands.is_empty() && self.entries.is_empty() && before == 0 && !did {
                return Ok(());
            }
            self.work();
        }
        Err(self.fault("it never comes to rest"))
    }

    // What people do.

    fn start_a_job(&mut self) {
        let id = self.chance.uuid().to_string();
        self.jobs.push(id.clone());
        self.order(Wanted::Start {
            pipeline: "p".to_owned(),
            id,
            payload: JsonText::from(serde_json::json!({"n": 1})),
            priority: 0,
            scheduled: false,
        });
    }

    fn order_something(&mut self) {
        let job = self.jobs[self.chance.below(self.jobs.len())].clone();
        let step = format!("s{}", self.chance.below(self.pipeline.steps.len()));
        let what = match self.chance.below(8) {
            0 if self.jobs.len() < 4 => return self.start_a_job(),
            1 => Wanted::Cancel { job },
            2 | 3 => Wanted::Restart {
                job,
                steps: vec![step],
                only: false,
                failed: false,
                redefine: false,
                even_if_wiped: true,
            },
            _ => return,
        };
        self.order(what);
    }

    fn order(&mut self, what: Wanted) {
        self.orders += 1;
        let order = Order { id: format!("order {}", self.orders), at: self.now, what };
        self.store_entry(Entry::Order(Box::new(order)));
    }

    fn dead_letter_goes_back(&mut self) {
        if !self.dead_letters.is_empty() {
            let letter = self.dead_letters.swap_remove(self.chance.below(self.dead_letters.len()));
            self.tasks.push(letter);
        }
    }

    // What a store does.

    pub(super) fn store_entry(&mut self, entry: Entry) {
        self.next_entry += 1;
        self.entries.insert(self.next_entry, entry);
    }

    /// Entries for the coordinator: the oldest on a file; on a broker any, in any order.
    pub(super) fn some_entries(&mut self, held: &HashSet<EntryId>) -> Vec<u64> {
        let mut there: Vec<u64> = self.entries.keys().copied().filter(|id| !held.contains(&EntryId(*id))).collect();
        let count = if self.is_calm { there.len() } else { self.chance.below(6).min(there.len()) };
        match self.storage {
            Storage::File => there.truncate(count),
            Storage::Broker => {
                let mut taken = Vec::new();
                for _ in 0..count {
                    taken.push(there.swap_remove(self.chance.below(there.len())));
                }
                there = taken;
            }
        }
        there
    }

    fn arrives_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        match self.late.swap_remove(self.chance.below(self.late.len())) {
            Late::Task(task) => self.tasks.push(task),
            Late::State(epoch, record) => self.states.entry(record.id.clone()).or_default().push((epoch, record)),
        }
    }

    /// Of each job the newest state, and nothing of it that is older.
    pub(super) fn newest(&mut self) -> Vec<Record> {
        let newest = |states: &mut Vec<(u64, Record)>| {
            states.sort_by_key(|(epoch, record)| (*epoch, record.version));
            states.drain(..states.len().saturating_sub(1));
            states.last().map(|(_, record)| record.clone())
        };
        self.states.values_mut().filter_map(newest).collect()
    }

    // What is looked at.

    pub(super) fn fault(&self, what: &str) -> Fault {
        Fault(format!(
            "{what} ({} tasks, {} in hand, {} entries)",
            self.tasks.len(),
            self.hands.len(),
            self.entries.len()
        ))
    }

    /// A job's state is about to be stored.
    pub(super) fn check_state(&self, before: Option<&View>, after: &View) -> Result<(), Fault> {
        for (number, step) in after.steps.iter().enumerate() {
            let was_done = before.is_some_and(|before| {
                before.steps[number].state == StepState::Done && before.steps[number].round == step.round
            });
            if step.state != StepState::Done || was_done {
                continue;
            }
            let Some(round) = step.round else { return Err(self.fault("a step is done that never began")) };
            if !self.truth.is_complete(round) {
                return Err(self.fault(&format!("early: step {} of job {} is done", step.name, after.id)));
            }
            if step.tasks.done + step.tasks.failed != step.tasks.known {
                return Err(self.fault(&format!("step {} is done with {:?}", step.name, step.tasks)));
            }
        }
        Ok(())
    }

    /// A task of the coordinator's is about to be stored.
    pub(super) fn check_inputs(&self, view: &View, task: &NewTask) -> Result<(), Fault> {
        let Some(membership) = task.membership.as_deref().filter(|membership| !membership.wipe) else { return Ok(()) };
        let Some(number) = self.pipeline.step(&membership.step) else { return Ok(()) };
        let inputs: serde_json::Value = membership
            .inputs
            .as_ref()
            .map_or(serde_json::Value::Null, |inputs| serde_json::from_str(inputs.as_str()).expect("inputs are JSON"));
        for need in &self.pipeline.steps[number].needs {
            let needed = &view.steps[*need];
            let result = &inputs[&needed.name]["result"];
            let given_in = result.as_str().and_then(|result| self.truth.round_of(result));
            if given_in.is_none() || given_in != needed.round {
                return Err(
                    self.fault(&format!("stale: step {} begins on {result} of {}", membership.step, needed.name))
                );
            }
        }
        Ok(())
    }

    /// What the ledger counts of a step, and what there is of it.
    fn whereabouts(&self, step: &StepView) -> String {
        let round = step.round.unwrap_or_default();
        let is_of_it = |task: &&NewTask| task.membership.as_deref().is_some_and(|membership| membership.round == round);
        let dead = self.dead_letters.iter().filter(is_of_it).count();
        let is_void = if self.void.contains(&round) { ", void" } else { "" };
        let (state, counts) = (step.state.as_str(), step.tasks);
        format!("{} {state} with {counts:?}, {dead} dead letters{is_void}", step.name)
    }

    fn judge(&mut self) -> Result<(), Fault> {
        let records = self.newest();
        for job in &self.jobs {
            let Some(record) = records.iter().find(|record| record.id == *job) else {
                return Err(self.fault(&format!("job {job} was never made")));
            };
            let view = View::of(record).map_err(|error| self.fault(&error))?;
            if record.state.is_live() {
                let steps: Vec<_> = view.steps.iter().map(|step| self.whereabouts(step)).collect();
                return Err(self.fault(&format!("stuck: job {job} is {:?}: {}", record.state, steps.join("; "))));
            }
            if view.error.is_some() && self.truth.failed.is_empty() && record.state.as_str() == "failed" {
                return Err(self.fault(&format!("job {job} failed, and no task did")));
            }
        }
        Ok(())
    }
}
