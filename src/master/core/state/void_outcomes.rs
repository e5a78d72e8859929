//! Outcomes of tasks whose handles are void: how many are lost if the run ends now.

use std::{collections::HashMap, time::Duration};

use crate::clock::Instant;

/// Tasks that come again after an outage have done so within this time, here or to another master.
const RETURN: Duration = Duration::from_secs(10);

/// Outcomes of tasks whose handles are void: they can be stored only when their tasks come again.
#[derive(Debug, Default)]
pub(in crate::master::core) struct VoidOutcomes {
    /// The queue of each task, by its identity.
    by_identity: HashMap<u64, usize>,
    /// Of each queue, its tasks without an identity: a redelivery of one cannot be recognised, so its outcome is never stored.
    unidentified: HashMap<usize, Unidentified>,
    /// By queue, whether a delivery that is no redelivery came since the session began: all redeliveries came before it.
    new_delivered: Vec<bool>,
    /// Outcomes whose settlement had no answer when the session was lost: they may be stored.
    pub(in crate::master::core) unanswered: u64,
    /// When the session, or that of a single queue, last began: from then on its tasks are redelivered. `None` after a loss.
    again_at: Option<Instant>,
}

/// Tasks of one queue without an identity, whose handles became void while they were in hand.
#[derive(Debug, Default)]
struct Unidentified {
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
            self.unidentified.entry(queue).or_default().void += 1;
        }
    }

    /// A task of this queue has ended.
    pub(in crate::master::core) fn add(&mut self, identity: Option<u64>, queue: usize) {
        match identity {
            Some(_) if self.new_delivered.get(queue) == Some(&true) => {}
            Some(identity) => drop(self.by_identity.insert(identity, queue)),
            // One that is not known any more came again long ago, or to another master.
            None => {
                if let Some(unidentified) = self.unidentified.get_mut(&queue).filter(|tasks| tasks.ended < tasks.void) {
                    unidentified.ended += 1;
                }
            }
        }
    }

    /// It came again, and is settled.
    pub(in crate::master::core) fn remove(&mut self, identity: u64) {
        self.by_identity.remove(&identity);
    }

    /// A task of this queue came that is not known here.
    pub(in crate::master::core) fn delivered(&mut self, queue: usize, redelivered: bool) {
        if redelivered {
            if let Some(unidentified) = self.unidentified.get_mut(&queue).filter(|tasks| tasks.returned < tasks.void) {
                unidentified.returned += 1;
            }
        } else if self.new_delivered.get(queue) != Some(&true) {
            // What comes again comes before it.
            self.by_identity.retain(|_, other| *other != queue);
            self.new_delivered.resize(self.new_delivered.len().max(queue + 1), false);
            self.new_delivered[queue] = true;
        }
    }

    /// A session has begun, or that of a single queue.
    pub(in crate::master::core) fn session_began(&mut self, now: Instant) {
        self.again_at = Some(now);
        self.unanswered = 0;
    }

    /// A session is lost, or one queue of it.
    pub(in crate::master::core) fn session_lost(&mut self, now: Instant, queue: Option<usize>) {
        self.forget_old(now);
        self.again_at = None;
        match queue {
            None => self.new_delivered.clear(),
            Some(queue) => {
                if let Some(new_delivered) = self.new_delivered.get_mut(queue) {
                    *new_delivered = false;
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
        self.by_identity.clear();
        self.unidentified.clear();
        self.unanswered = 0;
    }

    pub(in crate::master::core) fn count(&self) -> u64 {
        self.by_identity.len() as u64
            + self.unidentified.values().map(|tasks| tasks.ended.saturating_sub(tasks.returned)).sum::<u64>()
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
        outcomes.session_lost(AT, Some(0));
        outcomes.add_void(None, 0);
        outcomes.session_began(AT);
        outcomes.delivered(0, true);
        // Another queue is lost before the first of the two has ended.
        outcomes.session_lost(AT, Some(1));
        outcomes.add(None, 0);
        assert_eq!(outcomes.count(), 0);
        // So is what came again, with the queue.
        outcomes.session_lost(AT, Some(0));
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
        outcomes.session_lost(AT, None);
        outcomes.add_void(None, 0);
        outcomes.add(None, 0);
        assert_eq!(outcomes.count(), 1);
        outcomes.session_began(AT);
        for _ in 0..3 {
            outcomes.delivered(0, true);
        }
        outcomes.session_lost(AT, None);
        outcomes.add_void(None, 0);
        outcomes.add(None, 0);
        assert_eq!(outcomes.count(), 1);
    }
}
