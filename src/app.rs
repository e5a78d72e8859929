//! A program that has worker kinds of its own: the kinds by name, and what the program was started as.

use std::{collections::BTreeMap, env, ffi::OsString, path::PathBuf, process::ExitCode};

use serde::de::DeserializeOwned;

use crate::{
    config::{self, Config, Problems, Sources},
    drain,
    logging::Level,
    task::is_queue_name,
    worker::{self, AsyncWorker, Context, Kind, Worker, ctl},
};

/// The hidden subcommand by which the master starts a worker: `__worker KIND QUEUE`.
pub const WORKER: &str = "__worker";

/// The program: its name and its worker kinds.
///
/// ```no_run
/// use asynctask::{App, Context, Outcome};
///
/// fn main() -> std::process::ExitCode {
///     App::new("images")
///         .worker_fn("greet", |name: String, _: &Context| {
///             println!("Hello, {name}!");
///             Ok(Outcome::Done)
///         })
///         .run()
/// }
/// ```
#[derive(Debug)]
pub struct App {
    name: String,
    kinds: BTreeMap<String, Kind>,
}

impl App {
    /// A program of this name, which is also the application's default name, with the built-in kind
    /// `ctl_executor`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let app = Self { name: name.into(), kinds: BTreeMap::new() };
        app.worker(ctl::KIND, ctl::CtlExecutorWorker::from_environment)
    }

    /// Registers a worker kind. `new` is called once in each worker process, before it takes tasks; an error is
    /// a failed start.
    ///
    /// # Panics
    /// If the name is taken, or cannot be part of a queue's name.
    #[must_use]
    #[track_caller]
    pub fn worker<W: Worker>(
        self,
        kind: impl Into<String>,
        new: impl Fn() -> Result<W, worker::TaskError> + Send + Sync + 'static,
    ) -> Self {
        self.register(kind.into(), Kind::worker(new))
    }

    /// Registers a function as a worker kind.
    ///
    /// # Panics
    /// As [`Self::worker`].
    #[must_use]
    #[track_caller]
    pub fn worker_fn<P: DeserializeOwned + 'static>(
        self,
        kind: impl Into<String>,
        body: impl Fn(P, &Context) -> worker::TaskResult + Send + Sync + 'static,
    ) -> Self {
        self.register(kind.into(), Kind::worker_fn(body))
    }

    /// Registers a worker kind that can do several tasks at once in one process.
    ///
    /// # Panics
    /// As [`Self::worker`].
    #[must_use]
    #[track_caller]
    pub fn async_worker<W: AsyncWorker>(
        self,
        kind: impl Into<String>,
        new: impl Fn() -> Result<W, worker::TaskError> + Send + Sync + 'static,
    ) -> Self {
        self.register(kind.into(), Kind::async_worker(new))
    }

    /// Registers an asynchronous function as a worker kind that can do several tasks at once in one process.
    ///
    /// # Panics
    /// As [`Self::worker`].
    #[must_use]
    #[track_caller]
    pub fn async_worker_fn<P, R>(
        self,
        kind: impl Into<String>,
        body: impl Fn(P, Context) -> R + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + 'static,
        R: Future<Output = worker::TaskResult> + 'static,
    {
        self.register(kind.into(), Kind::async_worker_fn(body))
    }

    /// Has a registered kind told what messages say of themselves: [`Context::properties`].
    ///
    /// # Panics
    /// If there is no such kind.
    #[must_use]
    #[track_caller]
    pub fn with_properties(mut self, kind: &str) -> Self {
        let Some(registered) = self.kinds.get_mut(kind) else {
            panic!("there is no worker kind \"{kind}\" to be told properties");
        };
        registered.want_properties();
        self
    }

    #[track_caller]
    fn register(mut self, name: String, kind: Kind) -> Self {
        assert!(is_queue_name(&name), "\"{name}\" cannot be the name of a worker kind");
        assert!(!self.kinds.contains_key(&name), "the worker kind \"{name}\" is registered twice");
        self.kinds.insert(name, kind);
        self
    }

    /// The program's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kinds by name.
    #[must_use]
    pub const fn kinds(&self) -> &BTreeMap<String, Kind> {
        &self.kinds
    }

    /// The checked settings of these files, or of those that the command line would find without `-c`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn settings(&self, files: Vec<PathBuf>) -> Result<Config, Problems> {
        let cwd = config::current().unwrap_or_default();
        config::load(&self.sources(files, Vec::new(), cwd))
    }

    pub(crate) fn sources(&self, files: Vec<PathBuf>, set: Vec<String>, cwd: PathBuf) -> Sources {
        Sources {
            files,
            set,
            rust_kinds: self.kinds.keys().cloned().collect(),
            env: env::vars_os().collect(),
            cwd,
            application: self.name.clone(),
            at_once: false,
        }
    }

    /// Does the tasks of a queue in this process until nothing is left in it, and gives the number of those that
    /// were done. Without a `kind`: the one that is configured for the queue. See [`drain`]. Where tasks come from
    /// RabbitMQ, a program that has had threads before calls [`enlarge`](crate::process::stacks::enlarge) at the
    /// beginning of its `main`.
    ///
    /// # Errors
    /// [`drain::Error`]; the first error of a task ends the drain.
    pub fn process_queue(&self, config: &Config, queue: &str, kind: Option<&str>) -> Result<u64, drain::Error> {
        drain::process_queue(self, config, queue, kind, level())
    }

    /// Has a worker kind do the tasks of a queue in this process until nothing is left in it, and gives the number
    /// of those that were done. Without a `queue`: the first one that is configured for the kind. See [`drain`].
    ///
    /// # Errors
    /// [`drain::Error`]; the first error of a task ends the drain.
    pub fn run_worker(&self, config: &Config, kind: &str, queue: Option<&str>) -> Result<u64, drain::Error> {
        drain::run_worker(self, config, kind, queue, level())
    }

    /// Does what the command line says; the whole of a `main`.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.run_with(env::args_os())
    }

    /// [`Self::run`] with other arguments, the program's name first.
    #[must_use]
    pub fn run_with(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        if arguments.get(1).is_some_and(|first| first == WORKER) {
            return self.live_as_worker(arguments.get(2));
        }
        crate::cli::run(&self, &arguments)
    }

    fn live_as_worker(&self, kind: Option<&OsString>) -> ExitCode {
        let name = kind.map(|kind| kind.to_string_lossy()).unwrap_or_default();
        if let Some(kind) = self.kinds.get(&*name) {
            return worker::serve(&name, kind);
        }
        eprintln!("error: {} has no worker kind \"{name}\"", self.name);
        ExitCode::FAILURE
    }
}

