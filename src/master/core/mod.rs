//! The decisions. Every event of a run comes through [`Core::handle`]; what is to be done goes out as actions.
//!
//! The core opens nothing, waits for nothing and reads no clock: `now` is an argument, and [`Core::next_deadline`]
//! says until when nothing needs to be decided. That makes it a thing that a seeded simulation can drive through
//! any history (`tests/simulation`).
//!
//! It is one state machine. This file holds `handle` and the state that all chapters share. `event` has what comes in and what
//! goes out, `plan` what the core works from. Each other file is one chapter of `impl Core`, or a folder of what chapters work
//! with. Chapters are above `state`, and this file imports from no chapter:
//!
//! | on | chapters |
//! | --- | --- |
//! | the way of a task | `transport_events` (what the transport tells), `credit` (how many tasks may come), `dispatch` (which task goes to which worker), `in_flight` (entering and leaving a worker), `ahead` (tasks that a worker has beyond the one in hand), `backlog` (whether workers wait for what is done next), `unique` (tasks that wait for another with their key), `worker_frames` (what workers say), `checked` (what an outcome may hold), `verdict` (from an outcome or exit to a settlement), `ledger` (each end is counted once and settled once), `stored` (what is said only once it is stored), `stuck` (a queue that takes nothing), `stall` (a transport that stores nothing) |
//! | the life of a process | `start_line` (whose start is next), `failed_starts`, `process_exit`, `left_running` (descendants that outlive a process), `process_per_task` (`mode: once`), `written` (what such a process wrote), `ping`, `recycle` |
//! | queues and the run | `parking`, `pausing` (by people), `celery` (queues of Celery's), `jobs` (tasks of jobs), `unavailable` (queues that the transport cannot work), `reload`, `commands` (what a person wants), `shutdown`, `halt_when_empty`, `deadlines` |
//! | what is held | `state`: slots, pools, tasks in flight, settlements, timers, the stop; `invariants`: what must hold of it |
//! | what is shown | `status`: for `status`, health and metrics; `recent`: what ended lately; `log_context`: lines of the log |
//!
#![doc = include_str!("LIFECYCLE.md")]

mod ahead;
mod backlog;
mod celery;
mod checked;
mod commands;
mod credit;
mod deadlines;
mod dispatch;
mod ended;
pub mod event;
mod failed_starts;
pub(crate) mod foreground;
mod halt_when_empty;
mod in_flight;
mod invariants;
mod jobs;
mod ledger;
mod left_running;
mod log_context;
mod parking;
mod pausing;
mod ping;
mod plan;
mod process_exit;
mod process_per_task;
mod recent;
mod recycle;
mod reload;
mod shutdown;
mod stall;
mod start_line;
mod state;
mod status;
mod stored;
mod stuck;
mod transport_events;
mod unavailable;
mod unique;
mod verdict;
mod worker_frames;
mod written;

use std::{collections::HashMap, sync::Arc, time::Duration};

use foldhash::fast::RandomState;

pub use self::{event::Passed, state::tally::Tally};
use self::{
    event::{Action, Event, ParkedQueue, PausedQueue, Plan, WorkerId},
    state::{
        backlog::Demand,
        celery::Celery,
        in_flight::InFlightIndex,
        jobs::Jobs,
        keys::Locks,
        pending_verdict::PendingVerdict,
        ping_rounds::PingRounds,
        pool::Pool,
        reload::Reload,
        rings::Rings,
        settlement_memory::SettlementMemory,
        settlements::{Note, Unsettled},
        slot::Slot,
        stall::Stall,
        start_line::StartLine,
        stop::Stop,
        timers::Timers,
        void_outcomes::VoidOutcomes,
        window::Window,
    },
};
use crate::{
    clock::{Instant, Now},
    config::ReservedNames,
    frames::{FromWorker, HaltReason},
    logging::{LogContext, MASTER},
    task::{Handle, Task},
    transport,
};

