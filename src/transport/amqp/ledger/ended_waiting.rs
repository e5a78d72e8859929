//! Ended jobs that their queue does not take.
//!
//! A quorum queue that has lost its leader takes nothing, perhaps for ever, and what lies among the ended jobs decides nothing:
//! it is only listed. So the step of a coordinator tries for a moment, and then leaves the job among the open ones, as a message that is
//! not open any more. From there it goes when the queue takes it, which is tried again and again beside the steps; whoever takes the
//! ledger over goes on with that. Their number is bounded: the oldest are given up.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    backlog::{Retried, retry},
    held_ledger::{HeldLedger, LedgerLost},
    names::ended_queue,
    store,
    stored::{self, StoredJob},
};
use crate::{
    clock::Timestamp,
    transport::amqp::publish::{
        outbox::{Outbox, PAUSES},
        publisher::Publication,
    },
};

/// A step tries for so long: the answer of a queue that has a leader takes some milliseconds.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Jobs that wait at most …
const MOST: usize = 1_000;
/// … and bytes of them.
const MOST_BYTES: usize = 64 << 20;
/// Jobs that are tried at a time.
const TRIED: usize = 64;

impl HeldLedger {
    /// Stores jobs that have ended. Gives those that are to wait among the open ones.
    pub(super) async fn store_ended(
        &mut self,
        outbox: &Outbox,
        jobs: Vec<StoredJob>,
        now: Timestamp,
    ) -> Result<Vec<StoredJob>, LedgerLost> {
        if jobs.is_empty() || self.backlog.is_waiting() {
            return Ok(jobs);
        }
        let queue = ended_queue(&self.application);
        let publications: Vec<Publication> = jobs.iter().map(|job| stored::ended_job(&queue, job, now)).collect();
        let tried = timeout(AT_ONCE, store::once(outbox, &publications));
        let (count, _) = self.keep_during(tried).await?.unwrap_or_default();
        if count < jobs.len() {
            // Whatever it was may be over by then, and nobody is told of it yet.
            self.backlog.retry_at = Some(self.clock.now().at + PAUSES.delay(1));
        }
        Ok(jobs.into_iter().skip(count).collect())
    }

    /// Gives up the oldest of those that wait, as far as they are too many with `more`. Gives the tags of their messages.
    pub(super) fn give_up_ended(&mut self, outbox: &Outbox, more: &[StoredJob]) -> Vec<u64> {
        if more.is_empty() {
            return Vec::new();
        }
        let length = |job: &StoredJob| job.record.content.len();
        let waiting = self.jobs.ended();
        let mut count = waiting.len() + more.len();
        let mut bytes: usize = waiting.iter().copied().chain(more).map(length).sum();
        let mut given_up = Vec::new();
        for job in waiting {
            if count <= MOST && bytes <= MOST_BYTES {
                break;
            }
            (count, bytes) = (count - 1, bytes - length(job));
            given_up.push(job.record.id.clone());
        }
        if !given_up.is_empty() {
            outbox.warn(format!(
                "{} jobs that have ended are not listed any more: queue \"{}\" does not take them, and too many wait",
                given_up.len(),
                ended_queue(&self.application)
            ));
        }
        given_up.iter().filter_map(|id| self.jobs.remove(id)).collect()
    }

    /// Tries to store some of those that wait, beside all else.
    pub(super) async fn retry_ended(&mut self) -> Result<(), LedgerLost> {
        self.backlog.retry_at = None;
        let now = self.clock.now().wall;
        let is_over = |job: &StoredJob| job.record.purge_at.is_some_and(|at| at <= now);
        let (over, waiting): (Vec<&StoredJob>, Vec<&StoredJob>) =
            self.jobs.ended().into_iter().partition(|job| is_over(job));
        let over: Vec<String> = over.into_iter().map(|job| job.record.id.clone()).collect();
        let queue = ended_queue(&self.application);
        let tried: Vec<_> = waiting
            .into_iter()
            .take(TRIED)
            .map(|job| (job.record.id.clone(), job.rank(), stored::ended_job(&queue, job, now)))
            .collect();
        if !tried.is_empty() {
            self.backlog.retries.spawn_local(retry(self.outbox.clone(), self.application.clone(), tried));
        }
        let over = over.iter().filter_map(|id| self.jobs.remove(id)).collect();
        self.acknowledge(over).await
    }

    /// Takes in what a retry came to.
    pub(super) async fn ended_retried(&mut self, retried: Retried) -> Result<(), LedgerLost> {
        let Retried { stored, cause } = retried;
        let mut gone = Vec::new();
        for (id, rank) in stored {
            // It may have begun again meanwhile.
            if self.jobs.get(&id).is_some_and(|job| !job.record.open && job.rank() == rank) {
                gone.extend(self.jobs.remove(&id));
            }
        }
        self.acknowledge(gone).await?;
        let (waiting, queue) = (self.jobs.ended().len(), ended_queue(&self.application));
        if let Some(cause) = cause {
            self.backlog.failures += 1;
            let pause = PAUSES.delay(self.backlog.failures);
            self.backlog.retry_at = Some(self.clock.now().at + pause);
            self.outbox.warn(format!(
                "queue \"{queue}\" does not take jobs that have ended: {cause}; {waiting} of them wait, and no other job waits for \
                 that; again in {} s. If it stays so, delete that queue, with the ended jobs that it lists: it is made anew",
                pause.as_secs()
            ));
        } else {
            if std::mem::take(&mut self.backlog.failures) > 0 {
                self.outbox.warn(format!("queue \"{queue}\" takes jobs that have ended again"));
            }
            self.backlog.retry_at = (waiting > 0).then(|| self.clock.now().at);
        }
        Ok(())
    }
}
