//! What user code sees, and the process that runs it.
//!
//! A worker is a process of its own, started by the master from the same binary. It reads frames from one
//! socket, does what they ask, and says how each task ended; it knows no queue, no transport and no other
//! worker. A kind that is not asynchronous is served without a runtime, by blocking reads and writes: a worker
//! costs little memory, so that there can be many.
//!
//! Reading order: the traits here, then [`Context`], then `serve` (the child's loop).

mod context;
pub mod ctl;
mod frame_writer;
mod kind;
mod lines;
mod panics;
pub mod registry;
mod serve;
mod serve_async;
mod tracing_lines;

use std::time::Duration;

use serde::de::DeserializeOwned;

pub use self::{
    context::{Context, SubmitError},
    kind::{Foreground, Kind},
    serve::serve,
};

/// Any error of user code.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// How user code ends a task: an [`Outcome`], or an error for the queue's retry policy.
pub type TaskResult = Result<Outcome, TaskError>;

/// Code that can do a task.
///
/// One value lives as long as its process, so what is expensive to make (a connection, a model) is made once, by
/// the function that was registered.
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

    /// Does one task. An error is for the queue's retry policy to judge; a panic likewise, and the worker goes on.
    fn process(&mut self, payload: Self::Payload, context: &Context) -> TaskResult;
}

/// Code that can do several tasks at once in one process, on one thread.
///
/// How many at once is the queue's `concurrency`. The futures need not be `Send`; they run on a `tokio` runtime
/// of one thread, with its timers and sockets.
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
    fn process(&self, payload: Self::Payload, context: Context) -> impl Future<Output = TaskResult>;
}

/// How a task ended, when it did not end in an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done and leaves its queue, together with the storing of what was submitted.
    Done,
    /// It failed, and is tried again after this time if an attempt is left.
    Retry {
        /// Time until the next attempt.
        after: Duration,
    },
    /// Not now: it is due again after this time, and no attempt is used.
    Snooze {
        /// Time until it is due.
        after: Duration,
    },
    /// It can never be done; into the dead letters, for this reason.
    DeadLetter(String),
}