/// The state machine.
#[derive(Debug)]
pub struct Core {
    plan: Plan,
    slots: Vec<Slot>,
    pools: Vec<Pool>,
    timers: Timers,
    actions: Vec<Action>,
    stop: Stop,
    line: StartLine,
    tally: Tally,
    tells_ends: bool,
    /// What ended lately; only while somebody asks.
    rings: Option<Box<Rings>>,
    /// The number of the last record there was, while there are none.
    recent_last: u64,
    /// The reload that is under way.
    reload: Option<Reload>,
    /// When a worker of any queue, also of one that is gone, was ready for the first time.
    first_ready_at: Option<Instant>,
    /// When each queue had had a worker that was ready.
    ran_at: Option<Instant>,
    pending_verdicts: Vec<PendingVerdict>,
    /// Settled by this core, not answered by the transport.
    unsettled: Unsettled,
    /// What is to be said of settlements once they are stored.
    notes: HashMap<Handle, Box<Note>, RandomState>,
    void_outcomes: VoidOutcomes,
    /// Queues that the run before has left parked, until this one begins.
    parked_before: Vec<ParkedQueue>,
    paused_before: Vec<PausedQueue>,
    memory: Option<SettlementMemory>,
    celery: Celery,
    jobs: Jobs,
    locks: Locks,
    /// Queues that workers submitted to: each is compared with the settings once.
    submitted_to: std::collections::HashSet<String>,
    /// The names that no follow-up is submitted to.
    reserved_names: ReservedNames,
    /// Recent starts of queues that were removed: if one is added again, its rate counts them.
    left_rates: HashMap<String, Window>,
    session: u32,
    /// Counts the beginnings of sessions, those of single queues included.
    epoch: u32,
    attached: bool,
    lost_at: Option<Instant>,
    stall: Stall,
    pings: PingRounds,
    /// Queues whose tasks wait for a place among all, in the order of their turns.
    turns: std::collections::VecDeque<usize>,
    /// Identifies a quiet period: each event that could end one raises it.
    serial: u64,
    surveying: bool,
    /// Why the run ends.
    ends_for: Option<HaltReason>,
    /// When the core became quiet, with the serial of that moment.
    quiet: Option<(u64, Instant)>,
    /// The serial of the quiet in which it was said which jobs are waited for.
    told_waits: Option<u64>,
    in_hand: usize,
    demand: Demand,
    in_flight: InFlightIndex,
    begun_at: Instant,
    /// State of the random numbers.
    rng: u64,
    master: Arc<str>,
    /// The task that lines are about.
    subject: Option<Box<LogContext>>,
    now: Now,
    /// How many there were, to choose those after which the invariants are checked.
    #[cfg(debug_assertions)]
    events: u64,
}

