//! Depths of queues, counted with few errors in the broker's log.
//!
//! To ask a broker for a queue that is absent costs a channel and a line of error in its log, and most steps of a ladder are
//! absent. So a master asks only for steps that it knows: those that its settings reach, those that it has used, and those
//! that it found when it looked for all of them, which it does at the first count of a queue and then every
//! [`LOOK_EVERY`]. A task that another program delays for a time that this one never used is counted after that at the latest.
//! A command that counts once looks everywhere.
//!
//! One connection is kept for it while counts are asked for; nothing else may be done over it, because whatever is refused
//! on it is lost with it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use futures_util::future::try_join_all;
use lapin::Connection;
use tokio::{task::AbortHandle, time::timeout};

use super::{counter::Counter, delay_queues, in_transit::InTransit, own_queue::OwnQueue};
use crate::{
    clock::{Clock, Instant},
    transport::{
        DeadQueue, Depth, Error,
        amqp::{
            broker_error::{ANSWER_TIMEOUT, Fault},
            connect::address::Address,
            dead_letters::count,
            session::connections::Session,
        },
    },
};

/// Channels that count queues at the same time.
const LANES: usize = 16;
/// Queues that are counted before the connection is looked at again.
const AT_ONCE: usize = 80;
/// Absent queues asked for over one connection: a channel's number is of no use after it, and there are 2,047
/// ([`open_channel`](crate::transport::amqp::connect::channel::open_channel)).
const MOST_ABSENT: usize = 1_900;
/// How long the connection is kept after a count.
const KEPT: Duration = Duration::from_mins(1);
/// After that long steps are looked for again that others may have made.
const LOOK_EVERY: Duration = Duration::from_mins(10);

/// The connection that counts, and what it was used for.
pub(crate) struct DepthCounter {
    address: Rc<Address>,
    clock: Clock,
    /// One count at a time: the connection is that of one.
    turn: tokio::sync::Mutex<()>,
    kept: RefCell<Option<Rc<Connection>>>,
    /// Absent queues that were asked for over it.
    absent: Cell<usize>,
    /// Ends it when it is not used any more.
    end: RefCell<Option<AbortHandle>>,
    /// When all steps of a queue were looked for.
    looked_at: RefCell<HashMap<String, Instant>>,
}

/// What is counted with, and what is known.
struct Count<'a> {
    depth_counter: &'a DepthCounter,
    connection: &'a Connection,
    session: &'a Session,
    in_transit: &'a RefCell<InTransit>,
    /// Steps that this process does not know are looked for, too, whenever they were last.
    everywhere: bool,
}

impl DepthCounter {
    pub(crate) fn new(address: Rc<Address>, clock: Clock) -> Self {
        Self {
            address,
            clock,
            turn: tokio::sync::Mutex::new(()),
            kept: RefCell::default(),
            absent: Cell::default(),
            end: RefCell::default(),
            looked_at: RefCell::default(),
        }
    }

    /// Messages ready in work queues.
    pub(crate) async fn ready(self: &Rc<Self>, queues: &[String]) -> Result<Vec<u64>, Error> {
        let _turn = self.turn.lock().await;
        let connection = self.connection(0).await?;
        let counted = async {
            let mut counter = Counter::new(&connection);
            let mut counts = Vec::with_capacity(queues.len());
            for queue in queues {
                counts.push(match self.one(&mut counter, queue).await {
                    Ok(ready) => ready.unwrap_or(0),
                    // That queue is unavailable, and says so itself.
                    Err(Fault::Forbidden(_) | Fault::Refused(_)) => 0,
                    Err(fault) => return Err((queue.clone(), fault)),
                });
            }
            Ok(counts)
        };
        let counted = counted.await;
        self.counted(counted)
    }

    /// Depths of queues. `everywhere`: with the steps that this process does not know. One that the broker refuses to tell of is unknown;
    /// if it refuses them all, that is the error.
    pub(crate) async fn depths(
        self: &Rc<Self>,
        session: &Session,
        in_transit: &RefCell<InTransit>,
        queues: &[DeadQueue],
        everywhere: bool,
    ) -> Result<Vec<Depth>, Error> {
        let _turn = self.turn.lock().await;
        let mut all = Vec::with_capacity(queues.len());
        for some in queues.chunks(AT_ONCE) {
            let connection = self.connection(some.len() * (delay_queues::STEPS.len() + 3)).await?;
            let count = Count { depth_counter: self, connection: &connection, session, in_transit, everywhere };
            let counted = count.all(some).await;
            all.extend(self.counted(counted)?);
        }
        if let Some((queue, _)) = queues.iter().zip(&all).next()
            && all.iter().all(Result::is_err)
            && let Err(fault) = all.swap_remove(0)
        {
            return Err(self.address.fault(&queue.queue, fault));
        }
        let depth = |counted: Result<Depth, Fault>| counted.unwrap_or(Depth { unknown: true, ..Depth::default() });
        let mut all: Vec<Depth> = all.into_iter().map(depth).collect();
        let mut users: HashMap<&str, u32> = HashMap::new();
        for queue in queues {
            *users.entry(&queue.name).or_default() += 1;
        }
        for (queue, depth) in queues.iter().zip(&mut all) {
            depth.failed_shared = users[queue.name.as_str()] > 1;
        }
        Ok(all)
    }

    /// Ends the connection, if there is one.
    pub(crate) async fn close(&self, limit: Duration) {
        if let Some(end) = self.end.take() {
            end.abort();
        }
        let kept = self.kept.take();
        close_connection(kept, limit).await;
    }

