//! Queues: finding out that they exist, and making those that do not.
//!
//! A queue that exists is used as it is. Everything that the broker may answer with an error happens on a
//! throw-away channel, because an error closes the channel it is raised on.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use lapin::{
    Channel, Connection, ErrorKind,
    options::QueueDeclareOptions,
    protocol::AMQPErrorKind,
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

pub(crate) use super::counter::Counter;
use super::{
    delay_queues,
    delay_refusals::Refusal,
    foreign_queues::{ForeignQueues, QueueTraits},
};
use crate::{
    clock::Clock,
    limits::KNOWN_QUEUES,
    task::is_queue_name,
    transport::{
        Error, QueueSetup,
        amqp::connect::address::{PATIENCE, code, said},
        refusal,
    },
};

/// Requeues that a quorum queue of ours bears: all that there can be (listing dead letters requeues them).
pub(crate) const DELIVERY_LIMIT: i32 = 1_000_000;
/// A week: the longest time limit of a task that makes sense in a queue.
const CONSUMER_TIMEOUT: i32 = 604_800_000;

/// How long dead letters are kept in a queue of which that is not known, as far as warnings go.
const UNKNOWN: Option<u64> = Some(0);

/// Queues that are made sure of at a time.
const LANES: usize = 16;

/// Tries to open a channel.
const CHANNEL_TRIES: u32 = 20;

/// A queue of ours, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnQueue {
    /// A work queue.
    Work(String),
    /// Dead letters.
    Dead(String),
    /// A step of the ladder of a work queue, in milliseconds.
    Delay(String, u64),
}

impl OwnQueue {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Work(name) | Self::Dead(name) => name.clone(),
            Self::Delay(queue, step) => delay_queues::name(queue, *step),
        }
    }
}

/// The name of the queue that the broker itself dead-letters to.
pub(crate) fn dead_name(queue: &str) -> String {
    format!("{queue}_failed")
}

/// The arguments of a queue: constants, so that whoever comes first declares the same.
pub(crate) fn arguments(own_queue: &OwnQueue) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut table = FieldTable::default();
    let mut put = |name: &'static str, value| {
        table.insert(name.into(), value);
    };
    put("x-queue-type", text("quorum"));
    let target = match own_queue {
        OwnQueue::Dead(_) => None,
        OwnQueue::Work(queue) => Some(dead_name(queue)),
        OwnQueue::Delay(queue, _) => Some(queue.clone()),
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
        OwnQueue::Delay(_, step) => {
            put("x-message-ttl", AMQPValue::LongInt(i32::try_from(*step).unwrap_or(i32::MAX)));
        }
    }
    table
}

/// Why a question to the broker got no good answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The queue does not exist, and may not be made here.
    Absent(String),
    /// We lack a permission.
    Forbidden(String),
    /// The broker said no to this alone, and closed the channel that it was asked on. The connection is well.
    Refused(String),
    /// No answer came in time: the queue has perhaps no leader just now, or the connection is dead.
    TimedOut(String),
    /// The broker or the connection said this.
    Broken(String),
}

impl Fault {
    /// In words, for whom the class makes no difference.
    pub(crate) fn cause(self) -> String {
        match self {
            Self::Absent(queue) => format!("queue \"{queue}\" does not exist"),
            Self::Forbidden(cause) | Self::Refused(cause) | Self::TimedOut(cause) | Self::Broken(cause) => cause,
        }
    }

    /// The error for a queue that cannot be had because of this.
    pub(crate) fn of_queue(self, queue: &str) -> Error {
        match self {
            Self::Absent(queue) => Error::NoSuchQueue { queue },
            fault => Error::QueueRefused { queue: queue.to_owned(), cause: fault.cause() },
        }
    }

    pub(crate) fn of(error: &lapin::Error) -> Self {
        match error.kind() {
            _ if code(error) == Some(403) => Self::Forbidden(refusal::words(&said(error))),
            ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)) => {
                Self::Refused(error.get_message().to_string())
            }
            ErrorKind::IOError(cause) if cause.kind() == std::io::ErrorKind::TimedOut => Self::TimedOut(said(error)),
            _ => Self::Broken(said(error)),
        }
    }
}

/// Waits for an answer of the broker, but not for ever.
pub(crate) async fn answer<T>(question: impl Future<Output = lapin::Result<T>>) -> Result<T, lapin::Error> {
    match timeout(PATIENCE, question).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the broker does not answer within 10 s").into())
        }
    }
}

