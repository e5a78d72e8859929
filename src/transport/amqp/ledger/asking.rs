//! Asking the coordinator, wherever it is, and giving it orders.

use std::{rc::Rc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, Consumer,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    ended,
    held_ledger::{HeldLedger, LedgerLost},
    names::{Question, coordinator_queue},
    questions::OpenJobs,
    request::LedgerRequest,
    stored::StoredJob,
};
use crate::{
    clock::Clock,
    jobs::{
        entry::Entry,
        order::Order,
        record::{Frozen, JobFilter, Record},
    },
    membership::ledger_queue,
    transport::{
        Error,
        amqp::{
            broker_error::{Fault, answer},
            connect::{
                address::Address,
                channel::{open_channel, short},
            },
            publish::{
                bulk_results::BulkResults,
                outbox::{CLIENT_SENDS, OutboundMessage, Outbox},
                publisher::{Publication, Published},
                replies::Replies,
            },
            queues::{counter::Counter, own_queue::OwnQueue},
        },
    },
};

/// Longest wait for an answer of the coordinator, before it is looked at whether there is one.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for one of this process: it may be in the middle of a step, or taking the ledger over.
const OWN_PATIENCE: Duration = Duration::from_secs(40);
/// Looks at who coordinates, and the pause between two.
const TRIES: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(200);

/// Where the answers to one question or order come.
pub(super) struct ReplyQueue {
    pub(super) name: String,
    /// It lives as long as this.
    _channel: Channel,
    consumer: Consumer,
}

impl ReplyQueue {
    pub(super) async fn open(connection: &Connection) -> Result<Self, lapin::Error> {
        let channel = open_channel(connection).await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        let queue = answer(channel.queue_declare("".into(), options, arguments)).await?;
        let name = queue.name().to_string();
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(short(&name), "".into(), options, FieldTable::default());
        let consumer = answer(consumer).await?;
        Ok(Self { name, _channel: channel, consumer })
    }

    /// The next answer to what has this id; `None`: none comes any more.
    pub(super) async fn next(&mut self, id: &str) -> Option<Vec<u8>> {
        loop {
            let message = self.consumer.next().await?.ok()?;
            let answers = message.properties.correlation_id().as_ref().map(ToString::to_string);
            if answers.as_deref() == Some(id) {
                return Some(message.data);
            }
        }
    }
}

/// Asks on behalf of one request.
pub(crate) struct Asking {
    pub(crate) outbox: Outbox,
    pub(crate) address: Rc<Address>,
    pub(crate) replies: Replies,
    pub(crate) clock: Clock,
    pub(crate) application: String,
    /// The holder, if that is this process.
    pub(crate) holder: Option<mpsc::UnboundedSender<LedgerRequest>>,
}

impl Asking {
    /// Stores an order and waits for its answer; `None`: none came in time.
    pub(crate) async fn order(&self, order: &Order, within: Duration) -> Result<Option<String>, Error> {
        let reader = self.outbox.session.reader();
        let queue = ledger_queue(&self.application);
        let fault = |error: lapin::Error| self.address.fault(&queue, Fault::of(&error));
        let mut replies = ReplyQueue::open(&reader).await.map_err(fault)?;
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(short(&order.id))
            .with_correlation_id(short(&order.id))
            .with_reply_to(short(&replies.name));
        let body = Entry::Order(Box::new(order.clone())).to_bytes();
        let publication = Publication { queue: queue.clone(), properties: properties.into(), body: body.into() };
        let message = OutboundMessage { own_queue: OwnQueue::Work(queue), publication };
        self.outbox.store_in_order(&[message], &BulkResults::new(1), CLIENT_SENDS).await.map_err(Error::from)?;
        let answered = timeout(within, replies.next(&order.id)).await.ok().flatten();
        Ok(answered.and_then(|body| String::from_utf8(body).ok()))
    }

