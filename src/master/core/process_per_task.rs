//! The core's chapter on kinds with `mode: once`: a slot is a place for one process, and a task is one process.
//!
//! ```text
//! open place ── task handed out, Action::SpawnOnce ──> process ── exit, judged by its status ──> open place
//!     └── not startable: the task goes back, the place waits as a worker's slot does ──> open place
//! ```
//!
//! An open place is a [`Life`] that is ready and holds nothing, only that no process belongs to it yet. So seats, time
//! limits, stops and lost sessions are those of every worker; this file holds what is different.

use std::time::Duration;

use super::{
    Core,
    checked::within_limits,
    event::{Action, Ended, Once, WorkerId},
    failed_starts::NotExecuted,
    ledger::End,
    state::{
        in_flight::InFlight,
        slot::{Life, Phase, State},
        unexecuted::Fate,
    },
};
use crate::{
    frames::HaltReason,
    logging::Level,
    membership::Membership,
    metrics::counts::Cause,
    outcome::Report,
    payload::Body,
    redact::redact,
    task::{Accepts, Delivery, Exit, QueueIndex, Settlement, Task},
    text,
};

/// `EX_TEMPFAIL` of sysexits.h: try again.
const RETRY: i32 = 75;
/// `EX_DATAERR` of sysexits.h: this can never be done.
const FAILED: i32 = 65;
/// What shells, `env` and their like say of a program that may not be executed, and of one that is not there.
const NOT_EXECUTED: i32 = 126;
const NOT_FOUND: i32 = 127;
/// How long a task waits whose process said so, while others are tried.
const ASIDE: Duration = Duration::from_secs(1);

/// Longest id of a task, and longest word about its job, that a process is told, in bytes.
const ID_LENGTH: usize = 4096;

impl Core {
    /// Whether the slot is a place for one process a task.
    pub(super) fn is_once(&self, slot: usize) -> bool {
        self.pools[self.slots[slot].queue].plan.is_once
    }

    /// Makes a slot ready for its next process.
    pub(super) fn open_place(&mut self, slot: usize) {
        let here = &mut self.slots[slot];
        let index = here.queue;
        // At first, and after a death: as the log of a kind whose processes live on.
        let is_first = here.announced_after.is_none();
        let is_new = here.announced_after.replace(here.restarts) != Some(here.restarts);
        here.life += 1;
        let id = WorkerId { slot, life: here.life };
        let life = Life::new(id, self.now.at, self.plan.log_level, Phase::Working { seats: 1 });
        here.state = State::Alive(Life { was_ready: true, ..life });
        if is_new {
            let settings = &self.pools[index].plan.settings;
            let (kind, queue) = (settings.kind.clone(), settings.name.clone());
            if !is_first || self.pools[index].slots.first() == Some(&slot) {
                self.log(Level::Info, || format!("Launching {kind} to work on queue {queue}"));
            }
            self.log_as(slot, Level::Info, || format!("Starting; queue={queue}"));
        }
        if !std::mem::replace(&mut self.pools[index].proven, true) {
            self.update_ready();
        }
        self.serial += 1;
        self.relist(slot);
        self.renew_credit(index);
        self.dispatch(index);
    }

    /// What is to be started for a task, and its `Got payload` line.
    ///
    /// # Errors
    /// If the payload is not what the kind accepts.
    pub(super) fn once_for(&mut self, index: usize, slot: usize, delivery: &Delivery) -> Result<Once, String> {
        let task = &delivery.task;
        if !is_variable(&task.id) {
            return Err("its id cannot be put into a process's environment".to_owned());
        }
        if task.membership.as_deref().is_some_and(|membership| !fits_into_environment(membership)) {
            return Err("its place in a job cannot be put into a process's environment".to_owned());
        }
        let of_celery = self.celery_payload(index, slot, task)?;
        let plan = &self.pools[index].plan;
        let payload = match plan.accepts {
            _ if of_celery.is_some() => of_celery.clone().unwrap_or_default().into_bytes(),
            Accepts::Json => Body::from(&**task).json(plan.settings.unwrap)?.into_owned().into_bytes(),
            Accepts::Bytes => task.body.clone(),
        };
        // What it gets is as it came: it may have to be unpacked.
        let told = task.properties.as_ref().filter(|_| plan.accepts == Accepts::Bytes && of_celery.is_none());
        let content_encoding = told.and_then(|told| told.content_encoding.clone());
        let once = Once {
            id: task.id.clone(),
            attempt: task.attempts.saturating_add(1),
            max_attempts: plan.settings.retry.max_attempts,
            payload,
            content_encoding: content_encoding.filter(|word| !word.contains('\0')),
            is_result_wanted: self.is_result_wanted(index, task),
            job: task.membership.clone(),
            memo: task.memo.clone(),
        };
        self.log_as(slot, Level::Debug, || match std::str::from_utf8(&once.payload) {
            Ok(text) if !text.contains(|c: char| c.is_control() && !c.is_whitespace()) => {
                format!("Got payload: {}", super::dispatch::cut(&redact(text.trim_end())))
            }
            _ => format!("Got payload: {} bytes", once.payload.len()),
        });
        Ok(once)
    }

