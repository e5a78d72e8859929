//! A program with worker kinds of its own: the registry of its kinds, with the command line and the drain on top.

#![warn(clippy::missing_panics_doc)]

use std::{collections::BTreeMap, env, ffi::OsString, path::PathBuf, process::ExitCode};

use serde::de::DeserializeOwned;

use crate::{
    cli,
    config::{self, Config, Problems},
    drain,
    logging::Level,
    worker::{
        self, AsyncWorker, Context, Kind, Worker,
        registry::{Registry, WORKER},
    },
};

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
    registry: Registry,
}

impl App {
    /// A program of this name, which is also the application's default name, with the built-in kind
    /// `ctl_executor`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { registry: Registry::new(name) }
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
        self.registry.want_properties(kind);
        self
    }

    #[track_caller]
    fn register(mut self, name: String, kind: Kind) -> Self {
        self.registry.register(name, kind);
        self
    }

    /// The program's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.registry.name()
    }

    /// The kinds by name.
    #[doc(hidden)]
    #[must_use]
    pub const fn kinds(&self) -> &BTreeMap<String, Kind> {
        self.registry.kinds()
    }

    /// The name and the kinds, as [`drain`] takes them.
    #[doc(hidden)]
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The checked settings of these files, or of those that the command line would find without `-c`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn settings(&self, files: Vec<PathBuf>) -> Result<Config, Problems> {
        config::load(&cli::settings::sources_of(&self.registry, files, Vec::new()))
    }

    /// Does the tasks of a queue in this process until nothing is left in it, and gives the number of those that
    /// were done. Without a `kind`: the one that is configured for the queue. See [`drain`]. Where tasks come from
    /// RabbitMQ, a program that has had threads before calls [`enlarge_stacks`](crate::enlarge_stacks) at the
    /// beginning of its `main`.
    ///
    /// # Errors
    /// [`drain::Error`]; the first error of a task ends the drain.
    pub fn process_queue(&self, config: &Config, queue: &str, kind: Option<&str>) -> Result<u64, drain::Error> {
        drain::process_queue(&self.registry, config, queue, kind, level())
    }

    /// Has a worker kind do the tasks of a queue in this process until nothing is left in it, and gives the number
    /// of those that were done. Without a `queue`: the first one that is configured for the kind. See [`drain`].
    ///
    /// # Errors
    /// [`drain::Error`]; the first error of a task ends the drain.
    pub fn run_worker(&self, config: &Config, kind: &str, queue: Option<&str>) -> Result<u64, drain::Error> {
        drain::run_worker(&self.registry, config, kind, queue, level())
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
            return self.registry.serve(arguments.get(2));
        }
        cli::run(&self.registry, &arguments)
    }
}

/// The level of the log that the environment asks for.
fn level() -> Level {
    env::var("LOG_LEVEL").ok().and_then(|word| word.parse().ok()).unwrap_or(Level::Info)
}
