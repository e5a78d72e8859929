//! What the holder of a lease holds: an exclusive consumer of a durable classic queue, and the queue's messages, one a
//! schedule, which say the last moment that it fired for.
//!
//! A message is replaced after each fire. When the holder is gone, however it went, the broker gives queue and messages to
//! the next. There may be several for one schedule after a crash: the latest moment counts, the others are removed.
//!
//! The broker bears an unacknowledged message for its `consumer_timeout` only, which it does not tell. So
//! messages are given back all together after a short while, and come again at once, since the consumer is exclusive. They
//! never leave the queue for that, and a crash at any moment finds them there.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Acker, BasicProperties, Channel, Connection, Consumer,
    message::Delivery as Message,
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    clock::{Clock, Instant, Timestamp},
    schedule::SET_BACK,
    transport::amqp::{
        broker_error::{answer, describe, reply_code},
        connect::channel::{close, open_channel, short},
        publish::publisher::{Publication, Published, Publisher},
    },
};

/// Messages are held this long at least before they are given back …
const SHORTEST: Duration = Duration::from_secs(2);
/// … and with this much for each more, so that very many cost no more a second …
const EACH: Duration = Duration::from_millis(5);
/// … up to this: a `consumer_timeout` under a minute makes no sense on any broker that has so many.
const LONGEST: Duration = Duration::from_secs(15);
/// Questions until all messages of the queue have come.
const LOOKS: u32 = 1_000;

const PASSIVE: QueueDeclareOptions =
    QueueDeclareOptions { passive: true, durable: true, exclusive: false, auto_delete: false, nowait: false };

/// The lease is not ours any more, or cannot be had, with the cause.
#[derive(Debug)]
pub(crate) struct LeaseLost(pub(crate) String);

impl From<lapin::Error> for LeaseLost {
    fn from(error: lapin::Error) -> Self {
        Self(describe(&error))
    }
}

/// The lease, held.
pub(crate) struct HeldLease {
    queue: String,
    channel: Channel,
    consumer: Consumer,
    clock: Clock,
    /// The last moment of each schedule, and the tag of the message that says so, if it is with us.
    memory: HashMap<String, (Timestamp, Option<u64>)>,
    /// All that the broker waits for us to acknowledge. What is not of this program, or of a later one, stays.
    unacknowledged: BTreeMap<u64, Acker>,
    /// When they are given back.
    refresh_at: Option<Instant>,
}

