//! The master: one loop that waits for the next event or deadline, asks the core, and does what it says.
//!
//! ```text
//!   signals ─┐                          ┌─> spawn, kill          (process)
//!   frames  ─┼─> Event ─> core ─> Action┼─> frames               (workers)
//!   transport┘      (decides)           ├─> settle, credit       (transport)
//!                                       └─> lines                (logging)
//! ```
//!
//! Nothing is decided in this file and nothing blocks in it: the transport, the log's writer and the disk have
//! threads of their own. Worker processes are started on the main thread only, because the kernel ties their
//! lives to the thread that made them.

pub mod core;
mod shell;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    io,
    rc::Rc,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use self::{
    core::event::{Action, Ended, Event, Once, Plan, WorkerId},
    shell::{
        orphans::{Death, Orphans, Swept},
        workers::{Inbox, Process, Worker},
    },
};
pub use self::{
    core::{Core, Passed, Tally},
    shell::reload_settings::{Fresh, Objection, Reader},
};
pub use crate::logging::MASTER;
use crate::{
    clock::{Instant, Now, RunningClock},
    control::{presence, server::Asked, socket::Socket, types::Command},
    error::{Code, Error},
    junit,
    logging::{Level, LogContext, Logger},
    metrics::{self, Question},
    plural,
    process::{self, Environment, Mark, OomWatch, Program, Signal, Signals, Watch, reap::GroupSignal},
    redact::redact,
    schedule::{Act, Timer},
    systemd::{Notifier, Phase},
    task::{Handle, Settlement},
    transport::{self, Depth, QueueSetup, Request, Transport, Uri},
};

/// How long the transport may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(6);
/// While tasks flow, their settlements go to the transport in groups of this many …
const GROUP: usize = 64;
/// … or after this long: a wake-up of its thread for each task would cost more than the task.
const GROUP_LIMIT: Duration = Duration::from_millis(1);
/// Transport events taken in one turn.
const TURN: usize = 256;

/// What to start for a queue.
pub type Launch = (Program, Environment);

/// A run of the master, all settings resolved.
#[derive(Debug)]
pub struct Run {
    /// What the core works from.
    pub plan: Plan,
    /// What to start for each queue of the plan.
    pub launches: Vec<Launch>,
    /// The transport.
    pub uri: Uri,
    /// The queues as the transport needs to know them, same order as in the plan.
    pub setups: Vec<QueueSetup>,
    /// Never create queues.
    pub passive: bool,
    /// Separates schedules.
    pub application: String,
    /// The schedules, if this master is to be their scheduler.
    pub timer: Option<Timer>,
    /// Reads the settings again, if they can be.
    pub reader: Option<Reader>,
    /// The run ends with 81 after this long.
    pub halt_timeout: Option<Duration>,
    /// The service manager, if it wants to be told.
    pub notifier: Option<Notifier>,
    /// Where people ask and steer, bound already.
    pub control: Option<Socket>,
    /// Where numbers are served, bound already.
    pub metrics: Option<metrics::Listener>,
    /// Gathers the ends of tasks, for whoever made it.
    pub report: Option<Rc<RefCell<junit::Report>>>,
}

/// What is said of the queues where nobody can count them.
pub const LEFT_UNKNOWN: &str = "what is left in the queues is unknown: the transport does not answer";

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code.
    pub code: Code,
    /// For stderr.
    pub error: Option<String>,
    /// What may help, beside the error.
    pub hint: Option<&'static str>,
    /// What was done.
    pub tally: Tally,
    /// A run that was to halt when empty was stopped before.
    pub stopped: bool,
    /// Of such a run that could not be finished: what waits, a line a queue.
    pub left: Vec<String>,
}

impl Finished {
    /// A run that had nothing to do.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self { code: Code::Ok, error: None, hint: None, tally: Tally::default(), stopped: false, left: Vec::new() }
    }
}

