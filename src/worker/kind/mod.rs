//! A worker kind in Rust: code that was registered under a name, and one task run by it.

use std::{any::type_name, marker::PhantomData, pin::Pin, rc::Rc, sync::Arc};

use serde::de::DeserializeOwned;

use super::{
    context::{Context, Left, Surroundings},
    frame_writer::FrameWriter,
    lines::{self, Lines},
    outcome::{Outcome, TaskError, TaskResult},
    panics::{self, Panicked},
    tracing_lines,
    traits::{AsyncWorker, Worker},
};
use crate::{frames::to_worker::Assignment, level::Level, limits, outcome, text::cut, unicode::from_json};

/// How one run ended, before it is put into the words of a frame.
pub(super) enum Ended {
    Returned(TaskResult),
    Malformed(String),
    Panicked(Panicked),
}

/// A worker that does one task at a time.
pub(super) trait RunOne {
    fn run(&mut self, payload: &str, context: &Context) -> Ended;
}

/// A worker that does several; the future may outlive the call.
pub(super) trait RunMany {
    fn run(&self, payload: &str, context: Context) -> Result<Pin<Box<dyn Future<Output = TaskResult>>>, String>;
}

/// A worker that was built.
pub(super) enum Built {
    One(Box<dyn RunOne>),
    Many(Rc<dyn RunMany>),
}

type Build = Box<dyn Fn() -> Result<Built, TaskError> + Send + Sync>;

/// Code registered as a worker kind.
pub struct Kind {
    /// The type's name; closures have none.
    type_name: Option<String>,
    wants_properties: bool,
    build: Build,
}

impl Kind {
    pub(crate) fn worker<W: Worker>(new: impl Fn() -> Result<W, TaskError> + Send + Sync + 'static) -> Self {
        let build = Box::new(move || Ok(Built::One(Box::new(One(new()?)))));
        Self { type_name: Some(short_name(type_name::<W>())), wants_properties: false, build }
    }

    pub(crate) fn async_worker<W: AsyncWorker>(new: impl Fn() -> Result<W, TaskError> + Send + Sync + 'static) -> Self {
        let build = Box::new(move || Ok(Built::Many(Rc::new(Many(Rc::new(new()?))))));
        Self { type_name: Some(short_name(type_name::<W>())), wants_properties: false, build }
    }

    pub(crate) fn worker_fn<P, F>(body: F) -> Self
    where
        P: DeserializeOwned + 'static,
        F: Fn(P, &Context) -> TaskResult + Send + Sync + 'static,
    {
        let body = Arc::new(body);
        let kind = Self::worker(move || Ok(WorkerFn { body: Arc::clone(&body), payload: PhantomData }));
        Self { type_name: None, ..kind }
    }

    pub(crate) fn async_worker_fn<P, F, R>(body: F) -> Self
    where
        P: DeserializeOwned + 'static,
        F: Fn(P, Context) -> R + Send + Sync + 'static,
        R: Future<Output = TaskResult> + 'static,
    {
        let body = Arc::new(body);
        let kind = Self::async_worker(move || Ok(WorkerFn { body: Arc::clone(&body), payload: PhantomData }));
        Self { type_name: None, ..kind }
    }

    /// The name in the log: the type's, or `kind`, the name it is registered under.
    #[must_use]
    pub fn shown_as<'a>(&'a self, kind: &'a str) -> &'a str {
        self.type_name.as_deref().unwrap_or(kind)
    }

    /// Asks for the properties of messages.
    pub(crate) fn want_properties(&mut self) {
        self.wants_properties = true;
    }

    /// Whether [`Context::properties`] are asked for.
    #[must_use]
    pub fn wants_properties(&self) -> bool {
        self.wants_properties
    }

    pub(super) fn build(&self) -> Result<Built, TaskError> {
        (self.build)()
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kind").field("type_name", &self.type_name).finish_non_exhaustive()
    }
}

/// `a::b::Foo<c::D>` is `Foo`.
fn short_name(path: &str) -> String {
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path).to_owned()
}

fn read<P: DeserializeOwned>(payload: &str) -> Result<P, String> {
    from_json(payload).map_err(|error| error.to_string())
}

struct One<W>(W);

impl<W: Worker> RunOne for One<W> {
    fn run(&mut self, payload: &str, context: &Context) -> Ended {
        match read(payload) {
            Ok(payload) => Ended::Returned(self.0.process(payload, context)),
            Err(error) => Ended::Malformed(error),
        }
    }
}

struct Many<W>(Rc<W>);

impl<W: AsyncWorker> RunMany for Many<W> {
    fn run(&self, payload: &str, context: Context) -> Result<Pin<Box<dyn Future<Output = TaskResult>>>, String> {
        let payload = read(payload)?;
        let worker = Rc::clone(&self.0);
        Ok(Box::pin(async move { worker.process(payload, context).await }))
    }
}

struct WorkerFn<P, F> {
    body: Arc<F>,
    payload: PhantomData<fn(P)>,
}

impl<P, F> Worker for WorkerFn<P, F>
where
    P: DeserializeOwned + 'static,
    F: Fn(P, &Context) -> TaskResult + 'static,
{
    type Payload = P;

    fn process(&mut self, payload: P, context: &Context) -> TaskResult {
        (self.body)(payload, context)
    }
}

impl<P, F, R> AsyncWorker for WorkerFn<P, F>
where
    P: DeserializeOwned + 'static,
    F: Fn(P, Context) -> R + 'static,
    R: Future<Output = TaskResult> + 'static,
{
    type Payload = P;

    fn process(&self, payload: P, context: Context) -> impl Future<Output = TaskResult> {
        (self.body)(payload, context)
    }
}

