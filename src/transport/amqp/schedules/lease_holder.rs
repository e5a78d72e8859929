//! The work that asks for the lease of an application, keeps it, and fires while it is held; beside the actor, on a connection
//! of its own, so that whatever the broker does to it costs no session.

use std::{cell::Cell, rc::Rc, time::Duration};

use lapin::Connection;
use tokio::{sync::mpsc, time::timeout};

use super::held_lease::{self, HeldLease, LeaseLost};
use crate::{
    clock::{Clock, Timestamp},
    transport::{
        Error, Event, Events,
        amqp::{
            broker_error::ANSWER_TIMEOUT,
            connect::{
                address::Address,
                own_connection::{disconnect, pass},
            },
            publish::outbox::{OutboundMessage, Outbox, PAUSES},
        },
    },
};

/// Between two tries to get the lease.
const RETRY_PAUSE: Duration = Duration::from_secs(3);

/// The running attempt to be or become the scheduler.
pub(crate) struct Lease {
    pub(crate) requests: mpsc::UnboundedSender<FireRequest>,
}

/// A moment to be fired. Answered even when it is dropped.
pub(crate) struct FireRequest {
    pub(crate) schedule: String,
    pub(crate) moment: Timestamp,
    pub(crate) task: Result<Option<OutboundMessage>, Error>,
    pub(crate) events: Events,
    pub(crate) lost: Option<Error>,
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

pub(crate) struct LeaseHolder {
    pub(crate) outbox: Outbox,
    pub(crate) address: Rc<Address>,
    pub(crate) clock: Clock,
    pub(crate) queue: String,
    pub(crate) events: Events,
    /// Whether the lease is held, for the actor.
    pub(crate) flag: Rc<Cell<bool>>,
}

impl LeaseHolder {
    /// Asks for the lease until it is held, keeps it, and begins again when it is lost.
    pub(crate) async fn keep(self, mut requests: mpsc::UnboundedReceiver<FireRequest>) {
        let mut connection = None;
        let (mut is_refused, mut failures, mut last_cause) = (false, 0, String::new());
        loop {
            let pause = match self.attempt(&mut connection).await {
                Acquisition::Held(held) if requests.is_closed() => {
                    // Given back while it was asked for.
                    drop(held);
                    return disconnect(connection).await;
                }
                Acquisition::Held(mut held) => {
                    (is_refused, failures) = (false, 0);
                    last_cause.clear();
                    let began = self.clock.now().at;
                    self.flag.set(true);
                    let _ = self.events.send(Event::LeaseHeld { memory: held.moments() });
                    let end = self.work(&mut held, &mut requests).await;
                    drop(held);
                    let closed = disconnect(connection.take());
                    if matches!(end, LeaseEnd::Released) {
                        return closed.await;
                    }
                    if self.flag.replace(false) {
                        let _ = self.events.send(Event::LeaseLost);
                    }
                    closed.await;
                    // At once, unless it would not last either, or another process may keep it longer.
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
            if pass(pause, &mut requests).await.is_none() {
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
                    let late = timeout(ANSWER_TIMEOUT, storing).await;
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
        let stored = held_lease::store(publisher, &self.queue, &request.schedule, request.moment).await;
        stored.map_err(|LeaseLost(cause)| self.address.lost(cause))
    }
}
