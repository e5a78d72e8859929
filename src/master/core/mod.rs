//! The decisions. Every event of a run comes through [`Core::handle`]; what is to be done goes out as actions.
//!
//! The core opens nothing, waits for nothing and reads no clock: `now` is an argument, and [`Core::next_deadline`]
//! says until when nothing needs to be decided. That makes it a thing that a seeded simulation can drive through
//! any history (`tests/simulation`).
//!
//! It is one state machine. This file holds `handle`, the state that all chapters share, how a task is settled and
//! counted, and the deadlines. `event` has what comes in and what goes out. Each other file is one chapter of
//! `impl Core`, or a folder of what chapters work with:
//!
//! | on | chapters |
//! | --- | --- |
//! | the way of a task | `transport_events` (what the transport tells), `dispatch` (which task goes to which worker), `unique` (tasks that wait for another with their key), `worker_frames` (what workers say), `verdict` (from an outcome or exit to a settlement), `stored` (what is said only once it is stored), `stall` (a transport that stores nothing) |
//! | the life of a process | `start_line` (whose start is next), `failed_starts`, `process_exit`, `left_running` (descendants that outlive a process), `process_per_task` (`mode: once`), `ping`, `recycle` |
//! | queues and the run | `parking`, `unavailable` (queues that the transport cannot work), `reload`, `commands` (what a person wants), `shutdown`, `halt_when_empty` |
//! | what is held | `state`: slots, pools, timers, remembered settlements |
//! | what is shown | `status`: for `status`, health and metrics |

mod commands;
mod dispatch;
pub mod event;
mod failed_starts;
mod halt_when_empty;
mod left_running;
mod parking;
mod ping;
mod process_exit;
mod process_per_task;
mod recycle;
mod reload;
mod shutdown;
mod stall;
mod start_line;
pub(crate) mod state;
mod status;
mod stored;
mod transport_events;
mod unavailable;
mod unique;
pub(crate) mod verdict;
mod worker_frames;

use std::{collections::HashMap, sync::Arc, time::Duration};

use self::{
    event::{Action, Event, Plan, WorkerId},
    shutdown::Stop,
    state::{
        pool::{self, FirstDelivery, Pool},
        settlement_memory::SettlementMemory,
        slot::{InFlight, Phase, Slot, State},
        timers::{Owner, Timers},
    },
    stored::AtRisk,
    unique::Locks,
    verdict::Attempt,
};
use crate::{
    clock::{Instant, Now},
    error::Code,
    frames::{FromWorker, HaltReason},
    logging::{Level, LogContext, MASTER},
    task::{Delivery, Handle, QueueIndex, Reason, Settlement},
    transport,
};

/// In halt mode: how long the transport may be out of reach before the run ends with 69.
const UNREACHABLE_LIMIT: Duration = Duration::from_secs(30);
/// A first delivery with this many deliveries without outcome is worked alone.
const SUSPECT_DELIVERIES: u32 = 3;

/// The state machine.
#[derive(Debug)]
pub struct Core {
    plan: Plan,
    slots: Vec<Slot>,
    pools: Vec<Pool>,
    timers: Timers,
    actions: Vec<Action>,
    stop: Stop,
    line: start_line::StartLine,
    tally: Tally,
    tells_ends: bool,
    /// Other settings that are not all in force yet.
    reload: Option<reload::Reload>,
    /// When a worker of any queue was ready for the first time, whether or not that queue is still worked.
    first_ready_at: Option<Instant>,
    /// Since when each queue has had a worker that was ready.
    ran_at: Option<Instant>,
    pending_verdicts: Vec<process_exit::PendingVerdict>,
    /// Settled by us, not yet confirmed by the transport.
    unsettled: HashMap<Handle, PendingSettlement>,
    /// What is to be said of settlements once they are stored.
    notes: HashMap<Handle, Box<stored::Note>>,
    void_outcomes: stored::VoidOutcomes,
    memory: Option<SettlementMemory>,
    locks: Locks,
    /// Queues that workers submitted to: whether anybody works one is looked up once.
    submitted_to: std::collections::HashSet<String>,
    /// What was started of late of queues that are gone: in the settings again, they have no more starts than their rate.
    left_rates: HashMap<String, pool::Window>,
    session: u32,
    /// Counts the beginnings of sessions, those of single queues included.
    epoch: u32,
    attached: bool,
    lost_at: Option<Instant>,
    stall: stall::Stall,
    pings: ping::PingRounds,
    /// Queues whose tasks wait for a place among all, in the order of their turns.
    turns: std::collections::VecDeque<usize>,
    /// Names the present quiet: raised by everything that could end it.
    serial: u64,
    surveying: bool,
    /// Why the run ends.
    ends_for: Option<HaltReason>,
    /// Since when nothing is in our hands, and the serial of that time.
    quiet: Option<(u64, Instant)>,
    in_hand: usize,
    begun_at: Instant,
    /// State of the random numbers.
    rng: u64,
    master: Arc<str>,
    /// The task that lines are about.
    subject: Option<String>,
    now: Now,
}

