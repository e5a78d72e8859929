//! Visiting dead letters, and putting some of them back to work.
//!
//! They are taken one by one and not acknowledged; at the end those that stay are given back together, so that the
//! broker has them in their old order. A walk that is cut off gives all of them back by closing its channel.

use lapin::{
    BasicProperties, Channel,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions},
};

use super::{
    dead,
    moves::{Parcel, Store, Tried},
    publish::Outgoing,
    topology::{Counter, Fault, Place, answer, close, short},
};
use crate::{
    clock::Timestamp,
    transport::{DeadQueue, Visit, Visitor, Walked},
};

/// Most dead letters that are out of their queue at a time.
const MOST: u64 = 1_000;

/// Walks through the dead letters of a queue.
pub(super) async fn walk(
    store: &Store,
    queue: &DeadQueue,
    mut visit: Visitor,
    now: Timestamp,
) -> Result<Walked, Fault> {
    let connection = store.session.reader();
    let Some(ready) = Counter::new(&connection).ready(&queue.name).await? else { return Ok(Walked::default()) };
    let channel = answer(connection.create_channel()).await.map_err(|error| Fault::of(&error))?;
    let mut walked = Walked::default();
    let mut kept = None;
    let result = each(store, queue, &mut visit, now, &channel, ready.min(MOST), &mut walked, &mut kept).await;
    if let Some(tag) = kept {
        let options = BasicNackOptions { multiple: true, requeue: true };
        answer(channel.basic_nack(tag, options)).await.map_err(|error| Fault::of(&error))?;
        // An answer to a question asked after it: the letters are back when the walk says it is over.
        Counter::new(&connection).ready(&queue.name).await?;
    }
    close(&channel);
    result.map(|()| walked)
}

#[expect(clippy::too_many_arguments, reason = "the state of one walk, taken apart so that it survives a failure")]
async fn each(
    store: &Store,
    queue: &DeadQueue,
    visit: &mut Visitor,
    now: Timestamp,
    channel: &Channel,
    most: u64,
    walked: &mut Walked,
    kept: &mut Option<u64>,
) -> Result<(), Fault> {
    let fault = |error: lapin::Error| Fault::of(&error);
    while walked.seen < most {
        let Some(message) =
            answer(channel.basic_get(short(&queue.name), BasicGetOptions::default())).await.map_err(fault)?
        else {
            break;
        };
        let message = message.delivery;
        let tag = message.delivery_tag;
        let letter = dead::read(&message.properties, &message.data, queue);
        walked.seen += 1;
        let body = match visit(&letter) {
            Visit::Keep => {
                *kept = Some(tag);
                continue;
            }
            Visit::Stop => {
                *kept = Some(tag);
                break;
            }
            Visit::Remove => None,
            Visit::Retry { body } => Some(body.unwrap_or(message.data)),
        };
        if let Some(body) = body {
            // Until it is acknowledged it must go back if anything fails.
            let properties = dead::again(&message.properties, &letter, now);
            if let Err(fault) = put_back(store, queue, properties, body).await {
                *kept = Some(tag);
                return Err(fault);
            }
            walked.retried += 1;
        } else {
            walked.removed += 1;
        }
        if !matches!(answer(message.acker.ack(BasicAckOptions::default())).await, Ok(true)) {
            return Err(Fault::Broken("the channel of the dead letters is closed".to_owned()));
        }
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
