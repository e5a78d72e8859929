//! A walk over the dead letters of a queue that keeps some of what it sees.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    cli::{
        connection::{from_transport_error, open},
        settings::dead_queue,
    },
    config::Config,
    exit_code::Error,
    transport::{self, DeadLetter, DeadQueue, Request, Transport, Visit, Visitor, Walked},
};

/// Visits dead letters.
fn walk(transport: &dyn Transport, queue: &DeadQueue, visit: Visitor) -> Result<Walked, Error> {
    let queue = queue.clone();
    transport::call(transport, |reply| Request::WalkDead { queue, visit, reply })
        .map_err(|error| from_transport_error(&error))
}

/// Visits dead letters and keeps what `pick` makes of them.
pub(super) fn collect<T: Send + 'static>(
    config: &Config,
    queue: &str,
    mut pick: impl FnMut(&DeadLetter, &mut Vec<T>) -> Visit + Send + 'static,
) -> Result<Vec<T>, Error> {
    let picked: Arc<Mutex<Vec<T>>> = Arc::default();
    let picking = Arc::clone(&picked);
    let visit =
        Box::new(move |letter: &DeadLetter| pick(letter, &mut picking.lock().unwrap_or_else(PoisonError::into_inner)));
    walk(&*open(config)?, &dead_queue(config, queue), visit)?;
    let mut picked = picked.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *picked))
}
