//! The lease of the one scheduler of an application: asking for it, keeping it, and firing while it is held.
//!
//! It has a connection of its own, so that whatever the broker does to it costs no session. What it means to hold it is
//! in `lease_memory`.

use std::{cell::Cell, rc::Rc, time::Duration};

use lapin::Connection;
use tokio::{sync::mpsc, time::timeout};

use super::lease_memory::{self, HeldLease, LeaseLost};
use crate::{
    clock::{Clock, Timestamp},
    task::NewTask,
    transport::{
        Error, Event, Events,
        amqp::{
            connect::address::{Address, PATIENCE},
            publish::outbox::{OutboundMessage, Outbox, PAUSES},
            session::{actor::Actor, state::State},
        },
    },
};

/// Between two tries to get the lease.
const RETRY_PAUSE: Duration = Duration::from_secs(3);
/// An orderly end of the connection may take this long.
const DISCONNECT_TIMEOUT: Duration = Duration::from_millis(900);

/// The running attempt to be or become the scheduler.
pub(crate) struct Lease {
    requests: mpsc::UnboundedSender<FireRequest>,
}

/// A moment to be fired. Answered even when it is dropped.
struct FireRequest {
    schedule: String,
    moment: Timestamp,
    task: Result<Option<OutboundMessage>, Error>,
    events: Events,
    lost: Option<Error>,
}

impl FireRequest {
    fn answer(mut self, stored: Result<bool, Error>) {
        self.lost = None;
        self.tell(stored);
    }

    fn tell(&self, stored: Result<bool, Error>) {
        let _ = self.events.send(Event::Fired { schedule: self.schedule.clone(), moment: self.moment, stored });
    }
}

impl Drop for FireRequest {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            self.tell(Err(lost));
        }
    }
}

impl Actor {
    /// Begins to ask for the lease, if it is wanted and nobody is asking.
    pub(crate) fn lease(&mut self) {
        let (flag, events) = (Rc::clone(&self.lease_held), self.events.clone());
        let (address, clock) = (Rc::clone(&self.address), self.clock);
        let State::Up(up) = &mut self.state else { return };
        let Some(application) = self.application.clone().filter(|_| up.lease.is_none()) else { return };
        let (requests, taken) = mpsc::unbounded_channel();
        up.lease = Some(Lease { requests });
        let queue = format!("asynctask.schedules.{application}");
        let holder = LeaseHolder { outbox: up.outbox.clone(), address, clock, queue, events, flag };
        up.tasks.spawn_local(holder.keep(taken));
    }

