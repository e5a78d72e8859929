//! Names that are reserved after a reload which the transport did not perform.

use std::time::Duration;

use crate::{
    config::{Names, Queue, Supervisor},
    frames::FromWorker,
    master::{
        Core,
        core::{
            event::{Action, Event, Plan, QueuePlan, Settings},
            fixture::{WORKER, attached, delivered, delivery, ready, tell_at},
        },
    },
    outcome::{FollowUp, Report},
    task::{QueueIndex, Settlement},
    transport::{self, DeadQueue},
};

fn tell(core: &mut Core, event: Event) -> Vec<Action> {
    tell_at(core, Duration::ZERO, event)
}

/// Whether a follow-up to this queue is accepted.
fn may_submit(core: &mut Core, number: u64, to: &str) -> bool {
    tell(core, delivered(delivery(number, Some(number))));
    let submit = vec![FollowUp { queue: to.to_owned(), payload: Box::default(), delay: Duration::ZERO }];
    let (id, outcome) = (number.to_string(), Report::Done { submit });
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
    let settings = Settings {
        queues: vec![plan("new")],
        supervisor: Supervisor::default(),
        scheduler: false,
        names: Names::default(),
    };
    let (number, wait, by) = (None, false, String::new());
    tell(&mut core, Event::SettingsRead { number, wait, by, settings: Box::new(settings) });
    assert!(may_submit(&mut core, 3, "old_failed") && !may_submit(&mut core, 4, "new_failed"));
    let (queue, error) = (QueueIndex(0), transport::Error::Closed);
    tell(&mut core, Event::Transport(transport::Event::QueueRefused { queue, error }));
    assert!(!may_submit(&mut core, 5, "old_failed"), "its dead letters go there as before");
    assert!(may_submit(&mut core, 6, "new_failed"), "nothing of the kind was made");
}
