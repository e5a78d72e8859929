//! Asking a broker what lies in a queue, or whether it is there at all.

use lapin::{Channel, Connection, options::QueueDeclareOptions, types::FieldTable};

use crate::transport::amqp::{
    broker_error::{Fault, answer, reply_code},
    connect::channel::{close, open_channel, short},
};

/// What the broker says of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Messages ready.
    pub(crate) ready: u64,
    pub(crate) consumers: u32,
}

/// Reads how many messages lie ready in queues, on a channel that is replaced after each queue that is missing.
pub(crate) struct Counter<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
}

impl<'a> Counter<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self { connection, channel: None }
    }

    /// Messages ready in a queue; `None`: it does not exist.
    pub(crate) async fn ready(&mut self, queue: &str) -> Result<Option<u64>, Fault> {
        Ok(self.found(queue).await?.map(|found| found.ready))
    }

    /// A queue; `None`: it does not exist.
    pub(crate) async fn found(&mut self, queue: &str) -> Result<Option<Found>, Fault> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => open_channel(self.connection).await.map_err(|error| Fault::of(&error))?,
        };
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        match answer(channel.queue_declare(short(queue), options, FieldTable::default())).await {
            Ok(found) => {
                self.channel = Some(channel);
                Ok(Some(Found { ready: found.message_count().into(), consumers: found.consumer_count() }))
            }
            Err(error) if reply_code(&error) == Some(404) => Ok(None),
            Err(error) => Err(Fault::of(&error)),
        }
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        if let Some(channel) = &self.channel {
            close(channel);
        }
    }
}