impl Finished {
    /// What waits in each queue; `None`: nobody could count it.
    fn tell_left(&mut self, depths: &[(String, Option<Depth>)]) {
        if depths.iter().any(|(_, depth)| depth.is_none()) {
            self.left.push(LEFT_UNKNOWN.to_owned());
        }
        for (name, depth) in depths {
            let Some(Depth { ready, delayed, in_hand, unknown, .. }) = depth else { continue };
            if *unknown {
                self.left.push(format!("what is left in queue {name} is unknown: the broker does not tell"));
                continue;
            }
            // What ended and could not be stored is still in hand, where the transport sees that.
            let in_hand = match in_hand {
                in_hand if *in_hand > 0 && self.code == Code::Unavailable => format!(", {in_hand} in hand"),
                _ => String::new(),
            };
            if ready + delayed > 0 || !in_hand.is_empty() {
                self.left.push(format!("left waiting in queue {name}: {ready} ready, {delayed} delayed{in_hand}"));
            }
        }
        if self.left.is_empty() && self.code == Code::Unavailable {
            self.left.push("nothing is left waiting in the queues".to_owned());
        }
        if self.code == Code::HaltTimeout
            && let Some(error) = &mut self.error
            && !self.left.is_empty()
        {
            *error = format!("{error}; {}", self.left.join("; "));
        }
    }
}

/// Runs a master to its end. On the main thread.
pub fn run(run: Run, logger: &Logger) -> Result<Finished, Error> {
    let uri = run.uri.clone();
    run_on(run, logger, |events| transport::open(&uri, events))
}

/// [`run()`] on a transport of the caller's.
pub fn run_on(
    run: Run,
    logger: &Logger,
    open: impl FnOnce(transport::Events) -> Result<Box<dyn Transport>, transport::Error>,
) -> Result<Finished, Error> {
    let internal = |what: &str, error: io::Error| Error::new(Code::Internal, format!("{what}: {error}"));
    process::descriptor_limit::raise_files();
    let mut run = run;
    run.plan.descriptors = process::descriptor_limit::files_for_workers();
    process::reserve_frame_fd().map_err(|error| internal("cannot reserve descriptor 3", error))?;
    // Before anything else: a TERM from here on is an orderly stop.
    let signals = Signals::listen().map_err(|error| internal("cannot listen to signals", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| internal("cannot make the event loop", error))?;
    let (events, told) = mpsc::unbounded_channel();
    let transport = open(events).map_err(|error| {
        let code = if let transport::Error::BadUri { .. } = error { Code::Config } else { Code::Unavailable };
        Error::new(code, error.to_string())
    })?;
    let log = logger.clone();
    if !signals.hear_hang_ups() {
        log.line(
            Level::Info,
            MASTER,
            "HUP is ignored, as it was at the start (nohup): control reload does what it would",
        );
    }
    process::payload_file::remove_left(move |count| {
        let text = format!("{} removed that a killed master left", plural::were(count, "payload file"));
        log.line(Level::Info, MASTER, &text);
    });
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let arrivals = signals.watch().map_err(|error| internal("cannot watch signals", error))?;
        let (asking, asked) = mpsc::unbounded_channel();
        let control = run.control.take();
        if let Some(socket) = &control {
            let log = logger.clone();
            let told = move |told: presence::Told| {
                let (level, text) = told.line();
                log.line(level, MASTER, &text);
            };
            socket.serve(asking.clone(), told).map_err(|error| internal("cannot watch the control socket", error))?;
        }
        let (questions, questioned) = mpsc::unbounded_channel();
        let ends = metrics::Master { questions, commands: asking };
        let metrics = run.metrics.take().map(|listener| listener.serve(ends.clone())).transpose();
        let _metrics = metrics.map_err(|error| internal("cannot serve metrics", error))?;
        let (sender, swept) = mpsc::unbounded_channel();
        let orphans = Orphans::new(&run.uri, &run.application, logger, sender);
        let told = Told { transport: told, asked, questioned, swept, _asking: ends };
        Shell::new(run, transport, logger.clone(), orphans).go(&signals, &arrivals, told).await
    })
}

/// What comes from other threads and tasks.
struct Told {
    transport: mpsc::UnboundedReceiver<transport::Event>,
    asked: mpsc::UnboundedReceiver<Asked>,
    questioned: mpsc::UnboundedReceiver<Question>,
    swept: mpsc::UnboundedReceiver<Swept>,
    /// Without a control socket or metrics nobody asks; the channels must not end for that.
    _asking: metrics::Master,
}

