//! The state of the shell: the core, the worker processes, and its ends of everything that it performs on.
//!
//! The chapters beside this file are `impl Shell`; none of them imports another one's.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    celery::Celery,
    jobs::Jobs,
    orphans::Orphans,
    settings_reader::{Reader, Reading},
    workers::{Inbox, Worker},
};
use crate::{
    clock::{Instant, Now, RunningClock},
    config::dashboard::Dashboard,
    control::server::Asked,
    junit,
    logging::{Level, Logger, MASTER},
    master::{
        core::{
            Core,
            event::{Action, Event, QueuePlan, WorkerId},
        },
        finished::Finished,
        kept_file::KeptFiles,
        page_keeper::PageKeeper,
        queue_run::{Launch, QueueRun},
        run_config::RunConfig,
    },
    process::{OomWatch, descriptor_limit::files_for_workers},
    schedule::Timer,
    systemd::Notifier,
    task::{Handle, Settlement},
    transport::{Request, Transport, Uri},
};

/// While tasks flow, their settlements go to the transport in groups of this many …
pub(super) const GROUP: usize = 128;
/// … or after this long: a wake-up of its thread for each task would cost more than the task.
pub(super) const GROUP_LIMIT: Duration = Duration::from_millis(1);

/// What the loop works with.
pub(in crate::master) struct Shell {
    pub(super) core: Core,
    /// Empty between two events, kept for its room.
    pub(super) actions: Vec<Action>,
    pub(super) clock: RunningClock,
    /// While a limit that has passed is judged: the moment of the look at the clock.
    pub(super) judged_at: Option<Now>,
    pub(super) transport: Box<dyn Transport>,
    pub(super) logger: Logger,
    pub(super) inbox: Rc<Inbox>,
    /// What to start, by the number that the core's plans name.
    pub(super) launches: BTreeMap<usize, Launch>,
    /// The number of the next one.
    pub(super) next_launch: usize,
    /// How much new workers are told to log, if a person has changed it.
    pub(super) log_level: Option<Level>,
    pub(super) workers: Vec<Option<Rc<Worker>>>,
    /// Those whose frames are to be written at the end of this turn.
    pub(super) to_flush: Vec<Rc<Worker>>,
    pub(super) pids: HashMap<u32, WorkerId>,
    /// Those of them that are stopped by a signal.
    pub(super) stopped: HashSet<u32>,
    pub(super) orphans: Orphans,
    /// Commands that wait for the core's answer, by number.
    pub(super) pending_commands: HashMap<u64, Asked>,
    pub(super) last_command: u64,
    pub(super) uri: Uri,
    /// Of several addresses, the one where the last session was built.
    pub(super) connected_to: Option<String>,
    pub(super) reader: Option<Reader>,
    pub(super) reading: Reading,
    pub(super) application: String,
    pub(super) notifier: Option<Notifier>,
    /// Whether the lease of the schedules is ours.
    pub(super) leading: bool,
    pub(super) oom: OomWatch,
    pub(super) timer: Option<Timer>,
    /// The timing of schedules has ended: nothing begins it again.
    pub(super) timer_stopped: bool,
    /// Settlements that go to the transport together, and since when the first of them waits.
    pub(super) settlements: Vec<(Handle, Settlement)>,
    pub(super) settlements_since: Instant,
    /// Tasks settled in this turn less tasks handed out in it: above zero, a place is free and waits for more.
    pub(super) freed_places: isize,
    /// What may help where the transport refused us.
    pub(super) hint: Option<&'static str>,
    pub(super) finished: Option<Finished>,
    /// The end waits for what the transport stores when it is closed.
    pub(super) closing: bool,
    pub(super) halt_at: Option<Duration>,
    pub(super) report: Option<Rc<RefCell<junit::Report>>>,
    /// What Celery's tools see of this master.
    pub(super) celery: Celery,
    /// The coordinator of the jobs.
    pub(super) jobs: Jobs,
    /// Names this run of the master: neither a process id nor a moment does, which both come again.
    pub(super) run: Uuid,
    /// What is in force, for whoever asks.
    pub(super) settings: serde_json::Value,
    /// What of it is the page's, with its secrets.
    pub(super) dashboard: Option<Dashboard>,
    /// The process of the page.
    pub(super) page: Option<PageKeeper>,
    /// What is parked and paused is kept there for the next run.
    pub(super) kept_files: Option<KeptFiles>,
}

