//! The coordinator: folds entries, stores what that gives, and dies between any two stores.

use std::collections::BTreeSet;

use asynctask::jobs::{
    entry::Entry,
    ledger::{Ledger, Lookup, Step},
    record::{Advance, EntryId, Frozen, Record, Revived, StoredEntry},
};

use super::{
    mutants::Mutant,
    truth::Fault,
    world::{Stored, Stray, Task, World},
};

/// One store of a step.
enum Store {
    Task(Box<Task>),
    /// Dead letters of a round go back, of which the ledger knows these.
    Revive(Revived),
    Record(Box<Record>),
    Acknowledge,
    /// Pipelines and keys that are frozen.
    Frozen(Vec<Frozen>),
    /// What is told to masters, and to whoever gave an order.
    Announce,
}

impl World {
    /// Folds some of what waits, or only the time.
    pub(super) fn coordinate(&mut self) -> Result<(), Fault> {
        self.hear();
        let mut batch = Vec::new();
        for _ in 0..self.rng.between(0, 4) {
            let waiting: Vec<usize> =
                (0..self.entries.len()).filter(|place| !self.given.contains(&self.entries[*place].id)).collect();
            if waiting.is_empty() {
                break;
            }
            let entry = self.entries[self.rng.pick(&waiting)].clone();
            self.given.insert(entry.id);
            batch.push(entry);
        }
        let memory = self.memory.clone();
        let (batch, dropped) = self.twisted(batch);
        let mut step = self.ledger.fold(self.now, batch);
        step.advance.entries.extend(dropped);
        // What a lookup finds may be older than what this step stores, or not.
        let lookups = std::mem::take(&mut step.lookups);
        let is_before = self.rng.chance(500);
        let answers: Vec<_> = if is_before { self.look_up(lookups.clone()) } else { Vec::new() };
        let died = self.store(step, memory)?;
        if died {
            return Ok(());
        }
        let answers = if is_before { answers } else { self.look_up(lookups) };
        self.found.extend(answers);
        Ok(())
    }

    /// What was found is heard of now, or after another step.
    fn hear(&mut self) {
        for (entry, records) in std::mem::take(&mut self.found) {
            if self.is_calm || self.rng.chance(700) {
                self.ledger.found(entry, records);
            } else {
                self.found.push((entry, records));
            }
        }
    }

    fn look_up(&self, lookups: Vec<Lookup>) -> Vec<(EntryId, Vec<Record>)> {
        // Of what was closed meanwhile a ledger that has forgotten it believes what it hears.
        let is_late = self.mutant == Some(Mutant::ClosedForgotten);
        let seen = |stored: &[Stored]| {
            let (newest, before) = (newest(stored), stored.iter().rev().nth(1));
            before.filter(|_| is_late && !newest.record.open).unwrap_or(newest).record.clone()
        };
        let found = |lookup: Lookup| {
            let records = self.states.values().map(|stored| seen(stored));
            let wanted = |record: &Record| lookup.filters.iter().any(|filter| filter.holds(record));
            (lookup.entry, records.filter(wanted).collect())
        };
        lookups.into_iter().map(found).collect()
    }

    /// The entries as a mutant takes them, and those that it drops.
    fn twisted(&mut self, batch: Vec<StoredEntry>) -> (Vec<StoredEntry>, Vec<EntryId>) {
        let Some(mutant) = self.mutant else { return (batch, Vec::new()) };
        let (mut taken, mut dropped) = (Vec::new(), Vec::new());
        for mut entry in batch {
            match Entry::parse(&entry.body) {
                Ok(Entry::End(end)) => {
                    let waiting = &self.entries;
                    let Some(end) = self.memory.twist(mutant, *end, (&self.ledger, waiting), &self.labels) else {
                        dropped.push(entry.id);
                        continue;
                    };
                    entry.body = Entry::End(Box::new(end)).to_bytes();
                }
                Ok(Entry::Order(order)) if mutant == Mutant::OrderTwice => {
                    entry.body = Entry::Order(Box::new(self.memory.as_new(*order))).to_bytes();
                }
                _ => {}
            }
            taken.push(entry);
        }
        (taken, dropped)
    }

