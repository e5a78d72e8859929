//! The queues that this program makes: their names, and the arguments with which they are declared.
//!
//! | queue | type | arguments |
//! | --- | --- | --- |
//! | `foo_failed` | quorum | `x-delivery-limit=1000000` |
//! | `foo` | quorum | `x-delivery-limit=1000000`, `x-dead-letter-exchange=""`, `x-dead-letter-routing-key=foo_failed`, `x-dead-letter-strategy=at-least-once`, `x-overflow=reject-publish`, `x-consumer-timeout=604800000` |
//! | `foo.retry.<ms>` | quorum | `x-message-ttl=<ms>`, dead-letters to `foo` in the same way |
//! | `asynctask.frozen.foo` | quorum | `x-message-ttl=600000`, dead-letters to `foo` in the same way |
//!
//! A work queue whose messages are Celery's is declared as Celery's producers do (`celery_queues`), and what lies beside it in the
//! same way as of any other.
//!
//! All are durable and bound to the default exchange alone. The arguments exist in live brokers and never change: a queue that
//! was declared with others could not be declared again (406, which closes the channel). Why they are these:
//!
//! - *Quorum*: replicated, and faster here than classic queues, since acknowledgements go in batches (46,000 to 64,000 tasks a
//!   second against 30,000; 3.10.8, two cores).
//! - `x-dead-letter-strategy=at-least-once`, which needs `x-overflow=reject-publish`: a `kill -9` of the broker while delayed
//!   messages expired lost 160 of 8,000 with the default (at most once), and none with this (3.10.8, six runs).
//! - `x-delivery-limit=1000000`: listing dead letters requeues them, each requeue counts as a delivery (up to RabbitMQ 4.2), and
//!   from 4.0 on a queue without a limit has one of 20. A limit of -1 drops everything at the first requeue (3.10.8).
//! - `x-consumer-timeout`: a week instead of the broker's 30 minutes, from 3.12 on, where queues know it.
//! - Never `x-expires`: a queue that expires takes its messages with it, and a second declare does not renew it (3.10.8).
//! - Never `x-message-ttl` on `foo_failed`: how long a dead letter is kept stands in the `expiration` of the message, so that
//!   another retention needs no other queue.

use lapin::types::{AMQPValue, FieldTable};

use super::{celery_queues, delay_queues};
use crate::celery::CeleryQueue;

/// Requeues that a quorum queue of ours bears: all that there can be (listing dead letters requeues them).
pub(crate) const DELIVERY_LIMIT: i32 = 1_000_000;
/// A week: the longest time limit of a task that makes sense in a queue.
const CONSUMER_TIMEOUT: i32 = 604_800_000;

/// A queue of ours, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnQueue {
    /// A work queue.
    Work(String),
    /// Dead letters.
    Dead(String),
    /// A step of the ladder of a work queue, in milliseconds.
    Delay(String, u64),
    /// Tasks of a work queue whose jobs are frozen.
    Frozen(String),
}

/// What waits of a frozen job goes back to its queue after this time, in milliseconds, should nobody fetch it who hears that the job
/// is frozen no more. One that is frozen still is put aside again.
const FROZEN: u64 = 600_000;

impl OwnQueue {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Work(name) | Self::Dead(name) => name.clone(),
            Self::Delay(queue, step) => delay_queues::name(queue, *step),
            Self::Frozen(queue) => frozen_name(queue),
        }
    }

    /// The work queue that tasks go back to from here, and after what time in milliseconds.
    pub(crate) fn leads_back(&self) -> Option<(&str, u64)> {
        match self {
            Self::Delay(queue, step) => Some((queue, *step)),
            Self::Frozen(queue) => Some((queue, FROZEN)),
            Self::Work(_) | Self::Dead(_) => None,
        }
    }
}

/// A name that no queue in the settings can have. A work queue of others can have a name that is too long to have it in another one.
fn frozen_name(queue: &str) -> String {
    let named = |queue: &str| format!("asynctask.frozen.{queue}");
    let name = named(queue);
    if name.len() <= 255 {
        name
    } else {
        named(&uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, queue.as_bytes()).to_string())
    }
}

/// The name of the queue that the broker itself dead-letters to.
pub(crate) fn dead_name(queue: &str) -> String {
    format!("{queue}_failed")
}

/// The arguments of a queue: constants, so that every program declares the same, or, of a work queue of Celery's, those that
/// its producers declare.
pub(crate) fn arguments(own_queue: &OwnQueue, celery: Option<&CeleryQueue>) -> FieldTable {
    if let (OwnQueue::Work(_), Some(celery)) = (own_queue, celery) {
        let mut table = celery_queues::arguments(celery);
        if let Some(kind) = celery_queues::kind(celery) {
            table.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        }
        return table;
    }
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut table = FieldTable::default();
    let mut put = |name: &'static str, value| {
        table.insert(name.into(), value);
    };
    put("x-queue-type", text("quorum"));
    let target = match own_queue {
        OwnQueue::Dead(_) => None,
        OwnQueue::Work(queue) => Some(dead_name(queue)),
        OwnQueue::Delay(queue, _) | OwnQueue::Frozen(queue) => Some(queue.clone()),
    };
    if let Some(target) = target {
        put("x-dead-letter-exchange", text(""));
        put("x-dead-letter-routing-key", text(&target));
        put("x-dead-letter-strategy", text("at-least-once"));
        put("x-overflow", text("reject-publish"));
    }
    match own_queue {
        OwnQueue::Dead(_) => {
            put("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT));
        }
        OwnQueue::Work(_) => {
            put("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT));
            put("x-consumer-timeout", AMQPValue::LongInt(CONSUMER_TIMEOUT));
        }
        OwnQueue::Delay(..) | OwnQueue::Frozen(_) => {
            let after = own_queue.leads_back().and_then(|(_, after)| i32::try_from(after).ok());
            put("x-message-ttl", AMQPValue::LongInt(after.unwrap_or(i32::MAX)));
        }
    }
    table
}
