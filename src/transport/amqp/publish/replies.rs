//! Answers to those who wait at a queue for the result of a task: sent once, and never in the way of anything else.
//!
//! They go out on the publishing connection, on a channel of their own, unconfirmed and not mandatory: the queue may be gone
//! with whoever waited there, and the broker then drops the answer. Whatever happens to the channel costs the answers that were on
//! it, and another channel is opened for the next; what comes faster than it can be sent is dropped, and so is what comes
//! while the broker takes nothing from publishers.

use std::{cell::Cell, rc::Rc, time::Duration};

use lapin::{BasicProperties, Channel, options::BasicPublishOptions, types::ShortString};
use tokio::sync::mpsc;

use crate::{
    celery::message::{CONTENT_ENCODING, CONTENT_TYPE},
    transport::amqp::{
        broker_error::{answer, describe},
        connect::channel::open_channel,
        session::{
            connections::Session,
            note::{Notes, SessionNote},
        },
    },
};

/// Answers that wait to be sent.
const WAITING: usize = 1024;
/// Bytes of them.
const WAITING_BYTES: usize = 64 << 20;
/// After an error nothing is sent for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) queue: String,
    pub(crate) correlation_id: String,
    pub(crate) body: Vec<u8>,
}

/// Takes answers for the rest of a session.
#[derive(Clone)]
pub(crate) struct Replies {
    waiting: mpsc::Sender<Answer>,
    unsent: Rc<Unsent>,
}

/// What was taken and is neither sent nor dropped.
#[derive(Default)]
struct Unsent {
    answers: Cell<usize>,
    bytes: Cell<usize>,
}

impl Unsent {
    fn add(&self, answer: &Answer) {
        self.answers.set(self.answers.get() + 1);
        self.bytes.set(self.bytes.get() + answer.body.len());
    }

    fn remove(&self, answer: &Answer) {
        self.answers.set(self.answers.get() - 1);
        self.bytes.set(self.bytes.get() - answer.body.len());
    }
}

impl Replies {
    /// With the work that sends what is taken; it ends with the session.
    pub(crate) fn new(session: Rc<Session>, notes: Notes) -> (Self, impl Future<Output = ()> + 'static) {
        let (sender, waiting) = mpsc::channel(WAITING);
        let unsent = Rc::<Unsent>::default();
        (Self { waiting: sender, unsent: Rc::clone(&unsent) }, send(session, notes, waiting, unsent))
    }

    /// Takes an answer, if there is room for it.
    pub(crate) fn take(&self, answer: Answer) {
        let bytes = self.unsent.bytes.get();
        self.unsent.add(&answer);
        let is_too_much = bytes > 0 && self.unsent.bytes.get() > WAITING_BYTES;
        let refused = if is_too_much {
            Some(answer)
        } else {
            self.waiting.try_send(answer).err().map(mpsc::error::TrySendError::into_inner)
        };
        if let Some(answer) = refused {
            tracing::debug!(target: "asynctask::amqp", "an answer for queue {} is dropped: too many wait", answer.queue);
            self.unsent.remove(&answer);
        }
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.unsent.answers.get() == 0
    }
}

async fn send(session: Rc<Session>, notes: Notes, mut waiting: mpsc::Receiver<Answer>, unsent: Rc<Unsent>) {
    let mut channel: Option<Channel> = None;
    while let Some(answer) = waiting.recv().await {
        let sent = one(&session, &mut channel, &answer).await;
        unsent.remove(&answer);
        if let Err(error) = sent {
            tracing::debug!(target: "asynctask::amqp", "an answer was not sent: {}", describe(&error));
            channel = None;
        }
        if unsent.answers.get() == 0 {
            // A close may wait for that.
            let _ = notes.send(SessionNote::Replied.of(session.number));
        }
        if channel.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Sends one, unless the broker takes nothing.
async fn one(session: &Session, channel: &mut Option<Channel>, answer: &Answer) -> Result<(), lapin::Error> {
    if session.publisher.blocked() {
        return Ok(());
    }
    // The connection may be another one by now, and the broker may have closed the channel.
    let open = match channel.take().filter(|channel| channel.status().connected()) {
        Some(open) => open,
        None => open_channel(&session.publisher.connection()).await?,
    };
    publish(&open, answer).await?;
    *channel = Some(open);
    Ok(())
}

async fn publish(channel: &Channel, sent: &Answer) -> Result<(), lapin::Error> {
    // No queue has such a name, and no message such an id.
    let (Ok(queue), Ok(id)) =
        (ShortString::try_new(sent.queue.as_str()), ShortString::try_new(sent.correlation_id.as_str()))
    else {
        return Ok(());
    };
    let properties = BasicProperties::default()
        .with_delivery_mode(1)
        .with_content_type(CONTENT_TYPE.into())
        .with_content_encoding(CONTENT_ENCODING.into())
        .with_correlation_id(id);
    let options = BasicPublishOptions::default();
    answer(channel.basic_publish("".into(), queue, options, &sent.body, properties)).await.map(drop)
}