impl HeldLease {
    /// Takes the lease and all of its memory; `None`: another one has it.
    pub(crate) async fn take(connection: &Connection, queue: &str, clock: Clock) -> Result<Option<Self>, LeaseLost> {
        let mut channel = open_channel(connection).await?;
        match answer(channel.queue_declare(short(queue), PASSIVE, FieldTable::default())).await {
            // To be refused costs a channel, and a connection has only so many: a waiting scheduler asks first.
            Ok(found) if found.consumer_count() > 0 => {
                close(&channel);
                return Ok(None);
            }
            Ok(_) => {}
            Err(error) if reply_code(&error) == Some(404) => {
                channel = open_channel(connection).await?;
                let mut arguments = FieldTable::default();
                arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
                let options = QueueDeclareOptions { passive: false, ..PASSIVE };
                answer(channel.queue_declare(short(queue), options, arguments)).await?;
            }
            Err(error) => return Err(error.into()),
        }
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let tag = format!("asynctask-scheduler-{}", std::process::id());
        let consumer = channel.basic_consume(short(queue), short(&tag), options, FieldTable::default());
        let consumer = match answer(consumer).await {
            Ok(consumer) => consumer,
            Err(error) if describe(&error).contains("exclusive use") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (memory, unacknowledged) = (HashMap::new(), BTreeMap::new());
        let mut held =
            Self { queue: queue.to_owned(), channel, consumer, clock, memory, unacknowledged, refresh_at: None };
        // The queue pushes all that it has. Once none is ready, the answer to one more question comes after the last.
        for _ in 0..LOOKS {
            if held.ready().await? == 0 {
                break;
            }
        }
        held.check().await?;
        Ok(Some(held))
    }

    /// Messages that are not on their way to us.
    async fn ready(&self) -> Result<u32, LeaseLost> {
        let question = self.channel.queue_declare(short(&self.queue), PASSIVE, FieldTable::default());
        Ok(answer(question).await?.message_count())
    }

    /// Asks the broker: what it did to the lease before it answers is known then.
    pub(crate) async fn check(&mut self) -> Result<(), LeaseLost> {
        self.ready().await?;
        while let Some(came) = self.consumer.next().now_or_never() {
            self.came(came).await?;
        }
        Ok(())
    }

    /// The last moment of each schedule, sorted.
    pub(crate) fn moments(&self) -> Vec<(String, Timestamp)> {
        let mut moments: Vec<_> = self.memory.iter().map(|(id, (at, _))| (id.clone(), *at)).collect();
        moments.sort();
        moments
    }

    pub(crate) fn has_fired(&self, schedule: &str, moment: Timestamp) -> bool {
        let latest = self.latest();
        self.memory.get(schedule).is_some_and(|(fired, _)| *fired == moment || (moment..=latest).contains(fired))
    }

    /// What is remembered of later moments was fired by a clock that was wrong.
    fn latest(&self) -> Timestamp {
        self.clock.now().wall.plus(SET_BACK)
    }

    /// The memory of a moment is stored: it comes to us, and what it replaces may go.
    pub(crate) async fn fired(&mut self, schedule: &str, moment: Timestamp) -> Result<(), LeaseLost> {
        if self.has_fired(schedule, moment) {
            return Ok(());
        }
        let before = self.memory.insert(schedule.to_owned(), (moment, None));
        self.remove(before.and_then(|(_, tag)| tag)).await
    }

    /// Does `work`, and keeps what is held meanwhile.
    pub(crate) async fn keep_during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, LeaseLost> {
        let mut work = std::pin::pin!(work);
        loop {
            let refresh_in = self.refresh_at.map(|at| at.since(self.clock.now().at));
            tokio::select! {
                done = &mut work => return Ok(done),
                came = self.consumer.next() => self.came(came).await?,
                () = tokio::time::sleep(refresh_in.unwrap_or_default()), if refresh_in.is_some() => self.refresh().await?,
            }
        }
    }

    async fn came(&mut self, came: Option<lapin::Result<Message>>) -> Result<(), LeaseLost> {
        match came {
            Some(Ok(message)) => self.remember(message).await,
            Some(Err(error)) => Err(error.into()),
            None => Err(LeaseLost("the broker ended its consumer".to_owned())),
        }
    }

    /// Takes a message into the memory; of two for one schedule the later moment counts, unless no clock can be there yet.
    async fn remember(&mut self, message: Message) -> Result<(), LeaseLost> {
        let tag = message.delivery_tag;
        self.unacknowledged.insert(tag, message.acker);
        if self.refresh_at.is_none() {
            let many = u32::try_from(self.memory.len().max(self.unacknowledged.len())).unwrap_or(u32::MAX);
            self.refresh_at = Some(self.clock.now().at + EACH.saturating_mul(many).clamp(SHORTEST, LONGEST));
        }
        let Some((schedule, moment)) = parse(&message.data) else { return Ok(()) };
        let latest = self.latest();
        let obsolete = match self.memory.get_mut(&schedule) {
            Some((known, _)) if *known > moment && *known <= latest => Some(tag),
            Some((known, with_us)) => {
                *known = moment;
                with_us.replace(tag)
            }
            None => {
                self.memory.insert(schedule, (moment, Some(tag)));
                None
            }
        };
        self.remove(obsolete).await
    }

    async fn remove(&mut self, tag: Option<u64>) -> Result<(), LeaseLost> {
        let Some(acker) = tag.and_then(|tag| self.unacknowledged.remove(&tag)) else { return Ok(()) };
        written(answer(acker.ack(BasicAckOptions::default())).await)
    }

    /// Gives all messages back, and with that makes them young: they come again.
    async fn refresh(&mut self) -> Result<(), LeaseLost> {
        self.refresh_at = None;
        let Some((_, last)) = self.unacknowledged.pop_last() else { return Ok(()) };
        self.unacknowledged.clear();
        self.memory.values_mut().for_each(|(_, with_us)| *with_us = None);
        written(answer(last.nack(BasicNackOptions { multiple: true, requeue: true })).await)
    }
}

fn written(written: lapin::Result<bool>) -> Result<(), LeaseLost> {
    match written {
        Ok(true) => Ok(()),
        Ok(false) => Err(LeaseLost("its channel is closed".to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// Stores the memory that a schedule fired for a moment.
pub(crate) async fn store(
    publisher: &Publisher,
    queue: &str,
    schedule: &str,
    moment: Timestamp,
) -> Result<(), LeaseLost> {
    let body = serde_json::json!({"schedule": schedule, "moment": moment.0}).to_string();
    let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
    let publication =
        Publication { queue: queue.to_owned(), properties: properties.into(), body: body.into_bytes().into() };
    match publisher.single(&publication).await {
        Published::Stored => Ok(()),
        other => Err(LeaseLost(format!("the memory of the scheduler was not stored: {other:?}"))),
    }
}

fn parse(body: &[u8]) -> Option<(String, Timestamp)> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some((value["schedule"].as_str()?.to_owned(), Timestamp(value["moment"].as_i64()?)))
}
