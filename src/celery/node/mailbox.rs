//! The node's mailbox: the queue in which requests to it arrive.
//!
//! The broker sends it two messages at a time and waits for their acknowledgement, so that these two are all
//! that can take memory here, however long they are; each is acknowledged as it comes. What waits at the broker is bounded by the queue itself.

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions},
    types::FieldTable,
};

use super::entities;
use crate::transport::amqp::{answer, describe, header_number, open_channel, reply_code, short};

/// Messages that the broker sends without an acknowledgement in between.
const PREFETCH: u16 = 2;

/// An open mailbox.
pub(super) struct Mailbox {
    consumer: Consumer,
    _channel: Channel,
}

/// Why there is no mailbox.
pub(super) enum NotOpen {
    /// Another connection has it.
    Locked,
    /// The broker or the connection said this.
    Failed(String),
}

/// A message that came.
pub(super) struct Incoming {
    pub(super) body: Vec<u8>,
    /// What the sender's clock showed.
    pub(super) clock: u64,
    /// It says so of itself, or nothing.
    pub(super) is_json: bool,
}

impl Mailbox {
    pub(super) async fn open(connection: &Connection, node: &str) -> Result<Self, NotOpen> {
        Self::opened(connection, node).await.map_err(|error| match reply_code(&error) {
            Some(405) => NotOpen::Locked,
            _ => NotOpen::Failed(describe(&error)),
        })
    }

    async fn opened(connection: &Connection, node: &str) -> lapin::Result<Self> {
        let channel = open_channel(connection).await?;
        entities::CONTROL.declare(&channel).await?;
        let (name, arguments) = entities::mailbox(node);
        answer(channel.queue_declare(short(&name), entities::OF_CONNECTION, arguments)).await?;
        let exchange = short(entities::CONTROL.name);
        let (options, no_arguments) = (QueueBindOptions::default(), FieldTable::default());
        answer(channel.queue_bind(short(&name), exchange, "".into(), options, no_arguments)).await?;
        answer(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let (options, no_arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = answer(channel.basic_consume(short(&name), "".into(), options, no_arguments)).await?;
        Ok(Self { consumer, _channel: channel })
    }

    /// The next message, for [`taken`]. Nothing is lost by not waiting for it to the end.
    pub(super) async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        self.consumer.next().await
    }
}

/// Takes a message out of the mailbox.
///
/// # Errors
/// Why no more comes.
pub(super) async fn taken(message: Option<lapin::Result<Delivery>>) -> Result<Incoming, String> {
    let message = message.ok_or("the broker ended the consumer of its mailbox")?.map_err(|error| describe(&error))?;
    answer(message.acker.ack(BasicAckOptions::default())).await.map_err(|error| describe(&error))?;
    let is_json = says_json(&message.properties);
    Ok(Incoming { clock: clock(&message.properties), is_json, body: message.data })
}

/// What the clock of the sender of a message showed; 0: nothing that can be read.
pub(super) fn clock(properties: &BasicProperties) -> u64 {
    let headers = properties.headers().as_ref();
    let clock = headers.and_then(|headers| headers.inner().get("clock")).and_then(header_number);
    clock.and_then(|clock| u64::try_from(clock).ok()).unwrap_or_default()
}

fn says_json(properties: &BasicProperties) -> bool {
    properties.content_type().as_ref().is_none_or(|form| form.as_str() == "application/json")
}
