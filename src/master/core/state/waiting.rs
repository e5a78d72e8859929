//! Deliveries of one queue that no worker has begun.

use std::collections::{BTreeMap, VecDeque};

use crate::task::{Delivery, Handle};

/// What was delivered to a queue and not begun. Those that wait for an answer about their keys lie apart, so that a task
/// costs the same however many they are.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Waiting {
    /// What can be looked at, in its order.
    line: VecDeque<Delivery>,
    /// Their keys are asked for. In the order of their handles: a run is to be the same each time.
    pub(in crate::master::core) asked: BTreeMap<Handle, Delivery>,
}

impl Waiting {
    /// All of them.
    pub(in crate::master::core) fn len(&self) -> usize {
        self.line.len() + self.asked.len()
    }

    /// Whether there are none at all.
    pub(in crate::master::core) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.asked.is_empty()
    }

    /// Whether one can be looked at.
    pub(in crate::master::core) fn has_next(&self) -> bool {
        !self.line.is_empty()
    }

    /// The next one that can be looked at.
    pub(in crate::master::core) fn next(&mut self) -> Option<Delivery> {
        self.line.pop_front()
    }

    /// One more came.
    pub(in crate::master::core) fn push(&mut self, delivery: Delivery) {
        self.line.push_back(delivery);
    }

    /// One is to be the next again.
    pub(in crate::master::core) fn put_back(&mut self, delivery: Delivery) {
        self.line.push_front(delivery);
    }

    pub(in crate::master::core) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.asked.keys().copied().chain(self.line.iter().map(|delivery| delivery.handle))
    }

    /// Takes all of them. Whose keys were asked for comes first, as it did.
    pub(in crate::master::core) fn take_all(&mut self) -> Vec<Delivery> {
        let asked = std::mem::take(&mut self.asked);
        asked.into_values().chain(std::mem::take(&mut self.line)).collect()
    }

    /// Takes the one of a task.
    pub(in crate::master::core) fn take(&mut self, id: &str) -> Option<Delivery> {
        let asked = self.asked.iter().find(|(_, delivery)| delivery.task.id == id).map(|(handle, _)| *handle);
        if let Some(handle) = asked {
            return self.asked.remove(&handle);
        }
        let position = self.line.iter().position(|delivery| delivery.task.id == id)?;
        self.line.remove(position)
    }
}
