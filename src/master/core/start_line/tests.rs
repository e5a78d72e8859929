use std::time::Duration;

use crate::{
    clock::Instant,
    config::{Queue, Supervisor},
    control::types::{Answer, Command},
    frames::FromWorker,
    master::core::{
        Core,
        event::{Action, Ended, Event, Plan, QueuePlan, WorkerId},
        fixture::{self, delivered, delivery, tell_at},
    },
    task::Exit,
    transport,
};

const PARK: Duration = Duration::from_mins(5);

struct World {
    core: Core,
    at: Duration,
}

impl World {
    /// Queues with so many processes each, of which so many start at once.
    fn new(processes: &[(&str, u32)], starts_at_once: usize) -> Self {
        let queue = |(name, processes): &(&str, u32)| {
            QueuePlan::of(Queue { processes: *processes, ..Queue::new(name, "kind") })
        };
        let supervisor = Supervisor { start_timeout: PARK, ..Supervisor::default() };
        let plan = Plan { supervisor, starts_at_once, ..Plan::of(processes.iter().map(queue).collect()) };
        Self { core: Core::new(plan), at: Duration::ZERO }
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        tell_at(&mut self.core, self.at, event)
    }

    /// The slots in which a process is started.
    fn started(&mut self, event: Event) -> Vec<(String, WorkerId)> {
        let of = |action| match action {
            Action::Spawn { worker, slot, .. } => Some((slot, worker)),
            _ => None,
        };
        self.tell(event).into_iter().filter_map(of).collect()
    }

    /// A task for the first queue.
    fn deliver(&mut self, number: u64) {
        self.tell(delivered(delivery(number, None)));
    }

    fn names(&mut self, event: Event) -> Vec<String> {
        self.started(event).into_iter().map(|(name, _)| name).collect()
    }
}

fn ready(worker: WorkerId) -> Event {
    fixture::ready(worker, 1)
}

fn died(worker: WorkerId) -> Event {
    let exit = Exit::Signal { signal: "SIGSEGV".to_owned(), core_dumped: false };
    let ended = Ended::of(exit);
    Event::Exited { worker, ended }
}

#[test]
fn the_next_place_is_of_the_queue_that_has_the_fewest() {
    let mut world = World::new(&[("a", 4), ("b", 2), ("c", 1)], 3);
    let first = world.started(Event::Begun);
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for queue in ["a[1]", "b[1]", "c[1]"] {
        assert!(names.contains(&queue), "{names:?}");
    }
    let worker = |name: &str| first.iter().find(|(known, _)| known == name).unwrap().1;
    // Its place goes to the queue that has none; where there is no such one, in turn.
    assert_eq!(world.names(ready(worker("a[1]"))), ["a[2]"]);
    assert_eq!(world.names(ready(worker("c[1]"))), ["b[2]"]);
    assert_eq!(world.names(died(worker("b[1]"))), ["a[3]"]);
}

#[test]
fn who_died_at_work_is_replaced_before_all_others() {
    let mut world = World::new(&[("a", 1), ("b", 3)], 1);
    let mut places = world.started(Event::Begun);
    // Whoever is first, a[1] is there after two.
    let mut of_a = None;
    while of_a.is_none() {
        let (name, worker) = places.pop().unwrap();
        of_a = (name == "a[1]").then_some(worker);
        places = world.started(ready(worker));
    }
    let of_b = places.pop().unwrap().1;
    world.tell(Event::Transport(transport::Event::Attached { session: 1 }));
    world.deliver(1);
    assert_eq!(world.names(died(of_a.unwrap())), [""; 0], "the only place is taken");
    assert_eq!(world.names(ready(of_b)), ["a[1]"]);
    // However many hang, and of whatever queue.
    let of_a = WorkerId { slot: 0, life: 2 };
    world.tell(ready(of_a));
    world.deliver(2);
    world.tell(died(of_a));
    world.at += super::PATIENCE;
    assert_eq!(world.names(Event::DeadlinePassed), ["a[1]"]);
}

#[test]
fn when_all_places_hang_a_queue_that_has_none_gets_one_beside_them() {
    let mut world = World::new(&[("a", 3), ("b", 2)], 1);
    let first = world.names(Event::Begun);
    assert_eq!(first.len(), 1);
    world.at = world.core.next_deadline().unwrap().since_start();
    assert_eq!(world.at, super::PATIENCE);
    let second = world.names(Event::DeadlinePassed);
    assert_eq!(second.len(), 1);
    assert_ne!(first[0][..1], second[0][..1]);
    // Each has one, and nothing is looked at until something happens.
    world.at = Duration::from_secs(20);
    assert_eq!(world.names(Event::DeadlinePassed), [""; 0]);
    assert!(world.core.next_deadline().unwrap().since_start() > world.at);
}

