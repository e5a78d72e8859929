//! Revoked ids over a restart of the master: a durable queue of the broker's holds them, a message each, until they are too old or
//! too many. They are read at the start of a session and left there.
//!
//! Only with `control: work`. Where the queue cannot be had, revoked ids are forgotten with the master, and the log says so once.

use std::{cell::Cell, rc::Rc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Connection,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{sync::Mutex, time::timeout};

use super::{asking, entities, outlet::Outlet, revoked::ID_LIMIT, state::State};
use crate::{
    control::types::Command,
    logging::Level,
    transport::amqp::{answer, describe, open_channel, short},
};

/// How long reading may take.
const READING: Duration = Duration::from_secs(20);
/// Ids that are stored before the broker has confirmed the first of them.
const TOGETHER: usize = 256;

/// The queue of revoked ids, in one session.
pub(super) struct StoredIds {
    state: Rc<State>,
    connection: Rc<Connection>,
    outlet: Outlet,
    /// The queue is there, and was read.
    ready: Cell<bool>,
    storing: Mutex<()>,
}

impl StoredIds {
    pub(super) fn new(state: Rc<State>, connection: &Rc<Connection>) -> Self {
        let outlet = Outlet::new(connection, None, state.clock);
        let connection = Rc::clone(connection);
        Self { state, connection, outlet, ready: Cell::new(false), storing: Mutex::default() }
    }

    /// Learns what was revoked in an earlier life, and tells the core.
    pub(super) async fn read(&self) {
        if !self.state.settings.works {
            return;
        }
        let read = match timeout(READING, self.read_all()).await {
            Ok(read) => read.map_err(|error| describe(&error)),
            Err(_) => Err(format!("it could not be read within {} s", READING.as_secs())),
        };
        match read {
            Ok(ids) => {
                self.ready.set(true);
                let new: Vec<String> = {
                    let mut revoked = self.state.revoked.borrow_mut();
                    let new = ids.iter().filter(|id| !revoked.has(id)).cloned().collect();
                    revoked.add_stored(self.state.now(), ids);
                    new
                };
                if !new.is_empty() {
                    // At the start nobody answers yet.
                    asking::tell(&self.state, Command::CeleryRevoke { ids: new, terminate: false });
                }
            }
            Err(cause) => {
                let queue = entities::stored_ids(&self.state.settings.name).0;
                self.state.log(
                    Level::Warning,
                    &format!("Tasks that are revoked will be forgotten when this master ends, as queue {queue} cannot be used: {cause}"),
                );
            }
        }
    }

    /// All messages, which go back into the queue when the channel is closed.
    async fn read_all(&self) -> lapin::Result<Vec<String>> {
        let (queue, arguments) = entities::stored_ids(&self.state.settings.name);
        let channel = open_channel(&self.connection).await?;
        let options = QueueDeclareOptions {
            passive: self.state.settings.passive,
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let count = answer(channel.queue_declare(short(&queue), options, arguments)).await?.message_count() as usize;
        let mut ids = Vec::with_capacity(count);
        if count > 0 {
            let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
            let mut consumer = answer(channel.basic_consume(short(&queue), "".into(), options, none)).await?;
            while ids.len() < count {
                // One that has become too old meanwhile does not come.
                match timeout(READING / 10, consumer.next()).await {
                    Ok(Some(message)) => ids.push(message?.data),
                    Ok(None) | Err(_) => break,
                }
            }
        }
        answer(channel.close(200, "done".into())).await?;
        let text = |id: Vec<u8>| String::from_utf8(id).ok().filter(|id| id.len() <= ID_LIMIT);
        Ok(ids.into_iter().filter_map(text).collect())
    }

    /// Stores what the broker has not.
    pub(super) async fn store(&self) {
        if !self.ready.get() {
            return;
        }
        let _one = self.storing.lock().await;
        let queue = entities::stored_ids(&self.state.settings.name).0;
        loop {
            let ids = self.state.revoked.borrow().unstored(TOGETHER);
            if ids.is_empty() {
                return;
            }
            let properties = BasicProperties::default().with_content_type("text/plain".into()).with_delivery_mode(2);
            let stored = futures_util::future::join_all(
                ids.iter().map(|(_, id)| self.outlet.publish(&queue, properties.clone(), id.as_bytes())),
            );
            let stored = stored.await;
            let mut revoked = self.state.revoked.borrow_mut();
            for ((place, _), stored) in ids.iter().zip(&stored) {
                if stored.is_ok() {
                    revoked.stored(*place);
                }
            }
            if stored.iter().any(Result::is_err) {
                // The next session, or the next that is revoked, tries again.
                return;
            }
        }
    }
}
