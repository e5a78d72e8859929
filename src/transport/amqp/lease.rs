//! The lease of the one scheduler of an application, and its memory of what has fired.
//!
//! Both are one thing: an exclusive consumer of a durable classic queue. Its messages, one a schedule, are held
//! unacknowledged and replaced after each fire; when the holder is gone the broker gives queue and messages to the next.
//! It lives on the publishing connection: a scheduler that cannot publish should not hold the lease.

use std::{cell::Cell, collections::HashMap, rc::Rc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Acker, BasicProperties, Channel, Consumer,
    message::Delivery as Message,
    options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    address::{PATIENCE, code, said},
    engine::Engine,
    moves::{Parcel, Store},
    publish::{Outgoing, Published},
    state::State,
    topology::{answer, close, open_channel, short},
};
use crate::{
    clock::Timestamp,
    task::NewTask,
    transport::{Error, Event, Events},
};

/// Between two tries to get the lease.
const AGAIN: Duration = Duration::from_secs(3);

/// The running attempt to be or become the scheduler.
pub(super) struct Lease {
    orders: mpsc::UnboundedSender<Order>,
}

/// A moment to be fired. Answered even when it is dropped.
struct Order {
    schedule: String,
    moment: Timestamp,
    task: Result<Option<Parcel>, Error>,
    events: Events,
    lost: Option<Error>,
}

impl Order {
    fn answer(mut self, stored: Result<bool, Error>) {
        self.lost = None;
        self.tell(stored);
    }

    fn tell(&self, stored: Result<bool, Error>) {
        let _ = self.events.send(Event::Fired { schedule: self.schedule.clone(), moment: self.moment, stored });
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            self.tell(Err(lost));
        }
    }
}

impl Engine {
    /// Begins to ask for the lease, if it is wanted and nobody is asking.
    pub(super) fn lease(&mut self) {
        let (held, events) = (self.lease_flag(), self.events.clone());
        let State::Up(up) = &mut self.state else { return };
        let Some(application) = self.application.clone().filter(|_| up.lease.is_none()) else { return };
        let (orders, taken) = mpsc::unbounded_channel();
        up.lease = Some(Lease { orders });
        up.tasks.spawn_local(keep(up.store.clone(), application, taken, events, held));
    }

    /// Fires a moment, if we hold the lease.
    pub(super) fn fire(&mut self, schedule: String, moment: Timestamp, task: Option<NewTask>) {
        let task = task.map(|task| self.parcels(&[task])).transpose();
        let task = task.map(|parcels| parcels.and_then(|parcels| parcels.into_iter().next()));
        let lost = Some(self.address.lost("this is not the scheduler"));
        let order = Order { schedule, moment, task, events: self.events.clone(), lost };
        // Without a lease, or when its task is gone, the order is dropped, and that answers it.
        if let State::Up(up) = &self.state
            && let Some(lease) = &up.lease
        {
            let _ = lease.orders.send(order);
        }
    }

    /// Gives the lease back.
    pub(super) fn release_lease(&mut self) {
        self.application = None;
        self.lease_flag().set(false);
        if let State::Up(up) = &mut self.state {
            up.lease = None;
        }
    }
}

/// Asks for the lease until it is held, keeps it, and begins again when it is lost.
async fn keep(
    store: Store,
    application: String,
    mut orders: mpsc::UnboundedReceiver<Order>,
    events: Events,
    flag: Rc<Cell<bool>>,
) {
    let queue = format!("asynctask.schedules.{application}");
    loop {
        match Held::take(&store, &queue).await {
            Ok(mut held) => {
                let mut memory: Vec<_> = held.memory.iter().map(|(id, (at, _))| (id.clone(), *at)).collect();
                memory.sort();
                flag.set(true);
                let _ = events.send(Event::LeaseHeld { memory });
                let released = held.work(&store, &mut orders).await;
                close(&held.channel);
                if released {
                    return;
                }
                if flag.replace(false) {
                    let _ = events.send(Event::LeaseLost);
                }
            }
            Err(error) if code(&error) == Some(403) => {
                let _ = events.send(Event::LeaseRefused);
            }
            Err(error) => {
                if !store.session.stands() {
                    let _ = store.broken::<()>(said(&error));
                    return;
                }
                store.warn(format!("queue \"{queue}\" of the scheduler: {}", said(&error)));
            }
        }
        let pause = tokio::time::sleep(AGAIN);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                order = orders.recv() => match order {
                    // Dropped, and so answered: not the scheduler.
                    Some(order) => drop(order),
                    None => return,
                },
            }
        }
    }
}

