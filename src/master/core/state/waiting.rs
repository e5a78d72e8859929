//! Deliveries of one queue that no worker has begun.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    clock::Instant,
    task::{Delivery, Handle},
};

/// Deliveries of a queue that no worker has begun. Those whose keys are asked for are kept apart, so that the cost of a task does
/// not depend on their number.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Waiting {
    /// Deliveries that can be dispatched, in order.
    line: VecDeque<Delivery>,
    /// Deliveries whose keys are asked for, in the order of their handles, so that a run can be repeated exactly.
    pub(in crate::master::core) asked: BTreeMap<Handle, Delivery>,
    /// Deliveries that are dispatched from their moments on.
    held: BTreeMap<(Instant, Handle), Delivery>,
}

impl Waiting {
    /// The number of all deliveries.
    pub(in crate::master::core) fn len(&self) -> usize {
        self.line.len() + self.asked.len() + self.held.len()
    }

    /// Whether there is no delivery.
    pub(in crate::master::core) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.asked.is_empty() && self.held.is_empty()
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

    /// All deliveries.
    pub(in crate::master::core) fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.asked.values().chain(&self.line).chain(self.held.values())
    }

    pub(in crate::master::core) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.iter().map(|delivery| delivery.handle)
    }

    /// Takes all deliveries. Those whose keys were asked for come first, since they were delivered first.
    pub(in crate::master::core) fn take_all(&mut self) -> Vec<Delivery> {
        let asked = std::mem::take(&mut self.asked);
        let held = std::mem::take(&mut self.held);
        asked.into_values().chain(std::mem::take(&mut self.line)).chain(held.into_values()).collect()
    }

    /// Takes the delivery of the task with this id.
    pub(in crate::master::core) fn take(&mut self, id: &str) -> Option<Delivery> {
        let asked = self.asked.iter().find(|(_, delivery)| delivery.task.id == id).map(|(handle, _)| *handle);
        if let Some(handle) = asked {
            return self.asked.remove(&handle);
        }
        if let Some(position) = self.line.iter().position(|delivery| delivery.task.id == id) {
            return self.line.remove(position);
        }
        let held = self.held.iter().find(|(_, delivery)| delivery.task.id == id).map(|(place, _)| *place);
        self.held.remove(&held?)
    }

    /// Takes the deliveries whose ids are wanted, but for those whose keys are asked for.
    pub(in crate::master::core) fn take_where(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<Delivery> {
        let is_wanted = |delivery: &Delivery| wanted(&delivery.task.id);
        let (mut taken, line): (Vec<_>, Vec<_>) = std::mem::take(&mut self.line).into_iter().partition(is_wanted);
        self.line = line.into();
        let (wanted, held): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.held).into_iter().partition(|(_, delivery)| is_wanted(delivery));
        self.held = held;
        taken.extend(wanted.into_values());
        taken
    }

    /// Keeps a delivery until a moment.
    pub(in crate::master::core) fn hold(&mut self, until: Instant, delivery: Delivery) {
        self.held.insert((until, delivery.handle), delivery);
    }

    /// Puts those whose moments have come in front of all others. When the next one's comes.
    pub(in crate::master::core) fn release_due(&mut self, now: Instant) -> Option<Instant> {
        let later = self.held.split_off(&(now, Handle(u64::MAX)));
        for delivery in std::mem::replace(&mut self.held, later).into_values().rev() {
            self.line.push_front(delivery);
        }
        self.held.keys().next().map(|(until, _)| *until)
    }

    /// The same with all of them, whenever their moments are.
    pub(in crate::master::core) fn release_all(&mut self) {
        for delivery in std::mem::take(&mut self.held).into_values().rev() {
            self.line.push_front(delivery);
        }
    }
}
