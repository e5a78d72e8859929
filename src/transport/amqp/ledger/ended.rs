//! Ended jobs: they lie in a queue with their time to live, and are walked by whoever lists them.
//!
//! They are taken by consumers on channels of their own, and given back by closing those. One walk at a time: another one would find none.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use super::{
    names::ended_queue,
    stored::{self, Stored, StoredJob},
};
use crate::{
    clock::Timestamp,
    transport::amqp::{
        broker_error::{Fault, answer},
        connect::channel::{open_channel, short},
        dead_letters::{count, walk_lock},
        queues::counter::Counter,
        session::connections::Session,
    },
};

/// Jobs that one channel holds.
const MOST: u16 = 5_000;
/// Jobs that were counted and do not come in this time have expired.
const IDLE: Duration = Duration::from_millis(500);
const TAG: &str = "ended-jobs";

/// Visits all ended jobs whose time is not over, oldest first.
pub(crate) async fn visit(
    session: &Session,
    application: &str,
    now: Timestamp,
    mut visit: impl FnMut(StoredJob),
) -> Result<(), Fault> {
    let looked = walk(session, application, |job| {
        let is_over = job.record.purge_at.is_some_and(|at| at <= now);
        if !is_over {
            visit(job);
        }
        is_over
    });
    looked.await
}

/// Removes jobs.
pub(crate) async fn remove(session: &Session, application: &str, ids: &[String]) -> Result<(), Fault> {
    walk(session, application, |job| ids.contains(&job.record.id)).await
}

/// Goes through the queue; what `is_to_go` says goes.
async fn walk(session: &Session, application: &str, mut is_to_go: impl FnMut(StoredJob) -> bool) -> Result<(), Fault> {
    let queue = ended_queue(application);
    let connection = &*session.reader();
    let mut counter = Counter::new(connection);
    if counter.ready(&queue).await?.is_none_or(|ready| ready == 0) && !is_held(&mut counter, &queue).await? {
        return Ok(());
    }
    let walk = async {
        let ready = count::ready(&mut counter, &queue, count::WALK).await?;
        let (mut seen, mut gone, mut held) = (0, 0, Vec::new());
        while seen < ready {
            let most = u16::try_from(ready - seen).unwrap_or(MOST).min(MOST);
            let (channel, came, went) = take(connection, &queue, most, &mut is_to_go).await?;
            held.push(channel);
            (seen, gone) = (seen + came, gone + went);
            if came < u64::from(most) {
                break;
            }
        }
        for channel in held {
            answer(channel.close(200, "done".into())).await.map_err(|error| Fault::of(&error))?;
        }
        // Whoever looks next sees all of it.
        count::came_back(&mut counter, &queue, seen - gone).await
    };
    walk_lock::during(session, &queue, Box::pin(walk)).await
}

/// Whether another one goes through it just now.
async fn is_held(counter: &mut Counter<'_>, queue: &str) -> Result<bool, Fault> {
    Ok(counter.found(queue).await?.is_some_and(|found| found.consumers > 0))
}

/// Takes so many. Gives the channel that holds those that stay, how many came, and how many of them went.
async fn take(
    connection: &Connection,
    queue: &str,
    most: u16,
    is_to_go: &mut impl FnMut(StoredJob) -> bool,
) -> Result<(Channel, u64, u64), Fault> {
    let fault = |error: lapin::Error| Fault::of(&error);
    let channel = open_channel(connection).await.map_err(fault)?;
    answer(channel.basic_qos(most, BasicQosOptions::default())).await.map_err(fault)?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer =
        answer(channel.basic_consume(short(queue), short(TAG), options, arguments)).await.map_err(fault)?;
    let mut messages = Vec::with_capacity(usize::from(most));
    while messages.len() < usize::from(most) {
        match timeout(IDLE, consumer.next()).await {
            Ok(Some(Ok(message))) => messages.push(message),
            Ok(Some(Err(error))) => return Err(fault(error)),
            Ok(None) => return Err(Fault::Absent(queue.to_owned())),
            Err(_) => break,
        }
    }
    answer(channel.basic_cancel(short(TAG), BasicCancelOptions::default())).await.map_err(fault)?;
    let (came, mut went) = (messages.len() as u64, 0);
    for message in messages {
        let Ok(Stored::Job(job)) = stored::parse(&message.properties, &message.data) else { continue };
        if is_to_go(*job) {
            answer(channel.basic_ack(message.delivery_tag, BasicAckOptions::default())).await.map_err(fault)?;
            went += 1;
        }
    }
    Ok((channel, came, went))
}
