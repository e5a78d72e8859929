//! Keys that are asked for: how many at once, and what becomes of what waits for the answers.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Queue,
    master::{
        Core,
        core::{
            event::{Action, Event, Plan, QueuePlan},
            fixture::{WORKER, ready, tell_at},
        },
    },
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport,
    unique::{Conflict, Template, Unique},
};

fn tell(core: &mut Core, event: Event) -> Vec<Action> {
    tell_at(core, Duration::ZERO, event)
}

fn told(core: &mut Core, event: transport::Event) -> Vec<Action> {
    tell(core, Event::Transport(event))
}

/// One process with so many seats.
fn core(seats: u32) -> Core {
    let mut settings = Queue::new("foo", "kind");
    settings.concurrency = seats;
    let key = Template::parse("{payload}").unwrap();
    settings.unique = Some(Unique { key, conflict: Conflict::Snooze, after: Duration::from_secs(1) });
    let queue = QueuePlan::of(settings);
    let mut core = Core::new(Plan::of(vec![queue]));
    tell(&mut core, Event::Begun);
    told(&mut core, transport::Event::Attached { session: 1 });
    tell(&mut core, ready(WORKER, seats));
    core
}

fn deliver(core: &mut Core, tasks: u64) -> Vec<u64> {
    let delivery = |number: u64| Delivery {
        handle: Handle(number),
        queue: QueueIndex(0),
        task: Arc::new(Task { id: number.to_string(), body: number.to_string().into_bytes(), ..Task::default() }),
        redelivered: false,
        identity: None,
    };
    let actions = told(core, transport::Event::Delivered((1..=tasks).map(delivery).collect()));
    let asked = |action: Action| match action {
        Action::Lock { handle, .. } => Some(handle.0),
        _ => None,
    };
    actions.into_iter().filter_map(asked).collect()
}

#[test]
fn a_key_is_requested_each_free_seat() {
    let mut core = core(3);
    assert_eq!(deliver(&mut core, 5), [1, 2, 3]);
    // An answer begins one, and so leaves as many seats as there are others asked for.
    let actions = told(&mut core, transport::Event::Locked { handle: Handle(2), held_by: None });
    assert!(matches!(actions[..], [Action::Send { .. }]), "{actions:?}");
    // One that gives way leaves a seat for the next.
    let held_by = Some("another".to_owned());
    let actions = told(&mut core, transport::Event::Locked { handle: Handle(1), held_by });
    let next = actions.iter().any(|action| matches!(action, Action::Lock { handle: Handle(4), .. }));
    assert!(next, "{actions:?}");
    assert_eq!(core.pools[0].waiting.len(), 3, "two that wait for answers, and one for a seat");
}

#[test]
fn what_waits_for_an_answer_is_given_back_with_the_others() {
    let mut core = core(2);
    assert_eq!(deliver(&mut core, 3), [1, 2]);
    let actions = tell(&mut core, Event::StopAsked);
    let released = |action: &Action| match action {
        Action::Settle { handle, settlement: Settlement::Release } => Some(handle.0),
        _ => None,
    };
    assert_eq!(actions.iter().filter_map(released).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(core.pools[0].waiting.is_empty() && core.locks.asked() == 0);
    // The answer that was under way is for nobody.
    let actions = told(&mut core, transport::Event::Locked { handle: Handle(1), held_by: None });
    assert!(!actions.iter().any(|action| matches!(action, Action::Send { .. })), "{actions:?}");
}