impl Shell {
    /// Attaches the queues to the transport.
    pub(in crate::master) fn new(
        run: RunConfig,
        transport: Box<dyn Transport>,
        logger: Logger,
        orphans: Orphans,
        celery: Celery,
        kept_files: Option<KeptFiles>,
    ) -> Self {
        let mut run = run;
        let mut launches = BTreeMap::new();
        for (number, QueueRun { plan, launch }) in run.queues.into_iter().enumerate() {
            launches.insert(number, launch);
            run.plan.queues.push(QueuePlan { launch: number, ..plan });
        }
        let queues = run.plan.queues.iter().map(|queue| queue.settings.setup()).collect();
        transport.ask(Request::Attach { queues, passive: run.passive });
        if run.timer.is_some() {
            transport.ask(Request::Lease { application: run.application.clone() });
        }
        // The core draws from the same seed: other bits, so that no id is made twice.
        let jobs = Jobs::new(&run.application, run.pipelines, run.plan.seed ^ 0x9e37_79b9_7f4a_7c15);
        let mut core = Core::new(run.plan);
        if run.report.is_some() {
            core.tell_ends();
        }
        let dashboard = run.page.as_ref().map(|page| page.settings.clone());
        let page = run.page.and_then(|page| match PageKeeper::start(page, logger.clone()) {
            Ok(keeper) => Some(keeper),
            Err(error) => {
                logger.line(Level::Warning, MASTER, &format!("the page's process cannot be kept: {error}"));
                None
            }
        });
        let mut kept_files = kept_files;
        if let Some(files) = &mut kept_files {
            core.begin_with_parked(files.parked.read());
            core.begin_with_paused(files.paused.read());
        }
        Self {
            core,
            actions: Vec::new(),
            report: run.report,
            celery,
            jobs,
            run: Uuid::now_v7(),
            settings: run.settings,
            dashboard,
            page,
            kept_files,
            clock: RunningClock::start(),
            judged_at: None,
            transport,
            logger,
            inbox: Rc::default(),
            next_launch: launches.len(),
            launches,
            log_level: None,
            workers: Vec::new(),
            to_flush: Vec::new(),
            pids: HashMap::new(),
            stopped: HashSet::new(),
            orphans,
            pending_commands: HashMap::new(),
            last_command: 0,
            uri: run.uri,
            connected_to: None,
            reader: run.reader,
            reading: Reading::default(),
            application: run.application,
            notifier: run.notifier,
            leading: false,
            oom: OomWatch::open(),
            timer: run.timer,
            timer_stopped: false,
            settlements: Vec::new(),
            settlements_since: Instant::default(),
            freed_places: 0,
            hint: None,
            finished: None,
            closing: false,
            halt_at: run.halt_timeout,
        }
    }

    /// The process of this worker, as long as it is not reaped.
    pub(super) fn worker(&self, id: WorkerId) -> Option<&Rc<Worker>> {
        self.workers.get(id.slot)?.as_ref().filter(|worker| worker.id == id)
    }

    /// Tells the core how many descriptors there are for workers. What this process has open for itself changes: connections,
    /// questions.
    pub(super) fn count_descriptors(&mut self) {
        let of_workers = self.workers.iter().flatten().map(|worker| worker.descriptors()).sum();
        self.handle(Event::DescriptorsCounted(files_for_workers(of_workers, 0)));
    }

    /// Writes the frames of this turn.
    pub(super) fn flush_frames(&mut self) {
        for worker in self.to_flush.drain(..) {
            worker.flush();
        }
    }

    /// Gives the transport the settlements that are ready.
    pub(super) fn flush_settlements(&mut self) {
        if !self.settlements.is_empty() {
            self.transport.ask(Request::Settle(std::mem::take(&mut self.settlements)));
        }
    }
}
