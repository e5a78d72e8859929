//! What the core works from: the checked settings with the options of a run, and what of them can change while it runs.

use crate::{config, logging::Level, task::Accepts, transport};

/// What the core works from: the checked settings and the options of this run.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact or an option of its own")]
pub struct Plan {
    /// The queues at the start; their positions are the [`QueueIndex`](crate::task::QueueIndex)es.
    pub queues: Vec<QueuePlan>,
    /// Limits of the master.
    pub supervisor: config::Supervisor,
    /// End when everything is done.
    pub halt_when_empty: bool,
    /// A timer of schedules runs beside this core; told in the log when it is stopped.
    pub scheduler: bool,
    /// Tasks at once over all queues.
    pub max_in_hand: Option<usize>,
    /// Workers that speak frames and start at once over all queues.
    pub starts_at_once: usize,
    /// Descriptors that this process may have for its workers.
    pub descriptors: u64,
    /// Name of this host, for dead letters.
    pub host: String,
    /// The application, whose ledger is told of jobs that workers start.
    pub application: String,
    /// Names of its pipelines; with some, its jobs are work that halt mode waits for.
    pub pipelines: Vec<String>,
    /// For jitter, and for ids that no other master makes.
    pub seed: u64,
    /// How long settlements are remembered for redeliveries; `None` where sessions cannot be lost.
    pub remember: Option<std::time::Duration>,
    /// There may be queues of others, with any name.
    pub foreign_names: bool,
    /// The queues that the settings name, also those that this master does not work.
    pub names: config::Names,
    /// The log's form says what each line is about.
    pub structured: bool,
    /// The most detailed level that is logged; lines below it are not even made.
    pub log_level: Level,
}

impl Plan {
    /// A run of these queues that goes on until it is stopped, without limits over all of them, on a transport whose
    /// sessions cannot be lost; it logs errors alone.
    #[must_use]
    pub fn of(queues: Vec<QueuePlan>) -> Self {
        Self {
            queues,
            supervisor: config::Supervisor::default(),
            halt_when_empty: false,
            scheduler: false,
            max_in_hand: None,
            starts_at_once: usize::MAX,
            descriptors: u64::MAX,
            host: String::new(),
            application: String::new(),
            pipelines: Vec::new(),
            seed: 1,
            remember: None,
            foreign_names: false,
            names: config::Names::default(),
            structured: false,
            log_level: Level::Error,
        }
    }
}

/// A queue with what the core needs to know of its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuePlan {
    /// The settings.
    pub settings: config::Queue,
    /// What its kind takes as payload.
    pub accepts: Accepts,
    /// Its kind is a program that may want a SIGTERM; Rust kinds ignore it.
    pub is_program: bool,
    /// Its kind has a process for each task (`mode: once`).
    pub is_once: bool,
    /// Such a process finds its payload in a file (`input: file`).
    pub payload_in_file: bool,
    /// Names what is started for it: with another number its workers are to be renewed.
    pub launch: usize,
}

impl QueuePlan {
    /// A queue whose kind is a program that lives on and takes JSON; the first of what there is to start.
    #[must_use]
    pub const fn of(settings: config::Queue) -> Self {
        Self { settings, accepts: Accepts::Json, is_program: true, is_once: false, payload_in_file: false, launch: 0 }
    }

    /// The queue as the transport needs to know it.
    #[must_use]
    pub fn setup(&self) -> transport::QueueSetup {
        self.settings.setup()
    }
}

/// What of the settings can change while the master runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The queues to work.
    pub queues: Vec<QueuePlan>,
    /// Limits of the master.
    pub supervisor: config::Supervisor,
    /// A timer of schedules runs beside the core.
    pub scheduler: bool,
    /// The queues that they name.
    pub names: config::Names,
    /// Names of the pipelines.
    pub pipelines: Vec<String>,
}
