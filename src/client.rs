//! Submitting tasks from any program.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::{Clock, Timestamp},
    task::{Headers, NewTask, is_delay_queue_name, is_foreign_queue_name, is_queue_name},
    transport::{self, CLIENT_PATIENCE, Extent, Request, Transport, Uri},
};

/// A connection to where tasks are put.
///
/// ```no_run
/// # fn main() -> Result<(), asynctask::client::Error> {
/// let client = asynctask::Client::open("sqlite:asynctask.db")?;
/// let id = client.submit("thumbnails", &"a.png")?;
/// # Ok(())
/// # }
/// ```
pub struct Client {
    transport: Box<dyn Transport>,
}

/// How a task is put into its queue.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Its id; a new one is made without it. A queue can hold two tasks of one id.
    pub id: Option<String>,
    /// Not due before this much time has passed.
    pub delay: Duration,
    /// The delay ends at a moment that somebody named, as [`Self::at`] has it: it stays there if the wall clock is set
    /// (not so in memory, `localmem:`).
    pub at_moment: bool,
    /// Dead-lettered instead of run after this moment.
    pub expires_at: Option<Timestamp>,
    /// Headers for the worker to read.
    pub headers: Headers,
    /// The higher, the earlier, in a queue that has priorities (RabbitMQ, `x-max-priority`); SQLite has none and refuses it.
    pub priority: Option<u8>,
}

impl Options {
    /// Due at `moment`; at once, if it has passed.
    #[must_use]
    pub fn at(self, moment: Timestamp) -> Self {
        Self { delay: moment.remaining(Clock::wall()), at_moment: true, ..self }
    }
}