struct Shell {
    core: Core,
    /// Empty between two events, kept for its room.
    actions: Vec<Action>,
    clock: RunningClock,
    /// While a limit that has passed is judged: the moment of the look at the clock.
    judged_at: Option<Now>,
    transport: Box<dyn Transport>,
    logger: Logger,
    inbox: Rc<Inbox>,
    /// What to start, by the number that the core's plans name.
    launches: BTreeMap<usize, Launch>,
    /// The number of the next one.
    launched: usize,
    /// How much new workers are told to log, if a person has changed it.
    log_level: Option<Level>,
    workers: Vec<Option<Rc<Worker>>>,
    pids: HashMap<u32, WorkerId>,
    /// Of these, who is stopped by a signal.
    stopped: HashSet<u32>,
    orphans: Orphans,
    /// Commands that wait for the core's answer, by number.
    asked: HashMap<u64, Asked>,
    commands: u64,
    uri: Uri,
    /// Of several addresses, the one where the last session was built.
    in_use: Option<String>,
    reader: Option<Reader>,
    reading: shell::reload_settings::Reading,
    application: String,
    notifier: Option<Notifier>,
    /// Whether the lease of the schedules is ours.
    leading: bool,
    oom: OomWatch,
    timer: Option<Timer>,
    /// The timing of schedules has ended: nothing begins it again.
    timer_stopped: bool,
    /// Settlements that go to the transport together, and since when the first of them waits.
    settlements: Vec<(Handle, Settlement)>,
    held_since: Instant,
    /// Tasks settled in this turn less tasks handed out in it: above zero, a place is free and waits for more.
    idled: isize,
    /// What may help where the transport refused us.
    hint: Option<&'static str>,
    finished: Option<Finished>,
    /// The end waits for what the transport stores when it is closed.
    closing: bool,
    halt_at: Option<Duration>,
    report: Option<Rc<RefCell<junit::Report>>>,
}

impl Shell {
    fn new(run: Run, transport: Box<dyn Transport>, logger: Logger, orphans: Orphans) -> Self {
        let mut run = run;
        for (launch, queue) in run.plan.queues.iter_mut().enumerate() {
            queue.launch = launch;
        }
        transport.ask(Request::Attach { queues: run.setups, passive: run.passive });
        if run.timer.is_some() {
            transport.ask(Request::Lease { application: run.application.clone() });
        }
        let mut core = Core::new(run.plan);
        if run.report.is_some() {
            core.tell_ends();
        }
        Self {
            core,
            actions: Vec::new(),
            report: run.report,
            clock: RunningClock::start(),
            judged_at: None,
            transport,
            logger,
            inbox: Rc::default(),
            launched: run.launches.len(),
            launches: run.launches.into_iter().enumerate().collect(),
            log_level: None,
            workers: Vec::new(),
            pids: HashMap::new(),
            stopped: HashSet::new(),
            orphans,
            asked: HashMap::new(),
            commands: 0,
            uri: run.uri,
            in_use: None,
            reader: run.reader,
            reading: shell::reload_settings::Reading::default(),
            application: run.application,
            notifier: run.notifier,
            leading: false,
            oom: OomWatch::open(),
            timer: run.timer,
            timer_stopped: false,
            settlements: Vec::new(),
            held_since: Instant::default(),
            idled: 0,
            hint: None,
            finished: None,
            closing: false,
            halt_at: run.halt_timeout,
        }
    }

