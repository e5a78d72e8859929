//! What the unit tests of the core's chapters have in common: events that are told again and again.

use std::{sync::Arc, time::Duration};

use super::{
    Core,
    event::{Action, Event, WorkerId},
};
use crate::{
    clock::{Instant, Now},
    frames::{FromWorker, PROTOCOL, Ready, Wants},
    task::{Delivery, Handle, QueueIndex, Task},
    transport,
};

/// The first process in the first slot.
pub(super) const WORKER: WorkerId = WorkerId { slot: 0, life: 1 };

/// Tells the core an event at a moment of the monotonic clock, and gives what it wants done.
pub(super) fn tell_at(core: &mut Core, at: Duration, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    core.handle(Now { at: Instant::from_start(at), ..Now::default() }, event, &mut actions);
    actions
}

/// A worker is ready for so many tasks at once.
pub(super) fn ready(worker: WorkerId, concurrency: u32) -> Event {
    let ready = Ready { protocol: PROTOCOL, name: None, concurrency, ahead: 0, wants: Wants::default(), celery: None };
    Event::Said { worker, frame: FromWorker::Ready(ready) }
}

/// A session of the transport stands.
pub(super) const fn attached(session: u32) -> Event {
    Event::Transport(transport::Event::Attached { session })
}

/// A task of the first queue whose id and handle are this number.
pub(super) fn delivery(number: u64, identity: Option<u64>) -> Delivery {
    let task = Task { id: number.to_string(), body: b"1".to_vec(), ..Task::default() };
    Delivery { handle: Handle(number), queue: QueueIndex(0), task: Arc::new(task), redelivered: false, identity }
}

/// Such a task comes.
pub(super) fn delivered(delivery: Delivery) -> Event {
    Event::Transport(transport::Event::Delivered(vec![delivery]))
}
