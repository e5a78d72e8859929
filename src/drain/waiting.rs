//! Waiting for the transport, with limits by which only that waiting counts: user code is no part of it, nor is time in which
//! this process did not run.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    error::Error,
    state::{Drain, STALL_LIMIT},
};
use crate::{
    clock::Instant,
    level::Level,
    transport::{self, Event},
};

impl Drain {
    /// The next event; `None` when the time passed first. A lost session ends the drain, which
    /// has no other work meanwhile. So does a transport that could store nothing for [`STALL_LIMIT`].
    pub(super) fn next(&mut self, limit: Option<Duration>) -> Result<Option<Event>, Error> {
        loop {
            let now = self.waiting.now().at;
            let stalled = self.stalled.as_ref().map(|(at, error)| ((*at + STALL_LIMIT).since(now), error.clone()));
            let patience = stalled.as_ref().map(|(left, _)| *left);
            let wait = [limit, patience].into_iter().flatten().min();
            let _ = self.waiting.paused();
            self.waiting.sleeps(wait.unwrap_or(Duration::MAX));
            let events = &mut self.events;
            let event = self.runtime.block_on(async move {
                match wait {
                    // What has come is taken before the time is looked at.
                    Some(wait) => timeout(wait, events.recv()).await.ok(),
                    None => Some(events.recv().await),
                }
            });
            let now = self.waiting.now().at;
            match (event, stalled) {
                // The transport had no time either.
                (None, _) if self.waiting.paused().is_some() => {}
                (None, Some((left, error))) if limit.is_none_or(|limit| left <= limit) => return Err(error.into()),
                (None, _) => return Ok(None),
                (Some(None), _) => return Err(transport::Error::Closed.into()),
                (
                    Some(Some(
                        Event::Lost { error, .. } | Event::QueueUnavailable { error, .. } | Event::Refused(error),
                    )),
                    _,
                ) => return Err(error.into()),
                (Some(Some(event)), _) => {
                    self.note_state(&event, now);
                    return Ok(Some(event));
                }
            }
        }
    }

    /// Keeps what an event says of the state of the transport.
    fn note_state(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Stalled(error) => {
                self.stalled.get_or_insert((now, error.clone()));
            }
            Event::Resumed => self.stalled = None,
            Event::Stuck { error, tasks: 1.., .. } => self.worker.log(Level::Warning, error),
            _ => {}
        }
    }
}
