//! Queues: finding out that they exist, and making those that do not.
//!
//! A queue that exists is used as it is. Everything that the broker may answer with an error happens on a
//! throw-away channel, because an error closes the channel it is raised on.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use lapin::{Channel, Connection, options::QueueDeclareOptions, types::FieldTable};

use super::{
    counter::Counter,
    delay_queues,
    delay_refusals::Refusals,
    foreign_queues::{ForeignQueues, QueueTraits},
    own_queue::{OwnQueue, arguments, dead_name},
};
use crate::{
    clock::Clock,
    limits::KNOWN_QUEUES,
    task::is_queue_name,
    transport::{
        QueueSetup,
        amqp::{
            broker_error::{Fault, answer, describe, reply_code},
            connect::channel::{close, open_channel, short},
        },
    },
};

/// The retention that a dead-letter queue is checked against where the configured one is not known: no warning.
const UNKNOWN: Option<u64> = Some(0);

/// How many queues are declared at the same time.
const LANES: usize = 16;

/// Which queues exist, as far as this session knows.
pub(crate) struct Topology {
    /// `declare: passive`: nothing is made.
    passive: bool,
    known: RefCell<HashSet<String>>,
    /// Queues of Celery's with their exchanges, to which they were bound in this session.
    bound: RefCell<HashSet<(String, String)>>,
    /// Delay queues that cannot be used: each question costs channels, of which a connection has only so many.
    refusals: Refusals,
    clock: Clock,
    /// What the process knows about those that others have declared.
    pub(crate) foreign_queues: Rc<ForeignQueues>,
    /// A queue is declared by one task at a time, so that many moves to a missing queue make it once.
    turns: RefCell<HashMap<String, Rc<tokio::sync::Mutex<()>>>>,
    /// Bounds how many queues are declared at the same time, each of which takes a channel.
    lanes: tokio::sync::Semaphore,
}

impl Topology {
    pub(crate) fn new(passive: bool, foreign_queues: Rc<ForeignQueues>) -> Self {
        Self {
            passive,
            foreign_queues,
            known: RefCell::default(),
            bound: RefCell::default(),
            refusals: Refusals::default(),
            clock: Clock::start(),
            turns: RefCell::default(),
            lanes: tokio::sync::Semaphore::new(LANES),
        }
    }

    /// Whether nothing is made.
    pub(crate) const fn is_passive(&self) -> bool {
        self.passive
    }

