//! The work that asks for the ledger of an application, keeps it, and stores steps while it is held; beside the actor, on a connection
//! of its own, so that whatever the broker does to it costs no session.

use std::{cell::Cell, rc::Rc, time::Duration};

use lapin::Connection;
use tokio::sync::mpsc;

use super::{
    held_ledger::{HeldLedger, LedgerLost, patience},
    names::coordinator_queue,
    request::LedgerRequest,
    step::Storing,
    store,
};
use crate::{
    membership::ledger_queue,
    transport::{
        Event, Events,
        amqp::{
            connect::own_connection::{disconnect, pass},
            publish::{outbox::PAUSES, replies::Replies},
            queues::{counter::Counter, own_queue::OwnQueue},
        },
    },
};

/// Between two tries to get the ledger.
const RETRY_PAUSE: Duration = Duration::from_secs(3);
/// The same of a command, which has it for a moment and not for long: others like it wait for their turn meanwhile.
const COMMANDS_PAUSE: Duration = Duration::from_millis(250);

/// How holding the ledger ended.
enum LedgerEnd {
    /// Given back.
    Released,
    /// The broker took it, and said why.
    Taken(String),
}

/// How a try to get it ended.
enum Acquisition {
    Held(Box<HeldLedger>),
    /// Another one holds it.
    Refused,
    Failed(String),
}

/// The running attempt to be or become the coordinator.
pub(crate) struct LedgerHolder {
    pub(crate) storing: Storing,
    pub(crate) application: String,
    pub(crate) replies: Replies,
    pub(crate) events: Events,
    /// A command asks for it, and no master.
    pub(crate) is_client: bool,
    /// Whether the ledger is held, for the actor.
    pub(crate) flag: Rc<Cell<bool>>,
    /// How long the broker bears what is unacknowledged, if it has said so.
    pub(crate) patience: Rc<Cell<Option<Duration>>>,
}

impl LedgerHolder {
    /// Asks for the ledger until it is held, keeps it, and begins again when it is lost.
    pub(crate) async fn keep(self, mut requests: mpsc::UnboundedReceiver<LedgerRequest>) {
        let mut connection = None;
        let (mut is_refused, mut failures, mut last_cause) = (false, 0, String::new());
        let clock = self.storing.clock;
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
                    let began = clock.now().at;
                    let end = self.hold(&mut held, &mut requests).await;
                    drop(held);
                    let closed = disconnect(connection.take());
                    let LedgerEnd::Taken(cause) = end else { return closed.await };
                    tracing::debug!(target: "asynctask::amqp", "the ledger of {} is lost: {cause}", self.application);
                    if let Some(patience) = patience(&cause) {
                        self.patience.set(Some(patience));
                    }
                    if self.flag.replace(false) {
                        let _ = self.events.send(Event::LedgerLost);
                    }
                    closed.await;
                    // At once, unless it would not last either, or another process may keep it longer.
                    if clock.now().at.since(began) > RETRY_PAUSE { Duration::ZERO } else { RETRY_PAUSE }
                }
                Acquisition::Refused => {
                    failures = 0;
                    if !std::mem::replace(&mut is_refused, true) {
                        let _ = self.events.send(Event::LedgerRefused);
                    }
                    if self.is_client { COMMANDS_PAUSE } else { RETRY_PAUSE }
                }
                Acquisition::Failed(cause) => {
                    disconnect(connection.take()).await;
                    failures += 1;
                    // The first may be the end of the session, which is told anyway.
                    if failures > 1 && cause != last_cause {
                        let application = &self.application;
                        self.storing.outbox.warn(format!("the jobs of {application} cannot be coordinated: {cause}"));
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

    /// One try. Whoever waits asks over the session, and makes no connection for that.
    async fn attempt(&self, connection: &mut Option<Connection>) -> Acquisition {
        let Storing { outbox, address, clock } = &self.storing;
        let session = &outbox.session;
        let queue = coordinator_queue(&self.application);
        match Counter::new(&session.reader()).found(&queue).await {
            Ok(found) if found.is_some_and(|found| found.consumers > 0) => return Acquisition::Refused,
            Ok(_) => {}
            Err(fault) => return Acquisition::Failed(fault.cause()),
        }
        let entries = OwnQueue::Work(ledger_queue(&self.application));
        if let Err(fault) = session.topology.ensure(&session.reader(), &entries).await {
            return Acquisition::Failed(fault.cause());
        }
        let open = match address.connect("coordinator").await {
            Ok(open) => connection.insert(open),
            Err(error) => return Acquisition::Failed(error.to_string()),
        };
        let (replies, patience) = (self.replies.clone(), self.patience.get());
        match HeldLedger::take(open, outbox, replies, &self.application, *clock, patience).await {
            Ok(Some(mut held)) => match held.begin(outbox).await {
                Ok(()) => Acquisition::Held(Box::new(held)),
                Err(LedgerLost(cause)) => Acquisition::Failed(cause),
            },
            Ok(None) => {
                disconnect(connection.take()).await;
                Acquisition::Refused
            }
            Err(LedgerLost(cause)) => Acquisition::Failed(cause),
        }
    }

    /// Says that the ledger is held, and does what is asked, as long as it is.
    async fn hold(&self, held: &mut HeldLedger, requests: &mut mpsc::UnboundedReceiver<LedgerRequest>) -> LedgerEnd {
        match self.work(held, requests).await {
            Ok(()) => LedgerEnd::Released,
            Err(LedgerLost(cause)) => LedgerEnd::Taken(cause),
        }
    }

    async fn work(
        &self,
        held: &mut HeldLedger,
        requests: &mut mpsc::UnboundedReceiver<LedgerRequest>,
    ) -> Result<(), LedgerLost> {
        self.flag.set(true);
        let open = held.jobs.all().into_iter().filter(|job| job.record.open);
        let jobs = open.map(|job| job.record.clone()).collect();
        let (epoch, frozen) = (held.jobs.epoch(), held.jobs.memory().frozen.clone());
        let _ = self.events.send(Event::LedgerHeld { epoch, jobs, frozen });
        held.listen(self.events.clone()).await?;
        held.begin_answering();
        // Who coordinated before may not have come to it.
        let stopped = held.stopped();
        held.keep_during(store::announce(&self.storing.outbox, &self.application, &stopped)).await?;
        loop {
            let Some(request) = held.keep_until_worn(requests.recv()).await? else {
                held.renew(&self.storing.outbox).await?;
                continue;
            };
            let Some(request) = request else { return Ok(()) };
            match request {
                LedgerRequest::Step(step) => self.storing.step(held, *step).await?,
                LedgerRequest::Ask { question, reply } => {
                    // Whoever asked may be gone.
                    let _ = reply.send(held.answer(&question, usize::MAX));
                }
            }
        }
    }
}
