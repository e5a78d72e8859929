//! How many dead letters lie in which queue: counted once for all who look at the same time, and once in [`COUNTED`], be it in vain.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use super::{asking::Asking, trouble::Trouble};
use crate::{
    clock::{Clock, Instant, Timestamp},
    transport::{DeadQueue, Depth, Request},
};

/// Counts are asked for again after this.
const COUNTED: Duration = Duration::from_secs(2);
/// How long it may take to count.
const COUNTING: Duration = Duration::from_secs(5);
/// How long a view waits for the counts of another one.
const WAITING: Duration = Duration::from_secs(3);

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

impl Counting {
    /// All queues that are known, those of the settings first.
    ///
    /// # Errors
    /// They could not be counted. The answer comes within the time of a view, also where others wait for the same.
    pub(super) async fn counts(&self, asking: &Asking, clock: Clock) -> Result<Counts, Trouble> {
        let Ok(mut counted) = timeout(WAITING, self.counted.lock()).await else { return Err(Trouble::Slow) };
        let now = clock.now().at;
        if let Some((at, known)) = &*counted
            && now.since(*at) < COUNTED
        {
            return known.clone();
        }
        let result = timeout(COUNTING, count(asking)).await.unwrap_or(Err(Trouble::Slow));
        *counted = Some((clock.now().at, result.clone()));
        if let Ok(counts) = &result {
            let known = (Clock::wall(), Arc::clone(counts));
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        }
        result
    }

    /// What was counted last, and when.
    pub(super) fn last(&self) -> Option<(Timestamp, Counts)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn count(asking: &Asking) -> Result<Counts, Trouble> {
    let mut queues = asking.source.queues.clone();
    for name in asking.ask(|reply| Request::KnownQueues { reply }).await? {
        if !queues.iter().any(|queue| queue.queue == name) {
            queues.push(DeadQueue::of(&name));
        }
    }
    let asked = queues.clone();
    // What a walk holds is not counted.
    let turn = asking.turn().await?;
    let depths = asking.ask(|reply| Request::Depths { queues: asked, reply }).await?;
    drop(turn);
    Ok(Arc::new(queues.into_iter().zip(depths).collect()))
}
