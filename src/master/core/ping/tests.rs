//! Rounds of pings: who is asked, what an answer or a task changes, and who is killed for silence.

use super::*;
use crate::{
    clock::Instant,
    config::{Names, Queue, Supervisor},
    frames::FromWorker,
    master::core::{
        Passed,
        event::{Ended, Event, Plan, QueuePlan, Settings, Signal},
        fixture::{attached, delivered, delivery, ready, tell_at},
    },
    task::{Exit, Settlement},
};

struct World {
    core: Core,
    at: Duration,
}

impl World {
    /// Two workers of one queue, ready; pinged each minute.
    fn new() -> Self {
        let settings = Queue { processes: 2, ..Queue::new("foo", "kind") };
        let queue = QueuePlan::of(settings);
        let supervisor = Supervisor { ping: Duration::from_mins(1), ..Supervisor::default() };
        let plan = Plan { supervisor, ..Plan::of(vec![queue]) };
        let mut world = Self { core: Core::new(plan), at: Duration::ZERO };
        world.tell(Event::Begun);
        world.tell(attached(1));
        for slot in 0..2 {
            world.tell(ready(worker(slot), 1));
        }
        world
    }

    /// What the core wants sent and killed, a word each.
    fn tell(&mut self, event: Event) -> Vec<String> {
        let actions = tell_at(&mut self.core, self.at, event);
        let word = |action: Action| match action {
            Action::Send { worker, frame } => {
                let frame: serde_json::Value = serde_json::from_slice(&frame).unwrap();
                Some(format!("{} {}", frame.as_object().unwrap().keys().next().unwrap(), worker.slot))
            }
            Action::Signal { worker, signal: Signal::Kill } => Some(format!("kill {}", worker.slot)),
            Action::Settle { settlement: Settlement::Retry { .. } | Settlement::Dead(_), .. } => {
                Some("used".to_owned())
            }
            _ => None,
        };
        actions.into_iter().filter_map(word).collect()
    }

    fn at(&mut self, seconds: u64) -> Vec<String> {
        self.at = Duration::from_secs(seconds);
        self.tell(Event::DeadlinePassed)
    }

    fn pong(&mut self, slot: usize, n: u64) -> Vec<String> {
        self.tell(Event::Said { worker: worker(slot), frame: FromWorker::Pong { n } })
    }

    fn deliver(&mut self, number: u64) -> Vec<String> {
        self.tell(delivered(delivery(number, None)))
    }
}

fn worker(slot: usize) -> WorkerId {
    WorkerId { slot, life: 1 }
}

#[test]
fn who_does_not_answer_is_killed_and_nobody_else() {
    let mut world = World::new();
    assert_eq!(world.at(60), ["ping 0", "ping 1"]);
    world.pong(1, 1);
    assert_eq!(world.at(69), [""; 0]);
    assert_eq!(world.at(70), ["kill 0"]);
    let exit = Exit::Signal { signal: "SIGKILL".to_owned(), core_dumped: false };
    let ended = Ended { unread: true, ..Ended::of(exit) };
    assert_eq!(world.tell(Event::Exited { worker: worker(0), ended }), [""; 0], "it held nothing");
    assert_eq!(world.at(120), ["ping 1"], "the other one has not said that it is ready");
}

#[test]
fn a_task_makes_the_ping_forgotten_and_goes_to_who_listens_first() {
    let mut world = World::new();
    world.at(60);
    // The one used last would be next; the other one has answered.
    let first = world.deliver(1);
    assert_eq!(first.len(), 1);
    let busy = usize::from(first == ["task 1"]);
    let other = 1 - busy;
    assert_eq!(world.at(70), [format!("kill {other}")], "who got a task owes no answer");
    let mut world = World::new();
    world.at(60);
    world.pong(other, 1);
    assert_eq!(world.deliver(1), [format!("task {other}")]);
    assert_eq!(world.deliver(2), [format!("task {busy}")], "nobody else is free");
    assert_eq!(world.at(300), [""; 0]);
    world.pong(busy, 1);
}

#[test]
fn an_old_answer_is_none() {
    let mut world = World::new();
    world.at(60);
    world.pong(0, 1);
    world.pong(1, 1);
    assert_eq!(world.at(120), ["ping 0", "ping 1"]);
    world.pong(0, 1);
    world.pong(1, 2);
    assert_eq!(world.at(130), ["kill 0"]);
}

#[test]
fn answers_that_came_before_the_limit_are_read_first_however_late_the_look() {
    let mut world = World::new();
    world.at(60);
    // Ten minutes late, and still nobody is judged for what else happens.
    world.at = Duration::from_mins(11);
    world.pong(0, 1);
    assert_eq!(world.core.limits_passed(Instant::from_start(world.at)), Passed { slots: Vec::new(), others: true });
    assert_eq!(world.at(660), ["kill 1", "ping 0"]);
}

#[test]
fn another_distance_of_pings_begins_the_rounds_anew() {
    let mut world = World::new();
    world.at = Duration::from_secs(10);
    let supervisor = Supervisor { ping: Duration::from_secs(5), ..world.core.plan.supervisor };
    let settings = Box::new(Settings {
        queues: world.core.plan.queues.clone(),
        supervisor,
        scheduler: false,
        names: Names::default(),
        pipelines: Vec::new(),
    });
    world.tell(Event::SettingsRead { number: None, wait: false, by: String::new(), settings });
    assert_eq!(world.at(10), [""; 0], "the workers' starts were in time");
    assert_eq!(world.core.next_deadline(), Some(Instant::from_start(Duration::from_secs(15))));
    assert_eq!(world.at(15), ["ping 0", "ping 1"]);
}