/// A settlement that the transport has not confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingSettlement {
    /// The task's identity.
    identity: Option<u64>,
    /// It was accepted before: its handle outlives the session.
    accepted: bool,
    /// The slot that counts it as done, if what it submits is not stored yet.
    done_by: Option<usize>,
    /// What would be lost with it.
    at_risk: AtRisk,
}

/// Whose limits have passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Slots: a time limit, a start limit, the patience with an end.
    pub slots: Vec<usize>,
    /// Other limits, which may be about everybody: of a stop, of answers to pings, of the transport.
    pub others: bool,
}

impl Passed {
    /// Whether nobody is going to be judged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && !self.others
    }
}

/// What a run did, for its summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tasks done.
    pub processed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts that are to be made again.
    pub retried: u64,
    /// Tasks dead-lettered.
    pub dead_lettered: u64,
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
            locks: Locks::default(),
            submitted_to: std::collections::HashSet::new(),
            left_rates: HashMap::new(),
            rng: plan.seed | 1,
            plan,
            slots,
            pools,
            timers: Timers::default(),
            actions: Vec::new(),
            stop: Stop::Running,
            line: start_line::StartLine::default(),
            tally: Tally::default(),
            tells_ends: false,
            reload: None,
            first_ready_at: None,
            ran_at: None,
            pending_verdicts: Vec::new(),
            unsettled: HashMap::new(),
            notes: HashMap::new(),
            void_outcomes: stored::VoidOutcomes::default(),
            session: 0,
            epoch: 0,
            attached: false,
            lost_at: None,
            stall: stall::Stall::default(),
            pings: ping::PingRounds::default(),
            turns: std::collections::VecDeque::new(),
            serial: 0,
            surveying: false,
            ends_for: None,
            quiet: None,
            in_hand: 0,
            begun_at: Instant::default(),
            master: Arc::from(MASTER),
            subject: None,
            now: Now::default(),
        }
    }

    /// From now on each end of a task is an [`Action::TaskEnded`], too: a report of the run is wanted.
    pub const fn tell_ends(&mut self) {
        self.tells_ends = true;
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
            Event::Transport(event) => self.transport_told(event),
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
            Event::SettingsRead { number, wait, by, settings } => self.settings_read(number, wait, &by, *settings),
            Event::Measured { worker, bytes } => self.measured(worker, bytes),
            Event::InterruptAsked => self.interrupt_asked(),
            Event::StopAsked => self.stop_asked(),
            Event::HaltTimedOut => self.halt_timed_out(),
            Event::Closed => {}
            // The only event by which anybody is judged: whatever came before it was told before it.
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
    }

    /// Until when nothing needs to be decided, if nothing happens.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        self.timers.next()
    }

    /// The earliest of these moments at which somebody is judged: no later than it, if nothing happens.
    pub fn next_limit(&mut self) -> Option<Instant> {
        self.timers.next_limit()
    }

    /// Whose limits will be found passed by an [`Event::DeadlinePassed`] at `now`. What these have said and done is to be
    /// told first.
    pub fn limits_passed(&mut self, now: Instant) -> Passed {
        let mut passed = Passed::default();
        let mut due = Vec::new();
        while let Some(owner) = self.timers.due_limit(now) {
            if let Owner::Slot(slot) = owner {
                // Armed for a task that has ended meanwhile, as a rule.
                if self.slot_due_at(slot).is_none_or(|at| at > now) {
                    self.arm_slot(slot);
                    continue;
                }
                passed.slots.push(slot);
            } else {
                passed.others = true;
            }
            due.push(owner);
        }
        for owner in due {
            self.timers.arm(owner, now);
        }
        passed
    }

    /// What was done so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    fn begin(&mut self) {
        self.begun_at = self.now.at;
        self.warn_of_files();
        for pool in 0..self.pools.len() {
            for slot in self.pools[pool].slots.clone() {
                self.spawn(slot);
            }
        }
        self.begin_pings();
        if self.plan.halt_when_empty {
            self.lost_at = Some(self.now.at);
            self.timers.arm(Owner::Outage, self.now.at + UNREACHABLE_LIMIT);
        }
    }

    // What the chapters share.

    /// A worker is ready, or a queue is gone: perhaps by now each queue has had a worker that was ready.
    fn update_ready(&mut self) {
        let is_awaited = |pool: &Pool| !pool.proven && pool.is_member();
        if self.ran_at.is_none() && !self.pools.iter().any(is_awaited) {
            self.ran_at = Some(self.now.at);
        }
    }

    /// Settles a delivery whose handle stands.
    fn settle(&mut self, handle: Handle, identity: Option<u64>, settlement: Settlement) {
        self.serial += 1;
        if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
            memory.remember(self.now.at, identity, self.epoch, Some(handle), &settlement);
        }
        if settlement != Settlement::Accept {
            self.locks.let_go(handle);
            self.track_settlement(
                handle,
                PendingSettlement { identity, accepted: false, done_by: None, at_risk: AtRisk::of(&settlement, false) },
            );
        }
        self.actions.push(Action::Settle { handle, settlement });
    }

    /// Settles a delivery that was accepted before. It is in no queue any more: if it comes again all the same,
    /// because the session it came in ended with the acceptance under way, its removal is all that is wanted.
    fn settle_accepted(&mut self, task: &InFlight, settlement: Settlement) {
        self.serial += 1;
        let (handle, identity) = (task.delivery.handle, task.delivery.identity);
        if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
            // The copy of these has the same identity; taken for the original and removed, it would be lost.
            if matches!(settlement, Settlement::Snooze { .. } | Settlement::Release) {
                memory.forget(identity);
            } else {
                memory.remember_removal(self.now.at, identity, task.session);
            }
        }
        self.track_settlement(
            handle,
            PendingSettlement { identity: None, accepted: true, done_by: None, at_risk: AtRisk::of(&settlement, true) },
        );
        self.actions.push(Action::Settle { handle, settlement });
    }

    fn track_settlement(&mut self, handle: Handle, pending: PendingSettlement) {
        if self.unsettled.is_empty() {
            self.first_unsettled();
        }
        let doubled = self.unsettled.insert(handle, pending);
        debug_assert!(doubled.is_none(), "a handle is settled once");
    }

    /// Remembers the settlement of a task whose handle is void, for when it comes again.
    fn settle_later(&mut self, identity: Option<u64>, session: u32, settlement: &Settlement) {
        self.serial += 1;
        if let (Some(memory), Some(identity)) = (&mut self.memory, identity) {
            memory.remember(self.now.at, identity, session, None, settlement);
        }
    }

    /// Dead-letters a delivery that is not run.
    fn refuse(&mut self, delivery: &Delivery, reason: Reason, error: String) {
        let settlement = self.attempt(delivery, None, None).refused(reason, error);
        self.conclude(delivery, settlement);
        self.no_longer_suspect(delivery);
        self.renew_credit(delivery.queue.0);
    }

    /// The first task of a session has ended: if it was worked alone, others may come now.
    fn no_longer_suspect(&mut self, delivery: &Delivery) {
        let pool = &mut self.pools[delivery.queue.0];
        if matches!(&pool.first, FirstDelivery::Suspect(id) if *id == delivery.task.id) {
            pool.first = FirstDelivery::Passed;
        }
    }

    /// Counts and settles what became of a task.
    fn conclude(&mut self, delivery: &Delivery, settlement: Settlement) {
        let note = self.note(delivery, Duration::ZERO, &settlement);
        self.keep_note(delivery.handle, note);
        self.settle(delivery.handle, delivery.identity, settlement);
    }

    /// An attempt at a task, for its verdict.
    fn attempt<'a>(&'a mut self, delivery: &'a Delivery, pid: Option<u32>, in_hand: Option<Duration>) -> Attempt<'a> {
        let jitter = self.random();
        Attempt {
            task: &delivery.task,
            plan: &self.pools[delivery.queue.0].plan,
            host: &self.plan.host,
            pid,
            wall: self.now.wall,
            in_hand,
            jitter,
        }
    }

    /// A number in 0..1 (xorshift64*): jitter needs no better, and the same seed gives the same run.
    fn random(&mut self) -> f64 {
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        (self.rng.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Logs in the master's name.
    fn log(&mut self, level: Level, message: impl FnOnce() -> String) {
        if level <= self.plan.log_level {
            let name = Arc::clone(&self.master);
            let about = self.about(None);
            self.actions.push(Action::Log { level, name, message: message(), about });
        }
    }

    /// What a line is about, where the log's form says so.
    fn about(&self, slot: Option<usize>) -> Option<Box<LogContext>> {
        if !self.plan.structured || (slot.is_none() && self.subject.is_none()) {
            return None;
        }
        let here = slot.map(|slot| &self.slots[slot]);
        Some(Box::new(LogContext {
            queue: here.map(|here| self.pools[here.queue].name().to_owned()).unwrap_or_default(),
            slot: here.map(|here| here.name.clone()),
            pid: here.and_then(Slot::process).and_then(|life| life.pid),
            task: self.subject.clone(),
        }))
    }

    /// From here to the end of the event, lines are about this task.
    fn set_log_subject(&mut self, id: &str) {
        if self.plan.structured {
            self.subject = Some(id.to_owned());
        }
    }

    /// Logs in a worker's name.
    fn log_as(&mut self, slot: usize, level: Level, message: impl FnOnce() -> String) {
        if level <= self.plan.log_level {
            let name = Arc::clone(&self.slots[slot].log_name);
            let about = self.about(Some(slot));
            self.actions.push(Action::Log { level, name, message: message(), about });
        }
    }

    /// Whether a session stands.
    const fn is_attached(&self) -> bool {
        self.attached
    }

    /// Whether every settlement was confirmed.
    fn all_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// The number of the present epoch.
    const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Time since the run began.
    fn elapsed(&self) -> Duration {
        self.now.at.since(self.begun_at)
    }

    /// Asks for the credit that a queue should have, if that has changed.
    fn renew_credit(&mut self, index: usize) {
        let wanted = if self.stop.is_stopping() { 0 } else { self.pools[index].wanted_credit(self.outliving(index)) };
        if wanted != self.pools[index].credit && self.attached && self.pools[index].registration.is_registered {
            self.ask_credit(index, wanted);
        }
    }

    /// Tasks in hand that take credit although nobody's seat is theirs: those of processes that were told to go, and
    /// those accepted in an earlier session, which are looked for only while the credit is otherwise 1.
    fn outliving(&self, index: usize) -> u32 {
        let pool = &self.pools[index];
        let in_flight = |slot: &usize| self.slots[*slot].process().map_or(0, |life| life.in_flight.len());
        let mut count: usize = pool.leaving.iter().map(in_flight).sum();
        if pool.first != FirstDelivery::Passed {
            let lives = pool.slots.iter().filter_map(|slot| self.slots[*slot].process());
            let of_old = |task: &&InFlight| task.accepted && task.session < pool.since;
            count += lives.flat_map(|life| &life.in_flight).filter(of_old).count();
        }
        count as u32
    }

    fn renew_credits(&mut self) {
        for index in 0..self.pools.len() {
            self.renew_credit(index);
        }
    }

    fn ask_credit(&mut self, index: usize, credit: u32) {
        self.pools[index].credit = credit;
        self.actions.push(Action::Credit { queue: QueueIndex(index), credit });
    }

    // Deadlines.

    fn look_at(&mut self, owner: Owner) {
        match owner {
            Owner::Slot(slot) => self.look_at_slot(slot),
            Owner::Queue(index) => self.look_at_queue(index),
            Owner::Stop => self.look_at_stop(),
            Owner::Verdicts => self.judge_pending(false),
            Owner::Pings | Owner::Answers => self.look_at_pings(),
            Owner::Stall => self.look_at_stall(),
            // Nothing but that the line is looked at, which `start_next` does after each deadline.
            Owner::Starts => {}
            // `check_quiet` asks again if it is still quiet.
            Owner::Survey => self.surveying = false,
            Owner::Outage => self.look_at_outage(),
            Owner::Restart(slot) => match self.slots[slot].state {
                State::Waiting { until } if until <= self.now.at => self.spawn(slot),
                State::Waiting { until } => self.timers.arm(owner, until),
                State::Empty | State::InLine | State::Alive(_) => {}
            },
        }
    }

    /// In halt mode the transport may not be out of reach for long.
    fn look_at_outage(&mut self) {
        // In a stop the limit says nothing any more; armed again it would be due for ever.
        if !self.plan.halt_when_empty || self.stop.is_stopping() {
            return;
        }
        let Some(limit) = self.lost_at.map(|at| at + UNREACHABLE_LIMIT) else { return };
        if limit > self.now.at {
            self.timers.arm(Owner::Outage, limit);
            return;
        }
        let seconds = UNREACHABLE_LIMIT.as_secs();
        let cause = self.stall.cause();
        self.end_badly(Code::Unavailable, format!("the transport was out of reach for {seconds} s{cause}"));
    }

    fn look_at_slot(&mut self, slot: usize) {
        let now = self.now.at;
        let over = |at: &Instant| *at <= now;
        match &self.slots[slot].state {
            State::Empty | State::Waiting { .. } | State::InLine => {}
            State::Alive(life) => {
                let id = life.id;
                let late = life.in_flight.iter().find(|task| task.due_at.as_ref().is_some_and(over));
                match &life.phase {
                    Phase::Killed(_) | Phase::LeftProcesses { .. } => {}
                    Phase::Starting { give_up_at } if over(give_up_at) => self.give_up_start(id),
                    Phase::Interrupted { kill_at } if over(kill_at) => self.kill_for_stop(id),
                    _ if life.end_due.as_ref().is_some_and(over) => self.end_unspoken(id),
                    Phase::Working { .. } | Phase::Leaving if late.is_some() => {
                        let task = late.map(|late| late.delivery.task.id.clone()).unwrap_or_default();
                        self.time_out(id, task);
                    }
                    Phase::Working { .. } if self.old_at(self.slots[slot].queue, life).as_ref().is_some_and(over) => {
                        self.recycle(id, "it is old enough");
                    }
                    Phase::Starting { .. } | Phase::Working { .. } | Phase::Leaving | Phase::Interrupted { .. } => {}
                }
            }
        }
        self.arm_slot(slot);
    }

    fn look_at_queue(&mut self, index: usize) {
        // In a stop no pause ends: armed again, its end would be due for ever.
        if let pool::State::Parked { until, pause, cause } = self.pools[index].state
            && !self.stop.is_stopping()
        {
            if until <= self.now.at {
                self.pools[index].state = pool::State::Trial { pause, cause };
                self.begin_trial(index);
            } else {
                self.timers.arm(Owner::Queue(index), until);
            }
        }
        self.notice_lull(index);
        self.dispatch(index);
    }

    /// With credit raised for short tasks: if none ended for a while, they are not short any more, and what
    /// waits here beyond the free seats is given back, for others to take.
    fn notice_lull(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        if pool.credit <= pool.seats() {
            return;
        }
        let lull_at = pool.durations.ended_at + state::task_durations::LULL;
        if pool.in_hand == 0 || pool.waiting.is_empty() {
            return;
        }
        if lull_at > self.now.at {
            self.timers.arm(Owner::Queue(index), lull_at);
            return;
        }
        pool.durations.lulled();
        let surplus = pool.waiting.take_all();
        self.renew_credit(index);
        for delivery in surplus {
            self.settle(delivery.handle, None, Settlement::Release);
        }
    }

    /// Arms the deadline of a slot.
    fn arm_slot(&mut self, slot: usize) {
        if let Some(at) = self.slot_due_at(slot) {
            self.timers.arm(Owner::Slot(slot), at);
        }
    }

    fn slot_due_at(&self, slot: usize) -> Option<Instant> {
        let index = self.slots[slot].queue;
        let old_at = self.slots[slot].process().and_then(|life| self.old_at(index, life));
        [self.slots[slot].deadline(), old_at].into_iter().flatten().min()
    }

    /// The slot of a process that is still the one there.
    fn is_current(&mut self, worker: WorkerId) -> bool {
        self.slots[worker.slot].life_of(worker).is_some()
    }
}

/// Whether it is the everyday of tasks, by which no worker comes or goes and no queue is added or let go.
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
        Event::Measured { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod fixture;
