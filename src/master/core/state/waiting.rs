//! Deliveries of one queue that no worker has begun.

use std::collections::{BTreeMap, VecDeque};

use super::task_rates::TaskRates;
use crate::{
    clock::Instant,
    task::{Delivery, Handle, Task},
};

/// Deliveries of a queue that no worker has begun. Those whose keys are asked for are kept apart, so that the cost of a task does
/// not depend on their number.
#[derive(Debug, Default)]
pub(in crate::master::core) struct Waiting {
    /// Deliveries that can be dispatched, in order.
    line: VecDeque<Delivery>,
    /// Deliveries whose keys are asked for, in the order of their handles, so that a run can be repeated exactly.
    pub(in crate::master::core) asked: BTreeMap<Handle, Delivery>,
    /// Deliveries that are held until it is their turn, if tasks of single names have rates.
    pub(in crate::master::core) rates: TaskRates,
}

impl Waiting {
    /// The number of all deliveries.
    pub(in crate::master::core) fn len(&self) -> usize {
        self.line.len() + self.asked.len() + self.rates.len()
    }

    /// Whether there is no delivery.
    pub(in crate::master::core) fn is_empty(&self) -> bool {
        self.len() == 0
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
        self.asked.values().chain(&self.line).chain(self.rates.iter())
    }

    pub(in crate::master::core) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.iter().map(|delivery| delivery.handle)
    }

    /// Takes all deliveries. Those whose keys were asked for come first, since they were delivered first.
    pub(in crate::master::core) fn take_all(&mut self) -> Vec<Delivery> {
        let (asked, line) = (std::mem::take(&mut self.asked), std::mem::take(&mut self.line));
        let mut taken: Vec<Delivery> = asked.into_values().chain(line).collect();
        taken.extend(self.rates.take_where(|_| true));
        for delivery in &taken {
            self.rates.left(delivery);
        }
        taken
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
        // One alone, should there be several.
        let mut is_first = true;
        let is_it = |delivery: &Delivery| delivery.task.id == id && std::mem::take(&mut is_first);
        self.rates.take_where(is_it).pop()
    }

    /// Takes the deliveries whose tasks are wanted, but for those whose keys are asked for.
    pub(in crate::master::core) fn take_where(&mut self, wanted: impl Fn(&Task) -> bool) -> Vec<Delivery> {
        let is_wanted = |delivery: &Delivery| wanted(&delivery.task);
        let (mut taken, line): (Vec<_>, Vec<_>) = std::mem::take(&mut self.line).into_iter().partition(is_wanted);
        self.line = line.into();
        taken.extend(self.rates.take_where(is_wanted));
        taken
    }

    /// Takes the deliveries that are not to be begun, those whose keys are asked for among them.
    pub(in crate::master::core) fn take_stopped(&mut self, is_stopped: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
        let mut taken: Vec<Delivery> =
            self.asked.extract_if(.., |_, delivery| is_stopped(delivery)).map(|(_, delivery)| delivery).collect();
        if self.line.iter().any(&is_stopped) {
            let (stopped, line): (Vec<_>, Vec<_>) = std::mem::take(&mut self.line).into_iter().partition(&is_stopped);
            self.line = line.into();
            taken.extend(stopped);
        }
        taken.extend(self.rates.take_where(is_stopped));
        taken
    }

    /// Puts deliveries in front of all others, in their order.
    pub(in crate::master::core) fn put_back_all(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries.into_iter().rev() {
            self.put_back(delivery);
        }
    }

    /// Puts those whose turn has come in front of all others. When the next one's comes.
    pub(in crate::master::core) fn release_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.rates.take_due(now);
        self.put_back_all(due);
        self.rates.next_due()
    }
}
