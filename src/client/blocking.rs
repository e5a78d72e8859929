//! The client for code without an asynchronous runtime.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    connection::{Connection, Stored},
    error::Error,
    options::SubmitOptions,
    submission::Submission,
};
use crate::{
    async_context,
    config::Config,
    transport::{self, CLIENT_PATIENCE},
};

/// A connection to the place where tasks are put, for code without an asynchronous runtime. Its twin for futures is
/// [`asynctask::Client`](crate::Client).
///
/// Each submit blocks its thread until the task is stored. A future must not do that: called while Tokio polls one, a
/// submit is refused with [`Error::InFuture`]. Within `spawn_blocking` it may be called.
///
/// ```no_run
/// use asynctask::client::{SubmitOptions, blocking::Client};
///
/// # fn main() -> Result<(), asynctask::client::Error> {
/// let client = Client::open("sqlite:asynctask.db")?;
/// let id = client.submit("thumbnails", &"a.png")?;
/// client.submit_with("thumbnails", &"b.png", SubmitOptions::new().id("b"))?;
/// # Ok(())
/// # }
/// ```
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Opens the transport that `uri` names; a relative file is taken from the current folder. Whether it can be
    /// reached is told by the first submit. A submit that is held up for 60 s is an error.
    ///
    /// # Errors
    /// [`Error::Transport`], if `uri` is not an address of a transport, or the files beside a database cannot be made.
    pub fn open(uri: &str) -> Result<Self, Error> {
        Self::open_within(uri, CLIENT_PATIENCE)
    }

    /// [`Self::open`] with another limit than 60 s: a submit that is held up for longer than `patience`, by another program's
    /// lock of the file or by a broker that takes nothing from publishers (its memory or disk alarm), is an error.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_within(uri: &str, patience: Duration) -> Result<Self, Error> {
        Ok(Self { connection: Connection::open(&Connection::parse(uri)?, Vec::new(), patience)? })
    }

    /// Opens the transport of checked settings, as [`Client::from_config`](super::Client::from_config) does.
    ///
    /// # Errors
    /// [`Error::Transport`], if the files beside a database cannot be made.
    pub fn from_config(config: &Config) -> Result<Self, Error> {
        Ok(Self { connection: Connection::open(&config.transport, config.protocols(), CLIENT_PATIENCE)? })
    }

    /// Puts a task into a queue and gives its id once it is stored for good.
    ///
    /// # Errors
    /// [`Error`]; [`Error::extent`] tells whether the task may be stored all the same.
    pub fn submit<P: Serialize + ?Sized>(&self, queue: &str, payload: &P) -> Result<String, Error> {
        self.submit_with(queue, payload, SubmitOptions::new())
    }

    /// [`Self::submit`] with options.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_with<P: Serialize + ?Sized>(
        &self,
        queue: &str,
        payload: &P,
        options: SubmitOptions,
    ) -> Result<String, Error> {
        let submission = Submission::new(queue, payload, options)?;
        let id = submission.id().to_owned();
        self.submit_all([submission])?;
        Ok(id)
    }

    /// Puts many tasks into their queues, in their order and faster than one by one.
    ///
    /// # Errors
    /// [`Error::Transport`], [`Error::InFuture`]; [`Error::extent`] tells which of the tasks are stored.
    pub fn submit_all(&self, tasks: impl IntoIterator<Item = Submission>) -> Result<(), Error> {
        if async_context::is_polled() {
            return Err(Error::InFuture);
        }
        let stored: Stored = self.connection.submit(tasks.into_iter().map(Submission::into_task).collect());
        Ok(stored.blocking_recv().unwrap_or(Err(transport::Error::Closed))?)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{runtime::Builder, task::spawn_blocking};

    use super::*;

    #[test]
    fn a_future_is_refused_and_code_that_may_block_is_not() {
        let client = Client::open(&format!("localmem:{}", uuid::Uuid::now_v7())).unwrap();
        client.submit("foo", &1).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let error = client.submit("foo", &2).unwrap_err();
            assert!(matches!(error, Error::InFuture) && error.to_string().contains("asynctask::Client"), "{error}");
            spawn_blocking(move || client.submit("foo", &3)).await.unwrap().unwrap();
        });
    }
}
