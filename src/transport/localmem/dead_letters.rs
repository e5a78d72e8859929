//! Dead letters: visited one by one, each outside of the lock.
//!
//! The lock is never held while the visitor looks at a letter: it may take as long as it likes, and may send requests to the same
//! transport.

use super::actor::Actor;
use crate::{
    clock::Clock,
    transport::{DeadQueue, Visit, Visitor, Walked, job_entries, pause},
};

impl Actor {
    /// Visits the dead letters of a queue.
    pub(super) fn walk(&self, dead: &DeadQueue, mut visit: Visitor) -> Walked {
        let mut walked = Walked::default();
        let now = Clock::steady();
        let numbers: Vec<u64> = {
            let mut tables = self.shared.lock();
            tables.expire(now, &dead.queue);
            let Some(queue) = tables.queues.get(&dead.queue) else { return walked };
            queue.dead.keys().copied().collect()
        };
        for number in numbers {
            let found = self.shared.lock().queue(&dead.queue).dead.get(&number).map(|dead| dead.letter.clone());
            let Some(letter) = found else { continue };
            walked.seen += 1;
            let verdict = loop {
                match visit(&letter) {
                    Visit::Wait(after) => pause(after),
                    verdict => break verdict,
                }
            };
            if verdict == Visit::Stop {
                break;
            }
            if verdict == Visit::Keep {
                continue;
            }
            let mut tables = self.shared.lock();
            if let (Visit::Retry { .. }, Some(membership)) = (&verdict, letter.membership.as_deref())
                && tables.jobs.hindrance(Clock::steady(), membership).is_some()
            {
                walked.left += 1;
                continue;
            }
            if tables.queue(&dead.queue).dead.remove(&number).is_none() {
                continue;
            }
            if let Visit::Retry { body } = verdict {
                if let Some(membership) = &letter.membership {
                    tables.jobs.tell_retried(membership);
                }
                tables.put_back(Clock::steady(), letter, body);
                walked.retried += 1;
            } else {
                tables.jobs.tell_gone(&letter, job_entries::PURGED);
                walked.removed += 1;
            }
        }
        walked
    }
}
