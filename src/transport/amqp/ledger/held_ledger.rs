//! The ledger, held: a channel with three consumers, and all that came over it and is not acknowledged.
//!
//! The lease is the exclusive consumer of a classic queue, which also brings the questions. The consumers of jobs and of entries are on the
//! same channel, and so is every acknowledgement: whoever has lost the lease can acknowledge nothing any more. Publishes go over the
//! session's connection, like all others.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery as Message,
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use uuid::Uuid;

use super::{
    answers::KeptAnswers,
    backlog::{Backlog, Retried},
    held_entries::{Asker, HeldEntries},
    held_jobs::HeldJobs,
    names::{Question, coordinator_queue, jobs_queue},
    queues, store,
    stored::{self, Memory, StoredJob},
};
use crate::{
    clock::{Clock, Instant},
    jobs::record::StoredEntry,
    membership::ledger_queue,
    transport::{
        Event, Events,
        amqp::{
            broker_error::{answer, describe},
            connect::channel::{open_channel, short},
            publish::{outbox::Outbox, replies::Replies},
        },
    },
};

/// Entries that are told and not folded, at most.
const OUTSTANDING: u16 = 1024;
/// Open jobs that can be held, and the most that a channel can have unacknowledged.
const MOST_JOBS: u16 = u16::MAX;
/// How long whoever held the ledger before may take to let go of its jobs once the lease is ours: its queue hears of the end by itself.
const LETS_GO: Duration = Duration::from_secs(30);

/// The ledger is not ours any more, or cannot be had, with the cause.
#[derive(Debug)]
pub(crate) struct LedgerLost(pub(crate) String);

impl From<lapin::Error> for LedgerLost {
    fn from(error: lapin::Error) -> Self {
        Self(describe(&error))
    }
}

/// The ledger, held.
pub(crate) struct HeldLedger {
    pub(crate) application: String,
    channel: Channel,
    lease: Consumer,
    jobs_came: Consumer,
    /// Once entries are told.
    entries_came: Option<(Consumer, Events)>,
    pub(super) outbox: Outbox,
    pub(super) clock: Clock,
    /// Tags of all that the broker waits for us to acknowledge. What is not of this program, or of a later one, stays.
    pub(super) unacknowledged: BTreeSet<u64>,
    /// When they are given back.
    pub(super) refresh_at: Option<Instant>,
    /// How long the broker bears what is unacknowledged, if it has said so.
    pub(super) patience: Option<Duration>,
    pub(super) marker: Option<Uuid>,
    /// What was asked before all was known: a part of the jobs would be taken for all of them.
    pub(super) unanswered: Option<Vec<(Question, Asker)>>,
    /// What came and may go.
    pub(super) useless: Vec<u64>,
    /// Jobs that are to be written anew.
    pub(super) worn: BTreeSet<String>,
    pub(super) told: Vec<StoredEntry>,
    pub(super) replies: Replies,
    /// Answers to orders, which may be given again.
    pub(crate) answers: KeptAnswers,
    pub(crate) jobs: HeldJobs,
    pub(crate) entries: HeldEntries,
    pub(super) backlog: Backlog,
}

/// Something came over the channel.
pub(super) enum Arrival {
    Question(Message),
    Job(Message),
    Entry(Message),
    /// It is time to give all back.
    Refresh,
    /// It is time to try again to store ended jobs.
    Retry,
    Retried(Retried),
}