/// Why a task was not stored, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The payload cannot be written as JSON.
    #[error("the payload cannot be written as JSON: {0}")]
    Payload(#[from] serde_json::Error),
    /// No queue can have this name.
    #[error("\"{queue}\" is not a properly-formatted queue name")]
    QueueName {
        /// The name.
        queue: String,
    },
    /// What has such a name gives its tasks to another queue.
    #[error("\"{queue}\" is the name of a delay queue")]
    DelayQueue {
        /// The name.
        queue: String,
    },
    /// The transport's reason.
    #[error(transparent)]
    Transport(#[from] transport::Error),
}

impl Error {
    /// Which tasks of a submit are stored, and which may be; no others are. Of a single task the position is 0.
    #[must_use]
    pub fn extent(&self) -> Extent {
        match self {
            Self::Transport(error) => error.extent(),
            _ => Extent::default(),
        }
    }
}

impl Client {
    /// Opens the transport that `uri` names; a relative file is taken from the current folder. Whether it can be
    /// reached is told by the first submit.
    ///
    /// # Errors
    /// If `uri` is none, or the files beside a database cannot be made.
    pub fn open(uri: &str) -> Result<Self, Error> {
        Self::open_uri(&Uri::parse(uri, Path::new(""))?)
    }

    /// [`Self::open`] for an address that was read before.
    ///
    /// # Errors
    /// If the files beside a database cannot be made.
    pub fn open_uri(uri: &Uri) -> Result<Self, Error> {
        Self::opened(uri, CLIENT_PATIENCE)
    }

    /// [`Self::open`] with another limit than 60 s: a submit that is held up for longer than `patience`, by another program's
    /// lock of the file or by a broker that takes nothing from publishers (its memory or disk alarm), is an error.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_within(uri: &str, patience: Duration) -> Result<Self, Error> {
        Self::opened(&Uri::parse(uri, Path::new(""))?, patience)
    }

    fn opened(uri: &Uri, patience: Duration) -> Result<Self, Error> {
        // Answers say all that a program needs; nobody listens to what is said beside them.
        let (sender, _) = mpsc::unbounded_channel();
        Ok(Self { transport: transport::open_client(uri, sender, patience)? })
    }

    /// Puts a task into a queue and gives its id, once it is stored for good. Blocks; not for a thread that runs
    /// futures.
    ///
    /// # Errors
    /// [`Error`].
    pub fn submit<P: Serialize + ?Sized>(&self, queue: &str, payload: &P) -> Result<String, Error> {
        self.submit_with(queue, payload, Options::default())
    }

    /// [`Self::submit`] with options.
    ///
    /// # Errors
    /// [`Error`].
    pub fn submit_with<P: Serialize + ?Sized>(
        &self,
        queue: &str,
        payload: &P,
        options: Options,
    ) -> Result<String, Error> {
        let (id, answer) = self.ask(queue, payload, options)?;
        answer.blocking_recv().unwrap_or(Err(transport::Error::Closed))?;
        Ok(id)
    }

    /// Puts many tasks into their queues, in their order and faster than one by one. After an error [`Error::extent`] says
    /// which of them are stored.
    ///
    /// # Errors
    /// [`Error::Transport`].
    pub fn submit_all(&self, tasks: Vec<NewTask>) -> Result<(), Error> {
        Ok(transport::call(&*self.transport, |reply| Request::Submit { tasks, reply })?)
    }

    /// [`Self::submit`] for asynchronous code, on any runtime.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn submit_async<P: Serialize + ?Sized>(&self, queue: &str, payload: &P) -> Result<String, Error> {
        self.submit_async_with(queue, payload, Options::default()).await
    }

    /// [`Self::submit_with`] for asynchronous code, on any runtime.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn submit_async_with<P: Serialize + ?Sized>(
        &self,
        queue: &str,
        payload: &P,
        options: Options,
    ) -> Result<String, Error> {
        let (id, answer) = self.ask(queue, payload, options)?;
        answer.await.unwrap_or(Err(transport::Error::Closed))?;
        Ok(id)
    }

    /// Hands a task to the transport: its id, and where the answer will come.
    fn ask<P: Serialize + ?Sized>(
        &self,
        queue: &str,
        payload: &P,
        options: Options,
    ) -> Result<(String, Stored), Error> {
        let task = new_task(queue, payload, options)?;
        let id = task.id.clone();
        let (reply, answer) = oneshot::channel();
        self.transport.ask(Request::Submit { tasks: vec![task], reply });
        Ok((id, answer))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // What was submitted is stored already; nobody waits for the answer.
        let (reply, _) = oneshot::channel();
        self.transport.ask(Request::Close { reply });
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The answer to a submit.
type Stored = oneshot::Receiver<Result<(), transport::Error>>;

/// A task ready to be stored: for [`Client::submit_all`].
///
/// # Errors
/// [`Error::Payload`], [`Error::QueueName`], [`Error::DelayQueue`].
pub fn new_task<P: Serialize + ?Sized>(queue: &str, payload: &P, options: Options) -> Result<NewTask, Error> {
    // Whether a queue of others may have it, the transport knows.
    if !is_queue_name(queue) && !is_foreign_queue_name(queue) {
        return Err(Error::QueueName { queue: queue.to_owned() });
    }
    if is_delay_queue_name(queue) {
        return Err(Error::DelayQueue { queue: queue.to_owned() });
    }
    Ok(NewTask {
        queue: queue.to_owned(),
        id: options.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
        body: serde_json::to_vec(payload)?,
        delay: options.delay,
        at_moment: options.at_moment,
        expires_at: options.expires_at,
        headers: options.headers,
        priority: options.priority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_an_id_of_its_own_or_the_given_one() {
        let payload = serde_json::json!({"foo": 1});
        let made = new_task("foo", &payload, Options::default()).unwrap();
        assert_eq!(made.body, br#"{"foo":1}"#);
        assert_ne!(made.id, new_task("foo", &payload, Options::default()).unwrap().id);
        let options = Options { id: Some("mine".to_owned()), delay: Duration::from_secs(2), ..Options::default() };
        let given = new_task("foo", &payload, options).unwrap();
        assert_eq!((given.id.as_str(), given.delay), ("mine", Duration::from_secs(2)));
        assert!(matches!(new_task("foo\n", &payload, Options::default()), Err(Error::QueueName { .. })));
        let delayed = new_task("foo.retry.500", &payload, Options::default());
        assert!(matches!(delayed, Err(Error::DelayQueue { .. })));
    }
}
