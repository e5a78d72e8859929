//! Early acknowledgement, on a transport that answers acceptances as it is told to: at once, or together with what follows.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc;

use super::*;
use crate::{
    config::{Acks, Queue},
    master::core::foreground::ForegroundQueue,
    retry::Policy,
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport::{self, Event, Events, Request, Transport},
    worker::{Context, Foreground, Kind, Outcome},
};

const HANDLE: Handle = Handle(1);

/// When the scripted transport answers an acceptance.
#[derive(Clone, Copy, Debug)]
enum Acceptance {
    AtOnce,
    BeforeTheSettlement,
    InOneEvent,
}

/// A transport with one task, whose follow-ups it can never store.
struct Scripted {
    acceptance: Acceptance,
    events: Events,
    settlements: Arc<Mutex<Vec<Settlement>>>,
}

impl Transport for Scripted {
    fn ask(&self, request: Request) {
        let tell = |event| self.events.send(event).unwrap();
        let task = Arc::new(Task { id: "a".to_owned(), body: b"{}".to_vec(), ..Task::default() });
        let queue = QueueIndex(0);
        match request {
            Request::Attach { .. } => tell(Event::Attached { session: 1 }),
            Request::Credit { .. } => tell(Event::Delivered(vec![Delivery {
                handle: HANDLE,
                queue,
                task,
                redelivered: false,
                identity: None,
            }])),
            Request::Settle(settlements) => {
                for (handle, settlement) in settlements {
                    assert_eq!(handle, HANDLE);
                    let is_acceptance = settlement == Settlement::Accept;
                    match (is_acceptance, self.acceptance) {
                        _ if matches!(&settlement, Settlement::Done { submit } if !submit.is_empty()) => {
                            let error =
                                transport::Error::NotStored { queue: "bar".to_owned(), cause: "too large".to_owned() };
                            tell(Event::Unstorable { handle, queue, task: Arc::clone(&task), error });
                        }
                        (_, Acceptance::AtOnce) => tell(Event::Settled(vec![HANDLE])),
                        (true, _) => {}
                        (false, Acceptance::BeforeTheSettlement) => {
                            tell(Event::Settled(vec![HANDLE]));
                            tell(Event::Settled(vec![HANDLE]));
                        }
                        (false, Acceptance::InOneEvent) => tell(Event::Settled(vec![HANDLE, HANDLE])),
                    }
                    self.settlements.lock().unwrap_or_else(PoisonError::into_inner).push(settlement);
                }
            }
            Request::Survey { serial, .. } => {
                tell(Event::Surveyed {
                    serial,
                    empty: true,
                    stranded: Vec::new(),
                    again_in: std::time::Duration::ZERO,
                });
            }
            Request::Close { reply } => drop(reply.send(Ok(()))),
            _ => {}
        }
    }
}

/// Drains a queue that is acknowledged early, and gives the settlements that were asked for.
fn drain(acceptance: Acceptance, kind: &Kind) -> (Result<u64, Error>, Vec<Settlement>) {
    let (events, received) = mpsc::unbounded_channel();
    let settlements = Arc::default();
    let settings = Queue {
        acks: Acks::Early,
        retry: Policy { max_attempts: 1, ..Policy::default() },
        ..Queue::new("foo", "kind")
    };
    let queue = ForegroundQueue::new(settings, String::new(), String::new(), 1);
    let worker = Foreground::start("kind", kind, Level::Error).unwrap();
    let transport = Box::new(Scripted { acceptance, events, settlements: Arc::clone(&settlements) });
    let drain = Drain::of(queue, worker, transport, received).unwrap();
    let drained = drain.run();
    (drained, std::mem::take(&mut *settlements.lock().unwrap_or_else(PoisonError::into_inner)))
}

const ACCEPTANCES: [Acceptance; 3] = [Acceptance::AtOnce, Acceptance::BeforeTheSettlement, Acceptance::InOneEvent];

#[test]
fn an_accepted_task_whose_follow_ups_cannot_be_stored_is_settled_otherwise() {
    let kind = Kind::worker_fn(|_: Value, context: &Context| {
        context.submit("bar", &1)?;
        Ok(Outcome::Done)
    });
    for acceptance in ACCEPTANCES {
        let (drained, settlements) = drain(acceptance, &kind);
        let Err(Error::Task { error, done: 0, .. }) = drained else { panic!("{acceptance:?}: {drained:?}") };
        assert!(error.starts_with("its follow-up tasks cannot be stored: "), "{error}");
        assert!(
            matches!(settlements[..], [Settlement::Accept, Settlement::Done { .. }, Settlement::Dead(_)]),
            "{acceptance:?}: {settlements:?}"
        );
    }
}

#[test]
fn an_accepted_task_is_settled_once_both_answers_came() {
    let kind = Kind::worker_fn(|_: Value, _: &Context| Ok(Outcome::Done));
    for acceptance in ACCEPTANCES {
        let (drained, settlements) = drain(acceptance, &kind);
        assert_eq!(drained.unwrap(), 1, "{acceptance:?}");
        let done = Settlement::Done { submit: Vec::new() };
        assert_eq!(settlements, [Settlement::Accept, done], "{acceptance:?}");
    }
}
