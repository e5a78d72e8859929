//! Visiting dead letters, and putting some of them back to work.
//!
//! They are taken by a consumer that gets exactly as many as it may see, and those that stay are given back by closing its
//! channel: that is the one way back in which a quorum queue keeps their order. (Refusing more than 32, one by one or
//! together, leaves them in any order; so does `basic.get`. Measured on 3.10.8.)

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Connection, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use super::{
    dead,
    moves::{Parcel, Store, Tried},
    publish::Outgoing,
    topology::{Counter, Fault, Place, answer, short},
};
use crate::{
    clock::Timestamp,
    transport::{DeadQueue, Visit, Visitor, Walked},
};

/// Most dead letters that are out of their queue at a time.
const MOST: u16 = 1_000;
/// Dead letters that were counted and do not come in this time were taken by someone else.
const IDLE: Duration = Duration::from_millis(500);
/// Looks at whether those given back are there again, and between two of them.
const LOOKS: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(5);

/// Walks through the dead letters of a queue.
pub(super) async fn walk(
    store: &Store,
    queue: &DeadQueue,
    mut visit: Visitor,
    now: Timestamp,
) -> Result<Walked, Fault> {
    let connection = store.session.reader();
    let mut walked = Walked::default();
    let ready = Counter::new(&connection).ready(&queue.name).await?.unwrap_or(0);
    let most = u16::try_from(ready).unwrap_or(MOST).min(MOST);
    if most == 0 {
        return Ok(walked);
    }
    let fault = |error: lapin::Error| Fault::of(&error);
    let channel = answer(connection.create_channel()).await.map_err(fault)?;
    answer(channel.basic_qos(most, BasicQosOptions::default())).await.map_err(fault)?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(short(&queue.name), short(""), options, arguments);
    let consumer = answer(consumer).await.map_err(fault)?;
    let result = each(store, queue, &mut visit, now, consumer, most, &mut walked).await;
    answer(channel.close(200, "done".into())).await.map_err(fault)?;
    came_back(&connection, queue, ready.saturating_sub(walked.retried + walked.removed)).await?;
    result.map(|()| walked)
}

async fn each(
    store: &Store,
    queue: &DeadQueue,
    visit: &mut Visitor,
    now: Timestamp,
    mut consumer: Consumer,
    most: u16,
    walked: &mut Walked,
) -> Result<(), Fault> {
    while walked.seen < u64::from(most) {
        let message = match timeout(IDLE, consumer.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return Err(Fault::of(&error)),
            Ok(None) => return Err(Fault::Absent(queue.name.clone())),
            Err(_) => break,
        };
        let letter = dead::read(&message.properties, &message.data, queue);
        walked.seen += 1;
        let body = match visit(&letter) {
            Visit::Keep => continue,
            Visit::Stop => break,
            Visit::Remove => None,
            Visit::Retry { body } => Some(body.unwrap_or(message.data)),
        };
        let retried = body.is_some();
        if let Some(body) = body {
            put_back(store, queue, dead::again(&message.properties, &letter, now), body).await?;
        }
        if !matches!(answer(message.acker.ack(BasicAckOptions::default())).await, Ok(true)) {
            return Err(Fault::Broken("the channel of the dead letters is closed".to_owned()));
        }
        walked.retried += u64::from(retried);
        walked.removed += u64::from(!retried);
    }
    Ok(())
}

/// Waits until those that were given back are there, so that whoever looks next sees them; not for ever, since someone
/// else may have taken some.
async fn came_back(connection: &Connection, queue: &DeadQueue, expected: u64) -> Result<(), Fault> {
    let mut counter = Counter::new(connection);
    for _ in 0..LOOKS {
        if counter.ready(&queue.name).await?.is_none_or(|ready| ready >= expected) {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(())
}

/// Stores a dead letter in its work queue.
async fn put_back(store: &Store, queue: &DeadQueue, properties: BasicProperties, body: Vec<u8>) -> Result<(), Fault> {
    let place = Place::Work(queue.queue.clone());
    let outgoing = Outgoing { queue: place.name(), properties, body: body.into() };
    match store.try_one(&mut Parcel { place, outgoing }).await {
        Ok(Tried::Stored) => Ok(()),
        Ok(Tried::Again(cause) | Tried::No(cause)) => {
            Err(Fault::Broken(format!("queue \"{}\" did not take a task: {cause}", queue.queue)))
        }
        Err(()) => Err(Fault::Broken("the connection was lost".to_owned())),
    }
}