    async fn go(mut self, signals: &Signals, arrivals: &Watch, mut told: Told) -> Result<Finished, Error> {
        self.handle(Event::Begun);
        let mut batch = Vec::with_capacity(TURN);
        while self.finished.is_none() && !self.closing {
            self.notify();
            let wait = self.wait();
            self.clock.sleeps(wait);
            self.idled = 0;
            tokio::select! {
                biased;
                ready = arrivals.readable() => {
                    ready.map_err(|error| Error::new(Code::Internal, format!("cannot wait for signals: {error}")))?;
                    self.signalled(&signals.drain());
                }
                read = self.reading.done() => self.settings_came(read),
                // Before the flood of tasks: whether the loop turns is asked while much is done, too.
                Some(question) = told.questioned.recv() => self.questioned(question),
                () = self.inbox.filled() => self.take_inbox(),
                count = told.transport.recv_many(&mut batch, TURN) => {
                    if count == 0 {
                        return Err(Error::new(Code::Internal, "the transport's thread has ended"));
                    }
                    for event in batch.drain(..) {
                        self.transport_told(event);
                    }
                }
                Some(asked) = told.asked.recv() => self.asked(asked),
                Some(swept) = told.swept.recv() => self.swept(swept),
                () = tokio::time::sleep(wait) => {}
            }
            self.take_inbox();
            self.keep_time(signals, &mut told.transport);
            if self.core.phase() == Phase::Stopping {
                self.logger.hurry();
            }
            if !self.settlements.is_empty()
                && (self.idled > 0
                    || self.settlements.len() >= GROUP
                    || self.clock.now().at.since(self.held_since) >= GROUP_LIMIT)
            {
                self.hand_over_settlements();
            }
        }
        // A stop that ended at once was not told yet.
        self.notify();
        self.hand_over_settlements();
        let depths = self.count_what_is_left().await;
        let (reply, closed) = oneshot::channel();
        self.transport.ask(Request::Close { reply });
        // Whatever is not settled by now comes again: closing late or not at all loses nothing.
        let _ = tokio::time::timeout(CLOSE_LIMIT, closed).await;
        if self.closing {
            while let Ok(event) = told.transport.try_recv() {
                self.transport_told(event);
            }
            self.handle(Event::Closed);
        }
        if let (Some(finished), Some(depths)) = (&mut self.finished, depths) {
            finished.tell_left(&depths);
        }
        self.finished.ok_or_else(|| Error::new(Code::Internal, "the event loop ended without a decision"))
    }

    /// Of a run that was to halt when empty and could not: how many tasks wait, for whoever reads why it ended.
    async fn count_what_is_left(&self) -> Option<Vec<(String, Option<Depth>)>> {
        let ended_well = self.finished.as_ref().is_some_and(|finished| finished.code == Code::Ok);
        if !self.core.halts_when_empty() || ended_well {
            return None;
        }
        let queues = self.core.queues();
        let names: Vec<String> = queues.iter().map(|dead| dead.queue.clone()).collect();
        let (reply, counted) = oneshot::channel();
        self.transport.ask(Request::Depths { queues, reply });
        let depths = shell::views::counts(counted).await;
        let depths = depths.into_iter().map(Some).chain(std::iter::repeat(None));
        Some(names.into_iter().zip(depths).collect())
    }

    fn notify(&mut self) {
        if let Some(notifier) = &mut self.notifier {
            let core = &self.core;
            let phase = match core.phase() {
                Phase::Running if self.reading.is_under_way() => Phase::Reloading,
                phase => phase,
            };
            notifier.tell(self.clock.real(), phase, || core.headline());
        }
    }

    fn take_inbox(&mut self) {
        loop {
            let events = self.inbox.take();
            if events.is_empty() {
                return;
            }
            for event in events {
                self.handle(event);
            }
        }
    }

    /// Signals to stop count before deaths: a TERM to everybody is a stop, not a crash of the workers.
    fn signalled(&mut self, arrived: &[Signal]) {
        for signal in arrived {
            match signal {
                Signal::Terminate | Signal::Interrupt => self.handle(Event::StopAsked),
                Signal::Quit => self.handle(Event::InterruptAsked),
                Signal::User1 => self.tell_status(),
                Signal::HangUp => self.hung_up(),
                Signal::Child => {}
            }
        }
        if arrived.contains(&Signal::Child) {
            self.reap();
            self.tell_stopped();
        }
    }

    fn tell_status(&self) {
        let now = self.clock.now().at;
        for line in self.core.status_lines(now) {
            self.logger.line(Level::Info, MASTER, &line);
        }
    }

    fn reap(&mut self) {
        loop {
            let pids = &self.pids;
            match process::next_exit(|pid| pids.contains_key(&pid)) {
                Ok(Some(ended)) => self.reaped(ended),
                Ok(None) => break,
                Err(error) => {
                    self.logger.line(Level::Error, MASTER, &format!("cannot wait for workers: {error}"));
                    break;
                }
            }
        }
        self.end_orphans();
    }

    fn reaped(&mut self, ended: process::Ended) {
        let Some(id) = self.pids.remove(&ended.pid) else { return };
        self.stopped.remove(&ended.pid);
        // Of a process that could not be watched nothing is here: the core was told that it did not start.
        let Some(place) = self.workers.get_mut(id.slot) else { return };
        let Some(worker) = place.take_if(|worker| worker.id == id) else { return };
        let (output_tail, unread) = worker.drain();
        // What it said before its end comes first.
        self.take_inbox();
        let oom = self.oom.claim(&ended.exit, worker.oom_before);
        let max_rss_bytes = ended.own_peak(worker.master_peak_bytes);
        let cpu_seconds = Some(ended.cpu_seconds);
        let (pid, exit, left_running) = (ended.pid, ended.exit, Vec::new());
        let ended = Ended { exit, max_rss_bytes, cpu_seconds, oom, output_tail, unread, left_running };
        self.fell(Death { id, pid, slot: worker.slot().to_owned(), ended });
    }

