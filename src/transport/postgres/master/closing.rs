//! Whether the transport is about to end: then nothing waits any more for a server that does not answer.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

/// What is under way when a transport is closed has so long.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Shared with whoever closes it.
#[derive(Debug, Default)]
pub(in crate::transport::postgres) struct Closing {
    is_asked: AtomicBool,
    is_dropped: AtomicBool,
    changed: Notify,
}

impl Closing {
    /// A close was asked for.
    pub(in crate::transport::postgres) fn close(&self) {
        self.is_asked.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// The transport was dropped.
    pub(in crate::transport::postgres) fn drop_now(&self) {
        self.is_dropped.store(true, Ordering::SeqCst);
        self.close();
    }

    /// Ends a moment after the transport is closed, at once when it is dropped.
    pub(super) async fn ended(&self) {
        while !self.is_asked.load(Ordering::SeqCst) {
            self.changed.notified().await;
        }
        if !self.is_dropped.load(Ordering::SeqCst) {
            let dropped = async {
                while !self.is_dropped.load(Ordering::SeqCst) {
                    self.changed.notified().await;
                }
            };
            let _ = tokio::time::timeout(CLOSE_WITHIN, dropped).await;
        }
    }
}
