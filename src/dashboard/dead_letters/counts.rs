//! How many dead letters lie in which queue: counted once for all who look at the same time, and once in [`COUNTED`], be it in vain.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use super::{DeadLetters, FIRST, Trouble};
use crate::{
    clock::{Clock, Instant, Timestamp},
    transport::{DeadQueue, Depth, Request},
};

/// Counts are asked for again after this.
const COUNTED: Duration = Duration::from_secs(2);
/// How long it may take to count.
const COUNTING: Duration = Duration::from_secs(5);

/// Queues, and what lies in them.
pub(super) type Counts = Arc<Vec<(DeadQueue, Depth)>>;

/// What was counted last.
#[derive(Default)]
pub(super) struct Counting {
    /// Who has it counts.
    counted: tokio::sync::Mutex<Option<(Instant, Result<Counts, Trouble>)>>,
    /// The last that were told.
    known: Mutex<Option<(Timestamp, Counts)>>,
}

impl DeadLetters {
    /// All queues that are known, those of the settings first.
    ///
    /// # Errors
    /// They could not be counted. The answer comes within the time of a view, also where others wait for the same.
    pub(crate) async fn counts(&self) -> Result<Counts, Trouble> {
        let Ok(mut counted) = timeout(FIRST, self.counting.counted.lock()).await else { return Err(Trouble::Slow) };
        let now = self.clock.now().at;
        if let Some((at, known)) = &*counted
            && now.since(*at) < COUNTED
        {
            return known.clone();
        }
        let result = timeout(COUNTING, self.count()).await.unwrap_or(Err(Trouble::Slow));
        *counted = Some((self.clock.now().at, result.clone()));
        if let Ok(counts) = &result {
            let known = (Clock::wall(), Arc::clone(counts));
            *self.counting.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        }
        result
    }

    /// What was counted last, and when.
    pub(crate) fn last_counts(&self) -> Option<(Timestamp, Counts)> {
        self.counting.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn count(&self) -> Result<Counts, Trouble> {
        let mut queues = self.asking.source.queues.clone();
        for name in self.asking.ask(|reply| Request::KnownQueues { reply }).await? {
            if !queues.iter().any(|queue| queue.queue == name) {
                queues.push(DeadQueue::of(&name));
            }
        }
        let asked = queues.clone();
        // What a walk holds is not counted.
        let turn = self.asking.turn().await?;
        let depths = self.asking.ask(|reply| Request::Depths { queues: asked, reply }).await?;
        drop(turn);
        Ok(Arc::new(queues.into_iter().zip(depths).collect()))
    }
}