/// Does one task; its outcome is still to be told.
pub(super) fn run_one(
    worker: &mut dyn RunOne,
    task: &Assignment<'_>,
    context: &Context,
    lines: &Lines,
) -> outcome::Report {
    let ended = match task.json() {
        Some(payload) => panics::catch(|| worker.run(payload, context)).unwrap_or_else(Ended::Panicked),
        None => bytes_refused(),
    };
    finish(ended, context, lines)
}

/// Does one task beside others; its outcome is still to be told.
pub(super) async fn run_many(
    worker: Rc<dyn RunMany>,
    payload: Option<String>,
    context: Context,
    lines: Lines,
) -> outcome::Report {
    let ended = match payload {
        Some(payload) => match panics::catch(|| worker.run(&payload, context.clone())) {
            Ok(Ok(future)) => panics::catch_future(future).await.map_or_else(Ended::Panicked, Ended::Returned),
            Ok(Err(error)) => Ended::Malformed(error),
            Err(panicked) => Ended::Panicked(panicked),
        },
        None => bytes_refused(),
    };
    finish(ended, &context, &lines)
}

fn bytes_refused() -> Ended {
    Ended::Malformed("the payload is bytes; a kind of this program takes JSON".to_owned())
}

/// Puts the end into the words of a frame, and ends what the context can do.
fn finish(ended: Ended, context: &Context, lines: &Lines) -> outcome::Report {
    lines::flush();
    let Left { follow_ups: submit, result, memo } = context.end();
    if let Ended::Returned(Ok(Outcome::Done)) = ended {
        return outcome::Report::Done { submit, given: outcome::Given::of(result, None, None) };
    }
    if !submit.is_empty() {
        lines.write(
            Level::Debug,
            &format_args!("Submitted tasks dropped, since the task is not done: {}", submit.len()),
        );
    }
    match ended {
        Ended::Returned(Ok(Outcome::Done)) => outcome::Report::DONE,
        Ended::Returned(Ok(Outcome::Retry { after })) => {
            outcome::Report::Retry { error: String::new(), delay: Some(after), memo }
        }
        Ended::Returned(Ok(Outcome::Snooze { after })) => outcome::Report::Snooze { delay: after, memo },
        Ended::Returned(Ok(Outcome::Dead(reason))) => {
            let (error, detail) = in_two(&reason, "");
            outcome::Report::DeadLetter { error, detail, memo }
        }
        Ended::Returned(Err(error)) => {
            let (error, detail) = in_two(&error.to_string(), &causes(&*error));
            outcome::Report::Error { error, detail, memo }
        }
        Ended::Malformed(error) => outcome::Report::Malformed { error: cut(&error, limits::ERROR).to_owned() },
        Ended::Panicked(Panicked { message, place }) => {
            let (error, detail) = in_two(&message, &place);
            outcome::Report::Error { error, detail, memo }
        }
    }
}

/// The first line as the error; what follows it, and `more`, as the detail.
fn in_two(text: &str, more: &str) -> (String, String) {
    let text = text.trim();
    let (error, rest) = text.split_once('\n').unwrap_or((text, ""));
    let between = if rest.is_empty() || more.is_empty() { "" } else { "\n" };
    let detail = format!("{rest}{between}{more}");
    (cut(error.trim_end(), limits::ERROR).to_owned(), cut(&detail, limits::DETAIL).to_owned())
}

/// The chain of sources, one a line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(error.source(), |cause| cause.source()).take(100);
    chain.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A worker in this process, for tasks that come from no master.
pub(crate) struct Foreground {
    worker: Built,
    /// Made when the first asynchronous task runs.
    runtime: Option<tokio::runtime::Runtime>,
    lines: Lines,
    surroundings: Arc<Surroundings>,
}

impl Foreground {
    /// Builds a worker of `kind`, which is registered as `name`; it logs lines of `level` and above.
    ///
    /// # Errors
    /// What the registered function said.
    pub(crate) fn start(name: &str, kind: &Kind, level: Level) -> Result<Self, TaskError> {
        panics::watch();
        let worker = kind.build()?;
        let lines = Lines::new(kind.shown_as(name), level);
        let surroundings = Surroundings::new(&lines, &Arc::new(FrameWriter::nowhere()));
        Ok(Self { worker, runtime: None, lines, surroundings })
    }

    /// Writes a line in the worker's name, if its level is shown.
    pub(crate) fn log(&self, level: Level, message: &dyn std::fmt::Display) {
        self.lines.write(level, message);
    }

    /// Does one task. `accept` and `progress` do nothing here. Not to be called on a thread that runs a runtime.
    ///
    /// # Errors
    /// If an asynchronous kind's runtime cannot be made.
    pub(crate) fn run(&mut self, task: &Assignment<'_>) -> std::io::Result<outcome::Report> {
        let context = Context::new(task, &self.surroundings);
        match &mut self.worker {
            Built::One(worker) => {
                Ok(tracing_lines::within(&self.lines, || run_one(&mut **worker, task, &context, &self.lines)))
            }
            Built::Many(worker) => {
                let runtime = match self.runtime.take() {
                    Some(runtime) => runtime,
                    None => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
                };
                let payload = task.json().map(ToOwned::to_owned);
                let run = run_many(Rc::clone(worker), payload, context, self.lines.clone());
                let outcome = {
                    let local = tokio::task::LocalSet::new();
                    tracing_lines::within(&self.lines, || local.block_on(&runtime, run))
                };
                self.runtime = Some(runtime);
                Ok(outcome)
            }
        }
    }
}

impl std::fmt::Debug for Foreground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Foreground").field("lines", &self.lines).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
