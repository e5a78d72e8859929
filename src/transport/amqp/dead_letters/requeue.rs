//! Putting dead letters back to work and removing them, a window at a time: stored first, removed after. What stays is given back.
//!
//! They are acknowledged in a transaction of the channel, from which a quorum queue gets all of them as one command. Of
//! more than 32 acknowledgements that it gets one by one it forgets those that it has not got to when the channel is
//! closed, and their messages come back (16 of 50, measured on 3.10.8).

use std::rc::Rc;

use lapin::Connection;

use super::{ack_transaction, count, walk::Walk, walk_progress::WalkError};
use crate::transport::{
    DeadLetter, Error, Visit,
    amqp::{
        broker_error::{Fault, answer},
        publish::{
            bulk_results::{BulkResults, MessageState},
            outbox::CLIENT_SENDS,
        },
        queues::counter::Counter,
    },
};

impl Walk<'_> {
    /// Whether a dead letter that is to go back to work stays where it is, because nothing would come of it.
    pub(super) async fn is_left(&mut self, letter: &DeadLetter, verdict: &Visit) -> Result<bool, Error> {
        let (Visit::Retry { .. }, Some(place), Some(jobs)) = (verdict, &letter.membership, &mut self.jobs) else {
            return Ok(false);
        };
        let hindrance = jobs.of(place).await?;
        if let Some(hindrance) = &hindrance {
            let (id, job) = (&letter.id, &place.job);
            tracing::debug!(target: "asynctask::amqp", "dead letter {id} of job {job} is not put back to work: {hindrance:?}");
        }
        Ok(hindrance.is_some())
    }

    /// Does what was decided: stores a window in the work queue, and removes its dead letters after all of it is confirmed,
    /// and those that are only to be removed. If not all of it can be stored, those that are stored are removed, and the walk
    /// ends.
    pub(crate) async fn carry_out(&mut self) -> Result<(), WalkError> {
        let (messages, ackers): (Vec<_>, Vec<_>) = std::mem::take(&mut self.window).into_iter().unzip();
        let removals = std::mem::take(&mut self.removals);
        self.window_bytes = 0;
        let (false, Some((channel, _))) = (ackers.is_empty() && removals.is_empty(), self.held.last()) else {
            return Ok(());
        };
        let results = Rc::new(BulkResults::new(messages.len()));
        let mut stored = Ok(());
        if !messages.is_empty() {
            self.progress.window.replace(Some(Rc::clone(&results)));
            let bulk = self.outbox.store_in_order(&messages, &results, CLIENT_SENDS).await;
            stored = bulk.map_err(|error| WalkError::Unstored(error.into()));
        }
        let gone = ackers.iter().enumerate().filter(|(position, _)| results.is_stored(*position));
        if let Err(fault) = ack_transaction::remove(channel, gone.map(|(_, acker)| acker).chain(&removals)).await {
            // Why it was not stored says more.
            stored?;
            return Err(fault.into());
        }
        let gone = (0..ackers.len()).filter(|position| results.is_stored(*position));
        self.walked.retried += gone.map(|position| results.set(position, MessageState::Absent)).count() as u64;
        self.walked.removed += removals.len() as u64;
        self.progress.set(self.walked);
        stored
    }

    /// Closes the channels in order, and waits until what was held is there, so that whoever looks next sees it: in the end
    /// as many as are left of all.
    pub(super) async fn give_back(&mut self, connection: &Connection, left: Option<u64>) -> Result<(), Fault> {
        let fault = |error: lapin::Error| Fault::of(&error);
        let mut counter = Counter::new(connection);
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        for (number, (channel, kept)) in held.into_iter().enumerate() {
            let before = counter.ready(&self.queue.name).await?.unwrap_or(0);
            answer(channel.close(200, "done".into())).await.map_err(fault)?;
            let expected = left.filter(|_| number + 1 == count).unwrap_or(before + kept);
            count::came_back(&mut counter, &self.queue.name, expected).await?;
        }
        Ok(())
    }
}
