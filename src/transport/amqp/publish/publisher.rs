//! Publishing that is answered: every message is persistent, mandatory, and waited for until the broker confirms it.
//!
//! What the limits here come from (lapin 4.12.3, RabbitMQ 3.10.8):
//!
//! - The library attaches the return of one pipelined publish to the confirm of another: of 800 messages to queues that did not
//!   exist 22 came back as confirmed, and 22 good ones with the return of another. So a *single* keeps one publish outstanding on
//!   its channel, and a *window* of at most 256 counts only when all its confirms are positive and nothing was returned.
//! - A publish that timed out on a blocked connection is still sent when the broker unblocks it: no answer means *unknown*, never
//!   *not stored*.
//! - A channel on which a quorum queue was full goes on refusing when the limit is lifted: another one is taken.

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

use super::bulk_results::MessageState;
use crate::transport::{
    Error,
    amqp::{
        broker_error::{ANSWER_TIMEOUT, answer, describe, reply_code},
        connect::{
            address::Address,
            channel::{close, open_channel, short},
        },
    },
};

/// Channels that publish at the same time.
const CHANNELS: usize = 8;
/// Messages that a window holds.
pub(crate) const WINDOW: usize = 256;

/// A message on its way to a queue.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) queue: String,
    /// Shared, as the body is: what is sent in windows is kept until it is confirmed, and a page of items is a thousand of these.
    pub(crate) properties: Rc<BasicProperties>,
    pub(crate) body: Rc<[u8]>,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Published {
    /// Confirmed.
    Stored,
    /// There is no such queue.
    Returned,
    /// The queue did not take it: full.
    Nacked,
    /// The broker refused the message itself; asking again changes nothing.
    Refused(String),
    /// No answer.
    Unknown {
        /// The connection that it went out on.
        line: u64,
        why: Unconfirmed,
    },
}

/// Why no answer came.
#[derive(Debug)]
pub(crate) enum Unconfirmed {
    /// It was not even sent.
    Unsent(String),
    /// The connection or the channel ended: it may be stored or not.
    Broken(String),
    /// Not in time: it may be stored or not, now or later.
    Late(String),
}

impl Unconfirmed {
    pub(crate) fn cause(self) -> String {
        let (Self::Unsent(cause) | Self::Broken(cause) | Self::Late(cause)) = self;
        cause
    }
}

/// How a window went. But for `Unanswered`, what is known of each of its messages is known for good.
pub(crate) enum WindowOutcome {
    /// All are stored.
    Stored,
    /// Some were returned, or not taken.
    Partial,
    /// The broker refused one of them, and took none of those behind it.
    Refused,
    /// Some were not answered.
    Unanswered(Unconfirmed),
}

/// The publishing connection and its channels.
pub(crate) struct Publisher {
    address: Rc<Address>,
    connection: RefCell<Rc<Connection>>,
    /// Counts the connections; a channel of an earlier one is not used again.
    line: Cell<u64>,
    idle: RefCell<Vec<(u64, Channel)>>,
    permits: Semaphore,
    reconnecting: Mutex<()>,
    /// Length of the longest body that was confirmed.
    largest: Cell<usize>,
    /// Why the broker takes nothing for now, in its words.
    blocked_reason: RefCell<Option<String>>,
}

impl Publisher {
    pub(crate) async fn connect(address: &Rc<Address>) -> Result<Self, Error> {
        let connection = address.connect("publisher").await?;
        Ok(Self {
            address: Rc::clone(address),
            connection: RefCell::new(Rc::new(connection)),
            line: Cell::new(1),
            idle: RefCell::default(),
            permits: Semaphore::new(CHANNELS),
            reconnecting: Mutex::new(()),
            largest: Cell::new(0),
            blocked_reason: RefCell::default(),
        })
    }

    /// The connection of the moment.
    pub(crate) fn connection(&self) -> Rc<Connection> {
        Rc::clone(&self.connection.borrow())
    }

    /// Whether the broker has stopped reading from us: a memory or disk alarm.
    pub(crate) fn blocked(&self) -> bool {
        self.connection.borrow().status().blocked()
    }

    /// The broker takes nothing from publishers, for this reason, or again something.
    pub(crate) fn set_blocked_reason(&self, reason: Option<String>) {
        self.blocked_reason.replace(reason);
    }

    /// The longest body that the broker is known to take.
    pub(crate) fn largest(&self) -> usize {
        self.largest.get()
    }

    fn confirmed(&self, publication: &Publication) {
        self.largest.set(self.largest.get().max(publication.body.len()));
    }

    /// The error of a message that is not to be sent again.
    pub(crate) fn error(&self, why: Unconfirmed) -> Error {
        match why {
            Unconfirmed::Late(cause) => Error::Unconfirmed { uri: self.address.shown().to_owned(), cause },
            Unconfirmed::Unsent(cause) | Unconfirmed::Broken(cause) => self.address.lost(cause),
        }
    }

    fn late(&self) -> Unconfirmed {
        Unconfirmed::Late(match (self.blocked(), &*self.blocked_reason.borrow()) {
            (false, _) => format!("no answer within {} s", self.address.patience().as_secs_f64()),
            (true, reason) => blocked_text(reason.as_deref().unwrap_or_default()),
        })
    }

