//! The master's end of the node: it starts the thread, hands events of tasks over without ever waiting, and ends it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    life,
    state::{Counts, Settings, State},
};
use crate::{
    celery::event::TaskEvent,
    control::server::Asked,
    logging::Logger,
    transport::{Error, amqp::Address},
};

/// Events that wait for the node; what comes when there are so many is dropped and counted.
const EVENTS: usize = 10_000;
/// How long a start waits to learn what was revoked in an earlier life.
const MEMORY_LIMIT: Duration = Duration::from_secs(2);
/// How long the end may take: telling that the node goes offline, and closing its connection.
const END_LIMIT: Duration = Duration::from_secs(2);

/// A running node. Dropped, it ends by itself, and nobody waits for that.
#[derive(Debug)]
pub struct Node {
    events: mpsc::Sender<Box<TaskEvent>>,
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
    /// Heard once, when the core was told what was revoked in an earlier life.
    remembered: Option<oneshot::Receiver<()>>,
}

impl Node {
    /// Starts the thread; nothing is connected yet. `commands` leads to the core.
    ///
    /// # Errors
    /// [`Error::BadUri`] for an address that cannot be read; [`Error::Unreachable`] if no thread can be made.
    pub fn start(
        settings: Settings,
        uri: &str,
        commands: mpsc::UnboundedSender<Asked>,
        logger: Logger,
    ) -> Result<Self, Error> {
        let address = Address::parse(uri)?;
        let shown = address.shown().to_owned();
        let failed = |error: std::io::Error| Error::Unreachable { uri: shown.clone(), cause: error.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (events, taken) = mpsc::channel(EVENTS);
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let counts = Arc::<Counts>::default();
        let counted = Arc::clone(&counts);
        let (remember, remembered) = oneshot::channel();
        let remembered = settings.works.then_some(remembered);
        let run = move || {
            let state = State::new(settings, logger, commands, counted, remember);
            tokio::task::LocalSet::new().block_on(&runtime, life::live(state, address, taken, stopped));
            let _ = end.send(());
            // A connection that the broker blocks cannot be closed; its thread must not hold up ours.
            runtime.shutdown_background();
        };
        let failed = |error: std::io::Error| Error::Unreachable { uri: shown.clone(), cause: error.to_string() };
        std::thread::Builder::new().name("asynctask-node".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { events, counts, stop: Some(stop), ended: Some(ended), remembered })
    }

    /// Waits, for two seconds at most, until the core was told which tasks were revoked in an earlier life: a task that comes before
    /// that might be begun.
    pub async fn remembers(&mut self) {
        if let Some(remembered) = self.remembered.take() {
            let _ = tokio::time::timeout(MEMORY_LIMIT, remembered).await;
        }
    }

    /// Something happened to a task. Never waits.
    pub fn tell(&self, event: Box<TaskEvent>) {
        if self.events.try_send(event).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What heartbeats tell: tasks in hand, and tasks since the start.
    pub fn count(&self, active: u64, processed: u64) {
        self.counts.active.store(active, Ordering::Relaxed);
        self.counts.processed.store(processed, Ordering::Relaxed);
    }

    /// Tells that the node goes, and ends it; no longer than two seconds.
    pub async fn close(mut self) {
        drop(self.stop.take());
        if let Some(ended) = self.ended.take() {
            let _ = tokio::time::timeout(END_LIMIT, ended).await;
        }
    }
}
