//! The lease of the one scheduler of an application: asking for it, keeping it, and firing while it is held.
//!
//! It has a connection of its own, so that whatever the broker does to it costs no session. What it means to hold it is
//! in `lease_memory`.

use std::{cell::Cell, rc::Rc, time::Duration};

use lapin::Connection;
use tokio::{sync::mpsc, time::timeout};

use super::lease_memory::{self, Held, Lost};
use crate::{
    clock::{Clock, Timestamp},
    task::NewTask,
    transport::{
        Error, Event, Events,
        amqp::{
            connect::address::{Address, PATIENCE},
            publish::outbox::{PAUSES, Parcel, Store},
            session::{actor::Engine, state::State},
        },
    },
};

/// Between two tries to get the lease.
const AGAIN: Duration = Duration::from_secs(3);
/// An orderly end of the connection may take this long.
const HANGING_UP: Duration = Duration::from_millis(900);

/// The running attempt to be or become the scheduler.
pub(crate) struct Lease {
    orders: mpsc::UnboundedSender<Order>,
}

/// A moment to be fired. Answered even when it is dropped.
struct Order {
    schedule: String,
    moment: Timestamp,
    task: Result<Option<Parcel>, Error>,
    events: Events,
    lost: Option<Error>,
}

impl Order {
    fn answer(mut self, stored: Result<bool, Error>) {
        self.lost = None;
        self.tell(stored);
    }

    fn tell(&self, stored: Result<bool, Error>) {
        let _ = self.events.send(Event::Fired { schedule: self.schedule.clone(), moment: self.moment, stored });
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            self.tell(Err(lost));
        }
    }
}

impl Engine {
    /// Begins to ask for the lease, if it is wanted and nobody is asking.
    pub(crate) fn lease(&mut self) {
        let (flag, events) = (Rc::clone(&self.lease_held), self.events.clone());
        let (address, clock) = (Rc::clone(&self.address), self.clock);
        let State::Up(up) = &mut self.state else { return };
        let Some(application) = self.application.clone().filter(|_| up.lease.is_none()) else { return };
        let (orders, taken) = mpsc::unbounded_channel();
        up.lease = Some(Lease { orders });
        let queue = format!("asynctask.schedules.{application}");
        let keeper = Keeper { store: up.store.clone(), address, clock, queue, events, flag };
        up.tasks.spawn_local(keeper.keep(taken));
    }

    /// Fires a moment, if we hold the lease.
    pub(crate) fn fire(&mut self, schedule: String, moment: Timestamp, task: Option<NewTask>) {
        let task = task.map(|task| self.parcels(&[task])).transpose();
        let task = task.map(|parcels| parcels.and_then(|parcels| parcels.into_iter().next()));
        let lost = Some(self.address.lost("this is not the scheduler"));
        let order = Order { schedule, moment, task, events: self.events.clone(), lost };
        // Without a lease, or when its task is gone, the order is dropped, and that answers it.
        if let State::Up(up) = &self.state
            && let Some(lease) = &up.lease
        {
            let _ = lease.orders.send(order);
        }
    }

    /// Gives the lease back.
    pub(crate) fn release_lease(&mut self) {
        self.application = None;
        self.lease_held.set(false);
        if let State::Up(up) = &mut self.state {
            up.lease = None;
        }
    }
}

/// How holding the lease ended.
enum End {
    /// Given back.
    Released,
    /// The broker took it.
    Taken,
    /// A scheduler that cannot publish should not hold it.
    CannotPublish,
}

/// How a try to get the lease ended.
enum Tried {
    Held(Box<Held>),
    /// Another one holds it.
    Refused,
    Failed(String),
}

async fn hang_up(connection: Option<Connection>) {
    if let Some(connection) = connection {
        let _ = timeout(HANGING_UP, connection.close(200, "done".into())).await;
    }
}

struct Keeper {
    store: Store,
    address: Rc<Address>,
    clock: Clock,
    queue: String,
    events: Events,
    /// Whether the lease is held, for the actor.
    flag: Rc<Cell<bool>>,
}

