//! Outcomes of tasks whose handles are void: how many are lost if the run ends now.

use std::{collections::HashMap, time::Duration};

use crate::clock::Instant;

/// Tasks that come again after an outage have done so within this time, here or to another master.
const RETURN: Duration = Duration::from_secs(10);

/// Outcomes of tasks whose handles are void: they can be stored only when their tasks come again.
#[derive(Debug, Default)]
pub(in crate::master::core) struct VoidOutcomes {
    /// The queue of each task, by its identity.
    named: HashMap<u64, usize>,
    /// Of each queue, those that nobody can tell from others: none of these outcomes is ever stored.
    nameless: HashMap<usize, Nameless>,
    /// Queues of which others have come since.
    passed: Vec<bool>,
    /// Settled before the loss, and perhaps stored.
    pub(in crate::master::core) unanswered: u64,
    /// Since when what is void may come again.
    again_at: Option<Instant>,
}

/// Tasks of one queue without an identity, whose handles became void while they were in hand.
#[derive(Debug, Default)]
struct Nameless {
    void: u64,
    /// Of these, how many have come again: each is done by what came.
    returned: u64,
    /// Of these, how many have ended here.
    ended: u64,
}

impl VoidOutcomes {
    /// The handle of a task in hand is void from now on.
    pub(in crate::master::core) fn add_void(&mut self, identity: Option<u64>, queue: usize) {
        if identity.is_none() {
            self.nameless.entry(queue).or_default().void += 1;
        }
    }

    /// A task of this queue has ended.
    pub(in crate::master::core) fn add(&mut self, identity: Option<u64>, queue: usize) {
        match identity {
            Some(_) if self.passed.get(queue) == Some(&true) => {}
            Some(identity) => drop(self.named.insert(identity, queue)),
            // One that is not known any more came again long ago, or to another master.
            None => {
                if let Some(nameless) = self.nameless.get_mut(&queue).filter(|nameless| nameless.ended < nameless.void)
                {
                    nameless.ended += 1;
                }
            }
        }
    }

    /// It came again, and is settled.
    pub(in crate::master::core) fn remove(&mut self, identity: u64) {
        self.named.remove(&identity);
    }

    /// A task of this queue came that is not known here.
    pub(in crate::master::core) fn delivered(&mut self, queue: usize, redelivered: bool) {
        if redelivered {
            if let Some(nameless) = self.nameless.get_mut(&queue).filter(|nameless| nameless.returned < nameless.void) {
                nameless.returned += 1;
            }
        } else if self.passed.get(queue) != Some(&true) {
            // What comes again comes before it.
            self.named.retain(|_, other| *other != queue);
            self.passed.resize(self.passed.len().max(queue + 1), false);
            self.passed[queue] = true;
        }
    }

    /// A session stands again.
    pub(in crate::master::core) fn come_again(&mut self, now: Instant) {
        self.again_at = Some(now);
        self.unanswered = 0;
    }

    /// A session is lost, or one queue of it.
    pub(in crate::master::core) fn stay_away(&mut self, now: Instant, queue: Option<usize>) {
        self.forget_old(now);
        self.again_at = None;
        match queue {
            None => self.passed.clear(),
            Some(queue) => {
                if let Some(passed) = self.passed.get_mut(queue) {
                    *passed = false;
                }
            }
        }
    }

    /// What would have come again by now was done by another master.
    pub(in crate::master::core) fn forget_old(&mut self, now: Instant) {
        if self.again_at.is_some_and(|at| now.since(at) > RETURN) {
            self.forget();
        }
    }

    pub(in crate::master::core) fn forget(&mut self) {
        self.named.clear();
        self.nameless.clear();
        self.unanswered = 0;
    }

    pub(in crate::master::core) fn count(&self) -> u64 {
        self.named.len() as u64
            + self.nameless.values().map(|nameless| nameless.ended.saturating_sub(nameless.returned)).sum::<u64>()
            + self.unanswered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Instant = Instant::from_start(Duration::ZERO);

    #[test]
    fn a_task_without_identity_that_came_again_is_not_lost_whatever_becomes_of_other_queues() {
        let mut outcomes = VoidOutcomes::default();
        outcomes.stay_away(AT, Some(0));
        outcomes.add_void(None, 0);
        outcomes.come_again(AT);
        outcomes.delivered(0, true);
        // Another queue is lost before the first of the two has ended.
        outcomes.stay_away(AT, Some(1));
        outcomes.add(None, 0);
        assert_eq!(outcomes.count(), 0);
        // So is what came again, with the queue.
        outcomes.stay_away(AT, Some(0));
        outcomes.add_void(None, 0);
        outcomes.add(None, 0);
        assert_eq!(outcomes.count(), 1, "it has not come again yet");
        outcomes.delivered(0, true);
        assert_eq!(outcomes.count(), 0);
    }

    #[test]
    fn what_comes_again_of_another_master_stands_for_nothing_of_ours() {
        let mut outcomes = VoidOutcomes::default();
        outcomes.delivered(0, true);
        outcomes.stay_away(AT, None);
        outcomes.add_void(None, 0);
        outcomes.add(None, 0);
        assert_eq!(outcomes.count(), 1);
        outcomes.come_again(AT);
        for _ in 0..3 {
            outcomes.delivered(0, true);
        }
        outcomes.stay_away(AT, None);
        outcomes.add_void(None, 0);
        outcomes.add(None, 0);
        assert_eq!(outcomes.count(), 1);
    }
}
