//! Submitting tasks from any program.
//!
//! [`Client`] is for futures, on any runtime; [`blocking::Client`] is its twin for code without one. Both have the same
//! methods, the same options and the same errors, and may be shared by threads.
//!
//! A submit is answered after the task is durable. An error does not always mean that nothing is stored (a connection
//! may break before the answer comes): [`Error::extent`] says what is known. A client that is dropped closes its connection.

#![warn(clippy::missing_panics_doc)]

pub mod blocking;
mod connection;
mod error;
mod options;
mod submission;

use std::{fmt, time::Duration};

use serde::Serialize;

use self::connection::Connection;
pub use self::{error::Error, options::SubmitOptions, submission::Submission};
pub use crate::transport::{Error as TransportError, Extent};
use crate::{config::Config, transport::CLIENT_PATIENCE};

/// A connection to the place where tasks are put, for futures on any runtime. Its twin for code without one is
/// [`blocking::Client`].
///
/// ```no_run
/// use std::time::Duration;
///
/// use asynctask::{Client, client::SubmitOptions};
///
/// # async fn submit() -> Result<(), asynctask::client::Error> {
/// let client = Client::open("sqlite:asynctask.db")?;
/// let id = client.submit("thumbnails", &"a.png").await?;
/// let later = SubmitOptions::new().delay(Duration::from_secs(60));
/// client.submit_with("thumbnails", &"b.png", later).await?;
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

    /// Opens the transport of checked settings. They say which queues have messages of Celery's: for one of these, a payload is
    /// `{"task", "args", "kwargs"}`.
    ///
    /// # Errors
    /// [`Error::Transport`], if the files beside a database cannot be made.
    pub fn from_config(config: &Config) -> Result<Self, Error> {
        Ok(Self { connection: Connection::open(&config.transport, config.protocols(), CLIENT_PATIENCE)? })
    }

    /// Puts a task into a queue and gives its id once it is stored for good. A future that is dropped before its end
    /// has perhaps submitted the task.
    ///
    /// # Errors
    /// [`Error`]; [`Error::extent`] tells whether the task may be stored all the same.
    pub async fn submit<P: Serialize + ?Sized>(&self, queue: &str, payload: &P) -> Result<String, Error> {
        self.submit_with(queue, payload, SubmitOptions::new()).await
    }

    /// [`Self::submit`] with options.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn submit_with<P: Serialize + ?Sized>(
        &self,
        queue: &str,
        payload: &P,
        options: SubmitOptions,
    ) -> Result<String, Error> {
        let submission = Submission::new(queue, payload, options)?;
        let id = submission.id().to_owned();
        self.submit_all([submission]).await?;
        Ok(id)
    }

    /// Puts many tasks into their queues, in their order and faster than one by one.
    ///
    /// # Errors
    /// [`Error::Transport`]; [`Error::extent`] tells which of the tasks are stored.
    pub async fn submit_all(&self, tasks: impl IntoIterator<Item = Submission>) -> Result<(), Error> {
        let stored = self.connection.submit(tasks.into_iter().map(Submission::into_task).collect());
        Ok(stored.await.unwrap_or(Err(TransportError::Closed))?)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A future that can be spawned on threads of a runtime.
    fn sendable<T>(future: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        future
    }

    #[test]
    fn futures_submit_and_can_go_to_other_threads() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let client = Client::open(&format!("localmem:{}", uuid::Uuid::now_v7())).unwrap();
        let options = SubmitOptions::new().id("mine");
        assert_eq!(runtime.block_on(sendable(client.submit_with("foo", &1, options))).unwrap(), "mine");
        assert!(matches!(runtime.block_on(client.submit("foo\n", &1)), Err(Error::QueueName { .. })));
        let tasks = ["a", "b"].map(|id| Submission::new("foo", &1, SubmitOptions::new().id(id)).unwrap());
        runtime.block_on(client.submit_all(tasks)).unwrap();
    }
}
