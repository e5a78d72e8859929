//! The queues and the exchange of a ledger: made where they do not exist, and used as they are where they do.

use lapin::{
    Channel, Connection, ExchangeKind, Queue,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::names::{coordinator_queue, ended_queue, jobs_queue, void_exchange};
use crate::transport::amqp::{
    broker_error::{answer, reply_code},
    connect::channel::{close, open_channel, short},
    queues::own_queue::DELIVERY_LIMIT,
};

/// A week, where queues know it (from RabbitMQ 3.12 on): jobs are held for longer than tasks.
const CONSUMER_TIMEOUT: i32 = 604_800_000;

const DURABLE: QueueDeclareOptions =
    QueueDeclareOptions { passive: false, durable: true, exclusive: false, auto_delete: false, nowait: false };

/// Makes what a ledger needs, but for the queue of entries, which is a work queue.
pub(crate) async fn declare(connection: &Connection, application: &str) -> Result<(), lapin::Error> {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut classic = FieldTable::default();
    classic.insert("x-queue-type".into(), text("classic"));
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), text("quorum"));
    quorum.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    let mut held = quorum.clone();
    held.insert("x-consumer-timeout".into(), AMQPValue::LongInt(CONSUMER_TIMEOUT));
    // Whoever takes the ledger over gets nothing before the broker has taken all back from the one before.
    held.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let ended = (ended_queue(application), quorum);
    for (queue, arguments) in [(coordinator_queue(application), classic), (jobs_queue(application), held), ended] {
        make(connection, &queue, arguments).await?;
    }
    let channel = open_channel(connection).await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let exchange = void_exchange(application);
    answer(channel.exchange_declare(short(&exchange), ExchangeKind::Fanout, options, FieldTable::default())).await?;
    close(&channel);
    Ok(())
}

async fn make(connection: &Connection, queue: &str, arguments: FieldTable) -> Result<(), lapin::Error> {
    let channel = open_channel(connection).await?;
    match found(&channel, queue).await {
        Ok(_) => {}
        Err(error) if reply_code(&error) == Some(404) => {
            let channel = open_channel(connection).await?;
            answer(channel.queue_declare(short(queue), DURABLE, arguments)).await?;
            close(&channel);
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    close(&channel);
    Ok(())
}

/// A queue, which must exist.
pub(crate) async fn found(channel: &Channel, queue: &str) -> Result<Queue, lapin::Error> {
    let options = QueueDeclareOptions { passive: true, ..DURABLE };
    answer(channel.queue_declare(short(queue), options, FieldTable::default())).await
}
