//! A limit over all queues: who gets a place, and when.

use std::{sync::Arc, time::Duration};

use super::LOGGED_PAYLOAD;
use crate::{
    config::Queue,
    frames::FromWorker,
    logging::Level,
    master::{
        Core,
        core::{
            event::{Action, Event, Plan, QueuePlan, WorkerId},
            fixture::{attached, delivered, delivery, ready, tell_at},
        },
    },
    outcome::Report,
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport,
};

struct World {
    core: Core,
    at: Duration,
    last: u64,
    /// Tasks in workers' hands: queue, worker, id.
    in_flight: Vec<(usize, WorkerId, String)>,
}

impl World {
    fn new(queues: usize, most: usize) -> Self {
        Self::with(queues, most, 0)
    }

    /// The first so many queues have a process for each task.
    fn with(queues: usize, most: usize, once: usize) -> Self {
        let queue = |number: usize| QueuePlan {
            is_once: number < once,
            ..QueuePlan::of(Queue::new(&format!("q{number}"), "kind"))
        };
        let plan = Plan { max_in_hand: Some(most), ..Plan::of((0..queues).map(queue).collect()) };
        let mut world = Self { core: Core::new(plan), at: Duration::ZERO, last: 0, in_flight: Vec::new() };
        world.tell(Event::Begun);
        world.tell(attached(1));
        for slot in once..queues {
            world.tell(ready(WorkerId { slot, life: 1 }, 1));
        }
        world
    }

    /// The queues of the tasks that were handed out.
    fn tell(&mut self, event: Event) -> Vec<usize> {
        let actions = tell_at(&mut self.core, self.at, event);
        let mut begun = Vec::new();
        for action in actions {
            match action {
                Action::Send { worker, frame } => {
                    let frame: serde_json::Value = serde_json::from_slice(&frame).unwrap();
                    let id = frame["task"]["id"].as_str().unwrap().to_owned();
                    self.in_flight.push((worker.slot, worker, id));
                    begun.push(worker.slot);
                }
                Action::Settle { handle, settlement: Settlement::Done { .. } } => {
                    self.tell(Event::Transport(transport::Event::Settled(vec![handle])));
                }
                Action::SpawnOnce { worker, once, .. } => {
                    self.in_flight.push((worker.slot, worker, once.id));
                    begun.push(worker.slot);
                }
                _ => {}
            }
        }
        begun
    }

    fn deliver(&mut self, queue: usize) -> Vec<usize> {
        self.last += 1;
        self.tell(delivered(Delivery { queue: QueueIndex(queue), ..delivery(self.last, None) }))
    }

    /// The oldest task in hand ends, and its queue has another at once.
    fn end_one(&mut self) -> Vec<usize> {
        let (queue, worker, id) = self.in_flight.remove(0);
        let outcome = Report::DONE;
        let mut begun = self.tell(Event::Said { worker, frame: FromWorker::Outcome { id, outcome } });
        begun.extend(self.deliver(queue));
        begun
    }
}

#[test]
fn queues_that_wait_for_a_place_get_one_in_turn() {
    let mut world = World::new(3, 1);
    let mut begun: Vec<usize> = (0..3).flat_map(|queue| world.deliver(queue)).collect();
    assert_eq!(begun, [0], "one place");
    for _ in 0..8 {
        begun.extend(world.end_one());
    }
    assert_eq!(begun, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_queue_that_was_passed_over_is_there_for_the_next_place() {
    let mut world = World::new(4, 2);
    // The first queue has two waiting, of which its one seat takes one.
    assert_eq!(
        [world.deliver(0), world.deliver(0), world.deliver(1), world.deliver(2)],
        [vec![0], vec![], vec![1], vec![]]
    );
    let mut begun = Vec::new();
    for _ in 0..6 {
        begun.extend(world.end_one());
    }
    for queue in 0..3 {
        assert_eq!(begun.iter().filter(|other| **other == queue).count(), 2, "{begun:?}");
    }
    assert_eq!(world.in_flight.len(), 2);
}

#[test]
fn a_place_that_a_parked_queue_leaves_is_taken_by_another_one() {
    let mut world = World::with(2, 1, 1);
    for round in 1..=5 {
        assert_eq!(world.deliver(0), [0]);
        let (_, worker, _) = world.in_flight.remove(0);
        // The one process is not made, for the fifth time at last; then the queue is parked.
        if round == 5 {
            assert_eq!(world.deliver(1), [0; 0], "one place");
        }
        let begun = world.tell(Event::SpawnFailed { worker, error: "no such program".to_owned() });
        if round == 5 {
            assert_eq!(begun, [1]);
            return;
        }
        assert_eq!(begun, [0; 0]);
        world.at = world.core.next_deadline().expect("a pause ends").since_start();
        world.tell(Event::DeadlinePassed);
    }
}

#[test]
fn a_password_that_the_cut_falls_into_is_not_logged() {
    for once in [0, 1] {
        let mut world = World::with(1, 1, once);
        world.core.plan.log_level = Level::Debug;
        // The limit lies between the password and the `@` after it.
        let padding = "x".repeat(LOGGED_PAYLOAD - 30);
        let body = format!(r#""{padding} amqp://user:{}@host/""#, "secret".repeat(10)).into_bytes();
        let task = Arc::new(Task { id: "a".to_owned(), body, ..Task::default() });
        let (handle, queue) = (Handle(1), QueueIndex(0));
        let delivery = Delivery { handle, queue, task, redelivered: false, identity: None };
        let actions = tell_at(&mut world.core, Duration::ZERO, delivered(delivery));
        let logged = |action: &Action| match action {
            Action::Log { message, .. } => Some(message.clone()),
            _ => None,
        };
        let lines: Vec<String> = actions.iter().filter_map(logged).collect();
        let line = lines.iter().find(|line| line.starts_with("Got payload: ")).expect("it is logged");
        assert!(line.contains("amqp://user:***") && !line.contains("secret"), "{}", &line[LOGGED_PAYLOAD - 40..]);
    }
}