/// Opens a channel. lapin keeps the error of a channel that the broker has closed, and answers with it whoever opens one of
/// the same number, which comes round after the broker's 2,047 (4.12.3). The next number may be good; where many in a
/// row are not, the connection is of no use any more.
pub(crate) async fn open_channel(connection: &Connection) -> Result<Channel, lapin::Error> {
    for _ in 0..CHANNEL_TRIES {
        match answer(connection.create_channel()).await {
            Err(error) if is_of_a_channel(&error) => {}
            answer => return answer,
        }
    }
    Err(std::io::Error::other("the connection has had too many channels that were closed by the broker").into())
}

/// Whether an error closes one channel, not its connection.
fn is_of_a_channel(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)))
}

/// A queue's or tag's name as the protocol wants it. Names are checked long before; one that is too long is cut.
pub(crate) fn short(name: &str) -> ShortString {
    ShortString::try_new(name).unwrap_or_else(|_| name[..name.floor_char_boundary(255)].into())
}

/// What this session knows about queues.
pub(crate) struct Topology {
    /// `declare: passive`: nothing is made.
    passive: bool,
    known: RefCell<HashSet<String>>,
    /// Delay queues that are not to be had: each question costs channels, of which a connection has only so many.
    pub(crate) refusals: RefCell<HashMap<String, Refusal>>,
    pub(crate) clock: Clock,
    /// What the process knows about those that others have declared.
    pub(crate) foreign_queues: Rc<ForeignQueues>,
    /// One declares a queue at a time, so that many moves to a missing queue make it once.
    turns: RefCell<HashMap<String, Rc<tokio::sync::Mutex<()>>>>,
    /// So many queues are asked for at a time, each of which takes a channel. One that gives no answer must not hold up others.
    lanes: tokio::sync::Semaphore,
}

impl Topology {
    pub(crate) fn new(passive: bool, foreign_queues: Rc<ForeignQueues>) -> Self {
        Self {
            passive,
            foreign_queues,
            known: RefCell::default(),
            refusals: RefCell::default(),
            clock: Clock::start(),
            turns: RefCell::default(),
            lanes: tokio::sync::Semaphore::new(LANES),
        }
    }

