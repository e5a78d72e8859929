//! The end of what waits in a queue, and of the queue itself.
//!
//! Delay queues go before the work queue: what moves on meanwhile is still found. A quorum queue does not know "delete if
//! unused" or "if empty", so it is asked before. What can be consumed is taken out (`take_out`); the broker's own purge is for the
//! rest: what a queue gives to another consumer alone.

use std::cell::Cell;

use lapin::{
    Connection,
    message::Delivery,
    options::{QueueDeleteOptions, QueuePurgeOptions},
};

use super::{
    counter::Counter,
    delay_queues,
    own_queue::{OwnQueue, dead_name},
    take_out::take_out,
};
use crate::{
    clock::Clock,
    transport::{
        DeadQueue,
        amqp::{
            broker_error::{Fault, answer, reply_code},
            connect::{
                address::Address,
                channel::{close, open_channel, short},
                own_connection::disconnect,
            },
            message::properties,
            publish::{
                outbox::{OutboundMessage, Outbox},
                pending_copy::LedgerEntry,
            },
            session::connections::Session,
        },
        job_entries,
    },
};

/// Deletes what is ready and delayed, and counts it in `purged`.
pub(crate) async fn purge(outbox: &Outbox, address: &Address, queue: &str, purged: &Cell<u64>) -> Result<(), Fault> {
    let session = &outbox.session;
    let connection = session.reader();
    let absent = Fault::Absent(queue.to_owned());
    let mut counter = Counter::new(&connection);
    counter.found(queue).await?.ok_or(absent)?;
    let by = format!("queue {queue} was purged");
    for own_queue in of_work_queue(queue) {
        if is_ours(session, &connection, &mut counter, &own_queue).await?
            && !taken_out(outbox, address, &own_queue, &by, purged).await?
        {
            purged.set(purged.get() + purge_one(&connection, &own_queue.name()).await?);
        }
    }
    Ok(())
}

/// Takes out what waits, over a connection of its own, which a message that cannot be read ends. Gives whether all is out: what cannot
/// be read is left to the broker, which reads nothing.
async fn taken_out(
    outbox: &Outbox,
    address: &Address,
    own_queue: &OwnQueue,
    by: &str,
    taken: &Cell<u64>,
) -> Result<bool, Fault> {
    if Counter::new(&outbox.session.reader()).ready(&own_queue.name()).await? == Some(0) {
        return Ok(true);
    }
    let connection = address.connect("purge").await.map_err(|error| Fault::Broken(error.to_string()))?;
    let done = take_out(outbox, &connection, own_queue, |message| told(message, by), taken).await;
    let is_ended = !connection.status().connected();
    // Its end waits for nobody who has sent what cannot be read.
    disconnect(Some(connection)).await;
    if is_ended { done.or(Ok(false)) } else { done }
}

/// A work queue and those with what waits of it, the work queue last.
fn of_work_queue(queue: &str) -> impl Iterator<Item = OwnQueue> {
    let delays = delay_queues::STEPS.iter().map(|step| OwnQueue::Delay(queue.to_owned(), *step));
    delays.chain([OwnQueue::Frozen(queue.to_owned()), OwnQueue::Work(queue.to_owned())])
}

/// Whether it is there and, if it is a delay queue, leads back: others may have one of that name for something else.
async fn is_ours(
    session: &Session,
    connection: &Connection,
    counter: &mut Counter<'_>,
    own_queue: &OwnQueue,
) -> Result<bool, Fault> {
    if counter.found(&own_queue.name()).await?.is_none() {
        return Ok(false);
    }
    Ok(matches!(own_queue, OwnQueue::Work(_)) || session.topology.look(connection, own_queue).await?.refusal.is_none())
}

async fn purge_one(connection: &Connection, queue: &str) -> Result<u64, Fault> {
    let channel = open_channel(connection).await.map_err(|error| Fault::of(&error))?;
    let purged = answer(channel.queue_purge(short(queue), QueuePurgeOptions::default())).await;
    close(&channel);
    gone(purged)
}

/// Deletes a work queue and its delay queues, and the queue of its dead letters if that is its alone and empty. `None`: somebody
/// consumes it.
pub(crate) async fn delete(outbox: &Outbox, address: &Address, queue: &DeadQueue) -> Result<Option<u64>, Fault> {
    let session = &outbox.session;
    let connection = session.reader();
    let mut counter = Counter::new(&connection);
    let absent = Fault::Absent(queue.queue.clone());
    if counter.found(&queue.queue).await?.ok_or(absent)?.consumers > 0 {
        return Ok(None);
    }
    let deleted = Cell::new(0);
    let by = format!("queue {} was deleted", queue.queue);
    for own_queue in of_work_queue(&queue.queue) {
        if is_ours(session, &connection, &mut counter, &own_queue).await? {
            taken_out(outbox, address, &own_queue, &by, &deleted).await?;
            deleted.set(deleted.get() + delete_one(session, &connection, &own_queue).await?);
        }
    }
    // One with a name of its own may be that of other queues as well.
    let name = dead_name(&queue.queue);
    if let Some(dead) = counter.found(&name).await?
        && dead.ready == 0
        && dead.consumers == 0
    {
        delete_one(session, &connection, &OwnQueue::Dead(name)).await?;
    }
    Ok(Some(deleted.get()))
}

async fn delete_one(session: &Session, connection: &Connection, own_queue: &OwnQueue) -> Result<u64, Fault> {
    let channel = open_channel(connection).await.map_err(|error| Fault::of(&error))?;
    let deleted = answer(channel.queue_delete(short(&own_queue.name()), QueueDeleteOptions::default())).await;
    close(&channel);
    session.topology.forget(own_queue);
    gone(deleted)
}

/// What is not there had nothing in it.
fn gone(answer: Result<u32, lapin::Error>) -> Result<u64, Fault> {
    match answer {
        Ok(count) => Ok(u64::from(count)),
        Err(error) if reply_code(&error) == Some(404) => Ok(0),
        Err(error) => Err(Fault::of(&error)),
    }
}

/// What the ledger of a job is told of a task of its that was removed.
fn told(message: &Delivery, by: &str) -> Option<OutboundMessage> {
    let task = properties::read(&message.properties, Vec::new()).task;
    let place = task.membership.as_deref()?;
    let entry = job_entries::of_removal(place, task.memo.as_ref(), Clock::wall(), by);
    LedgerEntry::new(place, &entry).map(|entry| entry.message)
}
