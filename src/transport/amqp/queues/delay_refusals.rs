//! Delay queues that are not to be had, and when to find out anew.

use std::time::Duration;

use lapin::Connection;

use super::topology::{Counter, Fault, OwnQueue, Topology};
use crate::{clock::Instant, limits::KNOWN_QUEUES};

/// After that long a delay queue that was refused is looked for again, in case it was deleted.
const LOOK_FOR: Duration = Duration::from_secs(5);
/// After that long one that is there is looked at again, which costs channels and lines in the broker's log.
const LOOK_AT: Duration = Duration::from_mins(10);

/// Why a delay queue is not to be had.
#[derive(Clone)]
pub(crate) struct Refusal {
    fault: Fault,
    since: Instant,
    looked_at: Instant,
}

impl Topology {
    /// Remembers that a queue is not to be had.
    pub(crate) fn refuse(&self, name: String, fault: Fault) -> Refusal {
        let now = self.clock.now().at;
        let refusal = Refusal { fault, since: now, looked_at: now };
        let mut refusals = self.refusals.borrow_mut();
        if refusals.len() >= KNOWN_QUEUES {
            refusals.clear();
        }
        refusals.insert(name, refusal.clone());
        refusal
    }

    /// Why a delay queue is not to be had, unless it is time to find out anew: a person may have deleted one that was
    /// refused, or declared it in another way.
    pub(crate) async fn still_refused(&self, connection: &Connection, own_queue: &OwnQueue) -> Option<Fault> {
        let name = own_queue.name();
        let known = self.refusals.borrow().get(&name).cloned();
        let refusal = known.or_else(|| Some(self.refuse(name.clone(), Fault::Refused(self.refusal(&name)?))))?;
        let now = self.clock.now().at;
        // What may not be made or seen here stays so for a session.
        if !matches!(refusal.fault, Fault::Refused(_)) || now.since(refusal.looked_at) < LOOK_FOR {
            return Some(refusal.fault);
        }
        if let Some(known) = self.refusals.borrow_mut().get_mut(&name) {
            known.looked_at = now;
        }
        // One that is there is found to be so at no cost.
        match Counter::new(connection).ready(&name).await {
            Ok(None) => self.forget(own_queue),
            Ok(Some(_)) if now.since(refusal.since) >= LOOK_AT => {
                self.refusals.borrow_mut().remove(&name);
                self.foreign_queues.look_again(&name);
            }
            Ok(Some(_)) | Err(_) => return Some(refusal.fault),
        }
        None
    }

    /// A queue that was refused may be had by now.
    pub(crate) fn ask_again(&self, own_queue: &OwnQueue) {
        // One that was seen not to lead back is looked for in its time.
        if self.refusal(&own_queue.name()).is_none() {
            self.refusals.borrow_mut().remove(&own_queue.name());
        }
    }
}