    fn transport_told(&mut self, event: transport::Event) {
        use transport::Event as Told;
        let wall = self.clock.now().wall;
        match event {
            Told::LeaseHeld { memory } => {
                self.leading = true;
                let acts = self.timer.as_mut().map_or_else(Vec::new, |timer| timer.lead(wall, &memory));
                self.fire(acts);
            }
            Told::Connected(uri) => self.in_use = Some(uri),
            Told::LeaseRefused => {
                self.logger.line(Level::Info, MASTER, "Another scheduler holds the schedules; waiting for it to go");
            }
            Told::LeaseLost => {
                self.leading = false;
                if let Some(timer) = &mut self.timer {
                    timer.follow();
                }
            }
            Told::Fired { schedule, moment, stored } => {
                if let Err(error) = &stored {
                    self.logger.line(Level::Error, MASTER, &format!("cannot store the task of {schedule}: {error}"));
                }
                if let Some(timer) = &mut self.timer {
                    timer.fired(wall, &schedule, moment, stored.is_ok());
                }
            }
            event => {
                if let Told::Refused(error) = &event {
                    self.hint = error.hint();
                }
                self.handle(Event::Transport(event));
            }
        }
    }

    fn fire(&mut self, acts: Vec<Act>) {
        for Act::Fire { schedule, moment, task, target } in acts {
            if task.is_some() {
                let text = format!("Triggering scheduled execution of {}", redact(&target));
                self.logger.line(Level::Debug, MASTER, &text);
            }
            self.transport.ask(Request::Fire { schedule, moment, task });
        }
    }

    fn handle(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        let now = self.now();
        self.core.handle(now, event, &mut actions);
        for action in actions.drain(..) {
            self.perform(action, now);
        }
        // One event may have had very many.
        actions.shrink_to(TURN);
        self.actions = actions;
    }

    fn perform(&mut self, action: Action, now: Now) {
        match action {
            Action::Log { level, name, message, about } => {
                self.logger.line_in_context(level, &name, &message, about.as_deref());
            }
            Action::Send { worker, frame } => {
                self.idled -= isize::from(crate::frames::is_task(&frame));
                if let Some(worker) = self.worker(worker) {
                    worker.send(&frame);
                }
            }
            Action::TaskEnded { queue, id, in_hand, failure } => {
                if let Some(report) = &self.report {
                    report.borrow_mut().ended(&queue, id, in_hand, failure);
                }
            }
            Action::TaskReopened { queue, id } => {
                if let Some(report) = &self.report {
                    report.borrow_mut().reopened(&queue, &id);
                }
            }
            Action::Settle { handle, settlement } => {
                if self.settlements.is_empty() {
                    self.held_since = now.at;
                }
                // Accepted early, it still has its place.
                self.idled += isize::from(settlement != Settlement::Accept);
                self.settlements.push((handle, settlement));
            }
            Action::AddQueue { queue, setup } => self.transport.ask(Request::AddQueue { queue, setup }),
            Action::RemoveQueue { queue } => {
                self.hand_over_settlements();
                self.transport.ask(Request::RemoveQueue { queue });
            }
            Action::Credit { queue, credit } => {
                self.hand_over_settlements();
                self.transport.ask(Request::Credit { queue, credit });
            }
            Action::Lock { handle, key } => {
                // What was settled before gives its key back first.
                self.hand_over_settlements();
                self.transport.ask(Request::Lock { handle, key });
            }
            Action::Survey { serial } => {
                self.hand_over_settlements();
                self.transport.ask(Request::Survey { serial });
            }
            // One event may start hundreds: that takes its time, and is no pause.
            Action::Spawn { worker, slot, launch, .. } => {
                self.spawn(worker, slot, launch);
                self.clock.looked();
            }
            Action::SpawnOnce { worker, slot, launch, once, .. } => {
                self.spawn_once(worker, slot, launch, &once);
                self.clock.looked();
            }
            Action::Answer { number, answer } => self.answer(number, answer),
            Action::CancelWaiting { number, id } => self.cancel_waiting(number, id),
            Action::LogLevel(level) => {
                self.logger.set_level(level);
                self.log_level = Some(level);
            }
            Action::Measure { worker } => {
                let bytes = self.worker(worker).and_then(|worker| process::memory::resident_bytes(worker.pid));
                if let Some(bytes) = bytes {
                    self.inbox.push(Event::Measured { worker, bytes });
                }
            }
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::StopScheduler => {
                self.timer = None;
                self.timer_stopped = true;
                self.transport.ask(Request::ReleaseLease);
            }
            Action::Close => self.closing = true,
            Action::Halt { code, error } => {
                let tally = self.core.tally();
                let hint = self.hint.filter(|_| error.is_some());
                let stopped = self.core.was_stopped();
                self.finished = Some(Finished { code, error, hint, tally, stopped, left: Vec::new() });
                debug_assert!(now.at <= self.clock.now().at, "time does not go back");
            }
        }
    }

