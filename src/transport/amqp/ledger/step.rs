//! Storing a step of the coordinator.
//!
//! ```text
//! the lease is ours ─▶ tasks ─▶ dead letters go back ─▶ ended jobs ─▶ open jobs, which come back to us ─▶ masters and askers
//!    are told ─▶ what is replaced goes ─▶ entries go
//! ```
//!
//! Each is confirmed before the next. Whoever dies in between leaves entries that come again: those that are counted in what is stored
//! count for nothing, the others are folded anew, and tasks that nothing stored speaks of are of rounds that nobody knows. Dead letters
//! that have a successor are removed after all that, and nobody waits for it (`superseded`): what stays is put back to work by nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;

use super::{
    ended,
    held_ledger::{HeldLedger, LedgerLost},
    names::{Announcement, jobs_queue},
    pending::{PendingStep, PendingTask},
    store,
    stored::{self, StoredJob},
};
use crate::{
    clock::Clock,
    jobs::{entry::Entry, member_set::MemberSet, record::Record},
    membership::ledger_queue,
    task::Reason,
    transport::{
        DeadLetter, Error, Visit,
        amqp::{
            connect::address::Address,
            dead_letters::{walk, walk_lock, walk_progress::Progress},
            message::properties,
            publish::{
                bulk_results::BulkResults,
                outbox::{MASTER_SENDS, OutboundMessage, Outbox, PAUSES, StoreError},
                publisher::Publication,
            },
            queues::own_queue::OwnQueue,
            session::note::SessionNote,
        },
    },
};

/// What steps are stored with.
pub(crate) struct Storing {
    pub(crate) outbox: Outbox,
    pub(crate) address: Rc<Address>,
    pub(crate) clock: Clock,
}

impl Storing {
    /// Stores a step. An error means that the ledger is lost.
    pub(crate) async fn step(&self, held: &mut HeldLedger, mut step: PendingStep) -> Result<(), LedgerLost> {
        // A process that was stopped for long may not have heard yet that another one is the coordinator.
        held.check().await?;
        if let Some(cause) = held.jobs.conflict(&step.advance) {
            step.answer(0, Err(Error::Jobs { cause }));
            return Ok(());
        }
        let tasks = std::mem::take(&mut step.tasks);
        held.keep_during(self.tasks(&tasks)).await?;
        let revived = match held.keep_during(self.revive(&step)).await? {
            Ok(revived) => revived,
            Err(error) => {
                // What has gone back already is run, and counts for its round as long as that counts.
                step.answer(0, Err(error));
                return Ok(());
            }
        };
        let obsolete = self.jobs(held, &step, &tasks).await?;
        self.tell(held, &step).await?;
        held.acknowledge(obsolete).await?;
        let folded = held.entries.folded(&step.advance.entries);
        held.acknowledge(folded).await?;
        if !step.superseded.is_empty() {
            let (rounds, queues) = (step.advance.superseded.clone(), std::mem::take(&mut step.superseded));
            let note = SessionNote::Superseded { rounds, queues };
            let _ = self.outbox.notes.send(note.of(self.outbox.session.number));
        }
        step.answer(revived, Ok(()));
        Ok(())
    }

    /// Stores tasks, however long that takes. One that can never be stored is the end of its member.
    async fn tasks(&self, tasks: &[PendingTask]) {
        let message = |task: &PendingTask| match &task.message {
            Ok(message) => Some(message.clone()),
            Err(error) => self.unstorable(task, error),
        };
        let (tasks, messages): (Vec<&PendingTask>, Vec<OutboundMessage>) =
            tasks.iter().filter_map(|task| Some((task, message(task)?))).unzip();
        let results = BulkResults::new(messages.len());
        if self.outbox.store_in_order(&messages, &results, MASTER_SENDS).await.is_ok() {
            return;
        }
        // Which of them it is that is not taken is found out one by one.
        for (position, (task, message)) in tasks.into_iter().zip(messages).enumerate() {
            if !results.is_stored(position) {
                self.task(task, message).await;
            }
        }
    }

