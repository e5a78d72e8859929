//! What this node knows about tasks that lie in no queue that it can count: on their way back from a delay queue, or from a
//! session that ended. Pure: time is an argument.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{delay_queues, own_queue::OwnQueue};
use crate::{clock::Instant, limits::KNOWN_QUEUES};

/// After the last due time, for the broker to bring the task back.
const GRACE: Duration = Duration::from_millis(500);
/// The same, when fewer came back than left (others may have taken them).
const LONG_GRACE: Duration = Duration::from_secs(2);
/// What this node knows about tasks that no count shows.
#[derive(Debug, Default)]
pub(crate) struct InTransit {
    /// Delay queues that were seen to exist.
    pub(crate) present: HashSet<String>,
    /// The last time anything happened: a delivery, a settlement, a change of credit.
    pub(crate) moved_at: Instant,
    delays: HashMap<String, DelayedTasks>,
    /// When the last task comes back of the queues that were forgotten.
    others_quiet_at: Instant,
    /// Deliveries of an ended session that have not come back yet, and until when that matters.
    redeliveries_expected: u64,
    expected_until: Instant,
}

/// The delay queues of one queue.
#[derive(Debug, Default)]
struct DelayedTasks {
    left: u64,
    returned: u64,
    last_due: Instant,
}

impl DelayedTasks {
    fn quiet_at(&self) -> Instant {
        self.last_due + if self.returned >= self.left { GRACE } else { LONG_GRACE }
    }
}

impl InTransit {
    /// A task was put on a step of the ladder.
    pub(crate) fn left(&mut self, queue: &str, now: Instant, step: u64) {
        if self.delays.len() >= KNOWN_QUEUES {
            // Workers choose names of queues.
            self.others_quiet_at = self.clear_of_delays_at();
            self.delays.clear();
        }
        let away = self.delays.entry(queue.to_owned()).or_default();
        if away.quiet_at() < now {
            // Whatever did not come back until now went to another node.
            (away.left, away.returned) = (0, 0);
        }
        away.left += 1;
        away.last_due = away.last_due.max(now + Duration::from_millis(step));
        self.moved_at = now;
        self.saw(delay_queues::name(queue, step));
    }

    /// A task is being put into this queue: out of a delay queue it comes back.
    pub(crate) fn put(&mut self, own_queue: &OwnQueue, now: Instant) {
        if let OwnQueue::Delay(queue, step) = own_queue {
            self.left(queue, now, *step);
        }
    }

    /// A delay queue exists. Of too many, those that are used are seen again.
    pub(crate) fn saw(&mut self, name: String) {
        if self.present.len() >= KNOWN_QUEUES {
            self.present.clear();
        }
        self.present.insert(name);
    }

    fn clear_of_delays_at(&self) -> Instant {
        self.delays.values().map(DelayedTasks::quiet_at).fold(self.others_quiet_at, Instant::max)
    }

    /// A delayed task came back.
    pub(crate) fn returned(&mut self, queue: &str) {
        if let Some(away) = self.delays.get_mut(queue) {
            away.returned += 1;
        }
    }

    /// A delivery came for the second time.
    pub(crate) fn came_back(&mut self) {
        self.redeliveries_expected = self.redeliveries_expected.saturating_sub(1);
    }

    /// A session ended with this many deliveries in our hands.
    pub(crate) fn session_ended(&mut self, in_hand: u64) {
        self.redeliveries_expected = self.redeliveries_expected.saturating_add(in_hand);
    }

    /// Another session began: the broker may take so long to notice that the old connection is dead.
    pub(crate) fn session_began(&mut self, now: Instant, noticed: Duration) {
        self.expected_until = now + noticed;
        self.moved_at = now;
    }

    /// From when on a reading of 0 can be believed.
    pub(crate) fn clear_at(&self) -> Instant {
        let redeliveries_expected = (self.redeliveries_expected > 0).then_some(self.expected_until);
        redeliveries_expected.unwrap_or_default().max(self.clear_of_delays_at())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn nothing_known_is_clear_at_once() {
        assert_eq!(InTransit::default().clear_at(), at(0));
    }

    #[test]
    fn a_delayed_task_is_waited_for_longer_while_it_has_not_come_back() {
        let mut in_transit = InTransit::default();
        in_transit.left("foo", at(1_000), 250);
        assert_eq!(in_transit.clear_at(), at(3_250));
        in_transit.returned("foo");
        assert_eq!(in_transit.clear_at(), at(1_750));
        in_transit.left("foo", at(1_300), 100);
        assert_eq!(in_transit.clear_at(), at(3_400));
        // Another node had taken that one; it is not missed for ever.
        in_transit.left("foo", at(9_000), 100);
        in_transit.returned("foo");
        assert_eq!(in_transit.clear_at(), at(9_600));
    }

    #[test]
    fn what_a_lost_session_held_must_come_back_or_time_out() {
        let mut in_transit = InTransit::default();
        in_transit.session_ended(2);
        in_transit.session_began(at(1_000), Duration::from_secs(40));
        assert_eq!(in_transit.clear_at(), at(41_000));
        in_transit.came_back();
        assert_eq!(in_transit.clear_at(), at(41_000));
        in_transit.came_back();
        assert_eq!(in_transit.clear_at(), at(0));
    }

    #[test]
    fn names_that_workers_choose_take_no_end_of_memory_and_lose_no_due_time() {
        let mut in_transit = InTransit::default();
        in_transit.left("foo", at(0), 86_400_000);
        for number in 0..3 * KNOWN_QUEUES {
            in_transit.left(&format!("q{number}"), at(1), 500);
        }
        assert!(in_transit.delays.len() <= KNOWN_QUEUES && in_transit.present.len() <= KNOWN_QUEUES);
        assert_eq!(in_transit.clear_at(), at(86_402_000), "that of a queue which is forgotten");
    }
}
