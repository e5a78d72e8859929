//! Messages that a queue still has to publish: a copy is stored and confirmed before the original may be acknowledged.
//!
//! Nothing here gives a message up: one that the broker does not take is kept and offered again after growing pauses, until it is
//! stored or the session ends (and the original comes back by itself). What can be mended at once is: a missing queue is declared,
//! a connection that does not answer is replaced, a delay queue that cannot be used is passed by.
//!
//! The last of these because a quorum queue that was declared within about a second of a `kill -9` of the broker stays without a
//! leader (3.10.8): a passive declare says 0 messages, no confirm ever comes, a get ends with 541. A message that a delay queue left
//! without a confirm twice takes the next smaller step of the ladder, which is said.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

use super::{
    bulk_results::BulkResults,
    publisher::{Publication, Published, Unconfirmed},
    undeliverable::PublishReport,
};
use crate::{
    backoff::Backoff,
    transport::{
        Error,
        amqp::{
            broker_error::Fault,
            queues::{delay_queues, own_queue::OwnQueue},
            session::{
                connections::Session,
                note::{Note, Notes, SessionNote},
            },
        },
    },
};

pub(crate) const PAUSES: Backoff =
    Backoff { first: Duration::from_secs(1), factor: 2.0, longest: Duration::from_secs(30) };

/// How often a message that is not confirmed is sent: by a master, which must not lose it, and by a client, which is told instead.
pub(crate) const MASTER_SENDS: u32 = 3;
pub(crate) const CLIENT_SENDS: u32 = 1;

/// Delay queues that left confirms unanswered in this session, by name.
pub(crate) type UnansweredQueues = Rc<RefCell<HashMap<String, u32>>>;

/// Delay queues that were full or not available, until they take a task again.
pub(crate) type FullQueues = Rc<RefCell<HashSet<String>>>;

/// Stores messages of one session.
#[derive(Clone)]
pub(crate) struct Outbox {
    pub(crate) session: Rc<Session>,
    pub(crate) notes: Notes,
    pub(crate) unanswered_queues: UnansweredQueues,
    pub(crate) full_queues: FullQueues,
}

/// A message and where it belongs.
#[derive(Clone)]
pub(crate) struct OutboundMessage {
    pub(crate) own_queue: OwnQueue,
    pub(crate) publication: Publication,
}

/// A queue that refuses is asked again after these before the refusal counts: one that was just made on a busy machine
/// refused now and then (3.10.8), and took the same task a moment later.
const NACKED: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];

/// What a refusal without a reason means: a limit with `x-overflow: reject-publish`, or a queue without a leader.
pub(crate) const FULL: &str = "is full or not available";

/// Whether one try of [`Outbox::publish_once`] is the last.
pub(crate) enum PublishOutcome {
    Stored,
    /// Not stored, or unknown; worth another try after a pause.
    TryAgain(String),
    /// Not taken, though asked several times: the queue is full, or has no leader for a moment.
    Full,
    /// Never.
    Rejected(String),
    /// Sent as often as was allowed, and not answered.
    Unanswered(Unconfirmed),
}

/// Why several were not stored, at least not all of them.
pub(crate) enum StoreError {
    /// Another try may succeed.
    Temporary(Error),
    /// The same, where a queue said several times that it takes nothing: it is full as long as no consumer takes from it.
    Full(Error),
    /// None ever will.
    Permanent(Error),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (StoreError::Temporary(error) | StoreError::Full(error) | StoreError::Permanent(error)) = error;
        error
    }
}

impl Outbox {
    /// Stores one message that a queue owes, however long it takes; says so while it is not taken. Ends without only when
    /// the session cannot go on.
    pub(crate) async fn publish_until_stored(&self, queue: usize, message: OutboundMessage) -> Result<(), ()> {
        let mut failures = 0;
        let tell = |report| self.publish_reported(queue, &message.publication.queue, report);
        loop {
            // Each time from the step that its delay asks for.
            let cause = match self.publish_once(&mut message.clone()).await? {
                PublishOutcome::Stored => {
                    if failures > 0 {
                        tell(PublishReport::Stored);
                    }
                    return Ok(());
                }
                PublishOutcome::Full => format!("it {FULL}"),
                PublishOutcome::TryAgain(cause) | PublishOutcome::Rejected(cause) => cause,
                PublishOutcome::Unanswered(why) => why.cause(),
            };
            failures += 1;
            self.session.topology.ask_again(&message.own_queue);
            tell(PublishReport::Refused { cause, is_first: failures == 1 });
            tokio::time::sleep(PAUSES.delay(failures)).await;
        }
    }