impl Keeper {
    /// Asks for the lease until it is held, keeps it, and begins again when it is lost.
    async fn keep(self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut connection = None;
        let (mut is_refused, mut failures, mut last_cause) = (false, 0, String::new());
        loop {
            let pause = match self.attempt(&mut connection).await {
                Tried::Held(held) if orders.is_closed() => {
                    // Given back while it was asked for.
                    drop(held);
                    return hang_up(connection).await;
                }
                Tried::Held(mut held) => {
                    (is_refused, failures) = (false, 0);
                    last_cause.clear();
                    let began = self.clock.now().at;
                    self.flag.set(true);
                    let _ = self.events.send(Event::LeaseHeld { memory: held.moments() });
                    let end = self.work(&mut held, &mut orders).await;
                    drop(held);
                    let closed = hang_up(connection.take());
                    if matches!(end, End::Released) {
                        return closed.await;
                    }
                    if self.flag.replace(false) {
                        let _ = self.events.send(Event::LeaseLost);
                    }
                    closed.await;
                    // At once, unless it would not last either, or somebody else may be better at it.
                    let lasted = self.clock.now().at.since(began) > AGAIN;
                    if matches!(end, End::Taken) && lasted { Duration::ZERO } else { AGAIN }
                }
                Tried::Refused => {
                    failures = 0;
                    if !std::mem::replace(&mut is_refused, true) {
                        let _ = self.events.send(Event::LeaseRefused);
                    }
                    AGAIN
                }
                Tried::Failed(cause) => {
                    connection = None;
                    failures += 1;
                    // The first may be the end of the session, which is told anyway.
                    if failures > 1 && cause != last_cause {
                        self.store.warn(format!("queue \"{}\" of the scheduler: {cause}", self.queue));
                        last_cause = cause;
                    }
                    PAUSES.delay(failures).max(AGAIN)
                }
            };
            if self.wait(pause, &mut orders).await.is_none() {
                return;
            }
        }
    }

    /// One try, over the connection that there is or another one.
    async fn attempt(&self, connection: &mut Option<Connection>) -> Tried {
        let line = match connection.take().filter(|connection| connection.status().connected()) {
            Some(line) => line,
            None => match self.address.connect("scheduler").await {
                Ok(line) => line,
                Err(error) => return Tried::Failed(error.to_string()),
            },
        };
        let tried = Held::take(connection.insert(line), &self.queue, self.clock).await;
        match tried {
            Ok(Some(held)) => Tried::Held(Box::new(held)),
            Ok(None) => Tried::Refused,
            Err(Lost(cause)) => Tried::Failed(cause),
        }
    }

    /// Lets a pause pass. What is ordered meanwhile is dropped, and so answered: this is not the scheduler. `None`: the
    /// lease is not wanted any more.
    async fn wait(&self, pause: Duration, orders: &mut mpsc::UnboundedReceiver<Order>) -> Option<()> {
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return Some(()),
                order = orders.recv() => drop(order?),
            }
        }
    }

    /// Fires what is ordered, as long as the lease is held.
    async fn work(&self, held: &mut Held, orders: &mut mpsc::UnboundedReceiver<Order>) -> End {
        loop {
            match held.keep_during(orders.recv()).await {
                Err(Lost(cause)) => {
                    tracing::debug!(target: "asynctask::amqp", "the lease \"{}\" is lost: {cause}", self.queue);
                    return End::Taken;
                }
                Ok(None) => return End::Released,
                Ok(Some(order)) => {
                    if let Some(end) = self.fire(held, order).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Fires a moment; how the lease ended, if it did.
    async fn fire(&self, held: &mut Held, order: Order) -> Option<End> {
        let lost = |Lost(cause): Lost| self.address.lost(cause);
        // A process that was stopped for long may not have heard yet that another one is the scheduler.
        if let Err(error) = held.check().await {
            order.answer(Err(lost(error)));
            return Some(End::Taken);
        }
        if held.has_fired(&order.schedule, order.moment) {
            order.answer(Ok(false));
            return None;
        }
        // What was begun is brought to its end even if the lease is lost meanwhile: the next holder is to know of it.
        let (stored, is_held) = {
            let mut storing = std::pin::pin!(self.store(&order));
            match held.keep_during(storing.as_mut()).await {
                Ok(stored) => (stored, true),
                Err(error) => {
                    let late = timeout(PATIENCE, storing).await;
                    (late.unwrap_or_else(|_| Err(lost(error))), false)
                }
            }
        };
        let is_published = match &stored {
            Ok(()) => true,
            // These stand for this task alone.
            Err(error) => matches!(error, Error::NotStored { .. } | Error::NoSuchQueue { .. }),
        };
        let remembered = match (&stored, is_held) {
            (Ok(()), true) => held.fired(&order.schedule, order.moment).await,
            _ => Ok(()),
        };
        order.answer(stored.map(|()| true));
        match (is_held && remembered.is_ok(), is_published) {
            (false, _) => Some(End::Taken),
            (true, false) => Some(End::CannotPublish),
            (true, true) => None,
        }
    }

    /// Stores the task of a moment, and then the memory of it: a crash in between fires it again, under the same id.
    async fn store(&self, order: &Order) -> Result<(), Error> {
        if let Some(parcel) = order.task.clone()? {
            self.store.bulk(std::slice::from_ref(&parcel)).await?;
        }
        let publisher = &self.store.session.publisher;
        let stored = lease_memory::store(publisher, &self.queue, &order.schedule, order.moment).await;
        stored.map_err(|Lost(cause)| self.address.lost(cause))
    }
}
