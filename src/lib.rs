//! `asynctask` runs other people's tasks in the background and does not lose them.
//!
//! A *master* reads a map of *queues* to *worker kinds*, starts *worker processes*, hands them *tasks* from a
//! *transport*, restarts what dies, retries what fails, and moves what cannot be done to a *dead-letter queue* with the
//! exact cause.
//!
//! ```text
//!   Client, submit ──> transport (SQLite, RabbitMQ) <──> master ── foo[1]  worker process: runs user code,
//!                        queues, dead letters            │ │  └─── foo[2]  speaks frames over one socket
//!                                                        │ └────── bar[1]  python3 worker.py: the same frames
//!                                                     core: decides
//! ```
//!
//! # A first program
//!
//! An [`App`] is a program with worker kinds. Here it reads its settings from a file, puts a task into a queue, and does the
//! tasks of that queue itself:
//!
//! ```
//! use asynctask::{App, Context, Outcome, client::blocking::Client};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = App::new("hello").worker_fn("greet", |name: String, _: &Context| {
//!     println!("Hello, {name}!");
//!     Ok(Outcome::Done)
//! });
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let settings = folder.join("hello.yaml");
//! std::fs::write(&settings, "{transport: 'sqlite:hello.db', workers: {greetings: greet}}")?;
//! let config = app.settings(vec![settings])?;
//!
//! Client::from_config(&config)?.submit("greetings", &"world")?;
//! assert_eq!(app.process_queue(&config, "greetings", None)?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # With a master: the command line
//!
//! [`App::run`] is the whole of a `main`. It gives the program the command line of `asynctask`, with its kinds beside those that
//! are programs in other languages: `hello workers -c hello.yaml` is a master, which starts each worker from this same
//! binary; `hello submit`, `hello failed`, `hello status`, `hello control` and the others are described by `hello --help` and in
//! the README. What can be set stands in `config/reference.yaml` and, of pipelines, `config/pipelines.yaml`.
//!
//! ```no_run
//! # use asynctask::{App, Context, Outcome};
//! fn main() -> std::process::ExitCode {
//!     App::new("hello").worker_fn("greet", |_: String, _: &Context| Ok(Outcome::Done)).run()
//! }
//! ```
//!
//! # Workers
//!
//! A kind is a function ([`App::worker_fn`], [`App::async_worker_fn`]) or a type: a [`Worker`] does one task at a time, an
//! [`AsyncWorker`] several at once on one thread. One value of it lives as long as its process. The payload is read into a type
//! of the kind's choice; one that cannot be read so becomes a dead letter. [`Context`] knows the task's id, attempt, headers
//! and time limit, and submits follow-up tasks that are stored together with the end of this one. A task that comes again finds the
//! memo that it left ([`Context::set_memo`]); one of a [`Job`] knows what the steps before gave, gives a result, and submits items.
//!
//! # Outcomes
//!
//! Code returns a [`TaskResult`]: an [`Outcome`] or any error.
//!
//! | result | the task |
//! |---|---|
//! | [`Outcome::Done`] | leaves its queue |
//! | [`Outcome::Retry`] | has used an attempt, and is due again after the given time if one is left |
//! | [`Outcome::Snooze`] | is due again after the given time, with no attempt used |
//! | [`Outcome::Dead`] | goes into the dead-letter queue at once |
//! | `Err`, a panic, the death of the process | has used an attempt, and is due again after the delay of the queue's retry policy if one is left |
//!
//! A task whose attempts are used up is a dead letter, with its last error. Tasks are done *at least once*: one whose process or
//! machine is lost is done again.
//!
//! # Submitting
//!
//! [`Client`] is for futures on any runtime, [`client::blocking::Client`] for other code; [`client::SubmitOptions`] has
//! delays, ids, priorities, headers and moments of expiry.
//!
//! # Draining
//!
//! [`App::process_queue`] and [`App::run_worker`] do the tasks of one queue in this process until none is left, for scripts and
//! tests: see [`drain`].
//!
//! # What is promised
//!
//! The items that this documentation shows. Modules that it does not show are public for the project's own programs and tests:
//! they are no promise, and change in any release.
//!
//! # For maintainers
//!
//! ## Reading order
//!
//! 1. `task`, `outcome`, `frames`, `retry`, `unique`: the vocabulary. `payload` reads a body.
//! 2. `transport`: the contract of what carries tasks, in its first lines; one folder for each implementation.
//! 3. `master::core`: every decision. Events go in, actions come out; it does no I/O and reads no clock. `master::shell` waits for
//!    the events and performs the actions.
//! 4. `process` starts and reaps processes; `worker` is the child's side of the socket.
//! 5. `config` reads and checks settings; `schedule` computes when schedules fire.
//! 6. `cli` has one file for each command; `control`, `metrics`, `logging`, `junit` and `systemd` show the state.
//!
//! ## Where things happen
//!
//! | what | where |
//! |---|---|
//! | a worker dies with a task in hand | `master::shell::exits` reaps it, and has what it left running ended first; `master::core::process_exit` judges (`left_running`: what could not be ended), `verdict` makes the settlement, `ledger` counts and settles. With `mode: once` an exit status of its own is no death but an outcome: `process_per_task` |
//! | the bytes of a frame | format: `examples/README.md`; written and parsed in `frames::to_worker`, `frames::from_worker`, cut in `frames::lines`; carried by `process::frame_channel` on the master's side, read by `worker::frame_reader` and written by `worker::frame_writer` on the other |
//! | the credit of a queue | `Pool::wanted_credit` in `master::core::state::pool`, asked for by `master::core::credit`: 0 in a stop; `transport_events` and `unavailable` lower it to 1 after a loss |
//! | the delay before the next attempt | `retry::Policy::after_failure`, through `backoff`; asked by `master::core::verdict` |
//! | an entry of a ledger of jobs | of a task that is done, an order of a worker, news of a begin: `master::core::jobs::entries`; of a dead letter, a retry, a snooze and what is removed where it waits: `transport::job_entries`, with the settlement; of a command: `cli::jobs`; of a schedule: `schedule::timer`. They are folded by `jobs::ledger`, for `master::coordinator` |
//! | what counts for nothing any more of a job | `jobs::ledger` decides, the transport removes what waits, `master::core::jobs::stopped` drops what a master has |
//! | a message of Celery's | `celery::message` reads and writes it, for RabbitMQ through `transport::amqp::message::celery`; how its queue is declared: `transport::amqp::queues::celery_queues` |
//! | a dead letter of RabbitMQ is read | `transport::amqp::message::dead_letter`; queues of them are gone through in `transport::amqp::dead_letters`, whose `sweep` reads when one is over |
//! | the schema of the SQLite file | `transport::sqlite::file::schema`, explained in `transport/sqlite/FILE_FORMAT.md` |
//! | the lease of the scheduler | `transport::amqp::schedules::held_lease` (`lease_holder` asks for it again and again, keeps it and fires), `transport::sqlite::schedules::lease`, `transport::localmem::actor`; what it fires: `schedule::timer`, `master::shell` |
//! | what the ledger of a job is told of a task's end or removal | `transport::job_entries` makes it, `transport::sqlite::jobs::entries` and `transport::localmem::jobs` store it; where a step of the coordinator is stored: `transport::sqlite::jobs::advance`, `transport::localmem::ledger` |
//! | a request of Celery's tools, what its monitors hear | `celery::node`: `methods` reads what is asked for, `replies` and `work` answer, `events` tells; the views and commands behind them are `master::core::celery` |
//! | what is parked and paused, for the next run | `master::core::{parking, pausing}` say it and begin with it; `master::kept_file` keeps it |
//! | a reload | `cli::workers` reads the new settings and refuses what needs a restart, on a thread of `master::shell::settings_reader`; what can change is `master::core::plan::Settings`, done queue by queue in `master::core::reload`; schedules in `master::shell::reload_settings` |
//! | an exit code | the table is `exit_code`. Of a run: the chapter of the core that ends it (callers of `Core::end_badly`; `halt_when_empty`; `shutdown`), and `master::run`, `master::shell::event_loop`, `cli::workers` for what fails around it. Of a command: its file in `cli`, or what commands share there (`connection`, `settings`, `waiting`, `control_client`, `output`). Of a worker: `worker::serve`, `worker::registry` |
//! | a setting is checked | `config::check`: queues, kinds, pipelines, schedules and the transport in a file each, users and limits of kinds in `exec_options`, the smaller sections in its `mod`; types and bounds of most single values in `config::reader` |
//! | a line of the log | the core's, and what a transport reports, through `master::core::log_context`; the shell's where it acts; a worker's from `worker::lines` through `master::shell::workers`; `logging` formats and writes |
//!
//! ## Glossary
//!
//! | word | meaning |
//! |---|---|
//! | task | a message in a queue: id, payload, attempts used |
//! | queue | a named line of tasks on a transport, with a dead-letter queue beside it |
//! | kind | code that can do tasks, under a name: a type or function in Rust, or a program |
//! | worker | a process of a kind that does the tasks of one queue |
//! | slot | the place that a worker fills, `foo[1]`; it outlives the worker |
//! | pool | the slots of one queue |
//! | delivery | a task that the transport has handed to this master, and that is owed one settlement |
//! | in hand | begun by a worker, and without an outcome |
//! | ahead | sent to a worker behind the task that it has in hand: not begun |
//! | recall, return | the master asks a worker for the tasks that it has not begun; the worker gives them back |
//! | attempt | one run of a task that counts against its limit |
//! | outcome | what the worker said at the end of a run: `Outcome` or an error in user code, `outcome::Report` in a frame |
//! | settlement | what the transport is told about a delivery: done, retry, dead letter, snooze, release; before its end perhaps accept |
//! | dead letter | a task that is not tried again, with the reason |
//! | session | one life of the connections to a broker; it is never repaired, only rebuilt |
//! | credit | how many deliveries of a queue the master may hold at once |
//! | frame | one line of JSON between master and worker |
//! | lease | the right to fire the schedules of an application, held by one process |
//! | verdict | what the master decides about a task whose run ended: from outcome or exit to settlement |
//! | parked | a queue whose workers do not start any more: it is left alone for a pause |
//! | stuck | a queue into which tasks cannot be stored; a *stall* is a transport that stores nothing |
//! | walk | going through the dead letters of a queue; a *sweep* removes those past their time |
//! | epoch | counts sessions and losses of queues: what belongs to an earlier one is void |
//!
//! ## Floors
//!
//! Each module stands on one floor, and imports only from lower ones; `tests/architecture.rs` reads this table.
//!
//! | floor | modules | what they are |
//! |---|---|---|
//! | 13 | `app` | the facade: a program with kinds |
//! | 12 | `cli` | one file for each command |
//! | 11 | `drain` | a queue done in this process, without a master |
//! | 11 | `dashboard` | the page |
//! | 10 | `master` | a run: from settings to the loop, whose shell performs what the core says |
//! | 9 | `master::core` | decides: events in, actions out |
//! | 9 | `master::coordinator` | takes the jobs of pipelines on: what the transport says in, requests out |
//! | 9 | `client` | submits |
//! | 9 | `dead_letters` | what command line and page say of dead letters |
//! | 8 | `config` | settings, read and checked |
//! | 8 | `metrics` | counts, and the page that shows them |
//! | 8 | `worker` | the child's side: user code and the loop around it |
//! | 7 | `transport::opening` | an address becomes a transport |
//! | 7 | `celery::node` | how Celery's tools see the master |
//! | 7 | `junit` | the report of a run |
//! | 6 | `transport::amqp`, `transport::postgres`, `transport::sqlite`, `transport::localmem` | the transports |
//! | 6 | `jobs::ledger` | jobs from step to step: entries in, what is stored out |
//! | 5 | `transport` | the contract of what carries tasks |
//! | 5 | `unique` | keys of which one task at a time is in hand |
//! | 5 | `control` | the control socket |
//! | 4 | `celery` | Celery's messages: read, written, answered |
//! | 4 | `process` | processes: started, watched, reaped |
//! | 4 | `schedule` | the calendar |
//! | 3 | `frames` | what masters and workers say to each other |
//! | 3 | `payload` | what is in a body |
//! | 3 | `jobs` | pipelines, and what the ledger of their jobs is told |
//! | 2 | `task`, `retry` | the task and its retries |
//! | 2 | `logging`, `systemd` | what a service manager reads |
//! | 1 | `backoff`, `clock`, `exit_code`, `level`, `limits`, `outcome`, `properties`, `protocol` | words |
//! | 1 | `membership` | the place of a task in a job |
//! | 0 | `json_text` | JSON as its own text |
//! | 1 | `plural`, `redact`, `shell_words`, `suggest`, `text`, `unicode`, `units` | texts |
//! | 1 | `async_context`, `exec_options`, `file_owner`, `net` | the operating system and the runtime |

