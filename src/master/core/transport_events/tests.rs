//! A task that is done and whose follow-ups can never be stored: it is counted and reported as one that failed. A task that
//! comes again and is not counted yet: known here or not.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Queue,
    frames::FromWorker,
    master::{
        Core,
        core::{
            event::{Action, Event, Plan, QueuePlan},
            fixture::{WORKER, attached, delivered, delivery, ready, tell_at},
        },
    },
    outcome::{FollowUp, Report, Target},
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport,
};

fn tell(core: &mut Core, event: Event) -> Vec<Action> {
    tell_at(core, Duration::ZERO, event)
}

#[test]
fn what_cannot_go_on_was_not_done() {
    let mut settings = Queue::new("foo", "kind");
    settings.retry.max_attempts = 1;
    let queue = QueuePlan::of(settings);
    let mut core = Core::new(Plan { remember: Some(Duration::from_secs(40)), ..Plan::of(vec![queue]) });
    core.tell_ends();
    let task = Arc::new(Task { id: "a".to_owned(), body: b"1".to_vec(), ..Task::default() });
    let handle = Handle(1);
    let (queue, identity) = (QueueIndex(0), Some(7));
    let delivery = Delivery { handle, queue, task: Arc::clone(&task), redelivered: false, identity };
    let submit =
        vec![FollowUp { target: Target::Queue("bar".to_owned()), payload: Box::default(), delay: Duration::ZERO }];
    for event in
        [Event::Begun, attached(1), ready(WORKER, 1), Event::Transport(transport::Event::Delivered(vec![delivery]))]
    {
        tell(&mut core, event);
    }
    let outcome = FromWorker::Outcome { id: "a".to_owned(), outcome: Report::Done { submit, given: None } };
    let actions = tell(&mut core, Event::Said { worker: WORKER, frame: outcome });
    assert!(actions.iter().any(|action| matches!(action, Action::TaskEnded { failure: None, .. })), "{actions:?}");
    assert_eq!((core.tally().processed, core.pools[0].done(), core.slots[0].done), (1, 1, 1));

    let error = transport::Error::Closed;
    let actions = tell(&mut core, Event::Transport(transport::Event::Unstorable { handle, queue, task, error }));
    let ends: Vec<&Action> = actions.iter().filter(|action| !matches!(action, Action::Log { .. })).collect();
    assert!(
        matches!(ends[..], [Action::TaskReopened { .. }, Action::Settle { settlement: Settlement::Dead(_), .. }, ..]),
        "{ends:?}"
    );
    let tally = core.tally();
    assert_eq!((tally.processed, tally.failed, tally.dead_lettered), (0, 1, 0), "it is not a dead letter yet");
    let actions = tell(&mut core, Event::Transport(transport::Event::Stored(handle)));
    assert!(actions.iter().any(|action| matches!(action, Action::TaskEnded { failure: Some(_), .. })), "{actions:?}");
    assert_eq!(core.tally().dead_lettered, 1);
    assert_eq!((core.pools[0].done(), core.slots[0].done, core.slots[0].failed), (0, 0, 1));
    let counts = &core.pools[0].counts;
    assert_eq!((counts.done, counts.ran.count()), (1, 1), "one run, which is not counted a second time");
}

