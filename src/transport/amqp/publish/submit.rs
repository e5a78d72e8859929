//! Tasks that are new to the broker: those that a client submits, and those that a task submits with its end.
//!
//! A task may never be acknowledged before the broker has all that it submits: what is stored twice after a lost
//! connection has the same id, what is not stored is lost.

use std::{rc::Rc, sync::Arc};

use super::{
    bulk_results::BulkResults,
    outbox::{MASTER_SENDS, OutboundMessage, Outbox, PAUSES, StoreError},
    publisher::{Publication, WINDOW},
};
use crate::{
    membership::ledger_of,
    task::{Handle, NewTask, QueueIndex, is_foreign_queue_name, is_queue_name},
    transport::{
        Error, Event,
        amqp::{
            message::{
                celery,
                properties::{self, Due},
            },
            queues::{delay_queues, own_queue::OwnQueue},
            session::{note::SessionNote, shared::Shared, up::Up},
        },
    },
};

/// Rounds of tries after which a full queue counts as one that can never take what a task submits, which is some five seconds
/// after the first. A moment without a leader is over by then; a queue that refuses what is too much is full for as long as
/// those who work it need, and if that is us, they may need the very places that tasks take which wait for it.
const FULL_ROUNDS: u32 = 3;

impl Up {
    /// Stores what a task submits, however long that takes; says so if it can never be, or not as long as a queue is full.
    pub(crate) fn follow_up(&mut self, handle: Handle, submit: Vec<NewTask>) {
        let Some(open) = self.open.get_mut(&handle) else { return };
        open.moving = true;
        let queue = self.queues[open.queue].setup.name.clone();
        let follow_ups = FollowUps { shared: Rc::clone(&self.shared), outbox: self.outbox.clone(), queue };
        let session = self.session.number;
        self.tasks.spawn_local(async move {
            let note = match follow_ups.store(submit).await {
                Ok(()) => SessionNote::FollowedUp { handle },
                Err(error) => SessionNote::Unstorable { handle, error },
            };
            let _ = follow_ups.outbox.notes.send(note.of(session));
        });
    }

    /// What a task submits can never be stored: the master settles it otherwise.
    pub(crate) fn unstorable(&mut self, handle: Handle, error: Error) {
        let Some(open) = self.open.get_mut(&handle) else { return };
        open.state.reopen();
        open.moving = false;
        open.unstored_settlement = None;
        let (queue, task) = (QueueIndex(open.queue), Arc::clone(&open.task));
        self.shared.emit(Event::Unstorable { handle, queue, task, error });
    }
}

/// What stores the tasks that a task of this queue submits.
struct FollowUps {
    shared: Rc<Shared>,
    outbox: Outbox,
    queue: String,
}

impl FollowUps {
    /// Stores all. As messages there are only those of one window at a time: a page of items is a thousand tasks.
    async fn store(&self, mut submit: Vec<NewTask>) -> Result<(), Error> {
        // What ends a task of a job is the last of it, and is not even sent before the broker has all the others: one queue may
        // have stored what it was sent, and another one of the same broker not, when that is killed.
        let end = submit.pop_if(|task| ledger_of(&task.queue).is_some());
        while !submit.is_empty() {
            let part: Vec<NewTask> = submit.drain(..submit.len().min(WINDOW)).collect();
            self.part(&part, false).await?;
        }
        match end {
            Some(end) => self.part(&[end], true).await,
            None => Ok(()),
        }
    }

    /// Stores some of them, or the end of a task of a job. That is not given up because its ledger is full: another end would be told
    /// to the same one.
    async fn part(&self, tasks: &[NewTask], is_end: bool) -> Result<(), Error> {
        let messages = new_messages(&self.shared, tasks)?;
        // What is stored is not stored again because something behind it is not.
        let results = BulkResults::new(messages.len());
        let (mut failures, mut full) = (0, 0);
        loop {
            let error = match self.outbox.store_in_order(&messages, &results, MASTER_SENDS).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Permanent(error)) => return Err(error),
                Err(StoreError::Full(error)) if !is_end => {
                    full += 1;
                    if full == FULL_ROUNDS {
                        return Err(error);
                    }
                    error
                }
                Err(StoreError::Temporary(error) | StoreError::Full(error)) => {
                    full = 0;
                    error
                }
            };
            failures += 1;
            let (pause, queue) = (PAUSES.delay(failures), &self.queue);
            let seconds = pause.as_secs();
            self.outbox.warn(format!(
                "a task of queue \"{queue}\" is done, but its follow-ups could not be stored: {error}; again in {seconds} s"
            ));
            tokio::time::sleep(pause).await;
        }
    }
}

/// Tasks as messages, each for its queue or its step of the ladder.
pub(crate) fn new_messages(shared: &Shared, tasks: &[NewTask]) -> Result<Vec<OutboundMessage>, Error> {
    tasks.iter().map(|task| new_message(shared, task)).collect()
}

fn new_message(shared: &Shared, task: &NewTask) -> Result<OutboundMessage, Error> {
    let not_stored = |cause: String| Error::NotStored { queue: task.queue.clone(), cause };
    if !is_queue_name(&task.queue) && !is_foreign_queue_name(&task.queue) {
        return Err(not_stored("it is not a properly-formatted queue name".to_owned()));
    }
    let now = shared.now();
    let delayed = !task.delay.is_zero();
    let due = delayed.then(|| Due::after(task.delay, now.wall));
    let due = due.map(|due| Due { delay: due.delay.filter(|_| !task.at_moment), ..due });
    // What its producer knows of the queue, or else what is known here.
    let known = &shared.foreign_queues.celery;
    if task.protocol.is_celery() {
        known.set(&task.queue, &task.protocol);
    }
    let (properties, body) = if known.of(&task.queue).is_some() {
        celery::submitted(task, due, &shared.host).map_err(not_stored)?
    } else {
        (properties::submitted(task, due).map_err(not_stored)?, task.body.clone())
    };
    let own_queue = if delayed {
        OwnQueue::Delay(task.queue.clone(), delay_queues::first_step(task.delay))
    } else {
        OwnQueue::Work(task.queue.clone())
    };
    shared.in_transit.borrow_mut().put(&own_queue, now.at);
    Ok(OutboundMessage {
        publication: Publication { queue: own_queue.name(), properties: properties.into(), body: body.into() },
        own_queue,
    })
}
