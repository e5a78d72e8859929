//! What a worker kind in Rust implements.

use serde::de::DeserializeOwned;

use super::{context::Context, outcome::TaskResult};

/// Code that can do a task.
///
/// One value lives as long as its process, so what is expensive to make (a connection, a model) is made once, by
/// the function that was registered. Its code runs on the main thread of the process; a second thread, which takes no signals,
/// answers the master meanwhile.
///
/// ```
/// use asynctask::{Context, Level, Outcome, Worker};
///
/// #[derive(serde::Deserialize)]
/// struct Greeting {
///     name: String,
/// }
///
/// struct Greet;
/// impl Worker for Greet {
///     type Payload = Greeting;
///
///     fn process(&mut self, greeting: Greeting, context: &Context) -> asynctask::TaskResult {
///         println!("Hello, {}!", greeting.name);
///         context.log(Level::Debug, "said hello");
///         context.submit("greeted", &greeting.name)?;
///         Ok(Outcome::Done)
///     }
/// }
/// ```
pub trait Worker: 'static {
    /// What the payload is read as. A payload that cannot be read so is dead-lettered as malformed.
    /// `Box<serde_json::value::RawValue>` takes anything, as its own text.
    type Payload: DeserializeOwned;

    /// Does one task.
    ///
    /// # Errors
    /// Any error of the task: it has used an attempt, and the queue's retry policy decides. A panic counts as one, and the
    /// worker goes on.
    fn process(&mut self, payload: Self::Payload, context: &Context) -> TaskResult;
}

/// Code that can do several tasks at once in one process, on one thread: its futures need not be `Send`, and none may block.
///
/// How many at once is the queue's `concurrency`. The futures run on a Tokio runtime of one thread, with its timers and
/// sockets, and are never moved to another thread. A future that blocks holds up all tasks of its process.
///
/// ```
/// use asynctask::{AsyncWorker, Context, Outcome};
///
/// struct Fetch;
/// impl AsyncWorker for Fetch {
///     type Payload = String;
///
///     async fn process(&self, url: String, context: Context) -> asynctask::TaskResult {
///         context.progress(50.0, &url);
///         Ok(Outcome::Done)
///     }
/// }
/// ```
pub trait AsyncWorker: 'static {
    /// As in [`Worker::Payload`].
    type Payload: DeserializeOwned;

    /// Does one task; others are done while this one waits.
    ///
    /// # Errors
    /// As in [`Worker::process`].
    fn process(&self, payload: Self::Payload, context: Context) -> impl Future<Output = TaskResult>;
}
