//! The coordinator: it folds entries with the real ledger, and dies between any two stores.

use std::collections::{BTreeMap, HashSet};

use asynctask::jobs::{
    entry::{Entry, How},
    ledger::{Ledger, Step, View},
    record::{EntryId, JobFilter, StoredEntry},
};

use super::world::{APPLICATION, Fault, Late, Mutant, Storage, World};

#[derive(Debug)]
pub(super) struct Coordinator {
    ledger: Ledger,
    epoch: u64,
    /// Entries that it has, and that are still stored.
    held: HashSet<EntryId>,
    /// Of each job the state that it has stored last.
    views: BTreeMap<String, View>,
}

impl World {
    /// The coordinator folds some entries and stores what comes of them; there is one, if need be a new one. Whether it did anything.
    pub(super) fn coordinate(&mut self) -> Result<bool, Fault> {
        let mut coordinator = match self.coordinator.take() {
            Some(coordinator) => coordinator,
            None => self.take_over(),
        };
        let ids = self.some_entries(&coordinator.held);
        let entries = ids.iter().filter_map(|id| self.handed_out(*id)).collect();
        coordinator.held.extend(ids.into_iter().map(EntryId));
        let mut did = false;
        let mut step = coordinator.ledger.fold(self.now, entries);
        loop {
            let lookups = std::mem::take(&mut step.lookups);
            did |= !step.is_empty() || !lookups.is_empty();
            if !self.store(&mut coordinator, step)? {
                return Ok(true);
            }
            if lookups.is_empty() {
                break;
            }
            let records = self.newest();
            for lookup in lookups {
                let asked = |filter: &JobFilter| {
                    records.iter().filter(|record| filter.holds(record)).cloned().collect::<Vec<_>>()
                };
                let found = lookup.filters.iter().flat_map(asked).collect();
                coordinator.ledger.found(lookup.entry, found);
            }
            step = coordinator.ledger.fold(self.now, Vec::new());
        }
        self.coordinator = Some(coordinator);
        Ok(did)
    }

    pub(super) fn coordinator_dies(&mut self) {
        self.coordinator = None;
    }

    fn take_over(&mut self) -> Coordinator {
        self.epoch += 1;
        let records = self.newest();
        let views = records.iter().filter_map(|record| Some((record.id.clone(), View::of(record).ok()?))).collect();
        let open = records.into_iter().filter(|record| record.open).collect();
        let seed = if self.mutant == Some(Mutant::DerivedRoundId) { 7 } else { self.chance.next() };
        let pipelines = vec![self.pipeline.clone()];
        let ledger = Ledger::new(APPLICATION, self.epoch, pipelines, open, self.frozen.clone(), seed);
        Coordinator { ledger, epoch: self.epoch, held: HashSet::new(), views }
    }

    /// An entry as the coordinator gets it.
    fn handed_out(&mut self, id: u64) -> Option<StoredEntry> {
        let mut entry = self.entries.get(&id)?.clone();
        if let Entry::End(end) = &mut entry {
            let member = (end.member.feeder, end.member.index);
            match self.mutant {
                Some(Mutant::CountInsteadOfSet) if matches!(end.how, How::Done { .. }) => {
                    // Who counts does not see that it was there before: it is one more.
                    let times = self.folded.entry(member).or_default();
                    *times += 1;
                    end.member.index += *times - 1;
                }
                Some(Mutant::EarlyEndsDropped)
                    if end.member.feeder != end.member.round && !self.heard.contains(&end.member.feeder) =>
                {
                    self.entries.remove(&id);
                    return None;
                }
                _ => {}
            }
            if let How::Done { execution, .. } = &mut end.how {
                self.heard.insert(*execution);
                if self.mutant == Some(Mutant::IndexAsIdentity) {
                    *execution = end.member.round;
                }
            }
        }
        if self.is_told {
            println!("  entry {id}: {}", String::from_utf8_lossy(&entry.to_bytes()));
        }
        Some(StoredEntry { id: EntryId(id), body: entry.to_bytes() })
    }

    /// Stores a step. False: the coordinator died over it.
    fn store(&mut self, coordinator: &mut Coordinator, step: Step) -> Result<bool, Fault> {
        if self.is_told {
            for (level, line) in &step.lines {
                println!("  {level:?} {line}");
            }
            println!(
                "  epoch {}: {} entries gone, {} jobs, {} tasks, void {:?}",
                coordinator.epoch,
                step.advance.entries.len(),
                step.advance.records.len(),
                step.advance.tasks.len(),
                step.advance.void
            );
        }
        let advance = step.advance;
        let mut views = Vec::new();
        for record in &advance.records {
            let view = View::of(record).map_err(|error| self.fault(&error))?;
            self.check_state(coordinator.views.get(&record.id), &view)?;
            views.push(view);
        }
        for task in &advance.tasks {
            let Some(membership) = task.membership.as_deref() else { continue };
            // Begun and given up in the same step.
            if advance.void.contains(&membership.round) {
                continue;
            }
            if let Some(view) = views.iter().find(|view| view.id == membership.job) {
                self.check_inputs(view, task)?;
            }
        }
        let dies = !self.is_calm && self.chance.happens(120);
        let all = advance.tasks.len() + advance.records.len() + advance.entries.len() + 1;
        let last = match (dies, self.storage) {
            (false, _) => usize::MAX,
            (true, Storage::File) => 0,
            (true, Storage::Broker) => self.chance.below(all),
        };
        // What it has sent and nobody has confirmed may arrive when it is dead.
        let in_transit = last.saturating_add(self.chance.below(4));
        let mut written = 0;
        let mut write = || {
            written += 1;
            (written <= last, written <= in_transit && dies)
        };
        let mut entries = advance.entries.iter();
        if self.mutant == Some(Mutant::AckBeforeState) {
            for entry in entries.by_ref() {
                if write().0 {
                    self.entries.remove(&entry.0);
                }
            }
        }
        for task in advance.tasks {
            match write() {
                (true, _) => self.tasks.push(task),
                (false, true) if self.storage == Storage::Broker => self.late.push(Late::Task(task)),
                (false, _) => {}
            }
        }
        for record in advance.records {
            match write() {
                (true, _) => {
                    let states = self.states.entry(record.id.clone()).or_default();
                    // On a broker the old one goes after the new one is stored, with the entries.
                    if self.storage == Storage::File {
                        states.clear();
                    }
                    states.push((coordinator.epoch, record));
                }
                (false, true) if self.storage == Storage::Broker => {
                    self.late.push(Late::State(coordinator.epoch, record));
                }
                (false, _) => {}
            }
        }
        for entry in entries {
            if write().0 {
                self.entries.remove(&entry.0);
            }
        }
        if write().0 {
            self.tasks.retain(|task| {
                task.membership.as_deref().is_none_or(|membership| !advance.void.contains(&membership.round))
            });
            self.void.extend(&advance.void);
        }
        if advance.frozen_pipelines.is_some() {
            self.frozen = advance.frozen_pipelines.unwrap_or_default();
        }
        let revived = |letter: &asynctask::task::NewTask| {
            letter.membership.as_deref().is_some_and(|membership| advance.revived.contains(&membership.round))
        };
        let (back, rest) = std::mem::take(&mut self.dead_letters).into_iter().partition(revived);
        self.dead_letters = rest;
        self.tasks.extend::<Vec<_>>(back);
        for entry in &advance.entries {
            coordinator.held.remove(entry);
        }
        coordinator.views.extend(views.into_iter().map(|view| (view.id.clone(), view)));
        Ok(!dies)
    }
}