    async fn task(&self, task: &PendingTask, mut message: OutboundMessage) {
        let mut failures = 0;
        loop {
            let stored = self.outbox.store_all(std::slice::from_ref(&message)).await;
            let error = match stored {
                Ok(()) => return,
                Err(StoreError::Permanent(error)) => match self.unstorable(task, &error) {
                    // The entry in its place must be stored.
                    Some(entry) if entry.publication.queue != message.publication.queue => {
                        message = entry;
                        continue;
                    }
                    Some(_) => error,
                    None => return,
                },
                Err(StoreError::Temporary(error) | StoreError::Full(error)) => error,
            };
            failures += 1;
            let pause = PAUSES.delay(failures);
            self.outbox.warn(format!("a task of a job could not be stored: {error}; again in {} s", pause.as_secs()));
            tokio::time::sleep(pause).await;
        }
    }

    /// What is stored in the place of a task that can never be: the end of its member. One that is no member is only told of.
    fn unstorable(&self, task: &PendingTask, error: &Error) -> Option<OutboundMessage> {
        self.outbox.warn(format!("a task of the jobs cannot be stored: {error}"));
        let membership = task.membership.as_ref()?;
        let now = self.clock.now().wall;
        let entry = Entry::failed(membership, now, Reason::Failed.as_str(), &error.to_string(), None, None);
        let queue = ledger_queue(&membership.application);
        let new = entry.message(&membership.application, Uuid::now_v7().to_string());
        let properties = properties::submitted(&new, None).ok()?;
        let publication = Publication { queue: queue.clone(), properties: properties.into(), body: new.body.into() };
        Some(OutboundMessage { own_queue: OwnQueue::Work(queue), publication })
    }

    /// Puts the dead letters of some rounds back to work. Gives their number.
    ///
    /// # Errors
    /// One of a member that the ledger knows is not there: the broker deletes by itself what was kept long enough. Or not all can be
    /// put back now.
    async fn revive(&self, step: &PendingStep) -> Result<u64, Error> {
        if step.advance.revived.is_empty() {
            return Ok(0);
        }
        let missing = step.advance.revived.iter().map(|back| (back.round, back.failed.clone()));
        let missing: Arc<Mutex<BTreeMap<Uuid, MemberSet>>> = Arc::new(Mutex::new(missing.collect()));
        let mut revived = 0;
        for queue in &step.dead {
            let missing = Arc::clone(&missing);
            let visit = Box::new(move |letter: &DeadLetter| {
                let Some(membership) = &letter.membership else { return Visit::Keep };
                let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(members) = missing.get_mut(&membership.round) else { return Visit::Keep };
                // A member may have two, and one may come back of which the ledger is not told yet.
                members.remove(membership.feeder, membership.index);
                Visit::Retry { body: None }
            });
            let (progress, now) = (Progress::default(), self.clock.now().wall);
            let walk = Box::pin(walk::walk(&self.outbox, queue, (visit, None), now, &progress));
            match walk_lock::during(&self.outbox.session, &queue.name, walk).await {
                Ok(walked) => revived += walked.retried,
                Err(error) => {
                    let error = error.error(&self.address, &queue.queue);
                    let cause =
                        format!("dead letters of queue \"{}\" do not all go back to work: {error}", queue.queue);
                    return Err(Error::Jobs { cause });
                }
            }
        }
        let missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
        for back in &step.advance.revived {
            let (known, missing) = (back.failed.count(), missing.get(&back.round).map_or(0, MemberSet::count));
            if missing > 0 {
                return Err(Error::NotRevived { round: back.round, found: known - missing, known });
            }
        }
        Ok(revived)
    }