struct Held {
    queue: String,
    channel: Channel,
    consumer: Consumer,
    memory: HashMap<String, (Timestamp, Acker)>,
}

impl Held {
    async fn take(store: &Store, queue: &str) -> lapin::Result<Self> {
        let connection = store.session.publisher.connection();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let passive = QueueDeclareOptions { passive: true, ..durable };
        let mut channel = open_channel(&connection).await?;
        if let Err(error) = answer(channel.queue_declare(short(queue), passive, FieldTable::default())).await {
            if code(&error) != Some(404) {
                return Err(error);
            }
            channel = open_channel(&connection).await?;
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
            answer(channel.queue_declare(short(queue), durable, arguments)).await?;
        }
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let tag = format!("asynctask-scheduler-{}", std::process::id());
        let consumer = channel.basic_consume(short(queue), short(&tag), options, FieldTable::default());
        let consumer = answer(consumer).await?;
        let mut held = Self { queue: queue.to_owned(), channel, consumer, memory: HashMap::new() };
        // The queue pushes all it has at once; an answer to the second question comes after all of it.
        for _ in 0..2 {
            answer(held.channel.queue_declare(short(queue), passive, FieldTable::default())).await?;
        }
        while let Some(Some(message)) = held.consumer.next().now_or_never() {
            held.remember(message?).await?;
        }
        Ok(held)
    }

    /// Takes a message into the memory; of two for one schedule the later moment counts.
    async fn remember(&mut self, message: Message) -> lapin::Result<()> {
        let Some((schedule, moment)) = parse(&message.data) else {
            // Not of this program, or of a later one: it stays where it is.
            return Ok(());
        };
        let obsolete = match self.memory.get(&schedule) {
            Some((known, _)) if *known > moment => message.acker,
            _ => match self.memory.insert(schedule, (moment, message.acker)) {
                Some((_, acker)) => acker,
                None => return Ok(()),
            },
        };
        answer(obsolete.ack(BasicAckOptions::default())).await.map(drop)
    }

    /// Fires what is ordered. `true`: given back; `false`: lost.
    async fn work(&mut self, store: &Store, orders: &mut mpsc::UnboundedReceiver<Order>) -> bool {
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some(order) = order else { return true };
                    match self.fire(store, &order).await {
                        Ok(stored) => order.answer(Ok(stored)),
                        Err(error) => {
                            let standing = matches!(error, Error::NotStored { .. } | Error::NoSuchQueue { .. });
                            order.answer(Err(error));
                            if !standing {
                                return false;
                            }
                        }
                    }
                }
                message = self.consumer.next() => match message {
                    Some(Ok(message)) => {
                        if self.remember(message).await.is_err() {
                            return false;
                        }
                    }
                    Some(Err(_)) | None => return false,
                },
            }
        }
    }

    async fn fire(&mut self, store: &Store, order: &Order) -> Result<bool, Error> {
        if self.memory.get(&order.schedule).is_some_and(|(fired, _)| *fired >= order.moment) {
            return Ok(false);
        }
        let lost = |cause: &str| Error::Lost { uri: self.queue.clone(), cause: cause.to_owned() };
        // The task first: a crash in between fires it again, under the same id.
        if let Some(parcel) = order.task.clone()? {
            store.bulk(std::slice::from_ref(&parcel)).await?;
        }
        let body = serde_json::json!({"schedule": order.schedule, "moment": order.moment.0}).to_string();
        let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        let outgoing = Outgoing { queue: self.queue.clone(), properties, body: body.into_bytes().into() };
        match store.session.publisher.single(&outgoing).await {
            Published::Stored => {}
            other => return Err(lost(&format!("the memory of the scheduler was not stored: {other:?}"))),
        }
        // It comes back to us, its only consumer, and takes the place of the one before.
        let comes = async {
            while self.memory.get(&order.schedule).is_none_or(|(fired, _)| *fired < order.moment) {
                match self.consumer.next().await {
                    Some(Ok(message)) => self.remember(message).await.map_err(|error| said(&error))?,
                    Some(Err(error)) => return Err(said(&error)),
                    None => return Err("the broker ended its consumer".to_owned()),
                }
            }
            Ok(())
        };
        match timeout(PATIENCE, comes).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(cause)) => Err(Error::Lost { uri: self.queue.clone(), cause }),
            Err(_) => Err(Error::Lost { uri: self.queue.clone(), cause: "its message did not come back".to_owned() }),
        }
    }
}

fn parse(body: &[u8]) -> Option<(String, Timestamp)> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some((value["schedule"].as_str()?.to_owned(), Timestamp(value["moment"].as_i64()?)))
}