impl HeldLedger {
    /// Takes the lease and all jobs; `None`: another one has it. Nothing has changed by that, and nobody is told anything.
    pub(crate) async fn take(
        connection: &Connection,
        outbox: &Outbox,
        replies: Replies,
        application: &str,
        clock: Clock,
        patience: Option<Duration>,
    ) -> Result<Option<Self>, LedgerLost> {
        queues::declare(connection, application).await?;
        let channel = open_channel(connection).await?;
        let tag = format!("asynctask-coordinator-{}", std::process::id());
        // A question that is lost with us is asked again.
        let options = BasicConsumeOptions { exclusive: true, no_ack: true, ..BasicConsumeOptions::default() };
        let lease =
            channel.basic_consume(short(&coordinator_queue(application)), short(&tag), options, FieldTable::default());
        let lease = match answer(lease).await {
            Ok(lease) => lease,
            Err(error) if describe(&error).contains("exclusive use") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let jobs_queue = jobs_queue(application);
        let jobs_came = consume(&channel, &jobs_queue, MOST_JOBS).await?;
        let marker = Uuid::now_v7();
        let mut held = Self {
            application: application.to_owned(),
            channel,
            lease,
            jobs_came,
            entries_came: None,
            outbox: outbox.clone(),
            clock,
            unacknowledged: BTreeSet::new(),
            refresh_at: None,
            patience,
            marker: Some(marker),
            unanswered: Some(Vec::new()),
            useless: Vec::new(),
            worn: BTreeSet::new(),
            told: Vec::new(),
            replies,
            answers: KeptAnswers::default(),
            jobs: HeldJobs::default(),
            entries: HeldEntries::default(),
            backlog: Backlog::default(),
        };
        // The queue has one active consumer, and that is us only once it has heard of the end of the one before; what that one held is in
        // front of everything else then. So whatever there is comes before the marker.
        held.keep_during(store::until_stored(outbox, &[stored::marker(&jobs_queue, marker)])).await?;
        let by = clock.now().at + LETS_GO;
        while held.marker.is_some() {
            if clock.now().at >= by {
                return Err(LedgerLost("whoever held the jobs before does not let them go".to_owned()));
            }
            held.next_within(by.since(clock.now().at)).await?;
        }
        Ok(Some(held))
    }

    /// Begins another epoch.
    pub(crate) async fn begin(&mut self, outbox: &Outbox) -> Result<(), LedgerLost> {
        let epoch = self.jobs.begin();
        let mut memory = Memory { epoch, serial: 1, holder: Uuid::now_v7(), ..self.jobs.memory().clone() };
        memory.add_void(&[], self.clock.now().wall);
        self.jobs.expect_memory(memory.clone());
        let stored = [stored::memory(&jobs_queue(&self.application), &memory)];
        self.keep_during(store::until_stored(outbox, &stored)).await?;
        // That it comes to us shows that nobody has taken the ledger over meanwhile.
        self.until_all_came().await
    }

    /// From now on entries are told.
    pub(crate) async fn listen(&mut self, events: Events) -> Result<(), LedgerLost> {
        let entries = consume(&self.channel, &ledger_queue(&self.application), OUTSTANDING).await?;
        self.entries_came = Some((entries, events));
        self.backlog.retry_at = (!self.jobs.ended().is_empty()).then(|| self.clock.now().at);
        Ok(())
    }

    /// Asks the broker: what it did to the lease before it answers is known then.
    pub(crate) async fn check(&mut self) -> Result<(), LedgerLost> {
        queues::found(&self.channel, &coordinator_queue(&self.application)).await?;
        self.drain().await
    }

    /// Waits until all that was published has come to us.
    pub(crate) async fn until_all_came(&mut self) -> Result<(), LedgerLost> {
        while self.jobs.is_expecting() {
            self.next_within(Duration::MAX).await?;
        }
        Ok(())
    }

    /// Does `work`, and keeps what is held meanwhile.
    pub(crate) async fn keep_during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, LedgerLost> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                arrival = self.arrival() => self.arrived(arrival?).await?,
            }
        }
    }

    /// [`Self::keep_during`], until something is to be written anew: then `None`, and `work` is dropped.
    pub(crate) async fn keep_until_worn<T>(&mut self, work: impl Future<Output = T>) -> Result<Option<T>, LedgerLost> {
        let mut work = std::pin::pin!(work);
        while self.worn.is_empty() {
            tokio::select! {
                done = &mut work => return Ok(Some(done)),
                arrival = self.arrival() => self.arrived(arrival?).await?,
            }
        }
        Ok(None)
    }

    /// Writes those anew that came too often, or are old.
    pub(crate) async fn renew(&mut self, outbox: &Outbox) -> Result<(), LedgerLost> {
        let queue = jobs_queue(&self.application);
        let mut anew = Vec::new();
        for id in std::mem::take(&mut self.worn) {
            if id.is_empty() {
                let memory = Memory { serial: self.jobs.memory().serial + 1, ..self.jobs.memory().clone() };
                anew.push(stored::memory(&queue, &memory));
                self.jobs.expect_memory(memory);
            } else if let Some(job) = self.jobs.get(&id).cloned() {
                let job = StoredJob { epoch: self.jobs.epoch(), ..job };
                anew.push(stored::job(&queue, &job));
                self.jobs.expect(job);
            }
        }
        tracing::debug!(target: "asynctask::amqp", "{} messages of the ledger are written anew", anew.len());
        self.keep_during(store::until_stored(outbox, &anew)).await?;
        self.until_all_came().await
    }

    async fn next_within(&mut self, limit: Duration) -> Result<(), LedgerLost> {
        match tokio::time::timeout(limit, self.arrival()).await {
            Ok(arrival) => self.arrived(arrival?).await,
            Err(_) => Ok(()),
        }
    }

    /// Waits for whatever comes first. Nothing is lost if it is dropped.
    async fn arrival(&mut self) -> Result<Arrival, LedgerLost> {
        let until = |at: Option<Instant>| at.map(|at| at.since(self.clock.now().at));
        let (refresh_in, retry_in) = (until(self.refresh_at), until(self.backlog.retry_at));
        let Self { lease, jobs_came, entries_came, backlog, .. } = self;
        let entry = async {
            match entries_came {
                Some((entries, _)) => entries.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            came = lease.next() => message(came).map(Arrival::Question),
            came = jobs_came.next() => message(came).map(Arrival::Job),
            came = entry => message(came).map(Arrival::Entry),
            () = tokio::time::sleep(refresh_in.unwrap_or_default()), if refresh_in.is_some() => Ok(Arrival::Refresh),
            () = tokio::time::sleep(retry_in.unwrap_or_default()), if retry_in.is_some() => Ok(Arrival::Retry),
            retried = backlog.retried() => Ok(Arrival::Retried(retried)),
        }
    }

    /// Takes what came, and all that is there with it.
    async fn arrived(&mut self, arrival: Arrival) -> Result<(), LedgerLost> {
        match arrival {
            Arrival::Refresh => return self.refresh().await,
            Arrival::Retry => return self.retry_ended().await,
            Arrival::Retried(retried) => return self.ended_retried(retried).await,
            arrival => self.take_in(arrival),
        }
        self.drain().await
    }

    /// Takes all that is there.
    async fn drain(&mut self) -> Result<(), LedgerLost> {
        let mut entries_came = self.entries_came.take();
        while let Some(came) = self.lease.next().now_or_never() {
            self.take_in(Arrival::Question(message(came)?));
        }
        while let Some(came) = self.jobs_came.next().now_or_never() {
            self.take_in(Arrival::Job(message(came)?));
        }
        if let Some((entries, _)) = &mut entries_came {
            while let Some(came) = entries.next().now_or_never() {
                self.take_in(Arrival::Entry(message(came)?));
            }
        }
        self.entries_came = entries_came;
        if let (false, Some((_, events))) = (self.told.is_empty(), &self.entries_came) {
            let _ = events.send(Event::Entries(std::mem::take(&mut self.told)));
        }
        let useless = std::mem::take(&mut self.useless);
        self.acknowledge(useless).await
    }

    /// Whether it is told of entries.
    pub(super) const fn is_begun(&self) -> bool {
        self.entries_came.is_some()
    }

    /// These may go.
    pub(crate) async fn acknowledge(&mut self, tags: Vec<u64>) -> Result<(), LedgerLost> {
        for tag in tags {
            if self.unacknowledged.remove(&tag) {
                answer(self.channel.basic_ack(tag, BasicAckOptions::default())).await?;
            }
        }
        if self.unacknowledged.is_empty() {
            self.refresh_at = None;
        }
        Ok(())
    }

    /// Gives all back, and with that makes it young: it comes again.
    async fn refresh(&mut self) -> Result<(), LedgerLost> {
        self.refresh_at = None;
        // What came before the last of these is known after this.
        let last = self.unacknowledged.last().copied();
        self.drain().await?;
        let Some(last) = last.and_then(|last| self.unacknowledged.range(..=last).next_back().copied()) else {
            return Ok(());
        };
        let options = BasicNackOptions { multiple: true, requeue: true };
        answer(self.channel.basic_nack(last, options)).await?;
        self.unacknowledged = self.unacknowledged.split_off(&(last + 1));
        self.jobs.given_back(last);
        self.entries.given_back(last);
        if self.is_begun() {
            self.worn.extend(self.jobs.old().map(str::to_owned));
        }
        if let Some(young) = self.unacknowledged.pop_first() {
            self.holds(young);
        }
        Ok(())
    }
}