    /// Stores what has changed of jobs. Gives the tags of what may go then.
    async fn jobs(
        &self,
        held: &mut HeldLedger,
        step: &PendingStep,
        tasks: &[PendingTask],
    ) -> Result<Vec<u64>, LedgerLost> {
        let advance = &step.advance;
        let (epoch, now) = (held.jobs.epoch(), self.clock.now().wall);
        let (open, ended): (Vec<&Record>, Vec<&Record>) = advance.records.iter().partition(|record| record.open);
        let ended_jobs = ended
            .iter()
            .map(|record| StoredJob { epoch, record: (*record).clone(), queues: BTreeMap::new() })
            .collect();
        let waiting = held.store_ended(&self.outbox, ended_jobs, now).await?;
        let mut obsolete = held.give_up_ended(&self.outbox, &waiting);
        if !advance.forgotten.is_empty() {
            let (application, session) = (held.application.clone(), &self.outbox.session);
            let removed = held.keep_during(ended::remove(session, &application, &advance.forgotten)).await?;
            if let Err(fault) = removed {
                self.outbox.warn(format!("jobs that are to be forgotten are still listed: {}", fault.cause()));
            }
        }
        let jobs_queue = jobs_queue(&held.application);
        let waits: BTreeSet<String> = waiting.iter().map(|job| job.record.id.clone()).collect();
        let open: Vec<StoredJob> = open
            .into_iter()
            .map(|record| {
                let queues = queues(record, held.jobs.get(&record.id), tasks);
                StoredJob { epoch, record: record.clone(), queues }
            })
            .collect();
        let mut changed = Vec::with_capacity(open.len() + waiting.len());
        for job in open.into_iter().chain(waiting) {
            changed.push(stored::job(&jobs_queue, &job));
            held.jobs.expect(job);
        }
        if !advance.void.is_empty() || advance.frozen_pipelines.is_some() {
            let mut memory = held.jobs.memory().clone();
            memory.serial += 1;
            memory.add_void(&advance.void, now);
            if let Some(frozen) = &advance.frozen_pipelines {
                memory.frozen.clone_from(frozen);
                memory.frozen.sort();
            }
            changed.push(stored::memory(&jobs_queue, &memory));
            held.jobs.expect_memory(memory);
        }
        held.keep_during(store::until_stored(&self.outbox, &changed)).await?;
        held.until_all_came().await?;
        let ended = ended.iter().map(|record| &record.id).filter(|id| !waits.contains(*id));
        obsolete.extend(ended.chain(&advance.forgotten).filter_map(|id| held.jobs.remove(id)));
        Ok(obsolete)
    }

    /// Tells masters what is stopped, and those who wait the answers to their orders.
    async fn tell(&self, held: &mut HeldLedger, step: &PendingStep) -> Result<(), LedgerLost> {
        let advance = &step.advance;
        let announcement = Announcement {
            epoch: held.jobs.epoch(),
            complete: false,
            void: advance.void.clone(),
            frozen: advance.frozen.clone(),
            thawed: advance.thawed.iter().chain(&advance.forgotten).cloned().collect(),
            ..Announcement::default()
        };
        if !announcement.is_empty() {
            let application = held.application.clone();
            held.keep_during(store::announce(&self.outbox, &application, &announcement)).await?;
        }
        let now = self.clock.now().wall;
        for (order, answer) in &advance.answers {
            held.answers.keep(order, answer, now);
        }
        let answers: Vec<Publication> = held
            .entries
            .askers(&advance.entries)
            .into_iter()
            .filter_map(|asker| Some((held.answers.find(&asker.order, now)?, asker)))
            .map(|(answer, asker)| stored::answer(&asker.queue, &asker.order, answer))
            .collect();
        // With the entry goes what the next coordinator would answer by: this process may end before an answer is sent, a command at once
        // when it has its own.
        held.keep_during(store::send_answers(&self.outbox, &answers)).await
    }
}

/// Where tasks of the rounds of a job may lie: where they were, and where they are put now.
fn queues(record: &Record, before: Option<&StoredJob>, tasks: &[PendingTask]) -> BTreeMap<Uuid, BTreeSet<String>> {
    let mut all: BTreeMap<Uuid, BTreeSet<String>> = BTreeMap::new();
    for round in &record.rounds {
        let known = before.and_then(|before| before.queues.get(round)).cloned().unwrap_or_default();
        all.insert(*round, known);
    }
    for task in tasks {
        let Some(membership) = &task.membership else { continue };
        if let Some(queues) = all.get_mut(&membership.round) {
            queues.extend([task.queue.clone(), membership.queue.clone(), membership.each.clone()]);
        }
    }
    all
}
