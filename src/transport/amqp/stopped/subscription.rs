//! Hearing what is stopped of the jobs of one application: beside the actor, on a channel of its own.
//!
//! The queue of this master is bound before the coordinator is asked, so nothing is missed between the two. Questions go out on the
//! publishing connection: the broker stops reading from one that publishes, and then its acknowledgements would wait.

use std::{rc::Rc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Consumer, ExchangeKind,
    options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::{sleep, timeout};

use crate::transport::amqp::{
    broker_error::{Fault, answer},
    connect::channel::{open_channel, short},
    ledger::names::{Announcement, Question, coordinator_queue, void_exchange},
    publish::{
        outbox::PAUSES,
        publisher::{Publication, Published},
    },
    session::{
        connections::Session,
        note::{Notes, SessionNote},
    },
};

/// A coordinator that lives answers within this time; tasks are not held for longer.
const ANSWERED: Duration = Duration::from_secs(1);
/// A question is worth nothing after this.
const EXPIRES: Duration = Duration::from_secs(5);
/// While nobody has answered it is asked again so often.
const AGAIN: Duration = Duration::from_secs(15);
/// A longer announcement is not read: tens of thousands of rounds and jobs fit into this many bytes.
const LONGEST: usize = 16 << 20;

/// Listens to one ledger for the rest of a session.
pub(crate) struct Subscription {
    pub(crate) session: Rc<Session>,
    pub(crate) notes: Notes,
    pub(crate) application: String,
    /// Nothing is to be made on the broker but a queue of our own.
    pub(crate) is_passive: bool,
}

impl Subscription {
    /// Listens, and tells what is heard. Whatever goes wrong, tasks are not held any longer, and it begins anew.
    pub(crate) async fn listen(self) {
        let mut failures = 0;
        loop {
            match self.bound().await {
                Ok((queue, consumer)) => {
                    failures = 0;
                    self.hear(&queue, consumer).await;
                }
                Err(fault) => {
                    failures += 1;
                    let (application, cause) = (&self.application, fault.cause());
                    tracing::debug!(target: "asynctask::amqp", "the ledger of {application} cannot be heard: {cause}");
                }
            }
            self.tell(None);
            sleep(PAUSES.delay(failures.max(1))).await;
        }
    }

    /// A queue that gets all announcements from now on, and what comes there.
    async fn bound(&self) -> Result<(ShortString, Consumer), Fault> {
        let fault = |error: lapin::Error| Fault::of(&error);
        let channel = open_channel(&self.session.reader()).await.map_err(fault)?;
        let exchange = short(&void_exchange(&self.application));
        let options =
            ExchangeDeclareOptions { durable: true, passive: self.is_passive, ..ExchangeDeclareOptions::default() };
        let declare = channel.exchange_declare(exchange.clone(), ExchangeKind::Fanout, options, FieldTable::default());
        answer(declare).await.map_err(fault)?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let declare = channel.queue_declare("".into(), options, FieldTable::default());
        let queue = answer(declare).await.map_err(fault)?.name().clone();
        let bind =
            channel.queue_bind(queue.clone(), exchange, "".into(), QueueBindOptions::default(), FieldTable::default());
        answer(bind).await.map_err(fault)?;
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consume = channel.basic_consume(queue.clone(), "stopped".into(), options, FieldTable::default());
        Ok((queue, answer(consume).await.map_err(fault)?))
    }

    /// Asks until it is answered, and tells what is heard until the channel ends.
    async fn hear(&self, queue: &ShortString, mut consumer: Consumer) {
        let mut is_answered = false;
        let mut asking = std::pin::pin!(self.ask(queue));
        loop {
            let message = tokio::select! {
                message = consumer.next() => message,
                () = &mut asking, if !is_answered => return,
            };
            let Some(Ok(message)) = message else { return };
            let said = Some(&message.data).filter(|text| text.len() <= LONGEST);
            let Some(said) = said.and_then(|text| serde_json::from_slice::<Announcement>(text).ok()) else {
                let application = &self.application;
                tracing::debug!(target: "asynctask::amqp", "an announcement to masters of {application} cannot be read");
                continue;
            };
            is_answered |= said.complete;
            self.tell(Some(Box::new(said)));
        }
    }

    /// Asks again and again: a coordinator may come, or go before it has answered.
    async fn ask(&self, queue: &ShortString) {
        let properties = BasicProperties::default()
            .with_delivery_mode(1)
            .with_content_type("application/json".into())
            .with_reply_to(queue.clone())
            .with_correlation_id("stopped".into())
            .with_expiration(EXPIRES.as_millis().to_string().into());
        // A word of ours: writing it cannot fail.
        let body = serde_json::to_vec(&Question::Stopped).unwrap_or_default();
        let question = Publication {
            queue: coordinator_queue(&self.application),
            properties: properties.into(),
            body: body.into(),
        };
        loop {
            let asked = timeout(ANSWERED, self.session.publisher.single(&question)).await;
            if matches!(asked, Ok(Published::Stored)) {
                sleep(ANSWERED).await;
            }
            self.tell(None);
            sleep(AGAIN).await;
        }
    }

    fn tell(&self, said: Option<Box<Announcement>>) {
        let note = SessionNote::Stopped { application: self.application.clone(), said };
        let _ = self.notes.send(note.of(self.session.number));
    }
}