    fn worker(&self, id: WorkerId) -> Option<&Rc<Worker>> {
        self.workers.get(id.slot)?.as_ref().filter(|worker| worker.id == id)
    }

    fn hand_over_settlements(&mut self) {
        if !self.settlements.is_empty() {
            self.transport.ask(Request::Settle(std::mem::take(&mut self.settlements)));
        }
    }

    fn spawn(&mut self, id: WorkerId, slot: String, launch: usize) {
        let mark = self.orphans.mark(id);
        let (program, environment) = &self.launches[&launch];
        let context =
            LogContext { queue: environment.queue.clone(), slot: Some(slot.clone()), ..LogContext::default() };
        let environment = self.environment(slot, mark, environment);
        let oom_before = self.oom.count();
        let spawned = process::spawn(program, &environment);
        self.watch(id, spawned.map(Process::from), context, oom_before);
    }

    fn environment(&self, slot: String, mark: Option<Mark>, of_queue: &Environment) -> Environment {
        let log_level = self.log_level.map_or_else(|| of_queue.log_level.clone(), |level| level.to_string());
        Environment { slot, log_level, mark, ..of_queue.clone() }
    }

    fn spawn_once(&mut self, id: WorkerId, slot: String, launch: usize, once: &Once) {
        let mark = self.orphans.mark(id);
        let (program, environment) = &self.launches[&launch];
        let task = Some(once.id.clone());
        let context =
            LogContext { queue: environment.queue.clone(), slot: Some(slot.clone()), task, ..LogContext::default() };
        let mut environment = self.environment(slot, mark, environment);
        environment.pairs.extend([
            ("ASYNCTASK_TASK_ID".into(), once.id.clone().into()),
            ("ASYNCTASK_ATTEMPT".into(), once.attempt.to_string().into()),
            ("ASYNCTASK_MAX_ATTEMPTS".into(), once.max_attempts.to_string().into()),
        ]);
        let encoding = once.content_encoding.as_ref();
        environment.pairs.extend(encoding.map(|word| ("ASYNCTASK_CONTENT_ENCODING".into(), word.into())));
        let oom_before = self.oom.count();
        let spawned = process::spawn_task(program, &environment, &once.payload);
        self.watch(id, spawned.map(Process::from), context, oom_before);
    }

    fn watch(&mut self, id: WorkerId, spawned: io::Result<Process>, context: LogContext, oom_before: Option<u64>) {
        let started = spawned.and_then(|process| {
            let pid = process.pid;
            self.pids.insert(pid, id);
            let worker = Worker::watch(id, process, context, oom_before, Rc::clone(&self.inbox), self.logger.clone());
            if worker.is_err() {
                // Nobody would read what it says, or miss it.
                let _ = process::kill_group(pid, GroupSignal::Kill);
            }
            worker
        });
        match started {
            Ok(worker) => {
                self.inbox.push(Event::Spawned { worker: id, pid: worker.pid });
                if self.workers.len() <= id.slot {
                    self.workers.resize(id.slot + 1, None);
                }
                self.workers[id.slot] = Some(worker);
            }
            Err(error) => {
                self.orphans.trace_of(id);
                self.inbox.push(Event::SpawnFailed { worker: id, error: error.to_string() });
            }
        }
    }
}
