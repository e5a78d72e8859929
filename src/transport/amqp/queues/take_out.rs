//! Taking what waits out of a queue, one after the other, with something stored for each before it goes: a word to the ledger of its
//! job, or a copy. The broker's own purge tells nobody what it has removed.

use std::{cell::Cell, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use super::{counter::Counter, own_queue::OwnQueue};
use crate::transport::{
    Error,
    amqp::{
        broker_error::{Fault, answer},
        connect::channel::{open_channel, short},
        dead_letters::ack_transaction,
        publish::outbox::{OutboundMessage, Outbox},
    },
};

/// On their way to us at a time.
const AHEAD: u16 = 100;
/// What was counted and does not come in this time is taken by another consumer, or not given to a second one.
const IDLE: Duration = Duration::from_millis(300);
const TAG: &str = "take-out";

/// Takes out as many as lie ready in a queue now, after what `store` makes of each is stored, and counts them in `taken`. Gives whether
/// all came.
pub(crate) async fn take_out(
    outbox: &Outbox,
    connection: &Connection,
    own_queue: &OwnQueue,
    store: impl Fn(&Delivery) -> Option<OutboundMessage>,
    taken: &Cell<u64>,
) -> Result<bool, Fault> {
    let mut left = Counter::new(connection).ready(&own_queue.name()).await?.unwrap_or(0);
    // Its last consumer would take such a queue along.
    if left == 0 || outbox.session.topology.look(connection, own_queue).await?.auto_delete {
        return Ok(left == 0);
    }
    let (channel, mut consumer) = consume(connection, &own_queue.name()).await?;
    let mut batch = Vec::new();
    while left > 0 {
        let message = match timeout(IDLE, consumer.next()).await {
            Ok(Some(message)) => Some(message.map_err(|error| Fault::of(&error))?),
            Ok(None) => return Err(Fault::Absent(own_queue.name())),
            Err(_) => None,
        };
        let is_over = message.is_none();
        left -= u64::from(!is_over);
        batch.extend(message);
        if is_over || left == 0 || batch.len() == usize::from(AHEAD) {
            let stored: Vec<OutboundMessage> = batch.iter().filter_map(&store).collect();
            outbox.store_all(&stored).await.map_err(|error| Fault::Refused(Error::from(error).to_string()))?;
            ack_transaction::remove(&channel, batch.iter().map(|message| &message.acker)).await?;
            taken.set(taken.get() + batch.len() as u64);
            batch.clear();
        }
        if is_over {
            break;
        }
    }
    let fault = |error: lapin::Error| Fault::of(&error);
    answer(channel.basic_cancel(short(TAG), BasicCancelOptions::default())).await.map_err(fault)?;
    answer(channel.close(200, "done".into())).await.map_err(fault)?;
    Ok(left == 0)
}

async fn consume(connection: &Connection, queue: &str) -> Result<(Channel, Consumer), Fault> {
    let fault = |error: lapin::Error| Fault::of(&error);
    let channel = open_channel(connection).await.map_err(fault)?;
    ack_transaction::prepare(&channel).await?;
    answer(channel.basic_qos(AHEAD, BasicQosOptions::default())).await.map_err(fault)?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = answer(channel.basic_consume(short(queue), short(TAG), options, arguments)).await.map_err(fault)?;
    Ok((channel, consumer))
}