    /// Replaces a connection that did not answer, unless that was done already. What was sent on the old one may
    /// still arrive.
    pub(crate) async fn reconnect(&self, line: u64) -> Result<(), Error> {
        let _one = self.reconnecting.lock().await;
        if self.line.get() != line {
            return Ok(());
        }
        let fresh = Rc::new(self.address.connect("publisher").await?);
        let old = self.connection.replace(fresh);
        self.line.set(line + 1);
        self.idle.borrow_mut().clear();
        tokio::task::spawn_local(async move {
            let _ = timeout(ANSWER_TIMEOUT, old.close(200, "replaced".into())).await;
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
    pub(crate) async fn single(&self, publication: &Publication) -> Published {
        let _permit = self.permits.acquire().await;
        let line = self.line.get();
        let (line, channel) = match self.channel().await {
            Ok(taken) => taken,
            Err(error) => return Published::Unknown { line, why: Unconfirmed::Unsent(describe(&error)) },
        };
        match self.await_confirms(publish(&channel, publication)).await {
            None => Published::Unknown { line, why: self.late() },
            Some(Err(error)) if matches!(reply_code(&error), Some(406 | 403)) => Published::Refused(describe(&error)),
            Some(Err(error)) => Published::Unknown { line, why: Unconfirmed::Broken(describe(&error)) },
            Some(Ok(confirmation)) => {
                if matches!(confirmation, Confirmation::Nack(_)) {
                    // RabbitMQ keeps in the channel that a quorum queue was full, and goes on refusing there when the
                    // limit is lifted (measured on 3.10.8): the next try takes another channel.
                    close(&channel);
                } else {
                    self.give_back(line, channel);
                }
                match confirmation {
                    Confirmation::Ack(None) => {
                        self.confirmed(publication);
                        Published::Stored
                    }
                    Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Published::Returned,
                    Confirmation::Nack(None) => Published::Nacked,
                    // Our channels are all in confirm mode.
                    Confirmation::NotRequested => {
                        Published::Unknown { line, why: Unconfirmed::Broken("the channel does not confirm".to_owned()) }
                    }
                }
            }
        }
    }

    /// Publishes many at once. `true`: all are stored. `false`: some may be, each must be published again.
    pub(crate) async fn window(&self, window: &[Publication]) -> bool {
        matches!(self.window_of(window, |_, _| {}).await, WindowOutcome::Stored)
    }

    /// Publishes many at once, in their order, and tells of each, by its position, what is known as soon as it is.
    pub(crate) async fn window_of(&self, window: &[Publication], tell: impl Fn(usize, MessageState)) -> WindowOutcome {
        debug_assert!(window.len() <= WINDOW, "a window is bounded");
        let _permit = self.permits.acquire().await;
        let (line, channel) = match self.channel().await {
            Ok(taken) => taken,
            Err(error) => return WindowOutcome::Unanswered(Unconfirmed::Unsent(describe(&error))),
        };
        // Polled in order, so published in order.
        let all = join_all(window.iter().enumerate().map(|(position, publication)| {
            let (channel, tell) = (&channel, &tell);
            async move {
                let confirmation = publish(channel, publication).await;
                match confirmation {
                    Ok(Confirmation::Ack(None)) => tell(position, MessageState::Stored),
                    Ok(Confirmation::Nack(None)) => tell(position, MessageState::Absent),
                    _ => {}
                }
                confirmation
            }
        }));
        let Some(confirmations) = self.await_confirms(all).await else { return WindowOutcome::Unanswered(self.late()) };
        if confirmations.iter().all(|one| matches!(one, Ok(Confirmation::Ack(None)))) {
            self.give_back(line, channel);
            for publication in window {
                self.confirmed(publication);
            }
            return WindowOutcome::Stored;
        }
        close(&channel);
        let returned = |one: &lapin::Result<Confirmation>| {
            matches!(one, Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))))
        };
        if confirmations.iter().any(returned) {
            // It may belong to another of them.
            (0..window.len()).for_each(|position| tell(position, MessageState::Sent));
            return WindowOutcome::Partial;
        }
        match confirmations.into_iter().find_map(Result::err) {
            None => WindowOutcome::Partial,
            Some(error) if matches!(reply_code(&error), Some(406 | 403)) => WindowOutcome::Refused,
            Some(error) => WindowOutcome::Unanswered(Unconfirmed::Broken(describe(&error))),
        }
    }

    /// Waits 10 s, and on for as long as the broker says that it blocks publishers: what was sent is only late then. A
    /// client's patience has an end.
    async fn await_confirms<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut left = self.address.longest_block();
        loop {
            let step = self.address.patience().min(left);
            if let Ok(done) = timeout(step, &mut work).await {
                return Some(done);
            }
            left = left.saturating_sub(step);
            if !self.blocked() || left.is_zero() {
                return None;
            }
        }
    }

    /// Closes the connection, within `limit`. A blocked one is only let go.
    pub(crate) async fn close(&self, limit: Duration) {
        let connection = self.connection();
        if !connection.status().blocked() {
            let _ = timeout(limit, connection.close(200, "done".into())).await;
        }
    }
}

/// Why publishers wait, in words.
pub(crate) fn blocked_text(reason: &str) -> String {
    let reason = if reason.is_empty() { "it has not said why" } else { reason };
    format!("the broker takes nothing from publishers for now ({reason})")
}

async fn publish(channel: &Channel, publication: &Publication) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let (queue, properties) = (short(&publication.queue), BasicProperties::clone(&publication.properties));
    channel.basic_publish("".into(), queue, options, &publication.body, properties).await?.await
}
