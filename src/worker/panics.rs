//! Catches panics of user code and turns them into errors with their place.

use std::{
    any::Any,
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Where the last panic of this thread began.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that was stopped.
#[derive(Debug)]
pub(super) struct Panicked {
    pub(super) message: String,
    pub(super) place: String,
}

impl Panicked {
    /// What is known of the panic that ended with `payload` just now, on this thread.
    pub(super) fn from(payload: &(dyn Any + Send)) -> Self {
        let message = if let Some(text) = payload.downcast_ref::<&str>() {
            (*text).to_owned()
        } else if let Some(text) = payload.downcast_ref::<String>() {
            text.clone()
        } else {
            "a panic without a message".to_owned()
        };
        let place = PLACE.take().map_or_else(|| "panicked".to_owned(), |place| format!("panicked at {place}"));
        Self { message, place }
    }
}

/// Remembers the place of each panic from here on; it is still printed to stderr as ever.
pub(super) fn watch() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PLACE.set(panic.location().map(ToString::to_string));
            before(panic);
        }));
    });
}

/// Runs `body` and stops its panic. What it leaves half done is its own: the worker's value goes on to be used.
pub(super) fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(body)).map_err(|payload| Panicked::from(&*payload))
}

/// [`catch`] for a future: each time it is polled.
pub(super) async fn catch_future<F: Future>(future: F) -> Result<F::Output, Panicked> {
    use futures_util::FutureExt;
    AssertUnwindSafe(future).catch_unwind().await.map_err(|payload| Panicked::from(&*payload))
}