    /// Stores several for one queue at once. `false`: each must be stored by itself.
    pub(crate) async fn store_window(&self, messages: &[OutboundMessage]) -> bool {
        let [first, _, ..] = messages else { return false };
        if self.unanswered_queues.borrow().contains_key(&first.publication.queue)
            || self.session.topology.ensure(&self.session.reader(), &first.own_queue).await.is_err()
        {
            return false;
        }
        let publication: Vec<_> = messages.iter().map(|message| message.publication.clone()).collect();
        self.session.publisher.window(&publication).await
    }

    /// One try, with what can be mended at once mended: a missing queue, a connection that does not answer.
    pub(crate) async fn publish_once(&self, message: &mut OutboundMessage) -> Result<PublishOutcome, ()> {
        self.publish_at_most(message, MASTER_SENDS).await
    }

    /// [`Self::publish_once`], in which a message that is not answered is sent at most so often.
    pub(crate) async fn publish_at_most(
        &self,
        message: &mut OutboundMessage,
        sends: u32,
    ) -> Result<PublishOutcome, ()> {
        let (mut declared, mut unanswered, mut pauses) = (false, 0, NACKED.into_iter());
        if self.full_queues.borrow().contains(&message.publication.queue) {
            // It was asked as often as that.
            pauses.by_ref().for_each(drop);
        }
        self.skip_unanswering(message);
        match self.find_delay_queue(message).await {
            Ok(()) => {}
            Err(Fault::Broken(cause)) => return self.broken(cause),
            Err(Fault::TimedOut(cause)) => return Ok(PublishOutcome::TryAgain(cause)),
            Err(fault) => return Ok(PublishOutcome::Rejected(fault.cause())),
        }
        loop {
            let name = message.publication.queue.clone();
            match self.session.publisher.single(&message.publication).await {
                Published::Stored => {
                    self.unanswered_queues.borrow_mut().remove(&name);
                    self.full_queues.borrow_mut().remove(&name);
                    return Ok(PublishOutcome::Stored);
                }
                Published::Returned if declared => return Ok(PublishOutcome::TryAgain("it does not exist".to_owned())),
                Published::Returned => {
                    declared = true;
                    self.session.topology.forget(&message.own_queue);
                    match self.session.topology.ensure(&self.session.reader(), &message.own_queue).await {
                        Ok(()) => {}
                        Err(Fault::Absent(_)) if self.take_smaller_step(message, "does not exist") => declared = false,
                        Err(Fault::Absent(_)) => return Ok(PublishOutcome::Rejected("it does not exist".to_owned())),
                        // Another step, which is looked for at the next try.
                        Err(Fault::TimedOut(cause)) => return Ok(PublishOutcome::TryAgain(cause)),
                        Err(Fault::Forbidden(cause) | Fault::Refused(cause)) => {
                            return Ok(PublishOutcome::Rejected(cause));
                        }
                        Err(Fault::Broken(cause)) => return self.broken(cause),
                    }
                }
                Published::Nacked => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None if self.skip_full(message).await => {}
                    None => return Ok(PublishOutcome::Full),
                },
                Published::Refused(cause) => {
                    return if self.session.stands() {
                        Ok(PublishOutcome::Rejected(cause))
                    } else {
                        self.broken(cause)
                    };
                }
                Published::Unknown { why, .. } if sends <= CLIENT_SENDS => return Ok(PublishOutcome::Unanswered(why)),
                Published::Unknown { line, why } => {
                    let cause = why.cause();
                    if let Err(error) = self.session.publisher.reconnect(line).await {
                        return self.broken(format!("{cause}; {error}"));
                    }
                    unanswered += 1;
                    if matches!(message.own_queue, OwnQueue::Delay(..)) {
                        *self.unanswered_queues.borrow_mut().entry(name).or_default() += 1;
                        self.skip_unanswering(message);
                    }
                    if unanswered >= sends {
                        return Ok(PublishOutcome::TryAgain(cause));
                    }
                }
            }
        }
    }

    /// Makes sure that the delay queue of a task is there and leads back. Where it is not to be had, or is not ours, another
    /// step is taken: the next smaller one that is, else the next larger one.
    async fn find_delay_queue(&self, message: &mut OutboundMessage) -> Result<(), Fault> {
        let OwnQueue::Delay(queue, step) = message.own_queue.clone() else { return Ok(()) };
        let connection = self.session.reader();
        let mut refused = None;
        for other in delay_queues::from(step) {
            let own_queue = OwnQueue::Delay(queue.clone(), other);
            match self.session.topology.ensure(&connection, &own_queue).await {
                Ok(()) if other == step => return Ok(()),
                Ok(()) => {
                    message.publication.queue = own_queue.name();
                    message.own_queue = own_queue;
                    return Ok(());
                }
                Err(fault @ (Fault::TimedOut(_) | Fault::Broken(_))) => return Err(fault),
                Err(fault) => {
                    refused.get_or_insert(fault);
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// A delay queue that left two messages unanswered is passed by.
    fn skip_unanswering(&self, message: &mut OutboundMessage) {
        while self.unanswered_queues.borrow().get(&message.publication.queue).is_some_and(|unanswered| *unanswered >= 2)
        {
            if !self.take_smaller_step(message, "does not answer") {
                return;
            }
        }
    }

    /// A delay queue that is full is passed by for the next smaller one that is to be had, which is said once until it takes
    /// something again. `false`: there is none, or it is no delay queue.
    async fn skip_full(&self, message: &mut OutboundMessage) -> bool {
        let OwnQueue::Delay(queue, step) = message.own_queue.clone() else { return false };
        let full = message.publication.queue.clone();
        let is_news = self.full_queues.borrow_mut().insert(full.clone());
        let mut smaller = step;
        while let Some(next) = delay_queues::smaller(smaller) {
            let own_queue = OwnQueue::Delay(queue.clone(), next);
            if self.session.topology.ensure(&self.session.reader(), &own_queue).await.is_ok() {
                message.publication.queue = own_queue.name();
                message.own_queue = own_queue;
                if is_news {
                    let taken = &message.publication.queue;
                    self.warn(format!("delay queue \"{full}\" {FULL}; tasks take \"{taken}\" instead"));
                }
                return true;
            }
            smaller = next;
        }
        false
    }

    /// Takes the next smaller step of the ladder, and says so.
    fn take_smaller_step(&self, message: &mut OutboundMessage, why: &str) -> bool {
        let OwnQueue::Delay(queue, step) = &message.own_queue else { return false };
        let Some(smaller) = delay_queues::smaller(*step) else { return false };
        let own_queue = OwnQueue::Delay(queue.clone(), smaller);
        self.warn(format!(
            "delay queue \"{}\" {why}; a task takes \"{}\" instead",
            message.publication.queue,
            own_queue.name()
        ));
        message.publication.queue = own_queue.name();
        message.own_queue = own_queue;
        true
    }

    /// [`Self::store_in_order`] without the results of each.
    pub(crate) async fn store_all(&self, messages: &[OutboundMessage]) -> Result<(), StoreError> {
        self.store_in_order(messages, &BulkResults::new(messages.len()), MASTER_SENDS).await
    }

    /// Stores many, and notes what becomes of each, up to the first that is not stored; see [`super::bulk`]. Queues are made
    /// first.
    pub(crate) async fn store_in_order(
        &self,
        messages: &[OutboundMessage],
        results: &BulkResults,
        sends: u32,
    ) -> Result<(), StoreError> {
        let passing = |message: &OutboundMessage, cause| StoreError::Temporary(not_stored(message, cause));
        let mut messages = messages.to_vec();
        for message in &mut messages {
            // If no step is to be had, that of the task itself is what the error is about.
            let _ = self.find_delay_queue(message).await;
            match self.session.topology.ensure(&self.session.reader(), &message.own_queue).await {
                Ok(()) => {}
                Err(Fault::Absent(queue)) => return Err(StoreError::Permanent(Error::NoSuchQueue { queue })),
                // The queue alone is refused: exclusive to another connection, over a limit, or unfit.
                Err(Fault::Forbidden(cause) | Fault::Refused(cause)) => {
                    return Err(StoreError::Permanent(not_stored(message, cause)));
                }
                Err(Fault::TimedOut(cause)) => return Err(passing(message, cause)),
                Err(Fault::Broken(cause)) => {
                    let _: Result<(), ()> = self.broken(cause.clone());
                    return Err(passing(message, cause));
                }
            }
        }
        self.publish_in_order(&messages, results, sends).await
    }

    /// Says what became of a message that a queue owes.
    pub(crate) fn publish_reported(&self, queue: usize, to: &str, report: PublishReport) {
        let _ =
            self.notes.send(SessionNote::PublishReport { queue, to: to.to_owned(), report }.of(self.session.number));
    }

    pub(crate) fn warn(&self, text: String) {
        let _ = self.notes.send(Note::Warning(text));
    }

    /// The session cannot go on.
    pub(crate) fn broken<T>(&self, cause: String) -> Result<T, ()> {
        let _ = self.notes.send(SessionNote::Broken { cause }.of(self.session.number));
        Err(())
    }
}

pub(crate) fn not_stored(message: &OutboundMessage, cause: String) -> Error {
    Error::NotStored { queue: message.publication.queue.clone(), cause }
}
