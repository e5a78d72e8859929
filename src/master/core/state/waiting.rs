//! Deliveries of one queue that no worker has begun.

use std::collections::{BTreeMap, VecDeque};

use crate::task::{Delivery, Handle};

/// Deliveries of a queue that no worker has begun. Those whose keys are asked for are kept apart, so that the cost of a task does
/// not depend on their number.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Waiting {
    /// Deliveries that can be dispatched, in order.
    line: VecDeque<Delivery>,
    /// Deliveries whose keys are asked for, in the order of their handles, so that a run can be repeated exactly.
    pub(in crate::master::core) asked: BTreeMap<Handle, Delivery>,
}

impl Waiting {
    /// The number of all deliveries.
    pub(in crate::master::core) fn len(&self) -> usize {
        self.line.len() + self.asked.len()
    }

    /// Whether there is no delivery.
    pub(in crate::master::core) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.asked.is_empty()
    }

    /// Whether a delivery can be dispatched.
    pub(in crate::master::core) fn has_next(&self) -> bool {
        !self.line.is_empty()
    }

    /// Takes the next delivery that can be dispatched.
    pub(in crate::master::core) fn next(&mut self) -> Option<Delivery> {
        self.line.pop_front()
    }

    /// Adds a delivery at the end.
    pub(in crate::master::core) fn push(&mut self, delivery: Delivery) {
        self.line.push_back(delivery);
    }

    /// Puts a delivery back in front of all others.
    pub(in crate::master::core) fn put_back(&mut self, delivery: Delivery) {
        self.line.push_front(delivery);
    }

    pub(in crate::master::core) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.asked.keys().copied().chain(self.line.iter().map(|delivery| delivery.handle))
    }

    /// Takes all deliveries. Those whose keys were asked for come first, since they were delivered first.
    pub(in crate::master::core) fn take_all(&mut self) -> Vec<Delivery> {
        let asked = std::mem::take(&mut self.asked);
        asked.into_values().chain(std::mem::take(&mut self.line)).collect()
    }

    /// Takes the delivery of the task with this id.
    pub(in crate::master::core) fn take(&mut self, id: &str) -> Option<Delivery> {
        let asked = self.asked.iter().find(|(_, delivery)| delivery.task.id == id).map(|(handle, _)| *handle);
        if let Some(handle) = asked {
            return self.asked.remove(&handle);
        }
        let position = self.line.iter().position(|delivery| delivery.task.id == id)?;
        self.line.remove(position)
    }
}
