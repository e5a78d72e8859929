//! The end of what waits in a queue, and of the queue itself.
//!
//! Delay queues go before the work queue: what moves on meanwhile is still found. A quorum queue does not know "delete if
//! unused" or "if empty", so it is asked before.

use std::cell::Cell;

use lapin::{
    Connection,
    options::{QueueDeleteOptions, QueuePurgeOptions},
};

use super::{
    counter::Counter,
    delay_queues,
    own_queue::{OwnQueue, dead_name},
};
use crate::transport::{
    DeadQueue,
    amqp::{
        broker_error::{Fault, answer, reply_code},
        connect::channel::{close, open_channel, short},
        session::connections::Session,
    },
};

/// Deletes what is ready and delayed, and counts it in `purged`.
pub(crate) async fn purge(session: &Session, queue: &str, purged: &Cell<u64>) -> Result<(), Fault> {
    let connection = session.reader();
    let absent = Fault::Absent(queue.to_owned());
    let mut counter = Counter::new(&connection);
    counter.found(queue).await?.ok_or(absent)?;
    let delays = delay_queues::STEPS.map(|step| OwnQueue::Delay(queue.to_owned(), step));
    for own_queue in delays {
        if is_ours(session, &connection, &mut counter, &own_queue).await? {
            purged.set(purged.get() + purge_one(&connection, &own_queue.name()).await?);
        }
    }
    purged.set(purged.get() + purge_one(&connection, queue).await?);
    Ok(())
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
pub(crate) async fn delete(session: &Session, queue: &DeadQueue) -> Result<Option<u64>, Fault> {
    let connection = session.reader();
    let mut counter = Counter::new(&connection);
    let absent = Fault::Absent(queue.queue.clone());
    if counter.found(&queue.queue).await?.ok_or(absent)?.consumers > 0 {
        return Ok(None);
    }
    let mut deleted = 0;
    let delays = delay_queues::STEPS.iter().map(|step| OwnQueue::Delay(queue.queue.clone(), *step));
    for own_queue in delays.chain([OwnQueue::Work(queue.queue.clone())]) {
        if !is_ours(session, &connection, &mut counter, &own_queue).await? {
            continue;
        }
        deleted += delete_one(session, &connection, &own_queue).await?;
    }
    // One with a name of its own may be that of other queues as well.
    let name = dead_name(&queue.queue);
    if let Some(dead) = counter.found(&name).await?
        && dead.ready == 0
        && dead.consumers == 0
    {
        delete_one(session, &connection, &OwnQueue::Dead(name)).await?;
    }
    Ok(Some(deleted))
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
