//! Tasks that are new to the broker: those that a client submits, and those that a task submits with its end.
//!
//! A task may never be acknowledged before the broker has all that it submits: what is stored twice after a lost
//! connection has the same id, what is not stored is lost.

use std::sync::Arc;

use super::{
    bulk_results::BulkResults,
    outbox::{MASTER_SENDS, OutboundMessage, PAUSES, StoreError},
    publisher::Publication,
};
use crate::{
    task::{Handle, NewTask, QueueIndex, is_foreign_queue_name, is_queue_name},
    transport::{
        Error, Event,
        amqp::{
            message::properties::{self, Due},
            queues::{delay_queues, own_queue::OwnQueue},
            session::{
                note::Note,
                state::{Actor, State},
            },
        },
    },
};

/// Rounds of tries after which a full queue counts as one that can never take what a task submits, which is some five seconds
/// after the first. A moment without a leader is over by then; a queue that refuses what is too much is full for as long as
/// those who work it need, and if that is us, they may need the very places that tasks take which wait for it.
const FULL_ROUNDS: u32 = 3;

impl Actor {
    /// Stores what a task submits, however long that takes; says so if it can never be, or not as long as a queue is full.
    pub(crate) fn follow_up(&mut self, handle: Handle, submit: &[NewTask]) {
        let messages = match self.outbound_messages(submit) {
            Ok(messages) => messages,
            Err(error) => return self.unstorable(handle, error),
        };
        let State::Up(up) = &mut self.state else { return };
        let (outbox, session) = (up.outbox.clone(), up.session.number);
        up.open.entry(handle).and_modify(|open| open.moving = true);
        let queue = up.open.get(&handle).map(|open| up.queues[open.queue].setup.name.clone()).unwrap_or_default();
        up.tasks.spawn_local(async move {
            let (mut failures, mut full) = (0, 0);
            // What is stored is not stored again because something behind it is not.
            let results = BulkResults::new(messages.len());
            let note = loop {
                let error = match outbox.store_in_order(&messages, &results, MASTER_SENDS).await {
                    Ok(()) => break Note::FollowedUp { session, handle },
                    Err(StoreError::Permanent(error)) => break Note::Unstorable { session, handle, error },
                    Err(StoreError::Temporary(error)) => {
                        full = 0;
                        error
                    }
                    Err(StoreError::Full(error)) => {
                        full += 1;
                        if full == FULL_ROUNDS {
                            break Note::Unstorable { session, handle, error };
                        }
                        error
                    }
                };
                failures += 1;
                let pause = PAUSES.delay(failures);
                let seconds = pause.as_secs();
                outbox.warn(format!(
                    "a task of queue \"{queue}\" is done, but its follow-ups could not be stored: {error}; again in {seconds} s"
                ));
                tokio::time::sleep(pause).await;
            };
            let _ = outbox.notes.send(note);
        });
    }

    /// What a task submits can never be stored: the master settles it otherwise.
    pub(crate) fn unstorable(&mut self, handle: Handle, error: Error) {
        let State::Up(up) = &mut self.state else { return };
        let Some(open) = up.open.get_mut(&handle) else { return };
        (open.settling, open.moving) = (false, false);
        open.unstored_settlement = None;
        let (queue, task) = (QueueIndex(open.queue), Arc::clone(&open.task));
        self.emit(Event::Unstorable { handle, queue, task, error });
    }

    /// Tasks as messages, each for its queue or its step of the ladder.
    pub(crate) fn outbound_messages(&self, tasks: &[NewTask]) -> Result<Vec<OutboundMessage>, Error> {
        tasks.iter().map(|task| self.new_message(task)).collect()
    }

    fn new_message(&self, task: &NewTask) -> Result<OutboundMessage, Error> {
        let not_stored = |cause: String| Error::NotStored { queue: task.queue.clone(), cause };
        if !is_queue_name(&task.queue) && !is_foreign_queue_name(&task.queue) {
            return Err(not_stored("it is not a properly-formatted queue name".to_owned()));
        }
        let now = self.now();
        let delayed = !task.delay.is_zero();
        let due = delayed.then(|| Due::after(task.delay, now.wall));
        let due = due.map(|due| Due { delay: due.delay.filter(|_| !task.at_moment), ..due });
        let properties = properties::submitted(task, due).map_err(not_stored)?;
        let own_queue = if delayed {
            OwnQueue::Delay(task.queue.clone(), delay_queues::first_step(task.delay))
        } else {
            OwnQueue::Work(task.queue.clone())
        };
        self.leaving(&own_queue);
        Ok(OutboundMessage {
            publication: Publication { queue: own_queue.name(), properties, body: task.body.as_slice().into() },
            own_queue,
        })
    }
}