    /// Whether a queue of this name was seen or made in this session.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.known.borrow().contains(name)
    }

    /// Workers choose names of queues: when there are too many, they are asked for again.
    fn know(&self, name: String) {
        let mut known = self.known.borrow_mut();
        if known.len() >= KNOWN_QUEUES {
            known.clear();
        }
        known.insert(name);
    }

    /// The queue turned out to be gone.
    pub(crate) fn forget(&self, own_queue: &OwnQueue) {
        self.refusals.borrow_mut().remove(&own_queue.name());
        self.known.borrow_mut().remove(&own_queue.name());
        self.foreign_queues.forget(&own_queue.name());
    }

    /// Why a delay queue is not to be used, as far as it is known.
    pub(crate) fn refusal(&self, queue: &str) -> Option<String> {
        self.foreign_queues.of(queue).refusal
    }

    /// What an existing queue is like. One that is as we declare it is found to be so without a line in the broker's log.
    pub(crate) async fn look(&self, connection: &Connection, own_queue: &OwnQueue) -> Result<QueueTraits, Fault> {
        self.foreign_queues.look(connection, own_queue, !self.passive, UNKNOWN).await
    }

    /// Makes sure that a queue exists, and before it the queue that it dead-letters to. A delay queue that does not lead back
    /// is refused.
    pub(crate) async fn ensure(&self, connection: &Connection, own_queue: &OwnQueue) -> Result<(), Fault> {
        if self.known.borrow().contains(&own_queue.name()) {
            return Ok(());
        }
        if matches!(own_queue, OwnQueue::Delay(..))
            && let Some(fault) = self.still_refused(connection, own_queue).await
        {
            return Err(fault);
        }
        let made = self.make(connection, own_queue, UNKNOWN).await;
        if let (OwnQueue::Delay(..), Err(fault @ (Fault::Absent(_) | Fault::Forbidden(_) | Fault::Refused(_)))) =
            (own_queue, &made)
        {
            self.refuse(own_queue.name(), fault.clone());
        }
        made
    }

    /// Whose turn it is to make a queue, and those that belong to it.
    fn turn(&self, own_queue: &OwnQueue) -> Rc<tokio::sync::Mutex<()>> {
        let (OwnQueue::Work(queue) | OwnQueue::Delay(queue, _) | OwnQueue::Dead(queue)) = own_queue;
        let mut turns = self.turns.borrow_mut();
        turns.retain(|_, turn| Rc::strong_count(turn) > 1);
        Rc::clone(turns.entry(queue.clone()).or_default())
    }

    /// The same; dead letters are to be kept so long there, in milliseconds.
    async fn make(&self, connection: &Connection, own_queue: &OwnQueue, keep: Option<u64>) -> Result<(), Fault> {
        let turn = self.turn(own_queue);
        let _turn = turn.lock().await;
        // It is never closed.
        let _lane = self.lanes.acquire().await;
        match own_queue {
            // What someone else declares may dead-letter wherever they like.
            _ if self.passive => {}
            OwnQueue::Dead(_) => {}
            OwnQueue::Work(queue) => self.one(connection, &OwnQueue::Dead(dead_name(queue)), keep).await?,
            OwnQueue::Delay(queue, _) => {
                self.one(connection, &OwnQueue::Dead(dead_name(queue)), keep).await?;
                self.one(connection, &OwnQueue::Work(queue.clone()), UNKNOWN).await?;
            }
        }
        self.one(connection, own_queue, keep).await
    }

    /// Makes sure of all queues that a master needs to work this one.
    pub(crate) async fn provide(&self, connection: &Connection, queue: &QueueSetup) -> Result<(), Fault> {
        self.foreign_queues.is_worked(&queue.name);
        self.foreign_queues.is_worked(&queue.dead.name);
        let keep = queue.dead.keep.map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        self.make(connection, &OwnQueue::Dead(queue.dead.name.clone()), keep).await?;
        if !self.passive {
            self.make(connection, &OwnQueue::Dead(dead_name(&queue.name)), keep).await?;
        }
        self.ensure(connection, &OwnQueue::Work(queue.name.clone())).await?;
        for step in delay_queues::reached(&queue.delays) {
            let own_queue = OwnQueue::Delay(queue.name.clone(), step);
            match self.make(connection, &own_queue, keep).await {
                // Tasks take another step.
                Err(Fault::Refused(_)) if self.refusal(&own_queue.name()).is_some() => {}
                made => made?,
            }
        }
        Ok(())
    }

    /// A queue is gone: it and all that belongs to it are to be looked for anew.
    pub(crate) fn forget_all(&self, queue: &QueueSetup) {
        let mut known = self.known.borrow_mut();
        known.remove(&queue.name);
        known.remove(&queue.dead.name);
        known.remove(&dead_name(&queue.name));
        for step in delay_queues::STEPS {
            known.remove(&delay_queues::name(&queue.name, step));
        }
    }

    async fn one(&self, connection: &Connection, own_queue: &OwnQueue, keep: Option<u64>) -> Result<(), Fault> {
        let name = own_queue.name();
        if self.known.borrow().contains(&name) {
            return Ok(());
        }
        let mut said_last = "it comes and goes".to_owned();
        // Twice: a queue may come or go between the question and the act.
        for _ in 0..2 {
            let mut counter = Counter::new(connection);
            if counter.ready(&name).await?.is_some() {
                if self.foreign_queues.are_wanted(own_queue)
                    && let Some(refusal) =
                        self.foreign_queues.look(connection, own_queue, !self.passive, keep).await?.refusal
                {
                    return Err(Fault::Refused(refusal));
                }
                self.know(name);
                return Ok(());
            }
            self.foreign_queues.forget(&name);
            if self.passive || matches!(own_queue, OwnQueue::Work(name) if !is_queue_name(name)) {
                return Err(Fault::Absent(name));
            }
            let channel = open_channel(connection).await.map_err(|error| Fault::of(&error))?;
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            match answer(channel.queue_declare(short(&name), options, arguments(own_queue))).await {
                Ok(_) => {
                    close(&channel);
                    self.know(name);
                    return Ok(());
                }
                // Someone was faster, with other arguments: look again.
                Err(error) if code(&error) == Some(406) => said_last = said(&error),
                Err(error) => return Err(Fault::of(&error)),
            }
        }
        Err(Fault::Refused(format!("queue \"{name}\" can neither be found nor made: {said_last}")))
    }
}

/// Whether a queue exists. If it does not, the channel is closed by the broker.
pub(crate) async fn exists(channel: &Channel, queue: &str) -> Result<bool, Fault> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    match answer(channel.queue_declare(short(queue), options, FieldTable::default())).await {
        Ok(_) => Ok(true),
        Err(error) if code(&error) == Some(404) => Ok(false),
        Err(error) => Err(Fault::of(&error)),
    }
}

/// Closes a channel without waiting for the answer.
pub(crate) fn close(channel: &Channel) {
    let channel = channel.clone();
    tokio::task::spawn_local(async move {
        let _ = timeout(PATIENCE, channel.close(200, "done".into())).await;
    });
}