    /// A process for a task runs: the kind can be started.
    pub(super) fn once_started(&mut self, slot: usize) {
        if self.is_once(slot) {
            let starts = &self.pools[self.slots[slot].queue].starts;
            // Where that was known at the end only, a process that runs says nothing yet.
            if !starts.is_known_by_exit() {
                self.start_succeeded(slot);
            }
        }
    }

    /// The process for a task could not be made. The task was not begun and goes back to its queue.
    pub(super) fn once_not_started(&mut self, slot: usize) {
        let Some(life) = self.slots[slot].process_mut() else { return };
        for task in std::mem::take(&mut life.in_flight).into_vec() {
            self.left_worker(&task);
            self.return_unbegun(&task, Fate::Back);
        }
    }

    /// A task that nobody has begun goes back as it was, unless it was withdrawn.
    fn return_unbegun(&mut self, task: &InFlight, fate: Fate) {
        if let Some(how) = task.withdrawn {
            return self.settle_withdrawn_unbegun(task, how);
        }
        self.released(&task.delivery);
        // In a stop nothing is stored that need not be.
        let is_aside = matches!(fate, Fate::Aside { .. }) && !self.stop.is_stopping();
        let settlement = if is_aside { Settlement::Snooze { after: ASIDE, memo: None } } else { Settlement::Release };
        self.settle(task, settlement, None, None);
    }

    /// A process ended with an exit status: the outcome of its task. The place is open again.
    pub(super) fn once_ended(&mut self, slot: usize, life: &Life, ended: &Ended) {
        let index = self.slots[slot].queue;
        let task = life.in_flight.first().map(|task| &*task.delivery.task);
        let id = task.map(|task| &*task.id).unwrap_or_default();
        let unexecuted = &mut self.pools[index].unexecuted;
        let mut own = outcome(ended, task.and_then(|task| task.membership.as_deref()));
        match not_executed(ended).map(|error| (unexecuted.returned(id), error)) {
            Some((Fate::Failed { times }, said)) => {
                let error = format!("{said}; {times} times, and other tasks of the queue could be done meanwhile");
                own = Report::error(error);
            }
            Some((fate, error)) => {
                self.once_not_executed(slot, life, &error, fate);
                return;
            }
            None => unexecuted.executed(id),
        }
        self.slots[slot].failures = 0;
        self.first_ready_at.get_or_insert(self.now.at);
        self.start_succeeded(slot);
        if let Some(task) = life.in_flight.first() {
            self.judge_once(slot, task, life.pid, ended, own);
        }
        if self.stop.is_stopping() {
            self.log_as(slot, Level::Info, || "Terminating".to_owned());
        } else {
            self.spawn(slot);
        }
        self.renew_credit(index);
        self.dispatch(index);
    }

    /// A wrapper ran and what it was to execute did not: a failed start behind the kernel's back, and no task of anybody.
    fn once_not_executed(&mut self, slot: usize, life: &Life, error: &str, fate: Fate) {
        let index = self.slots[slot].queue;
        self.count_restart(slot, Cause::Start);
        self.tell_failed_start(slot, error);
        let took = life.in_flight.first().map(|task| self.now.at.since(task.begun_at));
        for task in life.in_flight.iter() {
            self.return_unbegun(task, fate);
        }
        if self.stop.is_stopping() {
            self.log_as(slot, Level::Info, || "Terminating".to_owned());
        } else {
            self.pools[index].starts.known_by_exit();
            let again = fate == Fate::Aside { again: true };
            self.failed_start(slot, took.map(|took| NotExecuted { took, again }));
        }
        self.renew_credit(index);
        self.dispatch(index);
    }

