//! Delay queues that cannot be used, and when to ask for them again. Pure: time is an argument.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use crate::{clock::Instant, limits::KNOWN_QUEUES, transport::amqp::broker_error::Fault};

/// After that long a delay queue that was refused is looked for again, in case it was deleted.
const LOOK_FOR: Duration = Duration::from_secs(5);
/// After that long one that is there is looked at again, which costs channels and lines in the broker's log.
const LOOK_AT: Duration = Duration::from_mins(10);

/// Why a delay queue cannot be used.
#[derive(Clone)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    since: Instant,
    looked_at: Instant,
}

impl Refusal {
    /// Whether the broker is to be asked again. What may not be made or seen here stays so for a session.
    pub(crate) fn may_be_over(&self, now: Instant) -> bool {
        matches!(self.fault, Fault::Refused(_)) && now.since(self.looked_at) >= LOOK_FOR
    }

    /// Whether a queue that is there is to be looked at again.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        now.since(self.since) >= LOOK_AT
    }
}

/// The refusals of one session, by the name of the delay queue.
#[derive(Default)]
pub(crate) struct Refusals(RefCell<HashMap<String, Refusal>>);

impl Refusals {
    /// Remembers that a queue cannot be used.
    pub(crate) fn add(&self, name: String, fault: Fault, now: Instant) -> Refusal {
        let refusal = Refusal { fault, since: now, looked_at: now };
        let mut refusals = self.0.borrow_mut();
        if refusals.len() >= KNOWN_QUEUES {
            refusals.clear();
        }
        refusals.insert(name, refusal.clone());
        refusal
    }

    pub(crate) fn get(&self, name: &str) -> Option<Refusal> {
        self.0.borrow().get(name).cloned()
    }

    /// The broker is being asked for the queue.
    pub(crate) fn look(&self, name: &str, now: Instant) {
        if let Some(known) = self.0.borrow_mut().get_mut(name) {
            known.looked_at = now;
        }
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.borrow_mut().remove(name);
    }
}