    /// Stores a step, as far as the coordinator comes; whether it died.
    fn store(&mut self, step: Step, memory: super::mutants::Memory) -> Result<bool, Fault> {
        let advance = step.advance;
        for task in advance.tasks.iter().filter(|task| task.membership.is_some()) {
            self.label(task);
        }
        for (order, answer) in &advance.answers {
            self.answer(order, answer);
        }
        let stores = self.stores(&advance);
        let dies = !self.is_calm && self.rng.chance(self.settings.coordinator_dies);
        let most = if self.settings.is_atomic && dies {
            if self.rng.chance(500) { 0 } else { stores.len() }
        } else if dies {
            self.rng.between(0, stores.len() as u64) as usize
        } else {
            stores.len()
        };
        let mut is_state_stored = advance.records.is_empty();
        let mut unconfirmed = None;
        for store in stores.into_iter().take(most) {
            // Nothing follows on what was not confirmed.
            let follows = unconfirmed.is_some_and(|kind| kind != std::mem::discriminant(&store));
            if follows && self.mutant != Some(Mutant::AfterUnconfirmed) {
                break;
            }
            let is_late = dies && !self.settings.is_atomic && self.rng.chance(self.settings.late);
            unconfirmed = is_late.then(|| std::mem::discriminant(&store)).or(unconfirmed);
            match store {
                Store::Task(task) if is_late => self.strays.push(Stray::Task(task)),
                Store::Task(task) => self.tasks.push(*task),
                Store::Record(record) if is_late => self.strays.push(Stray::State(self.epoch, record)),
                Store::Record(record) => {
                    is_state_stored = true;
                    self.store_state(self.epoch, *record)?;
                }
                Store::Revive(back) => {
                    // A broker that deletes what was kept long enough tells nobody: the step is not stored, and its ledger read anew.
                    let round = back.round;
                    if !self.revive(back) && !self.settings.is_atomic {
                        *self.missing.entry(round).or_default() += 1;
                        self.memory = memory;
                        self.take_over();
                        return Ok(true);
                    }
                }
                Store::Frozen(frozen) => self.frozen_pipelines = frozen,
                Store::Acknowledge => {
                    self.entries.retain(|entry| !advance.entries.contains(&entry.id));
                    for id in &advance.forgotten {
                        self.states.remove(id);
                        self.truth.forgets(id);
                        self.forgotten.insert(id.clone());
                    }
                }
                Store::Announce => self.announce(&advance),
            }
        }
        if dies {
            if !is_state_stored {
                self.memory = memory;
            }
            self.take_over();
            // What the successor has read is what counts.
            let records: Vec<Record> = self.states.values().map(|stored| newest(stored).record.clone()).collect();
            for record in records {
                self.truth.judge(&record)?;
            }
            return Ok(true);
        }
        for record in &advance.records {
            self.truth.judge(record)?;
        }
        self.check_frozen()?;
        Ok(false)
    }

    /// Tasks, states, then the entries go: what is stored twice is recognised, what is missing comes again.
    fn stores(&self, advance: &Advance) -> Vec<Store> {
        let tasks = advance.tasks.iter().map(|task| Store::Task(Box::new(Task::first(task.clone()))));
        let revived = advance.revived.iter().map(|back| Store::Revive(back.clone()));
        let records = advance.records.iter().map(|record| Store::Record(Box::new(record.clone())));
        let mut stores: Vec<Store> = if self.mutant == Some(Mutant::StateBeforeRevival) {
            tasks.chain(records).chain(revived).collect()
        } else {
            tasks.chain(revived).chain(records).collect()
        };
        let place = if self.mutant == Some(Mutant::AckBeforeState) { 0 } else { stores.len() };
        stores.insert(place, Store::Acknowledge);
        let frozen = advance.frozen_pipelines.clone().map(Store::Frozen);
        stores.splice(place..place, frozen);
        stores.push(Store::Announce);
        stores
    }

    fn announce(&mut self, advance: &Advance) {
        self.void.extend(&advance.void);
        // In this order, as transports do.
        for job in advance.thawed.iter().chain(&advance.forgotten) {
            self.frozen.remove(job);
        }
        for job in &advance.frozen {
            self.frozen.insert(job.clone());
        }
        self.answered.extend(advance.answers.iter().map(|(id, _)| id.clone()));
    }

    /// What masters hold back is what the states say.
    fn check_frozen(&self) -> Result<(), Fault> {
        let records = self.states.values().map(|stored| &newest(stored).record);
        let frozen = records.filter(|record| record.frozen).map(|record| record.id.clone());
        let frozen: BTreeSet<String> = frozen.collect();
        if frozen == self.frozen {
            return Ok(());
        }
        Err(Fault::Wrong(format!("{frozen:?} are frozen, and tasks of {:?} are held back", self.frozen)))
    }

    pub(super) fn store_state(&mut self, epoch: u64, record: Record) -> Result<(), Fault> {
        let version = if self.mutant == Some(Mutant::SameVersion) { 0 } else { record.version };
        let states = self.states.entry(record.id.clone()).or_default();
        let is_another = |stored: &Stored| (stored.epoch, stored.record.version) == (epoch, record.version);
        if states.iter().any(|stored| is_another(stored) && stored.record != record) {
            return Err(Fault::Wrong(format!("two states of {} have version {}", record.id, record.version)));
        }
        states.push(Stored { epoch, version, record });
        Ok(())
    }

    /// Another coordinator reads the newest states, and begins.
    pub(super) fn take_over(&mut self) {
        self.epoch += 1;
        self.given.clear();
        self.found.clear();
        for stored in self.states.values_mut() {
            let newest = newest(stored).clone();
            *stored = vec![newest];
        }
        let records: Vec<Record> = self.states.values().map(|stored| newest(stored).record.clone()).collect();
        // What frozen means to masters, they ask of the states, too; in one store it stands beside them.
        if !self.settings.is_atomic {
            self.frozen = records.iter().filter(|record| record.frozen).map(|record| record.id.clone()).collect();
        }
        let open = records.into_iter().filter(|record| record.open).collect();
        let (pipelines, frozen) = (vec![self.settings.pipeline.clone()], self.frozen_pipelines.clone());
        self.ledger = Ledger::new("app", self.epoch, pipelines, open, frozen, self.rng.next());
        let missing = self.missing.iter().filter(|(_, times)| **times >= 2);
        self.ledger.set_missing(missing.map(|(round, _)| *round));
    }
}

/// Of two states of a job that which was stored by the later coordinator, and there the later one, by its version: in which order they
/// come from a broker says nothing.
pub(super) fn newest(stored: &[Stored]) -> &Stored {
    stored.iter().rev().max_by_key(|stored| (stored.epoch, stored.version)).expect("a job has a state")
}