    fn judge_once(&mut self, slot: usize, task: &InFlight, pid: Option<u32>, ended: &Ended, outcome: Report) {
        let took = self.now.at.since(task.begun_at);
        let outcome = self.checked(outcome, &task.delivery.task);
        if let Report::Done { submit, .. } = &outcome {
            self.tell_unknown(submit);
        }
        self.log_outcome(slot, &outcome);
        self.count_for_breaker(task, matches!(outcome, Report::Error { .. } | Report::Retry { .. }));
        self.celery_reported(task, slot, &outcome, took);
        let settlement = self.attempt(&task.delivery, pid, Some(took)).ended(outcome, ended);
        let note = self.ended(&End { delivery: &task.delivery, took, settlement: &settlement, slot: Some(slot) });
        self.settle(task, settlement, note, Some(slot));
    }

    /// A stop: an open place is closed at once, a process finishes its task.
    pub(super) fn dismiss_once(&mut self, slot: usize, reason: HaltReason) {
        let Some(life) = self.slots[slot].process_mut() else { return };
        if !life.in_flight.is_empty() {
            if matches!(life.phase, Phase::Working { .. }) {
                life.phase = Phase::Leaving;
            }
            return;
        }
        self.slots[slot].state = State::Empty;
        self.relist(slot);
        if reason == HaltReason::Empty {
            self.log_as(slot, Level::Info, || "No tasks found in queue".to_owned());
        }
        self.log_as(slot, Level::Info, || "Terminating".to_owned());
    }

    /// Hands a task to a process of its own.
    pub(super) fn spawn_once(&mut self, worker: WorkerId, index: usize, once: Once) {
        let slot = self.slots[worker.slot].name.clone();
        let launch = self.pools[index].plan.launch;
        self.actions.push(Action::SpawnOnce { slot, worker, queue: QueueIndex(index), launch, once });
    }
}

/// Whether a text can be the value of a variable.
fn is_variable(text: &str) -> bool {
    text.len() <= ID_LENGTH && !text.contains('\0')
}

fn fits_into_environment(place: &Membership) -> bool {
    let texts = [&place.job, &place.pipeline, &place.step];
    texts.into_iter().chain(&place.key).all(|text| is_variable(text))
}

/// The last line that is not empty.
fn last_said(ended: &Ended) -> Option<&str> {
    ended.output_tail.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(text::first_line)
}

/// Whether a wrapper says by its status that it could not execute a program, and what it said of it.
fn not_executed(ended: &Ended) -> Option<String> {
    let Exit::Code { code } = ended.exit else { return None };
    let what = match code {
        NOT_EXECUTED => "a program could not be executed",
        NOT_FOUND => "a program was not found",
        _ => return None,
    };
    let said = last_said(ended).map_or_else(String::new, |line| format!(": {line}"));
    Some(format!("{what} ({}){said}", ended.exit))
}

/// What an exit status says of the task, with what the process wrote.
fn outcome(ended: &Ended, membership: Option<&Membership>) -> Report {
    let Exit::Code { code } = ended.exit else {
        return Report::error(ended.exit.to_string());
    };
    let error = || last_said(ended).map_or_else(|| ended.exit.to_string(), str::to_owned);
    let said = match code {
        0 => Report::DONE,
        RETRY => Report::Retry { error: error(), delay: None, memo: None },
        FAILED => Report::DeadLetter { error: error(), detail: String::new(), memo: None },
        _ => Report::error(error()),
    };
    match &ended.written {
        Some(written) => within_limits(written.complete(said, membership.is_some()), membership),
        None => said,
    }
}

