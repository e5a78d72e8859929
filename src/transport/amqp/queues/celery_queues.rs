//! Queues of Celery's producers: which they are, and the exchanges that those publish to.
//!
//! Producers declare their queue, its exchange and the binding each time that they publish, and are refused where something is
//! declared otherwise (406). So it is all declared here exactly as they do it, and what exists is used as it is. A queue that
//! nobody may bind is worked all the same: most messages come by the default exchange.

use std::{
    cell::{Ref, RefCell},
    collections::{HashMap, HashSet},
};

use lapin::{
    Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    celery::{CeleryQueue, DeclareAs, Protocol},
    transport::amqp::{
        broker_error::{Fault, answer, describe, reply_code},
        connect::channel::{close, open_channel, short},
    },
};

/// What is known of them in the life of this process.
#[derive(Default)]
pub(crate) struct CeleryQueues {
    queues: RefCell<HashMap<String, CeleryQueue>>,
    /// Queues of which it was told that they cannot be bound.
    told: RefCell<HashSet<String>>,
}

impl CeleryQueues {
    /// The form of a queue's messages is this from now on.
    pub(crate) fn set(&self, queue: &str, protocol: &Protocol) {
        match protocol {
            Protocol::Asynctask => {
                self.queues.borrow_mut().remove(queue);
            }
            Protocol::Celery(celery) => {
                self.queues.borrow_mut().insert(queue.to_owned(), (**celery).clone());
            }
        }
    }

    /// What Celery knows of a queue, if it is one of its own.
    pub(crate) fn of(&self, queue: &str) -> Option<Ref<'_, CeleryQueue>> {
        Ref::filter_map(self.queues.borrow(), |queues| queues.get(queue)).ok()
    }

    /// Whether it is to be told that a queue cannot be bound: once.
    fn is_news(&self, queue: &str) -> bool {
        self.told.borrow_mut().insert(queue.to_owned())
    }

    /// Makes the exchange of a queue that exists, where there is none, and binds the queue to it. Gives what is to be told, if
    /// that cannot be.
    ///
    /// # Errors
    /// If the broker did not answer.
    pub(crate) async fn bind(&self, connection: &Connection, queue: &str) -> Result<Option<String>, Fault> {
        let Some(exchange) = self.of(queue).map(|celery| celery.exchange.clone()) else { return Ok(None) };
        let cause = match bind(connection, queue, &exchange).await {
            Ok(()) => return Ok(None),
            Err(error) => match Fault::of(&error) {
                fault @ (Fault::TimedOut(_) | Fault::Broken(_)) => return Err(fault),
                Fault::Absent(_) | Fault::Forbidden(_) | Fault::Refused(_) => describe(&error),
            },
        };
        Ok(self.is_news(queue).then(|| {
            format!(
                "queue \"{queue}\" was not bound to exchange \"{exchange}\": {cause}; what is published to that exchange comes \
                 only if somebody else has bound it"
            )
        }))
    }
}

/// Each question on a channel of its own, because an answer that is an error closes it.
async fn bind(connection: &Connection, queue: &str, exchange: &str) -> lapin::Result<()> {
    let declare = async |passive| {
        let channel = open_channel(connection).await?;
        let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
        let declared = channel.exchange_declare(short(exchange), ExchangeKind::Direct, options, FieldTable::default());
        answer(declared).await?;
        close(&channel);
        lapin::Result::Ok(())
    };
    let is_there = match declare(true).await {
        Ok(()) => true,
        Err(error) if reply_code(&error) == Some(404) => false,
        Err(error) => return Err(error),
    };
    match declare(false).await {
        Ok(()) => {}
        // One that exists need not be declared, and its type is not known then: the broker's own ones may not be, either.
        Err(error) if is_there && reply_code(&error) == Some(403) => {}
        Err(error) => return Err(error),
    }
    let channel = open_channel(connection).await?;
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    answer(channel.queue_bind(short(queue), short(exchange), short(queue), options, arguments)).await?;
    close(&channel);
    Ok(())
}

/// The arguments with which Celery's producers declare a queue, but for its type.
pub(crate) fn arguments(celery: &CeleryQueue) -> FieldTable {
    let mut table = FieldTable::default();
    if let Some(max) = celery.max_priority {
        table.insert("x-max-priority".into(), AMQPValue::LongInt(max.into()));
    }
    table
}

/// The type that they name, if they name one.
pub(crate) const fn kind(celery: &CeleryQueue) -> Option<&'static str> {
    match celery.declare_as {
        DeclareAs::Classic => None,
        DeclareAs::Quorum => Some("quorum"),
    }
}
