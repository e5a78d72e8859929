//! What is left of an application's jobs, for a survey that found its queues empty.
//!
//! An entry is stored before what it tells of leaves its queue, and what it causes before it goes itself. So whoever reads the queues, then the
//! entries, then the jobs, then where the tasks of those may be, misses nothing that was on its way from one to the next. What a coordinator
//! had in its hands when it died comes back to its queue a moment later: so whatever would mean an end is looked at twice.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    rc::Rc,
};

use uuid::Uuid;

use super::{asking::Asking, hands, stored::StoredJob};
use crate::{
    jobs::record::{JobFilter, Record},
    membership::ledger_queue,
    transport::{
        DeadQueue, Error,
        amqp::queues::{counter::Counter, counts::DepthCounter, in_transit::InTransit},
    },
};

/// What is left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// An entry, or a job that is worked or wiped, is not frozen, and can go on.
    pub(crate) some: bool,
    /// Live jobs that are not frozen and of which no task is anywhere.
    pub(crate) stranded: Vec<Record>,
}

/// Looks at what is left.
pub(crate) struct JobsSurvey {
    pub(crate) asking: Asking,
    pub(crate) depth_counter: Rc<DepthCounter>,
    pub(crate) in_transit: Rc<RefCell<InTransit>>,
}

impl JobsSurvey {
    pub(crate) async fn look(&self) -> Result<Left, Error> {
        let some = Ok(Left { some: true, ..Left::default() });
        if self.has_entries().await? {
            return some;
        }
        let open = self.asking.open_jobs(&JobFilter { open: true, ..JobFilter::default() }).await?;
        if open.entries > 0 || self.has_entries().await? {
            return some;
        }
        let epoch = open.epoch;
        // What a job that has ended left is still wiped while it has its key.
        let is_worked = |record: &Record| record.open && !record.frozen && (record.state.is_live() || record.holds_key);
        let mut some = false;
        let mut unseen = Vec::new();
        for job in open.jobs.into_iter().filter(|job| is_worked(&job.record)) {
            if self.is_queued(&job).await? {
                some = true;
            } else {
                unseen.push(job);
            }
        }
        let rounds: BTreeSet<Uuid> = unseen.iter().flat_map(|job| &job.record.rounds).copied().collect();
        let Asking { outbox, application, address, .. } = &self.asking;
        let in_hand =
            if rounds.is_empty() { Ok(BTreeSet::new()) } else { hands::of_rounds(outbox, application, &rounds).await };
        let in_hand = in_hand.map_err(|fault| address.fault(&ledger_queue(application), fault))?;
        let (worked, stranded): (Vec<_>, Vec<_>) =
            unseen.into_iter().partition(|job| job.record.rounds.iter().any(|round| in_hand.contains(round)));
        some |= !worked.is_empty();
        self.confirmed(Left { some, stranded: Vec::new() }, stranded, epoch).await
    }

    /// With those that are where they were, after a time in which whatever was on its way has come.
    async fn confirmed(&self, left: Left, stranded: Vec<StoredJob>, epoch: u64) -> Result<Left, Error> {
        if stranded.is_empty() {
            return Ok(left);
        }
        let again = self.asking.open_jobs(&JobFilter { open: true, ..JobFilter::default() }).await?;
        if again.epoch != epoch || again.entries > 0 || self.has_entries().await? {
            return Ok(Left { some: true, ..left });
        }
        let same: HashSet<_> = again.jobs.iter().map(|job| (job.record.id.as_str(), job.rank())).collect();
        let is_same = |job: &StoredJob| same.contains(&(job.record.id.as_str(), job.rank()));
        let (stranded, moved): (Vec<_>, Vec<_>) = stranded.into_iter().partition(is_same);
        let stranded = stranded.into_iter().map(|job| job.record).collect();
        Ok(Left { some: left.some || !moved.is_empty(), stranded })
    }

    async fn has_entries(&self) -> Result<bool, Error> {
        let entries = ledger_queue(&self.asking.application);
        let reader = self.asking.outbox.session.reader();
        let ready = Counter::new(&reader).ready(&entries).await;
        Ok(ready.map_err(|fault| self.asking.address.fault(&entries, fault))?.is_some_and(|ready| ready > 0))
    }

    /// Whether there is a task in a queue in which those of a job may be. Whose it is cannot be seen.
    async fn is_queued(&self, job: &StoredJob) -> Result<bool, Error> {
        let queues: BTreeSet<&String> = job.queues.values().flatten().collect();
        let queues: Vec<DeadQueue> = queues.into_iter().map(|queue| DeadQueue::of(queue)).collect();
        let session = &self.asking.outbox.session;
        let depths = self.depth_counter.depths(session, &self.in_transit, &queues, false).await?;
        Ok(depths.iter().any(|depth| depth.unknown || depth.ready + depth.delayed > 0))
    }
}
