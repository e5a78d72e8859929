//! In halt mode a transport that stores nothing ends the run; in service mode it is waited for.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Instant,
    config::Queue,
    exit_code::Code,
    frames::FromWorker,
    logging::Level,
    master::{
        Core,
        core::{
            event::{Action, Ended, Event, Plan, QueuePlan},
            fixture::{WORKER, attached, delivered, delivery, ready, tell_at},
        },
    },
    outcome::Report,
    task::{Delivery, Exit, Handle, QueueIndex, Settlement, Task},
    transport,
};

/// A core with one worker that is ready.
fn begun(halt_when_empty: bool) -> Core {
    let settings = Queue::new("foo", "kind");
    let queue = QueuePlan::of(settings);
    let mut core = Core::new(Plan { halt_when_empty, ..Plan::of(vec![queue]) });
    at(&mut core, 0, Event::Begun);
    at(&mut core, 0, attached(1));
    at(&mut core, 0, ready(WORKER, 1));
    core
}

fn at(core: &mut Core, seconds: u64, event: Event) -> Vec<Action> {
    tell_at(core, Duration::from_secs(seconds), event)
}

fn stalled() -> Event {
    let error = transport::Error::File { path: "a.db".to_owned(), cause: "the disk is full".to_owned() };
    Event::Transport(transport::Event::Stalled(error))
}

/// How the run ends once its worker has, if it does.
fn end(core: &mut Core, seconds: u64) -> Option<(Code, String)> {
    let mut actions = at(core, seconds, Event::DeadlinePassed);
    let ended = Ended::of(Exit::Code { code: 0 });
    actions.extend(at(core, seconds, Event::Exited { worker: WORKER, ended }));
    actions.extend(at(core, seconds + 2, Event::DeadlinePassed));
    if matches!(actions.last(), Some(Action::Close)) {
        actions.extend(at(core, seconds + 3, Event::Closed));
    }
    actions.into_iter().find_map(|action| match action {
        Action::Halt { code, error } => Some((code, error.unwrap_or_default())),
        _ => None,
    })
}

/// A task that was done, and whose settlement is owed.
fn leave_unanswered(core: &mut Core, seconds: u64, number: u64) {
    at(core, seconds, delivered(delivery(number, Some(number))));
    let outcome = Report::DONE;
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
    leave_unanswered(&mut core, 10, 1);
    at(&mut core, 20, Event::Transport(transport::Event::Settled(vec![Handle(1)])));
    leave_unanswered(&mut core, 20, 2);
    leave_unanswered(&mut core, 25, 3);
    at(&mut core, 30, Event::Transport(transport::Event::Settled(vec![Handle(2)])));
    at(&mut core, 50, Event::DeadlinePassed);
    assert_eq!(core.next_deadline().map(Instant::since_start), Some(Duration::from_mins(1)));
    let (ended, error) = end(&mut core, 60).expect("an end");
    assert_eq!((ended, error.as_str()), (Code::Unavailable, "the transport has stored nothing for 30 s"));
}

/// A core that is asked for a stop while outcomes are owed, and whose worker has ended.
fn stopped(pending: u64) -> Core {
    let mut core = begun(false);
    (1..=pending).for_each(|number| leave_unanswered(&mut core, 10, number));
    at(&mut core, 20, Event::StopAsked);
    assert!(ended(&mut core, 20).is_none(), "what is owed is waited for");
    core
}

/// The worker ends.
fn ended(core: &mut Core, seconds: u64) -> Option<Action> {
    let ended = Ended::of(Exit::Code { code: 0 });
    at(core, seconds, Event::Exited { worker: WORKER, ended }).pop()
}

#[test]
fn a_stop_waits_for_what_is_owed_as_long_as_the_grace_goes_and_says_what_is_lost() {
    let mut core = stopped(2);
    let before = at(&mut core, 49, Event::DeadlinePassed);
    assert!(before.is_empty(), "{before:?}");
    let actions = at(&mut core, 50, Event::DeadlinePassed);
    assert!(matches!(actions[..], [Action::Close]), "{actions:?}");
    // The transport has stored one of them while it was closed.
    at(&mut core, 51, Event::Transport(transport::Event::Settled(vec![Handle(2)])));
    let actions = at(&mut core, 51, Event::Closed);
    let text = "1 outcome could not be stored; its task will be done again";
    assert!(
        matches!(&actions[..], [Action::Log { level: Level::Error, message, .. }, .., Action::Halt { code: Code::Interrupted, error: Some(error) }]
            if message == text && error == text),
        "{actions:?}"
    );
}

#[test]
fn a_stop_is_over_at_once_when_all_is_stored_or_a_person_does_not_want_to_wait() {
    let mut core = stopped(1);
    let actions = at(&mut core, 21, Event::Transport(transport::Event::Settled(vec![Handle(1)])));
    assert!(matches!(actions.last(), Some(Action::Halt { code: Code::Ok, error: None })), "{actions:?}");
    let mut core = stopped(3);
    at(&mut core, 21, Event::StopAsked);
    let actions = at(&mut core, 22, Event::StopAsked);
    assert!(matches!(actions[..], [Action::Close]), "{actions:?}");
    let actions = at(&mut core, 22, Event::Closed);
    let text = "3 outcomes could not be stored; their tasks will be done again";
    assert!(matches!(actions.last(), Some(Action::Halt { error: Some(error), .. }) if error == text), "{actions:?}");
}

#[test]
fn outcomes_of_a_session_that_is_lost_at_the_stop_are_lost() {
    let settings = Queue::new("foo", "kind");
    let queue = QueuePlan::of(settings);
    let remember = Some(Duration::from_secs(40));
    for (back_at, lost) in [(None, 1), (Some(12), 1), (Some(9), 0)] {
        let mut core = Core::new(Plan { remember, ..Plan::of(vec![queue.clone()]) });
        let lost_session = transport::Event::Lost { error: transport::Error::Closed, again_in: Duration::ZERO };
        at(&mut core, 0, Event::Begun);
        at(&mut core, 0, attached(1));
        at(&mut core, 0, ready(WORKER, 1));
        let task = Arc::new(Task { id: "a".to_owned(), body: b"1".to_vec(), ..Task::default() });
        let delivery =
            Delivery { handle: Handle(1), queue: QueueIndex(0), task, redelivered: false, identity: Some(7) };
        at(&mut core, 1, Event::Transport(transport::Event::Delivered(vec![delivery])));
        at(&mut core, 2, Event::Transport(lost_session));
        let outcome = Report::DONE;
        at(&mut core, 3, Event::Said { worker: WORKER, frame: FromWorker::Outcome { id: "a".to_owned(), outcome } });
        if let Some(back_at) = back_at {
            at(&mut core, back_at, Event::Transport(transport::Event::Attached { session: 2 }));
        }
        at(&mut core, 20, Event::StopAsked);
        let mut last = ended(&mut core, 20);
        if lost > 0 {
            assert!(matches!(last, Some(Action::Close)), "{last:?}");
            last = at(&mut core, 20, Event::Closed).pop();
        }
        let Some(Action::Halt { code, error }) = last else { panic!("{last:?}") };
        assert_eq!((code, error.is_some()), if lost > 0 { (Code::Interrupted, true) } else { (Code::Ok, false) });
    }
}