    /// The jobs that a filter holds, newest first, and what is frozen beside jobs.
    pub(crate) async fn jobs(&self, filter: &JobFilter) -> Result<(Vec<Record>, Vec<Frozen>), Error> {
        // An ended job may have been begun again since: which of two is the later one is seen only with both.
        let wide = JobFilter { state: filter.state.filter(|_| filter.open), limit: 0, ..filter.clone() };
        let found = self.open_jobs(&wide).await?;
        let mut jobs: Vec<StoredJob> = found.jobs;
        let is_found = filter.whole_id && !jobs.is_empty();
        let now = self.clock.now().wall;
        // One that has ended may wait among the open ones.
        jobs.retain(|job| job.record.purge_at.is_none_or(|at| at > now));
        if !filter.open && !is_found {
            // After the open ones: what ends in between is in both.
            let queue = super::names::ended_queue(&self.application);
            let ended = ended::visit(&self.outbox.session, &self.application, now, |job| {
                if wide.holds(&job.record) {
                    jobs.push(job);
                }
            });
            ended.await.map_err(|fault| self.address.fault(&queue, fault))?;
        }
        jobs.sort_by(|one, other| (&one.record.id, other.rank()).cmp(&(&other.record.id, one.rank())));
        jobs.dedup_by(|later, first| later.record.id == first.record.id);
        let mut records: Vec<Record> =
            jobs.into_iter().map(|job| job.record).filter(|record| filter.holds(record)).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.made_at));
        records.truncate(if filter.limit == 0 { usize::MAX } else { filter.limit });
        Ok((records, found.frozen))
    }

    /// The open jobs that a filter holds: as the coordinator has them, or as they are stored if there is none.
    pub(crate) async fn open_jobs(&self, filter: &JobFilter) -> Result<OpenJobs, Error> {
        let mut all = OpenJobs::default();
        loop {
            let after = all.jobs.last().map(StoredJob::place);
            let question = Question::Jobs { filter: filter.clone(), after };
            let mut rest = false;
            for part in self.ask(&question).await? {
                let part: OpenJobs = serde_json::from_slice(&part).map_err(|error| Error::Jobs {
                    cause: format!("the answer of the process that coordinates the jobs cannot be read: {error}"),
                })?;
                rest = part.rest && !part.jobs.is_empty();
                all.jobs.extend(part.jobs);
                (all.frozen, all.entries, all.epoch) = (part.frozen, part.entries, part.epoch);
            }
            if !rest {
                return Ok(all);
            }
        }
    }

    /// The parts of the answer to a question.
    async fn ask(&self, question: &Question) -> Result<Vec<Vec<u8>>, Error> {
        if let Some(holder) = &self.holder {
            let (reply, parts) = oneshot::channel();
            let _ = holder.send(LedgerRequest::Ask { question: question.clone(), reply });
            match timeout(OWN_PATIENCE, parts).await {
                Ok(Ok(parts)) => return Ok(parts),
                // It has lost the ledger.
                Ok(Err(_)) => {}
                Err(_) => {
                    let cause = "this process coordinates the jobs, and the broker has not taken what it stores";
                    return Err(Error::Jobs { cause: cause.to_owned() });
                }
            }
        }
        let queue = coordinator_queue(&self.application);
        let fault = |fault: Fault| self.address.fault(&queue, fault);
        let reader = self.outbox.session.reader();
        for _ in 0..TRIES {
            let found = Counter::new(&reader).found(&queue).await.map_err(fault)?;
            match found {
                // Nobody has coordinated here yet.
                None => return Ok(Vec::new()),
                Some(found) if found.consumers > 0 => {
                    let asked = self.ask_other(&reader, &queue, question).await;
                    if let Some(parts) = asked.map_err(|error| fault(Fault::of(&error)))? {
                        return Ok(parts);
                    }
                }
                Some(_) => {
                    if let Some(parts) = self.read(question).await? {
                        return Ok(parts);
                    }
                }
            }
            tokio::time::sleep(BETWEEN).await;
        }
        Err(Error::Jobs { cause: "the process that coordinates the jobs does not answer".to_owned() })
    }

    /// Asks the process that holds the lease; `None`: it has not answered.
    async fn ask_other(
        &self,
        reader: &Connection,
        queue: &str,
        question: &Question,
    ) -> Result<Option<Vec<Vec<u8>>>, lapin::Error> {
        let mut replies = ReplyQueue::open(reader).await?;
        let id = uuid::Uuid::now_v7().to_string();
        let properties = BasicProperties::default()
            .with_delivery_mode(1)
            .with_expiration(short(&PATIENCE.as_millis().to_string()))
            .with_correlation_id(short(&id))
            .with_reply_to(short(&replies.name));
        // Texts: writing them cannot fail.
        let body = serde_json::to_vec(question).unwrap_or_default();
        let publication = Publication { queue: queue.to_owned(), properties: properties.into(), body: body.into() };
        if !matches!(self.outbox.session.publisher.single(&publication).await, Published::Stored) {
            return Ok(None);
        }
        let mut parts = Vec::new();
        loop {
            let Ok(Some(part)) = timeout(PATIENCE, replies.next(&id)).await else { return Ok(None) };
            let is_last = !has_more(&part);
            parts.push(part);
            if is_last {
                return Ok(Some(parts));
            }
        }
    }

    /// Takes the lease for a moment and reads what is stored; `None`: another process was faster.
    async fn read(&self, question: &Question) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let connection = self.address.connect("reader of jobs").await?;
        let (outbox, application) = (&self.outbox, &self.application);
        let taken = HeldLedger::take(&connection, outbox, self.replies.clone(), application, self.clock, None).await;
        let read = match taken {
            Ok(held) => Ok(held.map(|mut held| {
                held.begin_answering();
                held.answer(question, usize::MAX)
            })),
            Err(LedgerLost(cause)) => Err(Error::Jobs { cause }),
        };
        let _ = answer(connection.close(200, "done".into())).await;
        read
    }
}

fn has_more(part: &[u8]) -> bool {
    serde_json::from_slice::<OpenJobs>(part).is_ok_and(|part| part.more)
}
