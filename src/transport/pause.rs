//! Waiting on a transport's own thread, where no event tells that the wait is over.

use std::time::Duration;

/// Waits on a transport's own thread, where there is no event to wait for: a lock of SQLite's tells nobody when it is
/// free, and a walk at a rate waits for nothing but the time.
#[expect(clippy::disallowed_methods, reason = "the time itself is what is waited for")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
