//! The connections of one session, and how they are built.
//!
//! A session is given up whole and another one is built, for these reasons (lapin 4.12.3, measured where nothing else is said):
//!
//! - The library's own recovery (`enable_auto_recover`) leaves a stream silent for ever after an error on its channel, and so does a
//!   queue that was declared with other arguments meanwhile; nothing tells of either.
//! - `ack()` on a lost connection answers `Ok(false)` and not an error, and the stream still hands out the deliveries that it had:
//!   10 prefetched tasks would be run in vain. `acker.usable()` tells.
//! - An error on one channel with traffic on others ended the whole connection in 3 of 6 tries.
//! - A connect to a peer that says nothing never returns, and a close of a blocked connection neither: there is a time limit around
//!   every one, and only a publishing connection that does not answer is replaced in place.
//!
//! There are two connections, because a broker that is short of memory or disk stops reading from those that publish, and then the
//! library writes nothing to them, acknowledgements included: with one connection for both they hung for more than 8 s each.
//! Each consumed queue has a channel of its own.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use lapin::{
    Channel, Connection, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use crate::transport::{
    Error, QueueSetup,
    amqp::{
        broker_error::{Fault, answer, describe},
        connect::{
            address::Address,
            channel::{open_channel, short},
        },
        publish::publisher::Publisher,
        queues::{
            foreign_queues::ForeignQueues,
            topology::{self, Topology},
        },
        session::local_turns::LocalTurns,
    },
};

/// What a session is to attach.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    /// By their index.
    pub(crate) queues: BTreeMap<usize, QueueSetup>,
    /// `declare: passive`.
    pub(crate) passive: bool,
}

/// The connections, and what is known on the other side of them.
pub(crate) struct Session {
    /// Names the session; notes of an earlier one mean nothing.
    pub(crate) number: u64,
    /// A client that consumes nothing has none.
    consumer: Option<Rc<Connection>>,
    pub(crate) publisher: Publisher,
    pub(crate) topology: Topology,
    /// Who goes through which queue.
    pub(crate) turns: LocalTurns,
}

/// A session just built, with one channel for each queue to consume, by its index.
pub(crate) struct BuiltSession {
    pub(crate) session: Rc<Session>,
    pub(crate) channels: BTreeMap<usize, Channel>,
    /// Queues that cannot be consumed, and why.
    pub(crate) refused: Vec<(usize, Fault)>,
    /// Queues that were not asked for, because another one gave no answer: they are to be opened beside the session.
    pub(crate) unasked: Vec<usize>,
}

/// A queue that can be worked.
pub(crate) struct OpenedQueue {
    pub(crate) channel: Channel,
    /// Where one was wanted: the proof that the broker lets us consume.
    pub(crate) consumer: Option<Consumer>,
    pub(crate) prefetch: u16,
}

impl Session {
    fn of(number: u64, consumer: Option<Rc<Connection>>, publisher: Publisher, topology: Topology) -> Self {
        Self { number, consumer, publisher, topology, turns: LocalTurns::default() }
    }

    /// Connects and, for a master, makes its queues. What the broker has against one of them is no reason not to work
    /// the others; but a queue that is absent at the very `first` session, and may not be made, is an error of the settings.
    pub(crate) async fn build(
        number: u64,
        address: Rc<Address>,
        wanted: Option<Attachment>,
        foreign_queues: Rc<ForeignQueues>,
        first: bool,
    ) -> Result<BuiltSession, Error> {
        let publisher = Publisher::connect(&address).await?;
        let Some(wanted) = wanted else {
            let session = Self::of(number, None, publisher, Topology::new(false, foreign_queues));
            return Ok(BuiltSession {
                session: Rc::new(session),
                channels: BTreeMap::new(),
                refused: Vec::new(),
                unasked: Vec::new(),
            });
        };
        let connection = Rc::new(address.connect("consumer").await?);
        foreign_queues.are_of_a_master();
        let topology = Topology::new(wanted.passive, foreign_queues);
        let (mut channels, mut refused, mut unasked) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (index, queue) in &wanted.queues {
            // Each that gives no answer would cost all others 10 s.
            if refused.iter().any(|(_, fault)| matches!(fault, Fault::TimedOut(_))) {
                unasked.push(*index);
                continue;
            }
            match topology.provide(&connection, queue).await {
                Ok(()) => {}
                Err(fault @ Fault::Broken(_)) => return Err(address.fault(&queue.name, fault)),
                Err(fault @ Fault::Absent(_)) if first => return Err(address.fault(&queue.name, fault)),
                Err(fault) => {
                    refused.push((*index, fault));
                    continue;
                }
            }
            let channel = open_channel(&connection).await;
            channels.insert(*index, channel.map_err(|error| address.lost(describe(&error)))?);
        }
        let session = Self::of(number, Some(connection), publisher, topology);
        Ok(BuiltSession { session: Rc::new(session), channels, refused, unasked })
    }

    /// The connection for questions and declares: the consuming one, which the broker never blocks, if there is one.
    pub(crate) fn reader(&self) -> Rc<Connection> {
        self.consumer.as_ref().map_or_else(|| self.publisher.connection(), Rc::clone)
    }

    /// Makes what one more queue needs, and a channel to consume it; with a `prefetch` also a consumer.
    pub(crate) async fn open(&self, queue: &QueueSetup, prefetch: u16, tag: String) -> Result<OpenedQueue, Fault> {
        let channel = self.opened(queue).await?;
        let mut consumer = None;
        if prefetch > 0 {
            let consume = async {
                answer(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
                let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
                answer(channel.basic_consume(short(&queue.name), short(&tag), options, arguments)).await
            };
            consumer = Some(consume.await.map_err(|error| Fault::of(&error))?);
        }
        Ok(OpenedQueue { channel, consumer, prefetch })
    }

    async fn opened(&self, queue: &QueueSetup) -> Result<Channel, Fault> {
        let connection = self.reader();
        // It may have been ours before in this session, and deleted since.
        for _ in 0..2 {
            self.topology.provide(&connection, queue).await?;
            let channel = open_channel(&connection).await.map_err(|error| Fault::of(&error))?;
            if topology::exists(&channel, &queue.name).await? {
                return Ok(channel);
            }
            self.topology.forget_all(queue);
        }
        Err(Fault::Absent(queue.name.clone()))
    }

    /// Within what time a loss is noticed: two heartbeats, as they were agreed with the broker (the smaller one of both wishes;
    /// the only one where the other is 0). `None`: there are none.
    pub(crate) fn noticed_within(&self) -> Option<Duration> {
        let seconds = self.reader().configuration().heartbeat();
        (seconds > 0).then(|| Duration::from_secs(2 * u64::from(seconds)))
    }

    /// Whether the connections still stand, as far as we have heard.
    pub(crate) fn stands(&self) -> bool {
        self.reader().status().connected() && self.publisher.connection().status().connected()
    }

    /// Closes the connections, each within `limit`.
    pub(crate) async fn close(&self, limit: Duration) {
        let consumer = async {
            if let Some(connection) = &self.consumer {
                let _ = timeout(limit, connection.close(200, "done".into())).await;
            }
        };
        futures_util::future::join(consumer, self.publisher.close(limit)).await;
    }
}