/// The end of a process, as what its task came to.
pub(super) fn end_in_words(task: &Task, ended: &Ended) -> String {
    let id = &task.id;
    let exit = &ended.exit;
    if not_executed(ended).is_some() {
        return format!("{exit}: it could not be started; task {id} is back in its queue");
    }
    let oom = if ended.oom == Some(true) { ", out of memory" } else { "" };
    match outcome(ended, task.membership.as_deref()) {
        Report::Done { .. } => format!("done ({exit})"),
        Report::Retry { .. } => format!("{exit}: task {id} asked for a retry"),
        Report::DeadLetter { .. } => format!("{exit}: task {id} cannot be done"),
        Report::Error { .. } | Report::Snooze { .. } | Report::Malformed { .. } => {
            format!("{exit}: task {id} failed{oom}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            event::{Event, Plan, QueuePlan},
            fixture::tell_at,
        },
        *,
    };
    use crate::{
        config::{Queue, Supervisor},
        exit_code::Code,
        task::Handle,
        transport,
    };

    fn ended(code: i32, output: &str) -> Ended {
        let output_tail = output.to_owned();
        Ended { output_tail, ..Ended::of(Exit::Code { code }) }
    }

    #[test]
    fn an_exit_status_is_an_outcome() {
        assert!(matches!(outcome(&ended(0, ""), None), Report::Done { .. }));
        assert!(
            matches!(outcome(&ended(75, "busy\n"), None), Report::Retry { error, delay: None, .. } if error == "busy")
        );
        assert!(matches!(outcome(&ended(65, ""), None), Report::DeadLetter { error, .. } if error == "exit status 65"));
        assert!(matches!(outcome(&ended(3, ""), None), Report::Error { error, .. } if error == "exit status 3"));
        let said = ended(1, "first\n  no such file \n\n");
        assert!(matches!(outcome(&said, None), Report::Error { error, .. } if error == "no such file"));
    }

    #[test]
    fn the_end_of_a_process_reads_as_what_its_task_came_to() {
        let a = Task { id: "a".to_owned(), ..Task::default() };
        let words = |code| end_in_words(&a, &ended(code, "said\n"));
        assert_eq!(words(0), "done (exit status 0)");
        assert_eq!(words(3), "exit status 3: task a failed");
        assert_eq!(words(65), "exit status 65: task a cannot be done");
        assert_eq!(words(75), "exit status 75: task a asked for a retry");
        assert_eq!(words(127), "exit status 127: it could not be started; task a is back in its queue");
        let killed = Ended { oom: Some(true), ..ended(137, "") };
        assert_eq!(end_in_words(&a, &killed), "exit status 137: task a failed, out of memory");
    }

    // The core itself, with a transport that does what it is asked.

    use std::sync::Arc;

    struct World {
        core: Core,
        at: Duration,
    }

    impl World {
        /// With another queue beside, whose worker never becomes ready.
        fn new(beside: bool) -> Self {
            let queue = |name, is_once| QueuePlan {
                accepts: Accepts::Bytes,
                is_once,
                ..QueuePlan::of(Queue::new(name, "kind"))
            };
            let mut queues = vec![queue("foo", true)];
            queues.extend(beside.then(|| queue("bar", false)));
            let supervisor = Supervisor { start_timeout: Duration::from_hours(1), ..Supervisor::default() };
            let remember = Some(Duration::from_secs(40));
            let plan = Plan { supervisor, remember, ..Plan::of(queues) };
            let mut world = Self { core: Core::new(plan), at: Duration::ZERO };
            world.tell(Event::Begun);
            let asked = world.transport(transport::Event::Attached { session: 1 });
            assert!(matches!(asked[..], [Action::Credit { credit: 1, .. }]), "{asked:?}");
            world
        }

        /// What the core wants done, but for its log.
        fn tell(&mut self, event: Event) -> Vec<Action> {
            let mut actions = tell_at(&mut self.core, self.at, event);
            actions.retain(|action| !matches!(action, Action::Log { .. } | Action::Survey { .. }));
            actions
        }

        fn transport(&mut self, event: transport::Event) -> Vec<Action> {
            self.tell(Event::Transport(event))
        }

        fn deliver(&mut self, handle: u64, redelivered: bool) -> Vec<Action> {
            let task = Task { id: "a".to_owned(), body: b"x".to_vec(), ..Task::default() };
            let (handle, queue, task) = (Handle(handle), QueueIndex(0), Arc::new(task));
            self.transport(transport::Event::Delivered(vec![Delivery {
                handle,
                queue,
                task,
                redelivered,
                identity: Some(7),
            }]))
        }

        /// Delivers and gives the process that is to be started.
        fn start(&mut self, handle: u64) -> WorkerId {
            let actions = self.deliver(handle, false);
            let Some(Action::SpawnOnce { worker, once, .. }) = actions.last() else { panic!("{actions:?}") };
            assert_eq!((once.id.as_str(), once.attempt, &once.payload[..]), ("a", 1, &b"x"[..]));
            *worker
        }

        fn wait(&mut self) -> Vec<Action> {
            let next = self.core.next_deadline().expect("something is to come");
            self.at = self.at.max(next.since_start());
            self.tell(Event::DeadlinePassed)
        }
    }

    fn asked(actions: &[Action], wanted: u32) -> bool {
        actions.iter().any(|action| matches!(action, Action::Credit { credit, .. } if *credit == wanted))
    }

    fn settled(actions: &[Action]) -> Vec<(u64, &Settlement)> {
        let settled = |action: &'_ Action| matches!(action, Action::Settle { .. });
        let of = |action| match action {
            &Action::Settle { handle, ref settlement } => (handle.0, settlement),
            other => unreachable!("{other:?} was left out"),
        };
        actions.iter().filter(|action| settled(action)).map(of).collect()
    }

    #[test]
    fn a_process_outlives_the_session_and_its_outcome_goes_to_the_new_handle() {
        let mut world = World::new(false);
        let worker = world.start(1);
        world.tell(Event::Spawned { worker, pid: 100 });
        let error = transport::Error::Closed;
        world.transport(transport::Event::Lost { error, again_in: Duration::from_secs(1) });
        world.transport(transport::Event::Attached { session: 2 });
        assert!(settled(&world.deliver(2, true)).is_empty());
        let actions = world.tell(Event::Exited { worker, ended: ended(0, "") });
        assert_eq!(settled(&actions), [(2, &Settlement::Done { submit: Vec::new() })]);
        // The place is open for the next one, under another number.
        assert_ne!(world.start(3), worker);
    }

    #[test]
    fn what_cannot_be_started_goes_back_each_time_until_the_queue_is_parked() {
        let mut world = World::new(true);
        for handle in 1..=5 {
            let worker = world.start(handle);
            let actions = world.tell(Event::SpawnFailed { worker, error: "no such program".to_owned() });
            assert_eq!(settled(&actions), [(handle, &Settlement::Release)]);
            world.transport(transport::Event::Settled(vec![Handle(handle)]));
            // Its only place is shut.
            assert!(asked(&actions, 0), "{actions:?}");
            assert_eq!(world.core.queue_state(0) == "parked", handle == 5);
            if handle < 5 {
                assert!(asked(&world.wait(), 1));
            }
        }
        // One is tried after the pause.
        assert!((0..20).any(|_| asked(&world.wait(), 1)), "the pause never ends");
        let worker = world.start(6);
        world.tell(Event::Spawned { worker, pid: 100 });
        let actions = world.tell(Event::Exited { worker, ended: ended(0, "") });
        assert_eq!(settled(&actions), [(6, &Settlement::Done { submit: Vec::new() })]);
        world.start(7);
    }

    #[test]
    fn what_a_wrapper_cannot_execute_is_a_failed_start() {
        let mut world = World::new(true);
        for handle in 1..=5 {
            let worker = world.start(handle);
            world.tell(Event::Spawned { worker, pid: 100 });
            let code = if handle % 2 == 0 { 126 } else { 127 };
            let actions = world.tell(Event::Exited { worker, ended: ended(code, "env: no such file\n") });
            // It waits, though it is the only one: another one may come.
            assert_eq!(settled(&actions), [(handle, &Settlement::Snooze { after: ASIDE, memo: None })]);
            world.transport(transport::Event::Settled(vec![Handle(handle)]));
            // Its only place is shut.
            assert!(asked(&actions, 0), "{actions:?}");
            assert_eq!(world.core.queue_state(0) == "parked", handle == 5);
            if handle < 5 {
                assert!(asked(&world.wait(), 1));
            }
        }
        let said = not_executed(&ended(127, "env: no such file\n\n"));
        assert_eq!(said.unwrap(), "a program was not found (exit status 127): env: no such file");
        assert_eq!(not_executed(&ended(125, "")), None);
    }

    #[test]
    fn a_stop_ends_although_the_process_is_deaf() {
        let mut world = World::new(false);
        let worker = world.start(1);
        world.tell(Event::Spawned { worker, pid: 100 });
        world.tell(Event::StopAsked);
        let actions = world.tell(Event::StopAsked);
        assert!(matches!(actions[..], [Action::Signal { signal: super::super::event::Signal::Terminate, .. }]));
        let actions = world.wait();
        assert!(
            matches!(actions[..], [Action::Signal { signal: super::super::event::Signal::Kill, .. }]),
            "{actions:?}"
        );
        let exit = Exit::Signal { signal: "SIGKILL".to_owned(), core_dumped: false };
        let actions = world.tell(Event::Exited { worker, ended: Ended { exit, ..ended(0, "") } });
        assert_eq!(settled(&actions), [(1, &Settlement::Release)]);
        let actions = world.transport(transport::Event::Settled(vec![Handle(1)]));
        assert!(matches!(actions[..], [Action::Halt { code: Code::Interrupted, .. }]), "{actions:?}");
    }

    #[test]
    fn a_stop_without_a_task_ends_at_once() {
        let mut world = World::new(false);
        let actions = world.tell(Event::StopAsked);
        assert!(actions.iter().any(|action| matches!(action, Action::Halt { code: Code::Ok, .. })), "{actions:?}");
    }
}
