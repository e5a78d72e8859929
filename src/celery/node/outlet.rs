//! Publishing to one exchange: on a channel of its own, which an error closes and the next message opens again.
//!
//! Each message is confirmed before the next one of its sender goes out, so that a broker that takes nothing has never more than a
//! few of them in this process. Nothing is published twice: who gets no answer asks again.

use std::{cell::RefCell, rc::Rc, time::Duration};

use lapin::{
    BasicProperties, Channel, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::entities::Exchange;
use crate::{
    clock::{Clock, Instant},
    transport::amqp::{answer, describe, open_channel, short},
};

/// After a refusal nothing is tried for so long.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Where messages go.
pub(super) struct Outlet {
    connection: Rc<Connection>,
    /// `None`: the default exchange.
    exchange: Option<Exchange>,
    channel: RefCell<Option<Channel>>,
    opening: tokio::sync::Mutex<()>,
    clock: Clock,
    closed_until: RefCell<Option<(Instant, String)>>,
}

impl Outlet {
    pub(super) fn new(connection: &Rc<Connection>, exchange: Option<Exchange>, clock: Clock) -> Self {
        Self {
            connection: Rc::clone(connection),
            exchange,
            channel: RefCell::default(),
            opening: tokio::sync::Mutex::default(),
            clock,
            closed_until: RefCell::default(),
        }
    }

    /// Publishes, and waits until the broker has it; JSON, or a text.
    ///
    /// # Errors
    /// Why it may not have it.
    pub(super) async fn publish(
        &self,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), String> {
        if self.connection.status().blocked() {
            return Err("the broker takes nothing at the moment".to_owned());
        }
        let channel = self.channel().await?;
        let published = async {
            let exchange = short(self.exchange.map_or("", |exchange| exchange.name));
            let options = BasicPublishOptions::default();
            channel.basic_publish(exchange, short(routing_key), options, body, properties).await?.await
        };
        answer(published).await.map(drop).map_err(|error| {
            self.channel.borrow_mut().take();
            describe(&error)
        })
    }

    async fn channel(&self) -> Result<Channel, String> {
        let _one = self.opening.lock().await;
        if let Some(channel) = self.channel.borrow().as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let now = self.clock.now().at;
        if let Some((_, cause)) = self.closed_until.borrow().as_ref().filter(|(until, _)| *until > now) {
            return Err(cause.clone());
        }
        let opened = self.open().await.map_err(|error| describe(&error));
        match &opened {
            Ok(channel) => drop(self.channel.replace(Some(channel.clone()))),
            Err(cause) => drop(self.closed_until.replace(Some((now + AGAIN_AFTER, cause.clone())))),
        }
        opened
    }

    async fn open(&self) -> lapin::Result<Channel> {
        let channel = open_channel(&self.connection).await?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        if let Some(exchange) = self.exchange {
            exchange.declare(&channel).await?;
        }
        Ok(channel)
    }
}

/// Of a message that does not outlive the broker, as Celery sends replies and events.
pub(super) fn transient() -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(1)
}