/// What is to be said of a settlement is let go with it, in whichever way that ends.
#[test]
fn what_is_to_be_said_is_kept_no_longer_than_its_settlement() {
    let mut settings = Queue::new("foo", "kind");
    settings.retry.max_attempts = 1;
    let queue = QueuePlan::of(settings);
    let mut core = Core::new(Plan { remember: Some(Duration::from_secs(40)), ..Plan::of(vec![queue]) });
    for event in [Event::Begun, attached(1), ready(WORKER, 1)] {
        tell(&mut core, event);
    }
    let fail = |core: &mut Core, number: u64| {
        tell(core, delivered(delivery(number, Some(number))));
        let (id, handle) = (number.to_string(), Handle(number));
        let outcome = Report::DeadLetter { error: "no".to_owned(), detail: String::new(), memo: None };
        tell(core, Event::Said { worker: WORKER, frame: FromWorker::Outcome { id, outcome } });
        assert_eq!(core.notes.len(), 1, "a dead letter is said once it is stored");
        handle
    };
    // Another master had taken it back: settled, and nothing of it stored.
    let handle = fail(&mut core, 1);
    tell(&mut core, Event::Transport(transport::Event::Settled(vec![handle])));
    assert_eq!(core.notes.len(), 0, "settled");
    let handle = fail(&mut core, 2);
    let (queue, error, again_in) = (QueueIndex(0), transport::Error::Closed, Duration::from_secs(1));
    let event = transport::Event::QueueUnavailable { queue, error, again_in, void: vec![handle] };
    tell(&mut core, Event::Transport(event));
    assert_eq!(core.notes.len(), 0, "its queue is unavailable");
    assert_eq!(core.tally().dead_lettered, 0);
}

/// The settlements among these actions.
fn settled(actions: Vec<Action>) -> Vec<(u64, Settlement)> {
    let settlement = |action| match action {
        Action::Settle { handle, settlement } => Some((handle.0, settlement)),
        _ => None,
    };
    actions.into_iter().filter_map(settlement).collect()
}

/// The answer to an acceptance looks like that to the settlement which follows it, and is not taken for it.
#[test]
fn what_is_to_be_stored_of_an_accepted_task_is_at_risk_until_it_is_answered_itself() {
    let mut settings = Queue::new("foo", "kind");
    settings.retry.max_attempts = 2;
    let queue = QueuePlan::of(settings);
    let mut core = Core::new(Plan { remember: Some(Duration::from_secs(40)), ..Plan::of(vec![queue]) });
    let said = |core: &mut Core, frame| tell(core, Event::Said { worker: WORKER, frame });
    let told = |core: &mut Core, event| tell(core, Event::Transport(event));
    for event in [Event::Begun, attached(1), ready(WORKER, 1), delivered(delivery(1, Some(7)))] {
        tell(&mut core, event);
    }
    let (id, handle) = ("1".to_owned(), Handle(1));
    assert_eq!(settled(said(&mut core, FromWorker::Accept { id: id.clone() })), [(1, Settlement::Accept)]);
    assert_eq!(core.loss(), None, "its worker has it");
    let outcome = Report::error("no".to_owned());
    said(&mut core, FromWorker::Outcome { id, outcome });
    let lost = Some("1 outcome of a task that was accepted could not be stored, and is lost".to_owned());
    assert_eq!(core.loss(), lost);
    told(&mut core, transport::Event::Settled(vec![handle]));
    assert_eq!((core.loss(), core.all_settled()), (lost, false), "this was the answer to the acceptance");
    told(&mut core, transport::Event::Stored(handle));
    told(&mut core, transport::Event::Settled(vec![handle]));
    assert_eq!((core.loss(), core.all_settled(), core.tally().retried), (None, true, 1));
}

/// A copy may be confirmed before the acceptance of its original is answered.
#[test]
fn what_is_stored_of_an_accepted_task_is_not_lost_with_the_session() {
    let queue = QueuePlan::of(Queue::new("foo", "kind"));
    let mut core = Core::new(Plan { remember: Some(Duration::from_secs(40)), ..Plan::of(vec![queue]) });
    let told = |core: &mut Core, event| tell(core, Event::Transport(event));
    for event in [Event::Begun, attached(1), ready(WORKER, 1), delivered(delivery(1, Some(7)))] {
        tell(&mut core, event);
    }
    let (id, handle) = ("1".to_owned(), Handle(1));
    tell(&mut core, Event::Said { worker: WORKER, frame: FromWorker::Accept { id: id.clone() } });
    let outcome = Report::error("no".to_owned());
    tell(&mut core, Event::Said { worker: WORKER, frame: FromWorker::Outcome { id, outcome } });
    assert!(core.loss().is_some());
    told(&mut core, transport::Event::Stored(handle));
    assert_eq!((core.loss(), core.all_settled()), (None, false));
    told(&mut core, transport::Event::Settled(vec![handle]));
    assert_eq!((core.loss(), core.all_settled()), (None, false), "this was the answer to the acceptance");
    tell(&mut core, Event::StopAsked);
    told(&mut core, transport::Event::Lost { error: transport::Error::Closed, again_in: Duration::ZERO });
    assert_eq!(core.loss(), None);
}

