//! How far a walk over dead letters has come, for whoever waits for its end.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::transport::Visit;

/// A transport asks a visitor that makes it wait again at the latest so long after that.
const ASKED_AGAIN: Duration = Duration::from_secs(10);

/// How far a walk has come.
#[derive(Default)]
pub(super) struct Visits {
    count: AtomicU64,
    /// The wait that the last visit asked for, in milliseconds.
    pause: AtomicU64,
}

impl Visits {
    pub(super) fn record(&self, verdict: &Visit) {
        let pause = match verdict {
            Visit::Wait(after) => u64::try_from((*after + ASKED_AGAIN).as_millis()).unwrap_or(u64::MAX),
            _ => 0,
        };
        self.pause.store(pause, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(self.pause.load(Ordering::Relaxed))
    }
}