    /// Whether a queue of this name was seen or made in this session.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.known.borrow().contains(name)
    }

    /// Bounded, since workers choose names of queues: what is forgotten is asked for again.
    fn know(&self, name: String) {
        let mut known = self.known.borrow_mut();
        if known.len() >= KNOWN_QUEUES {
            known.clear();
        }
        known.insert(name);
    }

    /// The queue does not exist any more.
    pub(crate) fn forget(&self, own_queue: &OwnQueue) {
        self.refusals.remove(&own_queue.name());
        self.known.borrow_mut().remove(&own_queue.name());
        self.bound.borrow_mut().retain(|(queue, _)| *queue != own_queue.name());
        self.foreign_queues.forget(&own_queue.name());
    }

    /// Why a delay queue is not to be used, as far as it is known.
    pub(crate) fn refusal(&self, queue: &str) -> Option<String> {
        self.foreign_queues.of(queue).refusal
    }

    /// The traits of an existing queue. One that is as we declare it is found to be so without a line in the broker's log.
    pub(crate) async fn look(&self, connection: &Connection, own_queue: &OwnQueue) -> Result<QueueTraits, Fault> {
        self.foreign_queues.look(connection, own_queue, !self.passive, UNKNOWN).await
    }

    /// Makes sure that a queue exists, and before it the queue that it dead-letters to. A delay queue that does not lead back
    /// is refused.
    pub(crate) async fn ensure(&self, connection: &Connection, own_queue: &OwnQueue) -> Result<(), Fault> {
        if self.known.borrow().contains(&own_queue.name()) {
            return Ok(());
        }
        if own_queue.leads_back().is_some()
            && let Some(fault) = self.still_refused(connection, own_queue).await
        {
            return Err(fault);
        }
        let made = self.make(connection, own_queue, UNKNOWN).await;
        if let (Some(_), Err(fault @ (Fault::Absent(_) | Fault::Forbidden(_) | Fault::Refused(_)))) =
            (own_queue.leads_back(), &made)
        {
            self.refusals.add(own_queue.name(), fault.clone(), self.clock.now().at);
        }
        made
    }

    /// Why a delay queue cannot be used, unless it is time to ask again: a person may have deleted one that was
    /// refused, or declared it in another way.
    async fn still_refused(&self, connection: &Connection, own_queue: &OwnQueue) -> Option<Fault> {
        let name = own_queue.name();
        let known = self.refusals.get(&name);
        let refusal = known.or_else(|| {
            Some(self.refusals.add(name.clone(), Fault::Refused(self.refusal(&name)?), self.clock.now().at))
        })?;
        let now = self.clock.now().at;
        if !refusal.may_be_over(now) {
            return Some(refusal.fault);
        }
        self.refusals.look(&name, now);
        // One that is there is found to be so at no cost.
        match Counter::new(connection).ready(&name).await {
            Ok(None) => self.forget(own_queue),
            Ok(Some(_)) if refusal.is_old(now) => {
                self.refusals.remove(&name);
                self.foreign_queues.look_again(&name);
            }
            Ok(Some(_)) | Err(_) => return Some(refusal.fault),
        }
        None
    }

    /// A queue that was refused may be usable by now.
    pub(crate) fn ask_again(&self, own_queue: &OwnQueue) {
        // One that was seen not to lead back is looked for in its time.
        if self.refusal(&own_queue.name()).is_none() {
            self.refusals.remove(&own_queue.name());
        }
    }

    /// The lock for declaring a queue and those that belong to it.
    fn turn(&self, own_queue: &OwnQueue) -> Rc<tokio::sync::Mutex<()>> {
        let (OwnQueue::Work(queue) | OwnQueue::Delay(queue, _) | OwnQueue::Frozen(queue) | OwnQueue::Dead(queue)) =
            own_queue;
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
            // With `declare: passive` the operator decides where it dead-letters to.
            _ if self.passive => {}
            OwnQueue::Dead(_) => {}
            OwnQueue::Work(queue) if self.is_celery(queue) => {}
            OwnQueue::Work(queue) => self.one(connection, &OwnQueue::Dead(dead_name(queue)), keep).await?,
            OwnQueue::Delay(queue, _) | OwnQueue::Frozen(queue) if self.is_celery(queue) => {
                self.one(connection, &OwnQueue::Work(queue.clone()), UNKNOWN).await?;
                self.bind(connection, queue).await?;
            }
            OwnQueue::Delay(queue, _) | OwnQueue::Frozen(queue) => {
                self.one(connection, &OwnQueue::Dead(dead_name(queue)), keep).await?;
                self.one(connection, &OwnQueue::Work(queue.clone()), UNKNOWN).await?;
            }
        }
        self.one(connection, own_queue, keep).await?;
        match own_queue {
            OwnQueue::Work(queue) => self.bind(connection, queue).await,
            OwnQueue::Dead(_) | OwnQueue::Delay(..) | OwnQueue::Frozen(_) => Ok(()),
        }
    }

    /// Whether a queue's messages are Celery's: then it dead-letters nowhere.
    fn is_celery(&self, queue: &str) -> bool {
        self.foreign_queues.celery.of(queue).is_some()
    }

    /// Binds a queue of Celery's to its exchange, once in a session.
    async fn bind(&self, connection: &Connection, queue: &str) -> Result<(), Fault> {
        let celery = &self.foreign_queues.celery;
        let Some(exchange) = celery.of(queue).map(|celery| celery.exchange.clone()) else { return Ok(()) };
        let binding = (queue.to_owned(), exchange);
        if self.passive || self.bound.borrow().contains(&binding) {
            return Ok(());
        }
        if let Some(text) = celery.bind(connection, queue).await? {
            self.foreign_queues.tell(text);
        }
        self.bound.borrow_mut().insert(binding);
        Ok(())
    }

    /// Declares all queues that a master needs to consume this one, where they do not exist.
    pub(crate) async fn provide(&self, connection: &Connection, queue: &QueueSetup) -> Result<(), Fault> {
        self.foreign_queues.is_worked(&queue.name);
        self.foreign_queues.is_worked(&queue.dead.name);
        let keep = queue.dead.keep.map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        self.make(connection, &OwnQueue::Dead(queue.dead.name.clone()), keep).await?;
        self.foreign_queues.celery.set(&queue.name, &queue.protocol);
        if !self.passive && !queue.protocol.is_celery() {
            self.make(connection, &OwnQueue::Dead(dead_name(&queue.name)), keep).await?;
        }
        self.ensure(connection, &OwnQueue::Work(queue.name.clone())).await?;
        // Its exchange may be another one by now.
        self.bind(connection, &queue.name).await?;
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
        self.bound.borrow_mut().retain(|(bound, _)| *bound != queue.name);
        for step in delay_queues::STEPS {
            known.remove(&delay_queues::name(&queue.name, step));
        }
        known.remove(&OwnQueue::Frozen(queue.name.clone()).name());
    }

    fn arguments(&self, own_queue: &OwnQueue) -> FieldTable {
        arguments(own_queue, self.foreign_queues.celery.of(&own_queue.name()).as_deref())
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
            match answer(channel.queue_declare(short(&name), options, self.arguments(own_queue))).await {
                Ok(_) => {
                    close(&channel);
                    self.know(name);
                    return Ok(());
                }
                // Declared meanwhile with other arguments: look again.
                Err(error) if reply_code(&error) == Some(406) => said_last = describe(&error),
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
        Err(error) if reply_code(&error) == Some(404) => Ok(false),
        Err(error) => Err(Fault::of(&error)),
    }
}