#[test]
fn a_stop_empties_the_line() {
    let mut world = World::new(&[("a", 3)], 1);
    let worker = world.started(Event::Begun)[0].1;
    world.tell(Event::StopAsked);
    let actions = world.tell(died(worker));
    assert!(matches!(actions[..], [.., Action::Halt { .. }]), "{actions:?}");
}

#[test]
fn a_scale_beyond_the_descriptors_is_refused_and_changes_nothing() {
    let mut world = World::new(&[("a", 3), ("b", 1)], 4);
    world.core.plan.descriptors = 10;
    world.tell(Event::Begun);
    let mut scale = |processes| {
        let command = Command::Scale { queue: "a".to_owned(), processes };
        let actions = world.tell(Event::Commanded { number: 1, command, by: "somebody".to_owned() });
        actions.into_iter().any(|action| matches!(action, Action::Answer { answer: Answer::Done(_), .. }))
    };
    assert!(!scale(5), "five of a and one of b are twelve");
    assert!(scale(4) && scale(1) && scale(4));
    // A process for one task takes one, and another one for its payload's file.
    world.core.pools[0].plan.is_once = true;
    assert_eq!(world.core.descriptors(0, 4), 6);
    world.core.pools[0].plan.payload_in_file = true;
    assert_eq!(world.core.descriptors(0, 4), 10);
}

#[test]
fn events_of_tasks_do_not_look_at_the_line() {
    let mut world = World::new(&[("a", 1), ("b", 1)], 1);
    let first = world.started(Event::Begun);
    assert_eq!(first.len(), 1);
    world.at += super::PATIENCE;
    let settled = Event::Transport(transport::Event::Settled(Vec::new()));
    assert_eq!(world.names(settled), [""; 0], "its deadline is what has it looked at");
    assert_eq!(world.names(Event::DeadlinePassed).len(), 1);
}

#[test]
fn what_a_worker_says_may_free_its_place_or_put_another_in_line() {
    let mut world = World::new(&[("a", 2)], 1);
    let first = world.started(Event::Begun)[0].1;
    // No task was sent to it.
    let broken = Event::Said { worker: first, frame: FromWorker::Returned { ids: vec!["1".to_owned()] } };
    let second = world.started(broken);
    assert_eq!(second.len(), 1, "it was killed, and its place is free");
    let worker = second[0].1;
    world.tell(ready(worker));
    world.core.pools[0].plan.settings.recycle.max_memory = Some(1);
    world.tell(died(first));
    let replaced = world.names(Event::Measured { worker, bytes: 2 });
    assert_eq!(replaced.len(), 1, "{replaced:?}");
}

#[test]
fn restarts_and_surveys_judge_nobody() {
    let mut world = World::new(&[("a", 1)], 1);
    world.core.plan.halt_when_empty = true;
    let worker = world.started(Event::Begun)[0].1;
    world.tell(Event::Transport(transport::Event::Attached { session: 1 }));
    let actions = world.tell(ready(worker));
    let asked = |action: &Action| if let Action::Survey { serial, .. } = action { Some(*serial) } else { None };
    let serial = actions.iter().find_map(asked).expect("nothing is left to do, as far as is known here");
    let again_in = Duration::from_millis(500);
    world.tell(Event::Transport(transport::Event::Surveyed { serial, empty: false, stranded: Vec::new(), again_in }));
    let mut next = || {
        world.at = world.core.next_deadline().expect("something is due").since_start();
        let passed = world.core.limits_passed(Instant::from_start(world.at));
        assert!(passed.is_empty(), "{passed:?} at {:?}", world.at);
        world.tell(Event::DeadlinePassed)
    };
    while !next().iter().any(|action| asked(action).is_some()) {}
    world.tell(died(worker));
    let mut next = || {
        world.at = world.core.next_deadline().expect("something is due").since_start();
        let passed = world.core.limits_passed(Instant::from_start(world.at));
        assert!(passed.is_empty(), "{passed:?} at {:?}", world.at);
        world.tell(Event::DeadlinePassed)
    };
    while !next().iter().any(|action| matches!(action, Action::Spawn { .. })) {}
}
