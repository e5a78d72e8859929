//! Exchanges and queues by their names, with the flags and arguments that Celery declares them with. With others the broker closes
//! the channel (406), here or at Celery's side, whoever comes second.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{request::REPLY_EXCHANGE, revoked};
use crate::transport::amqp::{answer, short};

/// An exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) name: &'static str,
    kind: Kind,
    durable: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Direct,
    Fanout,
    Topic,
}

/// To all nodes.
pub(super) const CONTROL: Exchange = Exchange { name: "celery.pidbox", kind: Kind::Fanout, durable: false };
/// To whoever asked.
pub(super) const REPLIES: Exchange = Exchange { name: REPLY_EXCHANGE, kind: Kind::Direct, durable: false };
/// To monitors.
pub(super) const EVENTS: Exchange = Exchange { name: "celeryev", kind: Kind::Topic, durable: true };

impl Exchange {
    pub(super) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let kind = match self.kind {
            Kind::Direct => ExchangeKind::Direct,
            Kind::Fanout => ExchangeKind::Fanout,
            Kind::Topic => ExchangeKind::Topic,
        };
        let options = ExchangeDeclareOptions { durable: self.durable, ..ExchangeDeclareOptions::default() };
        answer(channel.exchange_declare(short(self.name), kind, options, FieldTable::default())).await
    }
}

/// Of a queue that ends with its connection.
pub(super) const OF_CONNECTION: QueueDeclareOptions =
    QueueDeclareOptions { passive: false, durable: false, exclusive: true, auto_delete: true, nowait: false };

/// Requests to the node of this name. As Celery's node of the same name has it, and bounded: none of its clients declares it.
pub(super) fn mailbox(node: &str) -> (String, FieldTable) {
    let arguments = table(&[
        ("x-expires", number(10_000)),
        ("x-message-ttl", number(300_000)),
        ("x-max-length", number(1_000)),
        ("x-max-length-bytes", number(8 << 20)),
    ]);
    (format!("{node}.celery.pidbox"), arguments)
}

/// Replies to the node, when it asks others.
pub(super) fn reply_queue(oid: &str) -> (String, FieldTable) {
    let arguments = table(&[("x-expires", number(10_000)), ("x-max-length-bytes", number(64 << 20))]);
    (format!("{oid}.{REPLY_EXCHANGE}"), arguments)
}

/// The ids that were revoked, a message each, for the next life of the node.
pub(super) fn stored_ids(node: &str) -> (String, FieldTable) {
    let kept_for = i64::try_from(revoked::KEPT_FOR.as_millis()).unwrap_or(i64::MAX);
    let most = i32::try_from(revoked::MOST).unwrap_or(i32::MAX);
    let arguments = table(&[
        ("x-queue-type", AMQPValue::LongString("classic".into())),
        ("x-message-ttl", AMQPValue::LongLongInt(kept_for)),
        ("x-max-length", number(most)),
    ]);
    (format!("asynctask.celery.revoked.{node}"), arguments)
}

const fn number(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

/// A table of these.
pub(super) fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(short(name), value.clone());
    }
    table
}