#[test]
fn what_came_again_uncounted_is_compared_first() {
    let queue = QueuePlan::of(Queue::new("foo", "kind"));
    let mut core = Core::new(Plan { remember: Some(Duration::from_secs(40)), ..Plan::of(vec![queue]) });
    let task = Arc::new(Task { id: "a".to_owned(), body: b"1".to_vec(), ..Task::default() });
    let delivery = |handle, redelivered, identity| Delivery {
        handle: Handle(handle),
        queue: QueueIndex(0),
        task: Arc::clone(&task),
        redelivered,
        identity,
    };
    let told = |core: &mut Core, event| settled(tell(core, Event::Transport(event)));
    let lost = || transport::Event::Lost { error: transport::Error::Closed, again_in: Duration::ZERO };
    let again = |handle, identity| transport::Event::CameAgain(vec![delivery(handle, true, identity)]);
    tell(&mut core, Event::Begun);
    told(&mut core, transport::Event::Attached { session: 1 });
    tell(&mut core, ready(WORKER, 1));
    assert_eq!(told(&mut core, transport::Event::Delivered(vec![delivery(1, false, Some(7))])), []);
    // In hand: it takes the new handle. What nobody knows goes on its way, with or without a name.
    told(&mut core, lost());
    told(&mut core, transport::Event::Attached { session: 2 });
    assert_eq!(told(&mut core, again(2, Some(7))), []);
    assert_eq!(told(&mut core, again(3, Some(8))), [(3, Settlement::Pass)]);
    assert_eq!(told(&mut core, again(4, None)), [(4, Settlement::Pass)]);
    told(&mut core, lost());
    let outcome = FromWorker::Outcome { id: "a".to_owned(), outcome: Report::DONE };
    assert_eq!(settled(tell(&mut core, Event::Said { worker: WORKER, frame: outcome })), []);
    // Ended meanwhile.
    told(&mut core, transport::Event::Attached { session: 3 });
    assert_eq!(told(&mut core, again(5, Some(7))), [(5, Settlement::Done { submit: Vec::new() })]);
    assert_eq!(core.tally().processed, 1);
}

#[test]
fn what_was_settled_ages_again_when_a_lost_queue_is_not_opened_any_more() {
    let queue = |name| {
        let settings = Queue::new(name, "kind");
        QueuePlan::of(settings)
    };
    let lost = |queue| {
        let (error, again_in) = (transport::Error::Closed, Duration::ZERO);
        Event::Transport(transport::Event::QueueUnavailable { queue, error, again_in, void: vec![Handle(1)] })
    };
    for stops in [false, true] {
        let plan = Plan { remember: Some(Duration::from_secs(40)), ..Plan::of(vec![queue("foo"), queue("bar")]) };
        let mut core = Core::new(plan);
        let task = Arc::new(Task { id: "a".to_owned(), body: b"1".to_vec(), ..Task::default() });
        let (handle, lost_queue, identity) = (Handle(1), QueueIndex(1), Some(7));
        tell(&mut core, Event::Begun);
        tell(&mut core, attached(1));
        let delivery = Delivery { handle, queue: lost_queue, task, redelivered: false, identity };
        tell_at(&mut core, Duration::from_secs(1), delivered(delivery));
        if stops {
            tell(&mut core, Event::StopAsked);
        }
        tell(&mut core, lost(lost_queue));
        let ages = |core: &Core| core.memory.as_ref().unwrap().ages();
        assert_eq!(ages(&core), stops, "as long as it is to be opened again, all is kept");
        if !stops {
            tell(&mut core, Event::Transport(transport::Event::QueueAdded { queue: lost_queue }));
            assert!(ages(&core));
        }
    }
}
