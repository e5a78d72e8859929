//! Masters and their workers: tasks are begun, done, run again, and masters die between any two stores.

use asynctask::{
    clock::Timestamp,
    jobs::entry::{End, Entry, How, MemberId},
    json_text::JsonText,
    membership::Membership,
    task::NewTask,
};
use uuid::Uuid;

use super::world::{Mutant, Storage, World};

/// A task in hand.
#[derive(Debug)]
pub(super) struct Hand {
    task: NewTask,
    execution: Uuid,
}

impl World {
    /// A master begins a task, or ends one that it has begun.
    pub(super) fn work(&mut self) {
        if self.hands.is_empty() || (!self.tasks.is_empty() && self.chance.happens(500)) {
            self.begin_a_task();
        } else {
            let hand = self.hands.swap_remove(self.chance.below(self.hands.len()));
            self.end_a_task(hand);
        }
    }

    fn begin_a_task(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let task = self.tasks.swap_remove(self.chance.below(self.tasks.len()));
        let Some(membership) = task.membership.as_deref() else { return };
        if self.void.contains(&membership.round) {
            return;
        }
        // A message that its broker doubles.
        if self.storage == Storage::Broker && !self.is_calm && self.chance.happens(30) {
            self.tasks.push(task.clone());
        }
        let execution = self.chance.uuid();
        self.hands.push(Hand { task, execution });
    }

    fn end_a_task(&mut self, hand: Hand) {
        let Hand { task, execution } = hand;
        let Some(membership) = task.membership.clone() else { return };
        if !self.is_calm && self.chance.happens(60) {
            // The worker or its master died: the task comes again.
            self.tasks.push(task);
            return;
        }
        if !self.is_calm && self.chance.happens(80) {
            let end = Entry::failed(&membership, self.now, "error", "no", Some(&task.id), None);
            self.truth.failed.insert((membership.feeder, membership.index));
            self.tell(end);
            if self.storage == Storage::Broker && self.chance.happens(100) {
                // It died before the dead letter was stored: the task comes again, and its end was told.
                self.tasks.push(task);
            } else {
                self.dead_letters.push(task);
            }
            return;
        }
        let items = self.items_of(&membership);
        let result = format!("{execution}");
        if membership.feeder == membership.round {
            self.truth.gave(&result, membership.round);
        }
        let how = How::Done { execution, items, result: JsonText::parse(&format!("\"{result}\"")).ok() };
        let member = MemberId::from(&*membership);
        let end = Entry::End(Box::new(End { member, at: Timestamp(self.now.0), how, memo: None }));
        let submitted = (0..items).map(|index| self.item(&membership, execution, index)).collect();
        self.store_done(task, &membership, execution, submitted, end);
    }

    /// How many items: a splitter lists others each time it is run.
    fn items_of(&mut self, membership: &Membership) -> u32 {
        if membership.wipe {
            return 0;
        }
        let is_first = membership.feeder == membership.round;
        if is_first && self.chance.happens(600) {
            self.chance.below(6) as u32
        } else if !is_first && self.chance.happens(120) {
            1 + self.chance.below(3) as u32
        } else {
            0
        }
    }

    fn item(&mut self, membership: &Membership, execution: Uuid, index: u32) -> NewTask {
        let mut member = membership.member(execution, index);
        if self.mutant == Some(Mutant::IndexAsIdentity) {
            member.feeder = membership.round;
            member.index = index + 1;
        }
        let id = Uuid::new_v5(&execution, &index.to_be_bytes()).to_string();
        NewTask { queue: membership.each.clone(), id, membership: Some(Box::new(member)), ..NewTask::default() }
    }

    /// Stores what a task that is done has submitted, its entry, and its removal: at once, or one after the other.
    fn store_done(
        &mut self,
        task: NewTask,
        membership: &Membership,
        execution: Uuid,
        submitted: Vec<NewTask>,
        end: Entry,
    ) {
        let count = submitted.len() as u32;
        let dies = self.storage == Storage::Broker && !self.is_calm && self.chance.happens(150);
        // The writes are the items, the entry, the removal.
        let last = if dies { self.chance.below(submitted.len() + 2) } else { usize::MAX };
        let is_entry_first = self.mutant == Some(Mutant::EntryBeforeItems);
        let mut written = 0;
        let mut write = || {
            written += 1;
            written <= last
        };
        if is_entry_first && write() {
            self.truth.did((membership.feeder, membership.index), execution, count);
            self.tell(end.clone());
        }
        for item in submitted {
            if write() {
                self.tasks.push(item);
            }
        }
        if !is_entry_first && write() {
            self.truth.did((membership.feeder, membership.index), execution, count);
            self.tell(end);
        }
        if !write() {
            self.tasks.push(task);
        }
    }

    /// An entry is stored; a broker may double it.
    fn tell(&mut self, end: Entry) {
        if self.storage == Storage::Broker && !self.is_calm && self.chance.happens(80) {
            self.store_entry(end.clone());
        }
        self.store_entry(end);
    }
}
