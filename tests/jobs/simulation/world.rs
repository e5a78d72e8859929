//! One history: what is stored, who acts on it, and what must hold at its end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use asynctask::{
    clock::Timestamp,
    jobs::{
        entry::Entry,
        ledger::{Ledger, View, Wiped},
        order::{Answer, Order, Scope, Wanted},
        record::{EntryId, Frozen, JobState, Record, StoredEntry},
    },
    json_text::JsonText,
    task::NewTask,
};
use uuid::Uuid;

use super::{
    coordinator::newest,
    mutants::{Memory, Mutant},
    rng::Rng,
    settings::Settings,
    truth::{Fault, Source, Truth},
};

/// Events after all is well again.
const PATIENCE: u64 = 20_000;

/// The id of a job. All of it but the last letter names it, too.
fn id_of(job: u64) -> String {
    format!("job{job}x")
}

/// A task that waits.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) new: NewTask,
    /// What really submitted it.
    pub(super) source: Source,
    pub(super) depth: u32,
}

impl Task {
    /// One that the coordinator submits.
    pub(super) fn first(new: NewTask) -> Self {
        let source = new.membership.as_ref().map_or((Uuid::nil(), 0), |of| (of.round, of.index));
        Self { new, source, depth: 0 }
    }
}

/// A state of a job, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) epoch: u64,
    /// Of its changes the ledger says that this is the latest.
    pub(super) version: u64,
    pub(super) record: Record,
}

/// What a coordinator published before it died, and what comes later.
pub(super) enum Stray {
    Task(Box<Task>),
    State(u64, Box<Record>),
}

/// A history.
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) mutant: Option<Mutant>,
    pub(super) rng: Rng,
    pub(super) now: Timestamp,
    /// Nothing goes wrong any more.
    pub(super) is_calm: bool,
    pub(super) tasks: Vec<Task>,
    pub(super) dead: Vec<Task>,
    pub(super) entries: Vec<StoredEntry>,
    pub(super) states: BTreeMap<String, Vec<Stored>>,
    pub(super) strays: Vec<Stray>,
    pub(super) void: HashSet<Uuid>,
    pub(super) frozen: BTreeSet<String>,
    pub(super) frozen_pipelines: Vec<Frozen>,
    /// Rounds of which dead letters were missing when they were to go back, and how often.
    pub(super) missing: BTreeMap<Uuid, u32>,
    pub(super) answered: HashSet<String>,
    pub(super) forgotten: HashSet<String>,
    pub(super) ledger: Ledger,
    pub(super) epoch: u64,
    /// Entries that this coordinator was told.
    pub(super) given: HashSet<EntryId>,
    /// What it asked which jobs there are, and what was found, that it has not heard yet.
    pub(super) found: Vec<(EntryId, Vec<Record>)>,
    pub(super) memory: Memory,
    /// What a round is begun with.
    pub(super) labels: HashMap<Uuid, String>,
    pub(super) truth: Truth,
    orders: Vec<String>,
    /// Those of them that want a job to be done again, and which.
    restarts: HashMap<String, String>,
    next: u64,
}