    /// Fires a moment, if we hold the lease.
    pub(crate) fn fire(&mut self, schedule: String, moment: Timestamp, task: Option<NewTask>) {
        let task = task.map(|task| self.outbound_messages(&[task])).transpose();
        let task = task.map(|messages| messages.and_then(|messages| messages.into_iter().next()));
        let lost = Some(self.address.lost("this is not the scheduler"));
        let request = FireRequest { schedule, moment, task, events: self.events.clone(), lost };
        // Without a lease, or when its task is gone, the request is dropped, and that answers it.
        if let State::Up(up) = &self.state
            && let Some(lease) = &up.lease
        {
            let _ = lease.requests.send(request);
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
enum LeaseEnd {
    /// Given back.
    Released,
    /// The broker took it.
    Taken,
    /// A scheduler that cannot publish should not hold it.
    CannotPublish,
}

/// How a try to get the lease ended.
enum Acquisition {
    Held(Box<HeldLease>),
    /// Another one holds it.
    Refused,
    Failed(String),
}

async fn close_connection(connection: Option<Connection>) {
    if let Some(connection) = connection {
        let _ = timeout(DISCONNECT_TIMEOUT, connection.close(200, "done".into())).await;
    }
}

struct LeaseHolder {
    outbox: Outbox,
    address: Rc<Address>,
    clock: Clock,
    queue: String,
    events: Events,
    /// Whether the lease is held, for the actor.
    flag: Rc<Cell<bool>>,
}

impl LeaseHolder {
    /// Asks for the lease until it is held, keeps it, and begins again when it is lost.
    async fn keep(self, mut requests: mpsc::UnboundedReceiver<FireRequest>) {
        let mut connection = None;
        let (mut is_refused, mut failures, mut last_cause) = (false, 0, String::new());
        loop {
            let pause = match self.attempt(&mut connection).await {
                Acquisition::Held(held) if requests.is_closed() => {
                    // Given back while it was asked for.
                    drop(held);
                    return close_connection(connection).await;
                }
                Acquisition::Held(mut held) => {
                    (is_refused, failures) = (false, 0);
                    last_cause.clear();
                    let began = self.clock.now().at;
                    self.flag.set(true);
                    let _ = self.events.send(Event::LeaseHeld { memory: held.moments() });
                    let end = self.work(&mut held, &mut requests).await;
                    drop(held);
                    let closed = close_connection(connection.take());
                    if matches!(end, LeaseEnd::Released) {
                        return closed.await;
                    }
                    if self.flag.replace(false) {
                        let _ = self.events.send(Event::LeaseLost);
                    }
                    closed.await;
                    // At once, unless it would not last either, or somebody else may be better at it.
                    let lasted = self.clock.now().at.since(began) > RETRY_PAUSE;
                    if matches!(end, LeaseEnd::Taken) && lasted { Duration::ZERO } else { RETRY_PAUSE }
                }
                Acquisition::Refused => {
                    failures = 0;
                    if !std::mem::replace(&mut is_refused, true) {
                        let _ = self.events.send(Event::LeaseRefused);
                    }
                    RETRY_PAUSE
                }
                Acquisition::Failed(cause) => {
                    connection = None;
                    failures += 1;
                    // The first may be the end of the session, which is told anyway.
                    if failures > 1 && cause != last_cause {
                        self.outbox.warn(format!("queue \"{}\" of the scheduler: {cause}", self.queue));
                        last_cause = cause;
                    }
                    PAUSES.delay(failures).max(RETRY_PAUSE)
                }
            };
            if self.wait(pause, &mut requests).await.is_none() {
                return;
            }
        }
    }

    /// One try, over the connection that there is or another one.
    async fn attempt(&self, connection: &mut Option<Connection>) -> Acquisition {
        let open = match connection.take().filter(|connection| connection.status().connected()) {
            Some(open) => open,
            None => match self.address.connect("scheduler").await {
                Ok(open) => open,
                Err(error) => return Acquisition::Failed(error.to_string()),
            },
        };
        let tried = HeldLease::take(connection.insert(open), &self.queue, self.clock).await;
        match tried {
            Ok(Some(held)) => Acquisition::Held(Box::new(held)),
            Ok(None) => Acquisition::Refused,
            Err(LeaseLost(cause)) => Acquisition::Failed(cause),
        }
    }

    /// Lets a pause pass. What is ordered meanwhile is dropped, and so answered: this is not the scheduler. `None`: the
    /// lease is not wanted any more.
    async fn wait(&self, pause: Duration, requests: &mut mpsc::UnboundedReceiver<FireRequest>) -> Option<()> {
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return Some(()),
                request = requests.recv() => drop(request?),
            }
        }
    }

    /// Fires what is ordered, as long as the lease is held.
    async fn work(&self, held: &mut HeldLease, requests: &mut mpsc::UnboundedReceiver<FireRequest>) -> LeaseEnd {
        loop {
            match held.keep_during(requests.recv()).await {
                Err(LeaseLost(cause)) => {
                    tracing::debug!(target: "asynctask::amqp", "the lease \"{}\" is lost: {cause}", self.queue);
                    return LeaseEnd::Taken;
                }
                Ok(None) => return LeaseEnd::Released,
                Ok(Some(request)) => {
                    if let Some(end) = self.fire(held, request).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Fires a moment; how the lease ended, if it did.
    async fn fire(&self, held: &mut HeldLease, request: FireRequest) -> Option<LeaseEnd> {
        let lost = |LeaseLost(cause): LeaseLost| self.address.lost(cause);
        // A process that was stopped for long may not have heard yet that another one is the scheduler.
        if let Err(error) = held.check().await {
            request.answer(Err(lost(error)));
            return Some(LeaseEnd::Taken);
        }
        if held.has_fired(&request.schedule, request.moment) {
            request.answer(Ok(false));
            return None;
        }
        // What was begun is brought to its end even if the lease is lost meanwhile: the next holder is to know of it.
        let (stored, is_held) = {
            let mut storing = std::pin::pin!(self.store(&request));
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
            (Ok(()), true) => held.fired(&request.schedule, request.moment).await,
            _ => Ok(()),
        };
        request.answer(stored.map(|()| true));
        match (is_held && remembered.is_ok(), is_published) {
            (false, _) => Some(LeaseEnd::Taken),
            (true, false) => Some(LeaseEnd::CannotPublish),
            (true, true) => None,
        }
    }

    /// Stores the task of a moment, and then the memory of it: a crash in between fires it again, under the same id.
    async fn store(&self, request: &FireRequest) -> Result<(), Error> {
        if let Some(message) = request.task.clone()? {
            self.outbox.store_all(std::slice::from_ref(&message)).await?;
        }
        let publisher = &self.outbox.session.publisher;
        let stored = lease_memory::store(publisher, &self.queue, &request.schedule, request.moment).await;
        stored.map_err(|LeaseLost(cause)| self.address.lost(cause))
    }
}