/// The level of the log that the environment asks for.
fn level() -> Level {
    env::var("LOG_LEVEL").ok().and_then(|word| word.parse().ok()).unwrap_or(Level::Info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    #[expect(clippy::unnecessary_wraps, reason = "the shape of a worker's function")]
    fn nothing(_: (), _: &Context) -> worker::TaskResult {
        Ok(Outcome::Done)
    }

    #[test]
    fn kinds_are_known_by_name_and_the_built_in_one_is_there() {
        let app = App::new("images").worker_fn("b", nothing).worker_fn("a", nothing);
        assert_eq!(app.kinds().keys().collect::<Vec<_>>(), ["a", "b", ctl::KIND]);
        assert_eq!(app.kinds()[ctl::KIND].shown_as(ctl::KIND), "CtlExecutorWorker");
        assert_eq!(app.kinds()["a"].shown_as("a"), "a");
        let app = app.with_properties("a");
        assert!(app.kinds()["a"].wants_properties() && !app.kinds()["b"].wants_properties());
    }

    #[test]
    #[should_panic(expected = "there is no worker kind \"b\"")]
    fn properties_are_told_to_kinds_that_are_there() {
        let _ = App::new("images").worker_fn("a", nothing).with_properties("b");
    }

    #[test]
    #[should_panic(expected = "registered twice")]
    fn a_name_is_given_once() {
        let _ = App::new("images").worker_fn("a", nothing).worker_fn("a", nothing);
    }
}
