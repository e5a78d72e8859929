//! Keys of tasks (`unique`): never two in hand with the same one, none begun before the transport has granted its key,
//! nobody held back by a key that nobody has.

use std::{collections::BTreeMap, time::Duration};

use asynctask::{
    task::{Handle, Reason, Settlement},
    unique::{Conflict, Unique},
};

use super::{
    broker::Effect,
    ledger::{Entry, PENDING_VERDICT},
    simulation::Simulation,
};

/// The keys of a core, seen from outside.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    held: BTreeMap<Handle, Held>,
    /// Of tasks that died when their handles were void: the core may have no verdict on them yet.
    lingering: Vec<(String, Duration)>,
}

#[derive(Debug)]
struct Held {
    key: String,
    answer: Answer,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Awaited,
    Granted,
    Refused,
}

impl Keys {
    pub(crate) fn told(&mut self, handle: Handle, is_granted: bool) {
        if let Some(held) = self.held.get_mut(&handle) {
            held.answer = if is_granted { Answer::Granted } else { Answer::Refused };
        }
    }

    /// These handles are void, if they were not accepted: what was not begun is nobody's, and of what has ended without a verdict nothing more is heard.
    pub(crate) fn lost(
        &mut self,
        void: &[Handle],
        entries: &BTreeMap<Handle, Entry>,
        in_hand: &[Handle],
        now: Duration,
    ) {
        for handle in self.held.keys().copied().filter(|handle| void.contains(handle)).collect::<Vec<_>>() {
            if !in_hand.contains(&handle) && !entries[&handle].accepted {
                self.ended_void(handle, entries[&handle].run.is_some(), now);
            }
        }
    }

    pub(crate) fn adopted(&mut self, old: Handle, new: Handle) {
        if let Some(held) = self.held.remove(&old) {
            self.held.insert(new, held);
        }
    }

    pub(crate) fn settled(&mut self, handle: Handle) {
        self.held.remove(&handle);
    }

    /// A task ended whose handle is void: nothing more is heard of it.
    pub(crate) fn ended_void(&mut self, handle: Handle, verdict_waits: bool, now: Duration) {
        if let Some(held) = self.held.remove(&handle)
            && verdict_waits
        {
            self.lingering.push((held.key, now + PENDING_VERDICT));
        }
    }
}

/// The key of a delivery.
fn key_of(entry: &Entry, unique: Option<&Unique>, queue: &str) -> Option<String> {
    unique?.key_of(queue, &entry.task, true)
}

impl Simulation {
    /// The core asks for a key.
    pub(crate) fn lock(&mut self, handle: Handle, key: &str) -> Result<(), String> {
        let entry = self.ledger.entries.get(&handle).ok_or("a key for an unknown handle")?;
        let settings = self.settings.queue(entry.queue);
        if !self.ledger.open.contains(&handle) || entry.run.is_some() {
            return Err(format!("a key for a delivery that is not to be begun: {entry:?}"));
        }
        if key_of(entry, settings.unique.as_ref(), &settings.name).as_deref() != Some(key) {
            return Err(format!("{key:?} is not the key of {entry:?}"));
        }
        if let Some((other, _)) = self.keys.held.iter().find(|(_, held)| held.key == key) {
            return Err(format!("{key:?} is asked for, and {other:?} has it"));
        }
        self.keys.held.insert(handle, Held { key: key.to_owned(), answer: Answer::Awaited });
        self.ask(Effect::Lock(handle));
        Ok(())
    }

    /// A task is begun: its key is its own.
    pub(crate) fn may_begin_with_key(&self, handle: Handle, queue: usize) -> Result<(), String> {
        let (settings, entry) = (self.settings.queue(queue), &self.ledger.entries[&handle]);
        let Some(key) = key_of(entry, settings.unique.as_ref(), &settings.name) else { return Ok(()) };
        match self.keys.held.get(&handle) {
            Some(held) if held.answer == Answer::Granted && held.key == key => Ok(()),
            held => Err(format!("begun without its key {key:?}, {held:?}: {entry:?}")),
        }
    }

    /// Whether a delivery that is not begun may be settled so because another task has its key.
    pub(crate) fn gives_way(&self, handle: Handle, settlement: &Settlement) -> bool {
        let entry = &self.ledger.entries[&handle];
        let settings = self.settings.queue(entry.queue);
        let Some(unique) = &settings.unique else { return false };
        let Some(key) = key_of(entry, Some(unique), &settings.name) else { return false };
        let right = match (unique.conflict, settlement) {
            // Many that wait for one key come one after the other.
            (Conflict::Snooze, Settlement::Snooze { after, .. }) => {
                (unique.after..=unique.after.max(Duration::from_mins(1))).contains(after)
            }
            (Conflict::Drop, Settlement::Done { submit }) => submit.is_empty() && entry.task.membership.is_none(),
            // One of a job has to end in a way that its ledger is told of.
            (Conflict::DeadLetter | Conflict::Drop, Settlement::Dead(failure))
                if unique.conflict == Conflict::DeadLetter || entry.task.membership.is_some() =>
            {
                failure.reason == Reason::Cancelled && failure.attempts == entry.task.attempts
            }
            _ => false,
        };
        let refused = self.keys.held.get(&handle).is_some_and(|held| held.answer == Answer::Refused);
        let has_it = |(of, held): (&Handle, &Held)| *of != handle && held.key == key;
        let lingers = |(of, until): &(String, Duration)| *of == key && self.now <= *until;
        right && (refused || self.keys.held.iter().any(has_it) || self.keys.lingering.iter().any(lingers))
    }

    /// After each event: no two tasks in hand with one key.
    pub(crate) fn check_keys(&self) -> Result<(), String> {
        let mut keys: BTreeMap<String, Handle> = BTreeMap::new();
        for child in self.children.values() {
            let settings = self.settings.queue(child.queue);
            for hand in &child.hands {
                let entry = &self.ledger.entries[&hand.handle];
                let Some(key) = key_of(entry, settings.unique.as_ref(), &settings.name) else { continue };
                if let Some(other) = keys.insert(key.clone(), hand.handle) {
                    return Err(format!("{other:?} and {:?} are in hand with the key {key:?}", hand.handle));
                }
            }
        }
        Ok(())
    }

    /// At the end every key is free.
    pub(crate) fn check_keys_are_free(&self) -> Result<(), String> {
        match self.keys.held.first_key_value() {
            Some((handle, held)) => Err(format!("the end leaves {handle:?} with {held:?}")),
            None => Ok(()),
        }
    }
}