impl Core {
    /// A core that has not begun.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut slots = Vec::new();
        let mut pools = Vec::new();
        for queue_plan in &plan.queues {
            let first = slots.len();
            let settings = &queue_plan.settings;
            for number in 1..=settings.processes {
                slots.push(Slot::new(pools.len(), format!("{}[{number}]", settings.name), &settings.kind));
            }
            pools.push(Pool::new(queue_plan.clone(), (first..slots.len()).collect()));
        }
        Self {
            memory: plan.remember.map(SettlementMemory::new),
            celery: Celery::default(),
            locks: Locks::default(),
            submitted_to: std::collections::HashSet::new(),
            reserved_names: ReservedNames::new(plan.queues.iter().map(|plan| &plan.settings), &[]),
            left_rates: HashMap::new(),
            rng: plan.seed | 1,
            jobs: Jobs::new(plan.seed),
            plan,
            slots,
            pools,
            timers: Timers::default(),
            actions: Vec::new(),
            stop: Stop::Running,
            line: StartLine::default(),
            tally: Tally::default(),
            tells_ends: false,
            rings: None,
            recent_last: 0,
            reload: None,
            first_ready_at: None,
            ran_at: None,
            pending_verdicts: Vec::new(),
            unsettled: Unsettled::default(),
            notes: HashMap::default(),
            void_outcomes: VoidOutcomes::default(),
            parked_before: Vec::new(),
            paused_before: Vec::new(),
            session: 0,
            epoch: 0,
            attached: false,
            lost_at: None,
            stall: Stall::default(),
            pings: PingRounds::default(),
            turns: std::collections::VecDeque::new(),
            serial: 0,
            surveying: false,
            ends_for: None,
            quiet: None,
            told_waits: None,
            in_hand: 0,
            demand: Demand::default(),
            in_flight: InFlightIndex::default(),
            begun_at: Instant::default(),
            master: Arc::from(MASTER),
            subject: None,
            now: Now::default(),
            #[cfg(debug_assertions)]
            events: 0,
        }
    }

    /// From now on each end of a task is an [`Action::TaskEnded`], too: a report of the run is wanted.
    pub const fn tell_ends(&mut self) {
        self.tells_ends = true;
    }

    /// Whether the end of this task is told. Of tasks of jobs it is in halt mode: the exit code says what became of the jobs.
    fn tells_end_of(&self, task: &Task) -> bool {
        self.tells_ends || (self.plan.halt_when_empty && task.membership.is_some())
    }

    /// Takes one event and appends what is to be done to `actions`, in order.
    pub fn handle(&mut self, now: Now, event: Event, actions: &mut Vec<Action>) {
        if matches!(self.stop, Stop::Over) {
            return;
        }
        self.now = now;
        self.subject = None;
        std::mem::swap(&mut self.actions, actions);
        if matches!(self.stop, Stop::Closing(_)) {
            self.closing(event);
            std::mem::swap(&mut self.actions, actions);
            return;
        }
        if !is_of_tasks(&event) {
            self.reload_moved();
            self.line.may_move();
        }
        match event {
            Event::Begun => self.begin(),
            Event::Transport(event) => self.transport_event(event),
            Event::Spawned { worker, pid } => {
                if let Some(life) = self.slots[worker.slot].life_of(worker) {
                    life.pid = Some(pid);
                    self.once_started(worker.slot);
                }
            }
            Event::SpawnFailed { worker, error } => self.spawn_failed(worker, &error),
            Event::Said { worker, frame } => self.said(worker, frame),
            Event::Faulted { worker, fault } => self.faulted(worker, fault),
            Event::HungUp { worker } => self.hung_up(worker),
            Event::LeftProcesses(worker) => self.left_processes(worker),
            Event::Exited { worker, ended } => self.exited(worker, ended),
            Event::Commanded { number, command, by } => self.commanded(number, command, &by),
            Event::DescriptorsCounted(descriptors) => self.plan.descriptors = descriptors,
            Event::SettingsRead { number, wait, by, settings } => self.settings_read(number, wait, &by, *settings),
            Event::Measured { worker, bytes } => self.measured(worker, bytes),
            Event::JobEnded { id, state } => self.job_ended(id, state),
            Event::InterruptAsked => self.interrupt_asked(),
            Event::StopAsked => self.stop_asked(),
            Event::HaltTimedOut => self.halt_timed_out(),
            Event::Closed => {}
            // Limits are enforced by this event alone: all that came before a limit is told to the core first.
            Event::DeadlinePassed => {
                while let Some(owner) = self.timers.due(now.at) {
                    self.look_at(owner);
                    self.reload_moved();
                }
            }
        }
        self.look_at_reload();
        self.start_next();
        self.dispatch_freed();
        self.check_quiet();
        std::mem::swap(&mut self.actions, actions);
        #[cfg(debug_assertions)]
        self.debug_check();
    }

    /// Until when nothing needs to be decided, if nothing happens.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        self.timers.next()
    }

    /// The earliest limit of a slot, a stop, an answer or the transport, if nothing happens.
    pub fn next_limit(&mut self) -> Option<Instant> {
        self.timers.next_limit()
    }

    /// What was done so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    // What the chapters share.

    /// A worker is ready, or a queue is gone: perhaps by now each queue has had a worker that was ready.
    fn update_ready(&mut self) {
        let is_awaited = |pool: &Pool| !pool.proven && pool.is_member();
        if self.ran_at.is_none() && !self.pools.iter().any(is_awaited) {
            self.ran_at = Some(self.now.at);
        }
    }

    /// Whether a session stands.
    const fn is_attached(&self) -> bool {
        self.attached
    }

    /// The number of the present epoch.
    const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now.at.since(self.begun_at)
    }

    /// The slot of a process that is still the one there.
    fn is_current(&mut self, worker: WorkerId) -> bool {
        self.slots[worker.slot].life_of(worker).is_some()
    }
}

/// Whether it concerns tasks or measurements alone: no worker starts or ends by it, and no queue is added or removed.
const fn is_of_tasks(event: &Event) -> bool {
    match event {
        Event::Transport(event) => matches!(
            event,
            transport::Event::Delivered(_)
                | transport::Event::Stored(_)
                | transport::Event::Settled(_)
                | transport::Event::Surveyed { .. }
        ),
        Event::Said { frame, .. } => !matches!(frame, FromWorker::Ready(_)),
        Event::Measured { .. } | Event::DescriptorsCounted(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod fixture;
