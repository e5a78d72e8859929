//! Names that are reserved after a reload which the transport did not perform.

use std::time::Duration;

use crate::{
    config::{Names, Queue, Supervisor},
    control::types::{Answer, Command},
    frames::FromWorker,
    master::{
        Core,
        core::{
            event::{Action, Event, Plan, QueuePlan, Settings},
            fixture::{WORKER, attached, delivered, delivery, ready, tell_at},
        },
    },
    outcome::{FollowUp, Report, Target},
    task::{QueueIndex, Settlement},
    transport::{self, DeadQueue},
};

fn tell(core: &mut Core, event: Event) -> Vec<Action> {
    tell_at(core, Duration::ZERO, event)
}

/// The settings are read, and have these queues.
fn read(queues: Vec<QueuePlan>) -> Event {
    let (supervisor, names) = (Supervisor::default(), Names::default());
    let settings = Box::new(Settings { queues, supervisor, scheduler: false, names, pipelines: Vec::new() });
    Event::SettingsRead { number: None, wait: false, by: String::new(), settings }
}

/// Whether a follow-up to this queue is accepted.
fn may_submit(core: &mut Core, number: u64, to: &str) -> bool {
    tell(core, delivered(delivery(number, Some(number))));
    let submit =
        vec![FollowUp { target: Target::Queue(to.to_owned()), payload: Box::default(), delay: Duration::ZERO }];
    let (id, outcome) = (number.to_string(), Report::Done { submit, given: None });
    let actions = tell(core, Event::Said { worker: WORKER, frame: FromWorker::Outcome { id, outcome } });
    let is_done = |action: &Action| matches!(action, Action::Settle { settlement: Settlement::Done { .. }, .. });
    actions.iter().any(is_done)
}

#[test]
fn a_dead_letter_queue_that_stays_in_use_stays_reserved() {
    let plan = |dead: &str| QueuePlan::of(Queue { dead_letter: DeadQueue::of(dead), ..Queue::new("foo", "kind") });
    let mut core = Core::new(Plan::of(vec![plan("old")]));
    for event in [Event::Begun, attached(1), ready(WORKER, 1)] {
        tell(&mut core, event);
    }
    assert!(!may_submit(&mut core, 1, "old_failed") && may_submit(&mut core, 2, "new_failed"));
    tell(&mut core, read(vec![plan("new")]));
    assert!(may_submit(&mut core, 3, "old_failed") && !may_submit(&mut core, 4, "new_failed"));
    let (queue, error) = (QueueIndex(0), transport::Error::Closed);
    tell(&mut core, Event::Transport(transport::Event::QueueRefused { queue, error }));
    assert!(!may_submit(&mut core, 5, "old_failed"), "its dead letters go there as before");
    assert!(may_submit(&mut core, 6, "new_failed"), "nothing of the kind was made");
}

#[test]
fn a_queue_that_cannot_be_worked_any_more_when_it_was_let_go_is_not_taken_for_available_when_it_is_wanted_again() {
    let plan = |name| QueuePlan::of(Queue::new(name, "kind"));
    let mut core = Core::new(Plan::of(vec![plan("foo"), plan("bar")]));
    for event in [Event::Begun, attached(1), ready(WORKER, 1), delivered(delivery(1, Some(1)))] {
        tell(&mut core, event);
    }
    tell(&mut core, read(vec![plan("bar")]));
    let (queue, error, again_in) = (QueueIndex(0), transport::Error::Closed, Duration::from_secs(1));
    let void = Vec::new();
    tell(&mut core, Event::Transport(transport::Event::QueueUnavailable { queue, error, again_in, void }));
    tell(&mut core, read(vec![plan("foo"), plan("bar")]));
    let by = String::new();
    let actions = tell(&mut core, Event::Commanded { number: 1, command: Command::Health {}, by });
    let says_so = |action: &Action| {
        matches!(action, Action::Answer { answer: Answer::Done(health), .. }
            if health.to_string().contains("queue foo is unavailable"))
    };
    assert!(actions.iter().any(says_so), "{actions:?}");
}
