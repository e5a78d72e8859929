//! Masters: run tasks, store how they ended, and die between any two stores.

use asynctask::{
    jobs::{
        entry::{End, Entry, How, What},
        record::Revived,
    },
    json_text::JsonText,
    membership::Membership,
    task::NewTask,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    mutants::Mutant,
    world::{Task, World},
};

/// One store of a settlement.
enum Store {
    Item(Box<Task>),
    Dead(Box<Task>),
    Entry(Box<Entry>),
    Remove,
}

impl World {
    /// Whether a master would begin a task.
    pub(super) fn can_run(&self, task: &Task) -> bool {
        task.new.membership.as_ref().is_none_or(|of| !self.frozen.contains(&of.job))
    }

    /// A master gets a task, and does it.
    pub(super) fn run(&mut self, place: usize) {
        let task = self.tasks[place].clone();
        let Some(of) = task.new.membership.as_deref().filter(|of| !self.void.contains(&of.round)) else {
            self.tasks.swap_remove(place);
            return;
        };
        self.truth.touches(of);
        if of.tells_news() && self.rng.chance(100) {
            let again_at = self.now;
            let what = [What::Began, What::Snoozed { again_at }, What::Retrying { error: String::new(), again_at }];
            let what = what[self.rng.between(0, 2) as usize].clone();
            self.tell(&Entry::news(of, self.now, what, None));
        }
        let stores = if !self.is_calm && self.rng.chance(self.settings.fails) {
            let entry = Entry::failed(of, self.now, "crash", "died", Some(&task.new.id), None);
            vec![Store::Dead(Box::new(task.clone())), Store::Entry(Box::new(entry)), Store::Remove]
        } else {
            self.execute(&task, of)
        };
        let dies = !self.is_calm && self.rng.chance(self.settings.master_dies);
        let most = match (dies, self.settings.is_atomic) {
            (false, _) => stores.len(),
            (true, true) => 0,
            (true, false) => self.rng.between(0, stores.len() as u64) as usize,
        };
        for store in stores.into_iter().take(most) {
            match store {
                Store::Item(item) => self.tasks.push(*item),
                Store::Dead(task) => self.dead.push(*task),
                Store::Entry(entry) => {
                    self.tell(&entry);
                    if !self.is_calm && self.rng.chance(self.settings.doubled) {
                        self.tell(&entry);
                    }
                }
                // It is delivered again all the same.
                Store::Remove
                    if !self.settings.is_atomic && !self.is_calm && self.rng.chance(self.settings.doubled / 4) => {}
                Store::Remove => {
                    // What was pushed stands behind it.
                    self.tasks.swap_remove(place);
                }
            }
        }
    }

    /// A task comes to a good end; what is to be stored of it.
    fn execute(&mut self, task: &Task, of: &Membership) -> Vec<Store> {
        let execution = self.uuid();
        let place: usize = of.step[1..].parse().expect("s and the number of the step");
        // Another execution may submit others.
        let count = match task.depth {
            _ if of.wipe || !self.settings.fans[place] => 0,
            0 => self.rng.between_u32(0, 4),
            1 if self.rng.chance(300) => self.rng.between_u32(1, 2),
            _ => 0,
        };
        self.truth.executed(of, task.source, execution, count);
        let known_as = match self.mutant {
            Some(Mutant::IndexIsIdentity) => Uuid::new_v5(&of.feeder, &of.index.to_le_bytes()),
            _ => execution,
        };
        let items = (0..count).map(|index| {
            let membership = of.member(known_as, index);
            Store::Item(Box::new(Task {
                new: NewTask {
                    queue: of.each.clone(),
                    id: format!("{execution}-{index}"),
                    membership: Some(Box::new(membership)),
                    ..NewTask::default()
                },
                source: (execution, index),
                depth: task.depth + 1,
            }))
        });
        let mut stores: Vec<Store> = items.collect();
        let list: Vec<u64> = (0..self.rng.between(0, 3)).collect();
        let result = json!({ "execution": execution, "list": list });
        let how = How::Done { execution: known_as, items: count, result: Some(JsonText::from(result)) };
        let end = Entry::End(Box::new(End { member: of.into(), at: self.now, how, memo: None }));
        let place = if self.mutant == Some(Mutant::EntryBeforeItems) { 0 } else { stores.len() };
        stores.insert(place, Store::Entry(Box::new(end)));
        stores.push(Store::Remove);
        stores
    }

    /// Somebody removes a task where it waits.
    pub(super) fn remove(&mut self, place: usize) {
        let task = self.tasks.swap_remove(place);
        if let Some(of) = task.new.membership.as_deref() {
            self.truth.touches(of);
            self.tell(&Entry::failed(of, self.now, "cancelled", "it was removed", None, None));
        }
    }

    /// A dead letter is removed by a person, or because it was kept long enough, of which a broker tells nobody.
    pub(super) fn purge(&mut self) {
        let place = self.rng.between(0, self.dead.len() as u64 - 1) as usize;
        let task = self.dead.swap_remove(place);
        let is_told = self.settings.is_atomic || self.rng.chance(500);
        if let Some(of) = task.new.membership.as_deref().filter(|_| is_told) {
            self.tell(&Entry::failed(of, self.now, "cancelled", "its dead letter was purged", None, None));
        }
    }

    /// Dead letters of a round go back to their queues; whether one of each member was there of which the ledger knows it.
    pub(super) fn revive(&mut self, back: Revived) -> bool {
        let mut missing = back.failed;
        let is_of = |task: &Task| task.new.membership.as_ref().is_some_and(|of| of.round == back.round);
        let (revived, dead): (Vec<_>, Vec<_>) = std::mem::take(&mut self.dead).into_iter().partition(is_of);
        self.dead = dead;
        if self.mutant == Some(Mutant::RevivalByNumber) {
            let is_enough = revived.len() as u64 >= missing.count();
            self.tasks.extend(revived);
            return is_enough;
        }
        for of in revived.iter().filter_map(|task| task.new.membership.as_deref()) {
            missing.remove(of.feeder, of.index);
        }
        self.tasks.extend(revived);
        missing.count() == 0
    }
}