    /// The connection that is kept, or another one: it must bear so many more absent queues. One that is counted over stands
    /// until the count is done, and one whose count was given up is not kept for ever.
    async fn connection(self: &Rc<Self>, absent: usize) -> Result<Rc<Connection>, Error> {
        let kept = self.kept.borrow().clone();
        if let Some(connection) = kept
            && connection.status().connected()
            && self.absent.get() + absent <= MOST_ABSENT
        {
            self.keep();
            return Ok(connection);
        }
        self.close(ANSWER_TIMEOUT).await;
        let connection = Rc::new(self.address.connect("counter").await?);
        self.absent.set(0);
        self.kept.replace(Some(Rc::clone(&connection)));
        self.keep();
        Ok(connection)
    }

    /// Keeps the connection for a while from now on, and then until no count is under way.
    fn keep(self: &Rc<Self>) {
        let this = Rc::clone(self);
        let end = tokio::task::spawn_local(async move {
            let kept = loop {
                tokio::time::sleep(KEPT).await;
                if let Ok(_turn) = this.turn.try_lock() {
                    // From here on it must come to its end.
                    this.end.take();
                    break this.kept.take();
                }
            };
            close_connection(kept, ANSWER_TIMEOUT).await;
        });
        if let Some(before) = self.end.replace(Some(end.abort_handle())) {
            before.abort();
        }
    }

    /// What was counted, or of which queue it could not be. The connection is kept for a while, unless something went wrong on it.
    fn counted<T>(self: &Rc<Self>, counted: Result<T, (String, Fault)>) -> Result<T, Error> {
        if counted.is_ok() {
            self.keep();
        } else {
            tokio::task::spawn_local(close_connection(self.kept.take(), ANSWER_TIMEOUT));
        }
        counted.map_err(|(queue, fault)| self.address.fault(&queue, fault))
    }

    /// Messages ready in one queue; `None`: it is absent.
    async fn one(&self, counter: &mut Counter<'_>, queue: &str) -> Result<Option<u64>, Fault> {
        let ready = counter.ready(queue).await;
        // What is refused closes the channel, too.
        self.absent.set(self.absent.get() + usize::from(!matches!(ready, Ok(Some(_)))));
        ready
    }
}

async fn close_connection(connection: Option<Rc<Connection>>, limit: Duration) {
    if let Some(connection) = connection {
        let _ = timeout(limit, connection.close(200, "counted".into())).await;
    }
}

impl Count<'_> {
    /// Several at a time. Of one that the broker refuses to tell of, why.
    async fn all(&self, queues: &[DeadQueue]) -> Result<Vec<Result<Depth, Fault>>, (String, Fault)> {
        let next = Cell::new(0);
        let lane = async || {
            let mut counter = Counter::new(self.connection);
            let mut found = Vec::new();
            while let Some(queue) = queues.get(next.get()) {
                let position = next.replace(next.get() + 1);
                let known = match self.depth(&mut counter, queue).await {
                    Err(fault @ (Fault::Absent(_) | Fault::TimedOut(_) | Fault::Broken(_))) => {
                        return Err((queue.queue.clone(), fault));
                    }
                    known => known,
                };
                found.push((position, known));
            }
            Ok::<_, (String, Fault)>(found)
        };
        let lanes = try_join_all((0..LANES.min(queues.len())).map(|_| lane())).await?;
        let mut found: Vec<_> = lanes.into_iter().flatten().collect();
        found.sort_unstable_by_key(|(position, _)| *position);
        Ok(found.into_iter().map(|(_, depth)| depth).collect())
    }

    /// What others hold in hand is not seen without the management interface.
    async fn depth(&self, counter: &mut Counter<'_>, queue: &DeadQueue) -> Result<Depth, Fault> {
        let mut failed = 0;
        for name in count::names(queue) {
            failed += count::ready(counter, &name, count::COUNT).await?;
        }
        Ok(Depth {
            ready: self.depth_counter.one(counter, &queue.queue).await?.unwrap_or(0),
            delayed: self.delayed(counter, &queue.queue).await?,
            in_hand: 0,
            failed,
            failed_shared: false,
            unknown: false,
        })
    }

    async fn delayed(&self, counter: &mut Counter<'_>, queue: &str) -> Result<u64, Fault> {
        let now = self.depth_counter.clock.now().at;
        let looked_at = self.depth_counter.looked_at.borrow().get(queue).copied();
        let looks = self.everywhere || looked_at.is_none_or(|at| now.since(at) >= LOOK_EVERY);
        let mut sum = 0;
        let steps = delay_queues::STEPS.map(|step| OwnQueue::Delay(queue.to_owned(), step));
        for own_queue in steps.into_iter().chain([OwnQueue::Frozen(queue.to_owned())]) {
            let name = own_queue.name();
            let is_known = self.session.topology.knows(&name) || self.in_transit.borrow().present.contains(&name);
            if !is_known && !looks {
                continue;
            }
            if let Some(count) = self.depth_counter.one(counter, &name).await? {
                sum += count;
                self.in_transit.borrow_mut().saw(name);
            } else {
                self.in_transit.borrow_mut().present.remove(&name);
                self.session.topology.forget(&own_queue);
            }
        }
        if looks {
            self.depth_counter.looked_at.borrow_mut().insert(queue.to_owned(), now);
        }
        Ok(sum)
    }
}