mod app;
mod async_context;
#[doc(hidden)]
pub mod backoff;
#[doc(hidden)]
pub mod celery;
mod cli;
pub mod client;
#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod control;
mod dashboard;
mod dead_letters;
pub mod drain;
#[doc(hidden)]
pub mod exec_options;
#[doc(hidden)]
pub mod exit_code;
mod file_owner;
#[doc(hidden)]
pub mod frames;
#[doc(hidden)]
pub mod jobs;
#[doc(hidden)]
pub mod json_text;
#[doc(hidden)]
pub mod junit;
mod level;
mod limits;
#[doc(hidden)]
pub mod logging;
#[doc(hidden)]
pub mod master;
#[doc(hidden)]
pub mod membership;
#[doc(hidden)]
pub mod metrics;
pub(crate) mod net;
#[doc(hidden)]
pub mod outcome;
#[doc(hidden)]
pub mod payload;
mod plural;
#[doc(hidden)]
pub mod process;
mod properties;
mod protocol;
mod redact;
#[doc(hidden)]
pub mod retry;
#[doc(hidden)]
pub mod schedule;
#[doc(hidden)]
pub mod shell_words;
mod suggest;
#[doc(hidden)]
pub mod systemd;
#[doc(hidden)]
pub mod task;
mod text;
#[doc(hidden)]
pub mod transport;
mod unicode;
#[doc(hidden)]
pub mod unique;
mod units;
mod worker;

pub use app::App;
pub use client::Client;
pub use config::{Config, Problems};
pub use level::{Level, UnknownLevel};
pub use process::stacks::enlarge as enlarge_stacks;
pub use properties::Properties;
#[doc(hidden)]
pub use worker::registry::WORKER;
/// [`TaskResult`] in the signature of a worker that says where it comes from: `asynctask::Result`. It is not meant to be
/// imported, where it would hide the standard library's.
pub type Result = worker::TaskResult;

pub use worker::{AsyncWorker, Context, Input, Job, Outcome, SubmitError, TaskError, TaskResult, Worker};

/// The README's programs are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
