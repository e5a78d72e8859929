//! Publishing that is answered: every message is persistent, mandatory, and waited for until the broker confirms it.
//!
//! lapin attaches the return of one pipelined publish to the confirm of another (measured). So a *single* keeps
//! one publish outstanding on its channel, and a *window* counts only when nothing at all went wrong in it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use futures_util::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use super::{
    address::{Address, PATIENCE, code, said},
    topology::{answer, close, open_channel, short},
};
use crate::transport::Error;

/// Channels that publish at the same time.
const CHANNELS: usize = 8;
/// Messages that a window holds.
pub(super) const WINDOW: usize = 256;

/// A message on its way to a queue.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) queue: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Rc<[u8]>,
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Published {
    /// Confirmed.
    Stored,
    /// There is no such queue.
    Returned,
    /// The queue did not take it: full.
    Nacked,
    /// The broker refused the message itself; asking again changes nothing.
    Refused(String),
    /// No answer, or the connection ended: it may be stored or not.
    Unknown {
        /// The connection that it went out on.
        line: u64,
        cause: String,
    },
}

/// The publishing connection and its channels.
pub(super) struct Publisher {
    address: Rc<Address>,
    connection: RefCell<Rc<Connection>>,
    /// Counts the connections; a channel of an earlier one is not used again.
    line: Cell<u64>,
    idle: RefCell<Vec<(u64, Channel)>>,
    places: Semaphore,
    renewing: Mutex<()>,
}

impl Publisher {
    pub(super) async fn connect(address: &Rc<Address>) -> Result<Self, Error> {
        let connection = address.connect("publisher").await?;
        Ok(Self {
            address: Rc::clone(address),
            connection: RefCell::new(Rc::new(connection)),
            line: Cell::new(1),
            idle: RefCell::default(),
            places: Semaphore::new(CHANNELS),
            renewing: Mutex::new(()),
        })
    }

    /// The connection of the moment.
    pub(super) fn connection(&self) -> Rc<Connection> {
        Rc::clone(&self.connection.borrow())
    }

    /// Whether the broker has stopped reading from us: a memory or disk alarm.
    pub(super) fn blocked(&self) -> bool {
        self.connection.borrow().status().blocked()
    }

    /// Replaces a connection that did not answer, unless someone did so already. What was sent on the old one may
    /// still arrive.
    pub(super) async fn renew(&self, line: u64) -> Result<(), Error> {
        let _one = self.renewing.lock().await;
        if self.line.get() != line {
            return Ok(());
        }
        let fresh = Rc::new(self.address.connect("publisher").await?);
        let old = self.connection.replace(fresh);
        self.line.set(line + 1);
        self.idle.borrow_mut().clear();
        tokio::task::spawn_local(async move {
            let _ = timeout(PATIENCE, old.close(200, "replaced".into())).await;
        });
        Ok(())
    }

    async fn channel(&self) -> Result<(u64, Channel), lapin::Error> {
        while let Some((line, channel)) = self.idle.borrow_mut().pop() {
            if line == self.line.get() && channel.status().connected() {
                return Ok((line, channel));
            }
        }
        let line = self.line.get();
        let connection = self.connection();
        let channel = open_channel(&connection).await?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok((line, channel))
    }

    fn give_back(&self, line: u64, channel: Channel) {
        if line == self.line.get() && channel.status().connected() {
            self.idle.borrow_mut().push((line, channel));
        }
    }

    /// Publishes one message and waits for its confirm; while the broker blocks publishers, longer.
    pub(super) async fn single(&self, outgoing: &Outgoing) -> Published {
        let _place = self.places.acquire().await;
        let line = self.line.get();
        let (line, channel) = match self.channel().await {
            Ok(taken) => taken,
            Err(error) => return Published::Unknown { line, cause: said(&error) },
        };
        match self.patiently(publish(&channel, outgoing)).await {
            None => Published::Unknown { line, cause: "no confirm within 10 s".to_owned() },
            Some(Err(error)) if matches!(code(&error), Some(406 | 403)) => Published::Refused(said(&error)),
            Some(Err(error)) => Published::Unknown { line, cause: said(&error) },
            Some(Ok(confirmation)) => {
                if matches!(confirmation, Confirmation::Nack(_)) {
                    // RabbitMQ keeps in the channel that a quorum queue was full, and goes on refusing there when the
                    // limit is lifted (measured on 3.10.8): the next try takes another channel.
                    close(&channel);
                } else {
                    self.give_back(line, channel);
                }
                match confirmation {
                    Confirmation::Ack(None) => Published::Stored,
                    Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Published::Returned,
                    Confirmation::Nack(None) => Published::Nacked,
                    // Our channels are all in confirm mode.
                    Confirmation::NotRequested => {
                        Published::Unknown { line, cause: "the channel does not confirm".to_owned() }
                    }
                }
            }
        }
    }

    /// Publishes many at once. `true`: all are stored. `false`: some may be, each must be published again.
    pub(super) async fn window(&self, window: &[Outgoing]) -> bool {
        debug_assert!(window.len() <= WINDOW, "a window is bounded");
        let _place = self.places.acquire().await;
        let Ok((line, channel)) = self.channel().await else { return false };
        // Polled in order, so published in order.
        let all = join_all(window.iter().map(|outgoing| publish(&channel, outgoing)));
        let Some(confirmations) = self.patiently(all).await else { return false };
        let stored = confirmations.iter().all(|one| matches!(one, Ok(Confirmation::Ack(None))));
        if stored {
            self.give_back(line, channel);
        } else {
            close(&channel);
        }
        stored
    }

    /// Waits 10 s, and on for as long as the broker says that it blocks publishers: what was sent is only late then.
    async fn patiently<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = timeout(PATIENCE, &mut work).await {
                return Some(done);
            }
            if !self.blocked() {
                return None;
            }
        }
    }

    /// Closes the connection, within `limit`. A blocked one is only let go.
    pub(super) async fn close(&self, limit: Duration) {
        let connection = self.connection();
        if !connection.status().blocked() {
            let _ = timeout(limit, connection.close(200, "done".into())).await;
        }
    }
}

async fn publish(channel: &Channel, outgoing: &Outgoing) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let (queue, properties) = (short(&outgoing.queue), outgoing.properties.clone());
    channel.basic_publish("".into(), queue, options, &outgoing.body, properties).await?.await
}
