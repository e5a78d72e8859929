//! Opening the transport that an address names: for a master, or for a client, whose patience has an end.

use std::time::Duration;

use super::{Error, Events, Transport, Uri, amqp, localmem, sqlite};
use crate::task::{NewTask, is_queue_name};

/// How long a client waits by itself for what others hold up: a lock of the file, a broker that takes nothing from
/// publishers. A master has none of it: it waits for a lock for 10 s, then keeps what must be stored, and waits for a broker
/// as long as that says it is short of something.
pub const CLIENT_PATIENCE: Duration = Duration::from_mins(1);

/// Opens the transport that `uri` names. Returns at once; whether it can be reached is told by events and replies.
///
/// # Errors
/// If a thread or the files beside a database cannot be made, or the address has no password but the `***` that is shown
/// in its place.
pub fn open(uri: &Uri, events: Events) -> Result<Box<dyn Transport>, Error> {
    opened(uri, events, None)
}

/// [`open`] for a client, which attaches to no queues: its requests end with an error when they were held up for
/// `patience`, and [`Event::Waits`](super::Event::Waits) says by what.
///
/// # Errors
/// As [`open`].
pub fn open_client(uri: &Uri, events: Events, patience: Duration) -> Result<Box<dyn Transport>, Error> {
    opened(uri, events, Some(patience))
}

fn opened(uri: &Uri, events: Events, patience: Option<Duration>) -> Result<Box<dyn Transport>, Error> {
    if uri.is_masked() {
        let cause = "its password is masked, as config show prints it: the password itself has to stand there";
        return Err(Error::BadUri { text: uri.to_string(), cause: cause.to_owned() });
    }
    Ok(match uri {
        Uri::Sqlite(path) => Box::new(sqlite::Sqlite::open(path, events, patience)?),
        Uri::Amqp(address) => Box::new(amqp::Amqp::open(address, events, patience)?),
        Uri::Localmem(name) => Box::new(localmem::Localmem::open(name, events)),
    })
}

/// Why tasks cannot be stored where there are no priorities, if one of them has some.
pub(super) fn without_priorities(tasks: &[NewTask]) -> Result<(), Error> {
    tasks.iter().find(|task| task.priority.is_some()).map_or(Ok(()), |task| {
        let cause = "this transport has no priorities; tasks of a queue are taken oldest first".to_owned();
        Err(Error::NotStored { queue: task.queue.clone(), cause })
    })
}

/// Why tasks cannot be stored where all queues are ours: the first whose queue has no name for one.
pub(super) fn with_own_names(tasks: &[NewTask]) -> Result<(), Error> {
    tasks.iter().find(|task| !is_queue_name(&task.queue)).map_or(Ok(()), |task| {
        let cause = "it is not a properly-formatted queue name".to_owned();
        Err(Error::NotStored { queue: task.queue.clone(), cause })
    })
}
