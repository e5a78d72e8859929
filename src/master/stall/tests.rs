//! In halt mode a transport that stores nothing ends the run; in service mode it is waited for.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::{Instant, Now},
    config::Queue,
    error::Code,
    frames::{FromWorker, PROTOCOL, Ready, Wants},
    logging::Level,
    master::{
        Core,
        event::{Action, Ended, Event, Plan, QueuePlan, WorkerId},
    },
    outcome::Outcome,
    task::{Accepts, Delivery, Exit, Handle, QueueIndex, Settlement, Task},
    transport,
};

const WORKER: WorkerId = WorkerId { slot: 0, life: 1 };

/// A core with one worker that is ready.
fn begun(halt_when_empty: bool) -> Core {
    let settings = Queue::new("foo", "kind");
    let queue = QueuePlan { settings, accepts: Accepts::Json, is_program: true, is_once: false, launch: 0 };
    let mut core = Core::new(Plan { halt_when_empty, ..Plan::of(vec![queue]) });
    let ready = Ready { protocol: PROTOCOL, name: None, concurrency: 1, ahead: 0, wants: Wants::default() };
    at(&mut core, 0, Event::Begun);
    at(&mut core, 0, Event::Transport(transport::Event::Attached { session: 1 }));
    at(&mut core, 0, Event::Said { worker: WORKER, frame: FromWorker::Ready(ready) });
    core
}

fn at(core: &mut Core, seconds: u64, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    let now = Now { at: Instant::from_start(Duration::from_secs(seconds)), ..Now::default() };
    core.handle(now, event, &mut actions);
    actions
}

fn stalled() -> Event {
    let error = transport::Error::File { path: "a.db".to_owned(), cause: "the disk is full".to_owned() };
    Event::Transport(transport::Event::Stalled(error))
}

/// How the run ends once its worker has, if it does.
fn end(core: &mut Core, seconds: u64) -> Option<(Code, String)> {
    let mut actions = at(core, seconds, Event::DeadlinePassed);
    let ended = Ended {
        exit: Exit::Code { code: 0 },
        max_rss_bytes: None,
        cpu_seconds: None,
        oom: None,
        output_tail: String::new(),
        unread: false,
    };
    actions.extend(at(core, seconds, Event::Exited { worker: WORKER, ended }));
    actions.extend(at(core, seconds + 10, Event::DeadlinePassed));
    actions.into_iter().find_map(|action| match action {
        Action::Halt { code, error } => Some((code, error.unwrap_or_default())),
        _ => None,
    })
}

/// A task that was done, and whose settlement is owed.
fn owe(core: &mut Core, seconds: u64, number: u64) {
    let task = Arc::new(Task { id: number.to_string(), body: b"1".to_vec(), ..Task::default() });
    let delivery =
        Delivery { handle: Handle(number), queue: QueueIndex(0), task, redelivered: false, identity: Some(number) };
    at(core, seconds, Event::Transport(transport::Event::Delivered(vec![delivery])));
    let outcome = Outcome::Done { submit: Vec::new() };
    let frame = FromWorker::Outcome { id: number.to_string(), outcome };
    let actions = at(core, seconds, Event::Said { worker: WORKER, frame });
    assert!(actions.iter().any(|action| matches!(action, Action::Settle { settlement: Settlement::Done { .. }, .. })));
}

#[test]
fn a_run_that_is_to_halt_ends_when_nothing_was_stored_for_thirty_seconds() {
    let mut core = begun(true);
    at(&mut core, 5, stalled());
    // Told once more, and looked at in between: the limit counts from the beginning.
    at(&mut core, 20, stalled());
    assert!(core.next_deadline().is_some_and(|at| at.since_start() <= Duration::from_secs(35)));
    // The survey, and no end.
    let before = at(&mut core, 34, Event::DeadlinePassed);
    assert!(!before.iter().any(|action| matches!(action, Action::Log { level: Level::Error, .. })), "{before:?}");
    assert_eq!(core.next_deadline().map(Instant::since_start), Some(Duration::from_secs(35)));
    let (ended, error) = end(&mut core, 35).expect("an end");
    assert_eq!(
        (ended, error.as_str()),
        (Code::Unavailable, "the transport has stored nothing for 30 s: a.db: the disk is full")
    );
}

#[test]
fn one_that_goes_on_again_does_not() {
    let mut core = begun(true);
    at(&mut core, 5, stalled());
    at(&mut core, 34, Event::Transport(transport::Event::Resumed));
    at(&mut core, 35, Event::DeadlinePassed);
    at(&mut core, 70, stalled());
    // Looked at again after ten seconds.
    assert!(end(&mut core, 89).is_none());
}

#[test]
fn a_master_that_serves_waits_and_says_so() {
    let mut core = begun(false);
    at(&mut core, 5, stalled());
    at(&mut core, 300, Event::DeadlinePassed);
    let command = Event::Commanded { number: 1, command: crate::control::types::Command::Health {}, by: String::new() };
    let health = format!("{:?}", at(&mut core, 300, command));
    assert!(health.contains("nothing can be stored: a.db: the disk is full"), "{health}");
    at(&mut core, 301, Event::Transport(transport::Event::Resumed));
}

#[test]
fn settlements_that_nobody_confirms_count_from_the_last_answer() {
    let mut core = begun(true);
    owe(&mut core, 10, 1);
    at(&mut core, 20, Event::Transport(transport::Event::Settled(vec![Handle(1)])));
    owe(&mut core, 20, 2);
    owe(&mut core, 25, 3);
    at(&mut core, 30, Event::Transport(transport::Event::Settled(vec![Handle(2)])));
    at(&mut core, 50, Event::DeadlinePassed);
    assert_eq!(core.next_deadline().map(Instant::since_start), Some(Duration::from_mins(1)));
    let (ended, error) = end(&mut core, 60).expect("an end");
    assert_eq!((ended, error.as_str()), (Code::Unavailable, "the transport has stored nothing for 30 s"));
}
