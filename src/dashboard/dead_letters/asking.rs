//! Questions to the page's own transport: opened for the first, asked with a time limit, so many at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::trouble::Trouble;
use crate::{
    config::Config,
    protocol::Protocol,
    transport::{self, DeadLetter, DeadQueue, Reply, Request, Transport, Uri, Visit, Walked},
};

/// Questions under way.
const QUESTIONS: usize = 16;
/// How long a view waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a view waits for a walk, which ends by itself [`LONGEST_WALK`] after it was asked for.
const WALK_PATIENCE: Duration = Duration::from_secs(20);
/// How long a walk may take.
pub(super) const LONGEST_WALK: Duration = Duration::from_secs(10);

/// Which transport is asked, and about which queues.
pub(crate) struct Source {
    uri: Uri,
    protocols: Vec<(String, Protocol)>,
    /// Those of the settings.
    pub(super) queues: Vec<DeadQueue>,
}

impl Source {
    /// As the settings say.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            uri: config.transport.clone(),
            protocols: config.protocols(),
            queues: config.queues.iter().map(|queue| queue.dead_letter.clone()).collect(),
        }
    }
}

#[cfg(test)]
impl Source {
    /// A transport of this process, which the page does not ask.
    pub(crate) fn nowhere() -> Self {
        Self { uri: Uri::Localmem("nowhere".to_owned()), protocols: Vec::new(), queues: vec![DeadQueue::of("foo")] }
    }
}

pub(super) struct Asking {
    pub(super) source: Source,
    transport: Mutex<Option<Arc<dyn Transport>>>,
    questions: Arc<Semaphore>,
    /// One walk at a time.
    walks: Arc<Semaphore>,
}

impl Asking {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            transport: Mutex::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            walks: Arc::new(Semaphore::new(1)),
        }
    }

    pub(super) async fn ask<T: Send + 'static>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Trouble> {
        self.ask_within(PATIENCE, request).await
    }

    /// While this is held no walk of ours is on.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, Trouble> {
        match timeout(PATIENCE, Arc::clone(&self.walks).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Trouble::Busy),
        }
    }

    /// Shows the dead letters of a queue to `visit`, oldest first, as long as it wants more.
    pub(super) async fn walk(
        &self,
        queue: &DeadQueue,
        mut visit: impl FnMut(&DeadLetter) -> bool + Send + 'static,
    ) -> Result<Walked, Trouble> {
        let turn = self.turn().await?;
        let queue = queue.clone();
        // The visitor is dropped when the walk is over, be it after nobody waits for it any more.
        let visit = Box::new(move |letter: &DeadLetter| {
            let _its_turn = &turn;
            if visit(letter) { Visit::Keep } else { Visit::Stop }
        });
        self.ask_within(WALK_PATIENCE, |reply| Request::WalkDead { queue, visit, reply }).await
    }

    async fn ask_within<T: Send + 'static>(
        &self,
        patience: Duration,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, Trouble> {
        let permit = Arc::clone(&self.questions).try_acquire_owned().map_err(|_| Trouble::Busy)?;
        let transport = self.transport()?;
        let (reply, answer) = oneshot::channel();
        transport.ask(request(reply));
        // A question counts until it is answered, also after its view was given up.
        let answer = tokio::spawn(async move {
            let answer = answer.await;
            drop(permit);
            answer
        });
        match timeout(patience, answer).await {
            Err(_) => Err(Trouble::Slow),
            Ok(Ok(Ok(Ok(answer)))) => Ok(answer),
            Ok(Ok(Ok(Err(error)))) => Err(Trouble::from(&error)),
            Ok(Ok(Err(_)) | Err(_)) => {
                // The transport has ended; the next question opens another.
                drop(self.transport.lock().unwrap_or_else(PoisonError::into_inner).take());
                Err(Trouble::from(&transport::Error::Closed))
            }
        }
    }

    fn transport(&self) -> Result<Arc<dyn Transport>, Trouble> {
        if let Uri::Localmem(_) = self.source.uri {
            return Err(Trouble::Elsewhere);
        }
        let mut transport = self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = &*transport {
            return Ok(Arc::clone(transport));
        }
        // Its events are for masters.
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        let opened =
            transport::open_client(&self.source.uri, events, PATIENCE * 2).map_err(|error| Trouble::from(&error))?;
        transport::tell(&*opened, self.source.protocols.clone());
        Ok(Arc::clone(transport.insert(opened.into())))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(transport) = self.transport.get_mut().unwrap_or_else(PoisonError::into_inner) {
            let (reply, _) = oneshot::channel();
            transport.ask(Request::Close { reply });
        }
    }
}