impl World {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut rng = Rng::new(seed);
        let settings = Settings::draw(&mut rng, mutant);
        let ledger = Ledger::new("app", 1, vec![settings.pipeline.clone()], Vec::new(), Vec::new(), rng.next());
        Self {
            settings,
            mutant,
            rng,
            now: Timestamp(1_700_000_000_000),
            is_calm: false,
            tasks: Vec::new(),
            dead: Vec::new(),
            entries: Vec::new(),
            states: BTreeMap::new(),
            strays: Vec::new(),
            void: HashSet::new(),
            frozen: BTreeSet::new(),
            frozen_pipelines: Vec::new(),
            missing: BTreeMap::new(),
            answered: HashSet::new(),
            forgotten: HashSet::new(),
            ledger,
            epoch: 1,
            given: HashSet::new(),
            found: Vec::new(),
            memory: Memory::default(),
            labels: HashMap::new(),
            truth: Truth::default(),
            orders: Vec::new(),
            restarts: HashMap::new(),
            next: 0,
        }
    }

    pub(super) fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.rng.next(), self.rng.next())
    }

    /// Stores an entry.
    pub(super) fn tell(&mut self, entry: &Entry) {
        self.next += 1;
        self.entries.push(StoredEntry { id: EntryId(self.next), body: entry.to_bytes() });
    }

    fn order(&mut self, what: Wanted) {
        let id = format!("order-{}", self.orders.len());
        self.orders.push(id.clone());
        if let Wanted::Restart { job, .. } = &what {
            let job = (0..self.settings.jobs).map(id_of).find(|id| id.starts_with(job.as_str()));
            self.restarts.extend(job.map(|job| (id.clone(), job)));
        }
        let entry = Entry::Order(Box::new(Order { id, at: self.now, what }));
        self.tell(&entry);
        if !self.is_calm && self.rng.chance(self.settings.doubled) {
            self.tell(&entry);
        }
    }

    /// An order has its answer.
    pub(super) fn answer(&mut self, order: &str, answer: &str) {
        let is_done = matches!(serde_json::from_str(answer), Ok(Answer::Done { .. }));
        if let Some(job) = self.restarts.get(order).filter(|_| is_done) {
            self.truth.restarts(job, order);
        }
    }

    /// What a round of a task is begun with: rounds that are begun with the same are one to a mutant.
    pub(super) fn label(&mut self, task: &NewTask) {
        let Some(of) = task.membership.as_deref() else { return };
        self.truth.begins(of);
        let inputs = of.inputs.as_ref().map_or("", |inputs| inputs.as_str());
        let label = format!("{} {} {inputs}", of.job, of.step);
        if self.mutant == Some(Mutant::DerivedRound)
            && let Some((first, _)) = self.labels.iter().find(|(_, known)| **known == label)
        {
            let first = self.truth.same.get(first).copied().unwrap_or(*first);
            if first != of.round {
                self.truth.same.insert(of.round, first);
            }
        }
        self.labels.insert(of.round, label);
    }

    /// The whole history.
    pub(super) fn go(&mut self) -> Result<(), Fault> {
        for job in 0..self.settings.jobs {
            let key = if self.rng.chance(500) { 0 } else { job };
            let payload = JsonText::parse(&format!("{{\"key\":{key}}}")).expect("JSON");
            let priority = self.rng.between(0, 2) as i32;
            let (pipeline, id) = ("p".to_owned(), id_of(job));
            self.order(Wanted::Start { pipeline, id, payload, priority, scheduled: false });
        }
        for _ in 0..self.settings.faults {
            self.happen()?;
        }
        self.is_calm = true;
        for _ in 0..PATIENCE {
            if !self.calm_down()? {
                return self.check_end();
            }
        }
        Err(Fault::Stuck(format!("it does not end: {}", self.rest())))
    }

    /// Something happens.
    fn happen(&mut self) -> Result<(), Fault> {
        self.now.0 += if self.rng.chance(20) { 30_000 } else { 100 };
        if self.rng.chance(self.settings.set_back) {
            self.now.0 -= self.rng.between(1, 3_600_000) as i64;
        }
        if self.rng.chance(self.settings.reloads) {
            std::mem::swap(&mut self.settings.pipeline, &mut self.settings.other);
            self.ledger.reload(vec![self.settings.pipeline.clone()]);
        }
        if self.rng.chance(self.settings.purged) && !self.dead.is_empty() {
            self.purge();
        }
        if self.rng.chance(300) {
            self.arrive()?;
        }
        let (restarts, cancels, others) = (self.settings.restarts, self.settings.cancels, self.settings.other_orders);
        if self.rng.chance(restarts) {
            self.restart();
        }
        if self.rng.chance(cancels) {
            let job = self.job();
            let job = self.name(job);
            self.order(Wanted::Cancel { job });
        }
        if self.rng.chance(others) {
            self.other_order();
        }
        let retries = self.settings.retries;
        if self.rng.chance(retries) && !self.dead.is_empty() {
            self.retry();
        }
        let runnable = self.runnable();
        if let Some(place) = runnable.first().filter(|_| self.rng.chance(600)) {
            let place = if self.rng.chance(300) { *place } else { self.rng.pick(&runnable) };
            let removed = self.settings.removed;
            if self.rng.chance(removed) {
                self.remove(place);
            } else {
                self.run(place);
            }
            return Ok(());
        }
        self.coordinate()
    }

    /// What is still to be done without faults; whether there was anything.
    fn calm_down(&mut self) -> Result<bool, Fault> {
        self.now.0 += 100;
        let is_due = self.ledger.next_deadline().is_some_and(|at| at <= self.now);
        let is_told = self.entries.iter().all(|entry| self.given.contains(&entry.id));
        if is_due || !is_told || !self.found.is_empty() {
            self.coordinate()?;
        } else if let Some(place) = self.runnable().first() {
            self.run(*place);
        } else if !self.strays.is_empty() {
            self.arrive()?;
        } else if let Some(place) = self.known_dead_letter() {
            let task = self.dead.swap_remove(place);
            self.tasks.push(task);
        } else {
            return Ok(self.help());
        }
        Ok(true)
    }

    /// A dead letter that is shown as a failed task of its job: nobody looks for those of a step that is under way.
    fn known_dead_letter(&self) -> Option<usize> {
        let steps = self.ledger.jobs().flat_map(|view| view.steps);
        let failed: HashSet<Uuid> = steps.filter(|step| step.tasks.failed > 0).filter_map(|step| step.round).collect();
        let is_known =
            |task: &Task| task.new.membership.as_deref().is_none_or(|of| of.wipe || failed.contains(&of.round));
        self.dead.iter().position(is_known)
    }

    /// What a person does in the end: resumes what is frozen, and does again what failed for good.
    fn help(&mut self) -> bool {
        if let Some(Frozen { pipeline: name, key }) = self.frozen_pipelines.first().cloned() {
            self.order(Wanted::Resume(Scope::Pipeline { name, key }));
            return true;
        }
        let wanted = |view: View| {
            let job = view.id;
            if view.frozen {
                return Some(Wanted::Resume(Scope::Job(job)));
            }
            if view.wiped == Wiped::Failed {
                return Some(Wanted::Wipe { job, all: false });
            }
            let (steps, only, redefine, even_if_wiped) = (Vec::new(), false, false, false);
            let is_failed = view.state == JobState::Failed && view.error.as_deref() != Some("timeout");
            is_failed.then_some(Wanted::Restart { job, steps, only, failed: true, redefine, even_if_wiped })
        };
        let mut wanted: Vec<Wanted> = self.ledger.jobs().filter_map(wanted).collect();
        if wanted.is_empty() {
            return false;
        }
        // One of them may have to wait for another's end: for its key.
        let place = self.rng.between(0, wanted.len() as u64 - 1) as usize;
        self.order(wanted.swap_remove(place));
        true
    }

    fn runnable(&self) -> Vec<usize> {
        (0..self.tasks.len()).filter(|place| self.can_run(&self.tasks[*place])).collect()
    }

    /// Something of a coordinator that died arrives.
    fn arrive(&mut self) -> Result<(), Fault> {
        if self.strays.is_empty() {
            return Ok(());
        }
        match self.strays.remove(0) {
            Stray::Task(task) => self.tasks.push(*task),
            // It stands behind the mark that its successor has set where it began to read: those before it count.
            Stray::State(epoch, _) if epoch < self.epoch && self.mutant != Some(Mutant::LateStates) => {}
            Stray::State(epoch, record) => self.store_state(epoch, *record)?,
        }
        Ok(())
    }

    /// A person puts a dead letter back to work.
    fn retry(&mut self) {
        let place = self.rng.between(0, self.dead.len() as u64 - 1) as usize;
        let task = self.dead.swap_remove(place);
        self.tasks.push(task);
    }

    fn job(&mut self) -> String {
        id_of(self.rng.between(0, self.settings.jobs - 1))
    }

    /// As an order names a job: by the beginning of its id, or all of it.
    fn name(&mut self, job: String) -> String {
        if self.rng.chance(300) { job[..job.len() - 1].to_owned() } else { job }
    }

    fn restart(&mut self) {
        let job = self.job();
        let count = self.settings.pipeline.steps.len() as u64;
        let (only, failed) = (self.rng.chance(100), self.rng.chance(self.settings.of_failed));
        let is_named = self.rng.chance(700) && !failed;
        let steps = if is_named { vec![format!("s{}", self.rng.between(0, count - 1))] } else { Vec::new() };
        if only {
            self.truth.loose.insert(job.clone());
        }
        let (even_if_wiped, redefine) = (self.rng.chance(200), self.rng.chance(200));
        let job = self.name(job);
        self.order(Wanted::Restart { job, steps, only, failed, redefine, even_if_wiped });
    }

    fn other_order(&mut self) {
        let job = self.job();
        let job = self.name(job);
        let what = match self.rng.between(0, 8) {
            0 | 1 => Wanted::Freeze(Scope::Job(job.clone())),
            2 | 3 => Wanted::Resume(Scope::Job(job.clone())),
            4 => Wanted::Priority { job, priority: self.rng.between(0, 5) as i32 },
            5 => Wanted::Wipe { job, all: self.rng.chance(200) },
            6 => {
                let scope = self.scope();
                Wanted::Freeze(scope)
            }
            7 => {
                let scope = self.scope();
                Wanted::Resume(scope)
            }
            _ => Wanted::Keep { job },
        };
        // Given together, two orders may be carried out in one step.
        let after = match &what {
            Wanted::Freeze(scope @ Scope::Job(_)) if self.rng.chance(300) => Some(Wanted::Resume(scope.clone())),
            Wanted::Freeze(Scope::Job(job)) if self.rng.chance(100) => Some(Wanted::Cancel { job: job.clone() }),
            Wanted::Resume(scope @ Scope::Job(_)) if self.rng.chance(300) => Some(Wanted::Freeze(scope.clone())),
            _ => None,
        };
        self.order(what);
        if let Some(after) = after {
            self.order(after);
        }
    }

    fn scope(&mut self) -> Scope {
        let key = self.rng.chance(300).then(|| "0".to_owned());
        Scope::Pipeline { name: "p".to_owned(), key }
    }

    /// All that was begun has ended as it must.
    fn check_end(&self) -> Result<(), Fault> {
        for job in (0..self.settings.jobs).map(id_of) {
            if self.forgotten.contains(&job) {
                continue;
            }
            let Some(stored) = self.states.get(&job) else {
                // A job may have been refused, because another one waits for its key.
                if self.settings.pipeline.key.is_some() {
                    continue;
                }
                return Err(Fault::Stuck(format!("{job} was never made")));
            };
            let record = &newest(stored).record;
            let view = View::of(record).map_err(Fault::Wrong)?;
            let is_over = match view.state {
                JobState::Done | JobState::Cancelled => true,
                JobState::Failed => !record.open || view.wiped != Wiped::No || view.error.as_deref() == Some("timeout"),
                JobState::Planned | JobState::Running => false,
            };
            if !is_over || view.wiped == Wiped::UnderWay {
                return Err(Fault::Stuck(format!("{job}: {}", self.rest())));
            }
            for step in view.definition.steps.iter().filter(|step| step.wipe.is_some() && !step.keep) {
                let is_done = view.state == JobState::Done && view.wiped == Wiped::Yes;
                if is_done && !self.truth.is_wiped(&view, &step.name) {
                    return Err(Fault::Wrong(format!("{job}: step {} was not wiped", step.name)));
                }
            }
        }
        match self.orders.iter().find(|order| !self.answered.contains(*order)) {
            // An answer is lost with the coordinator that gave it, where it is not stored with the step.
            Some(order) if self.settings.is_atomic => Err(Fault::Stuck(format!("{order} is not answered"))),
            _ => Ok(()),
        }
    }

    fn rest(&self) -> String {
        let states = self.states.values().map(|stored| newest(stored).record.content.clone());
        format!(
            "{:?}: {} tasks, {} dead letters, {} entries, {} strays",
            states.collect::<Vec<_>>(),
            self.tasks.len(),
            self.dead.len(),
            self.entries.len(),
            self.strays.len()
        )
    }
}