async fn consume(channel: &Channel, queue: &str, most: u16) -> Result<Consumer, LedgerLost> {
    answer(channel.basic_qos(most, BasicQosOptions::default())).await?;
    let (tag, options) = (format!("asynctask-{queue}-{}", std::process::id()), BasicConsumeOptions::default());
    Ok(answer(channel.basic_consume(short(queue), short(&tag), options, FieldTable::default())).await?)
}

fn message(came: Option<lapin::Result<Message>>) -> Result<Message, LedgerLost> {
    match came {
        Some(message) => Ok(message?),
        None => Err(LedgerLost("the broker ended its consumer".to_owned())),
    }
}

/// How long the broker bears what is unacknowledged, if this is why it closed a channel: it says so then, and nowhere else.
pub(crate) fn patience(cause: &str) -> Option<Duration> {
    let (_, told) = cause.split_once("Timeout value used: ")?;
    let digits = told.split(' ').next()?;
    digits.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_tells_its_patience_when_it_has_lost_it() {
        let cause = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 5000 ms. This timeout \
                     value can be configured, see consumers doc guide to learn more";
        assert_eq!(patience(cause), Some(Duration::from_secs(5)));
        assert_eq!(patience("CONNECTION_FORCED"), None);
        assert_eq!(patience("Timeout value used: x ms"), None);
    }
}
