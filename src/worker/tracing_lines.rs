//! Events of the `tracing` crate in user code become log lines of the worker: `tracing::info!` just works.

use super::lines::Lines;
use crate::logging::events::EventSubscriber;

/// Sends events to `lines` from here on, unless the program has installed a subscriber of its own before.
pub(super) fn install(lines: Lines) {
    let _ = tracing::subscriber::set_global_default(EventSubscriber(lines));
}

/// Sends the events of `body` to `lines`, unless the program has installed a subscriber of its own.
pub(super) fn within<T>(lines: &Lines, body: impl FnOnce() -> T) -> T {
    if tracing::dispatcher::has_been_set() {
        return body();
    }
    tracing::subscriber::with_default(EventSubscriber(lines.clone()), body)
}
