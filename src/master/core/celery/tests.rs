//! Celery's queues in the core: limits and rates of single tasks, lost tasks that are told, revoked ones, events.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    celery::{CeleryQueue, Protocol, event::What},
    config::{Queue, Supervisor},
    control::types::{Answer, Command},
    frames::{
        FromWorker, PROTOCOL, Ready, Wants,
        celery::{Application, TaskOptions},
    },
    logging::Level,
    master::core::{
        Core,
        event::{Action, Ended, Event, Plan, QueuePlan, Settings, Signal, WorkerId},
        fixture::{attached, tell_at},
    },
    outcome::{Given, Raised, Report},
    properties::Properties,
    task::{Delivery, Exit, Handle, QueueIndex, Settlement, Task},
    transport,
};

const ONE: WorkerId = WorkerId { slot: 0, life: 1 };
const SECOND: Duration = Duration::from_secs(1);

/// A core with one of Celery's queues, on a transport that stores at once.
struct World {
    core: Core,
    at: Duration,
    actions: Vec<Action>,
}

impl World {
    fn new(change: impl FnOnce(Queue) -> Queue) -> Self {
        let protocol = Protocol::Celery(Box::new(CeleryQueue::of("celery")));
        let settings = change(Queue { protocol, ..Queue::new("celery", "shop") });
        // Nobody here answers pings.
        let supervisor = Supervisor { ping: Duration::from_hours(24), ..Supervisor::default() };
        let plan = Plan { log_level: Level::Info, supervisor, ..Plan::of(vec![QueuePlan::of(settings)]) };
        let mut world = Self { core: Core::new(plan), at: Duration::ZERO, actions: Vec::new() };
        world.tell(Event::Begun);
        world.tell(attached(1));
        world
    }

    /// With one worker that runs an application.
    fn with_application() -> Self {
        let mut world = Self::new(|queue| queue);
        world.ready(ONE, true);
        world
    }

    fn tell(&mut self, event: Event) {
        let actions = tell_at(&mut self.core, self.at, event);
        let handles: Vec<(Handle, bool)> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Settle { handle, settlement } => Some((*handle, settlement.is_copy())),
                _ => None,
            })
            .collect();
        self.actions.extend(actions);
        for (handle, is_copy) in handles {
            if is_copy {
                self.tell(Event::Transport(transport::Event::Stored(handle)));
            }
            self.tell(Event::Transport(transport::Event::Settled(vec![handle])));
        }
        self.core.invariants().unwrap();
    }

    fn ready(&mut self, worker: WorkerId, is_application: bool) {
        let options = |time_limit, rate: Option<&str>| TaskOptions {
            time_limit,
            rate_limit: rate.map(str::to_owned),
            ..TaskOptions::default()
        };
        let tasks = [
            ("limited".to_owned(), options(Some(SECOND), None)),
            ("rated".to_owned(), options(None, Some("10/m"))),
            ("plain".to_owned(), options(None, None)),
        ];
        let application = Application {
            tasks: tasks.into(),
            conf: Some(r#"{"a":1}"#.to_owned()),
            time_limit: Some(4 * SECOND),
            ..Application::default()
        };
        let ready = Ready {
            protocol: PROTOCOL,
            name: None,
            concurrency: 1,
            ahead: 0,
            wants: Wants { properties: true, celery: is_application, ..Wants::default() },
            celery: is_application.then(|| Box::new(application)),
        };
        self.tell(Event::Said { worker, frame: FromWorker::Ready(ready) });
    }

    fn deliver(&mut self, number: u64, name: &str) {
        self.deliver_as(number, name, |task| task);
    }

    fn deliver_as(&mut self, number: u64, name: &str, change: impl FnOnce(Task) -> Task) {
        self.deliver_with(number, name, |delivery| Delivery {
            task: Arc::new(change(Arc::unwrap_or_clone(delivery.task))),
            ..delivery
        });
    }

    fn deliver_with(&mut self, number: u64, name: &str, change: impl FnOnce(Delivery) -> Delivery) {
        let headers = json!({ "task": name, "id": number.to_string(), "argsrepr": "(1,)", "kwargsrepr": "{}" });
        let Value::Object(headers) = headers else { unreachable!() };
        let told = |text: &str| Some(text.to_owned());
        let properties = Properties {
            content_type: told("application/json"),
            correlation_id: Some(number.to_string()),
            reply_to: told("answers"),
            ..Properties::default()
        };
        let task = Task {
            id: number.to_string(),
            name: Some(name.into()),
            body: b"[[1],{},{}]".to_vec(),
            headers,
            properties: Some(Box::new(properties)),
            ..Task::default()
        };
        let (handle, queue, task) = (Handle(number), QueueIndex(0), Arc::new(task));
        let delivery = change(Delivery { handle, queue, task, redelivered: false, identity: None });
        self.tell(Event::Transport(transport::Event::Delivered(vec![delivery])));
    }

    fn ends(&mut self, worker: WorkerId, number: u64, outcome: Report) {
        self.tell(Event::Said { worker, frame: FromWorker::Outcome { id: number.to_string(), outcome } });
    }

    fn dies(&mut self, worker: WorkerId) {
        let exit = Exit::Signal { signal: "SIGSEGV".to_owned(), core_dumped: false };
        self.tell(Event::Exited { worker, ended: Ended::of(exit) });
    }

    fn reports(&mut self, worker: WorkerId, number: u64) {
        self.reports_as(worker, number, true);
    }

    fn reports_as(&mut self, worker: WorkerId, number: u64, stored: bool) {
        self.tell(Event::Said { worker, frame: FromWorker::Reported { id: number.to_string(), stored } });
    }

    fn passes(&mut self, time: Duration) {
        self.at += time;
        self.tell(Event::DeadlinePassed);
    }

    fn commands(&mut self, command: Command) -> Answer {
        self.tell(Event::Commanded { number: 1, command, by: "the Celery node".to_owned() });
        let mut answers = self.actions.iter().rev().filter_map(|action| match action {
            Action::Answer { answer, .. } => Some(answer.clone()),
            _ => None,
        });
        answers.next().expect("an answer")
    }

    /// The frames sent since this was asked last.
    fn frames(&mut self) -> Vec<Value> {
        let frames = self.actions.iter().filter_map(|action| match action {
            Action::Send { frame, .. } => Some(serde_json::from_slice(frame).unwrap()),
            _ => None,
        });
        let frames = frames.collect();
        self.actions.retain(|action| !matches!(action, Action::Send { .. }));
        frames
    }

    fn settlements(&self) -> Vec<(u64, &Settlement)> {
        let settled = self.actions.iter().filter_map(|action| match action {
            Action::Settle { handle, settlement } => Some((handle.0, settlement)),
            _ => None,
        });
        settled.collect()
    }

    fn events(&self) -> Vec<(&str, &What)> {
        let events = self.actions.iter().filter_map(|action| match action {
            Action::TaskEvent(event) => Some((event.uuid.as_str(), &event.what)),
            _ => None,
        });
        events.collect()
    }

    fn replies(&self) -> Vec<Value> {
        let replies = self.actions.iter().filter_map(|action| match action {
            Action::Reply { queue, body, .. } => {
                assert_eq!(queue, "answers");
                Some(serde_json::from_slice(body).unwrap())
            }
            _ => None,
        });
        replies.collect()
    }

    fn logs(&self, part: &str) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Log { message, .. } if message.contains(part)))
    }
}

#[test]
fn a_tasks_own_limit_counts_if_it_is_shorter_than_the_queues() {
    let mut world = World::new(|queue| Queue { timeout: Some(5 * SECOND), ..queue });
    world.ready(ONE, true);
    let limit = |world: &mut World| world.frames().pop().unwrap()["task"]["deadline_ms"].as_u64().unwrap();
    for (number, name, own, expected) in [
        (1, "plain", None, 5000),
        (2, "limited", None, 1000),
        (3, "limited", Some(3 * SECOND), 3000),
        (4, "plain", Some(9 * SECOND), 5000),
        (5, "limited", Some(9 * SECOND), 5000),
    ] {
        world.deliver_as(number, name, |task| Task { time_limit: own, ..task });
        assert_eq!(limit(&mut world), expected, "{number}");
        world.ends(ONE, number, Report::DONE);
    }
    let set = Command::CeleryTimeLimit { task: "plain".to_owned(), soft_ms: None, hard_ms: Some(700) };
    assert!(matches!(world.commands(set), Answer::Done(_)));
    let told = world.frames().pop().unwrap();
    let expected = json!({ "method": "time_limit", "arguments": { "task_name": "plain", "soft": null, "hard": 0.7 } });
    assert_eq!(told["control"], expected);
    world.deliver(5, "plain");
    assert_eq!(limit(&mut world), 700);
    world.passes(Duration::from_millis(700));
    assert!(world.actions.iter().any(|action| matches!(action, Action::Signal { signal: Signal::Kill, .. })));
    world.dies(ONE);
    assert!(world.settlements().iter().any(|(number, settlement)| *number == 5
        && matches!(settlement, Settlement::Dead(failure) if failure.error == "the task ran into its time limit of 0.7 s")));
}

#[test]
fn the_result_of_a_lost_task_is_told_to_the_next_worker_before_it_gets_another_task() {
    let mut world = World::with_application();
    world.deliver(1, "plain");
    world.deliver(2, "plain");
    world.frames();
    world.dies(ONE);
    assert!(world.frames().is_empty(), "no worker is ready");
    let next = WorkerId { slot: 0, life: 2 };
    world.ready(next, true);
    let frames = world.frames();
    assert_eq!(frames.len(), 1, "{frames:?}");
    let lost = &frames[0]["lost"];
    assert_eq!(
        (&lost["id"], &lost["reason"], &lost["payload_base64"]),
        (&json!("1"), &json!("crash"), &json!("W1sxXSx7fSx7fV0="))
    );
    assert_eq!(lost["error"], "the worker died: killed by SIGSEGV");
    world.reports(next, 7);
    assert!(world.frames().is_empty(), "an answer about another task");
    world.reports(next, 1);
    assert_eq!(world.frames().pop().unwrap()["task"]["id"], "2");
}

#[test]
fn a_worker_that_does_not_store_a_result_in_time_is_killed_and_no_task_is_blamed() {
    let mut world = World::with_application();
    world.deliver_as(1, "plain", |task| Task { expires_at: Some(crate::clock::Timestamp(0)), ..task });
    assert!(world.frames().pop().is_some_and(|frame| frame["lost"]["reason"] == "expired"));
    world.passes(10 * SECOND);
    assert!(world.actions.iter().any(|action| matches!(action, Action::Signal { signal: Signal::Kill, .. })));
    world.dies(ONE);
    assert!(world.logs("The result of lost task 1 is not stored: the worker that was to store it has ended"));
    assert_eq!(world.settlements().len(), 1, "the dead letter of the task itself");
    world.passes(SECOND);
    world.ready(WorkerId { slot: 0, life: 2 }, true);
    assert!(world.frames().is_empty(), "it is tried once");
}

#[test]
fn what_a_worker_reports_itself_is_not_told() {
    let mut world = World::with_application();
    world.deliver(1, "plain");
    let (error, detail) = ("ValueError('no')".to_owned(), "Traceback".to_owned());
    world.ends(ONE, 1, Report::DeadLetter { error, detail, memo: None });
    assert!(!world.frames().iter().any(|frame| frame.get("lost").is_some()));
    assert!(world.replies().is_empty(), "an application stores its results");
}

#[test]
fn any_other_kind_gets_name_and_arguments_and_its_result_is_sent() {
    let mut world = World::new(|queue| queue);
    world.ready(ONE, false);
    world.deliver(1, "resize");
    let payload = &world.frames().pop().unwrap()["task"]["payload"];
    assert_eq!(*payload, json!({ "task": "resize", "args": [1], "kwargs": {} }));
    let result = serde_json::value::RawValue::from_string(r#"{"w":7}"#.to_owned()).unwrap();
    let given = Given { result: Some(result), ..Given::default() };
    world.ends(ONE, 1, Report::Done { submit: Vec::new(), given: Some(Box::new(given)) });
    world.deliver(2, "resize");
    world.dies(ONE);
    world.deliver_as(3, "resize", |mut task| {
        task.headers.insert("ignore_result".to_owned(), json!(true));
        task
    });
    let next = WorkerId { slot: 0, life: 2 };
    world.ready(next, false);
    world.ends(next, 3, Report::DONE);
    let replies = world.replies();
    assert_eq!(replies.len(), 2, "nobody waits for the third: {replies:?}");
    assert_eq!((&replies[0]["status"], &replies[0]["result"]), (&json!("SUCCESS"), &json!({ "w": 7 })));
    assert_eq!((&replies[1]["status"], &replies[1]["task_id"]), (&json!("FAILURE"), &json!("2")));
}

#[test]
fn revoked_tasks_are_dropped_where_they_wait_and_when_they_come() {
    let mut world = World::with_application();
    for number in 1..=3 {
        world.deliver(number, "plain");
    }
    let revoke = |ids: &[&str], terminate| Command::CeleryRevoke {
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        terminate,
    };
    let answer = world.commands(revoke(&["1", "2", "9"], false));
    let said = json!({ "revoked": 3, "terminated": [], "elsewhere": ["9"] });
    assert_eq!(answer, Answer::Done(said), "what is in hand goes on");
    assert!(world.logs("the Celery node asks: celery-revoke 3 tasks (1, 2, 9)"));
    let dropped = |world: &World| {
        let done = |(number, settlement): &(u64, &Settlement)| {
            matches!(settlement, Settlement::Done { .. }).then_some(*number)
        };
        world.settlements().iter().filter_map(done).collect::<Vec<_>>()
    };
    assert_eq!(dropped(&world), [2]);
    world.deliver(9, "plain");
    assert_eq!(dropped(&world), [2, 9]);
    let answer = world.commands(revoke(&["1"], true));
    assert_eq!(answer, Answer::Done(json!({ "revoked": 0, "terminated": ["1"], "elsewhere": [] })));
    world.dies(ONE);
    assert!(world.settlements().iter().any(|(number, settlement)| *number == 1
        && matches!(settlement, Settlement::Dead(failure) if failure.reason.as_str() == "cancelled")));
    let next = WorkerId { slot: 0, life: 2 };
    world.frames();
    world.ready(next, true);
    let told = |world: &mut World, id: &str| {
        let lost = world.frames().pop().unwrap();
        assert_eq!((&lost["lost"]["id"], &lost["lost"]["reason"]), (&json!(id), &json!("cancelled")));
        world.reports(next, id.parse().unwrap());
    };
    told(&mut world, "2");
    assert_eq!(world.frames().pop().unwrap()["task"]["id"], "3", "between two results it does a task");
    world.ends(next, 3, Report::DONE);
    told(&mut world, "9");
    told(&mut world, "1");
}

#[test]
fn tasks_are_revoked_by_their_stamps_and_for_as_long_as_the_master_runs() {
    let mut world = World::with_application();
    let stamped = |world: &mut World, number: u64, order: Value| {
        world.deliver_as(number, "plain", |mut task| {
            task.headers.insert("stamped_headers".to_owned(), json!(["order"]));
            task.headers.insert("stamps".to_owned(), json!({ "order": order }));
            task
        });
    };
    stamped(&mut world, 1, json!("a"));
    stamped(&mut world, 2, json!(["b", "a"]));
    stamped(&mut world, 3, json!("b"));
    let revoke = |value: &Value, terminate| Command::CeleryRevokeStamped {
        stamps: [("order".to_owned(), vec![value.clone()])].into(),
        terminate,
    };
    let answer = world.commands(revoke(&json!("a"), false));
    assert_eq!(answer, Answer::Done(json!({ "terminated": {} })), "what is in hand goes on");
    assert!(world.logs("the Celery node asks: celery-revoke-stamped 1 stamp (order)"));
    assert!(world.logs("Task 2 of queue celery is dropped: it was revoked by its stamp order"));
    let dropped = |world: &World| {
        let done = |(number, settlement): &(u64, &Settlement)| {
            matches!(settlement, Settlement::Done { .. }).then_some(*number)
        };
        world.settlements().iter().filter_map(done).collect::<Vec<_>>()
    };
    assert_eq!(dropped(&world), [2]);
    world.passes(4 * 3_600 * SECOND);
    stamped(&mut world, 4, json!("a"));
    assert_eq!(dropped(&world), [2, 4]);
    let answer = world.commands(revoke(&json!("a"), true));
    assert_eq!(answer, Answer::Done(json!({ "terminated": { "order": ["a"] } })));
    assert!(world.actions.iter().any(|action| matches!(action, Action::Signal { .. })));
}

#[test]
fn results_of_revoked_tasks_that_are_not_here_are_stored_by_one_worker_of_each_kind() {
    let two = WorkerId { slot: 1, life: 1 };
    let mut world = World::new(|queue| Queue { processes: 2, ..queue });
    world.ready(ONE, true);
    world.ready(two, true);
    world.deliver(1, "plain");
    let holds = |worker: WorkerId, world: &World| {
        world.core.slots[worker.slot].process().is_some_and(|life| life.in_flight.len() == 1)
    };
    let (busy, idle) = if holds(ONE, &world) { (ONE, two) } else { (two, ONE) };
    let asked = |world: &mut World, number: u64| {
        let command = Command::CeleryStoreRevoked { ids: vec!["9".to_owned()] };
        world.actions.clear();
        world.tell(Event::Commanded { number, command, by: "the Celery node".to_owned() });
        let sent = world.actions.iter().filter_map(|action| match action {
            Action::Send { worker, frame } => Some((*worker, serde_json::from_slice::<Value>(frame).unwrap())),
            _ => None,
        });
        sent.collect::<Vec<_>>()
    };
    let answered = |world: &World, of: u64| {
        world.actions.iter().any(|action| matches!(action, Action::Answer { number, .. } if *number == of))
    };
    let sent = asked(&mut world, 70);
    let frame = json!({ "control": { "method": "revoke", "arguments": { "task_id": ["9"] }, "ticket": 70 } });
    assert_eq!(sent, [(idle, frame)], "the one that holds nothing");
    assert!(!answered(&world, 70), "it is not stored yet");
    world.tell(Event::Said { worker: busy, frame: FromWorker::Controlled { ticket: 70 } });
    world.tell(Event::Said { worker: idle, frame: FromWorker::Controlled { ticket: 71 } });
    assert!(!answered(&world, 70));
    world.tell(Event::Said { worker: idle, frame: FromWorker::Controlled { ticket: 70 } });
    assert!(answered(&world, 70));
    asked(&mut world, 71);
    world.dies(idle);
    assert!(answered(&world, 71), "nobody is left to say it");
    let mut plain = World::new(|queue| queue);
    plain.ready(ONE, false);
    assert!(asked(&mut plain, 72).is_empty() && answered(&plain, 72));
}

#[test]
fn while_results_cannot_be_stored_tasks_go_on_and_storing_is_tried_again() {
    let mut world = World::with_application();
    world.deliver_as(1, "plain", |task| Task { expires_at: Some(crate::clock::Timestamp(0)), ..task });
    assert!(world.frames().pop().unwrap().get("lost").is_some());
    world.deliver(2, "plain");
    world.reports_as(ONE, 1, false);
    assert_eq!(world.frames().pop().unwrap()["task"]["id"], "2");
    world.ends(ONE, 2, Report::DONE);
    assert!(world.frames().is_empty(), "there is a pause");
    for (attempt, pause) in [1, 2, 4, 8, 16, 32, 60, 60, 60].into_iter().enumerate() {
        world.passes((pause * SECOND).saturating_sub(Duration::from_millis(1)));
        assert!(world.frames().is_empty(), "{attempt}");
        world.passes(Duration::from_millis(1));
        assert_eq!(world.frames().pop().unwrap()["lost"]["id"], "1", "{attempt}");
        world.reports_as(ONE, 1, false);
    }
    assert!(world.logs("The result of lost task 1 is not stored: its worker could not store it"));
    world.passes(100 * SECOND);
    assert!(world.frames().is_empty());
}

#[test]
fn a_result_is_sent_once_its_task_is_settled_also_under_another_handle() {
    let mut world = World::new(|queue| queue);
    world.core.plan.remember = Some(60 * SECOND);
    world.core.memory = world.core.plan.remember.map(super::super::state::settlement_memory::SettlementMemory::new);
    world.ready(ONE, false);
    let task = |world: &mut World, handle: u64, redelivered: bool| {
        world.deliver_with(handle, "resize", |delivery| Delivery { redelivered, identity: Some(7), ..delivery });
    };
    task(&mut world, 1, false);
    let outcome = Event::Said { worker: ONE, frame: FromWorker::Outcome { id: "1".to_owned(), outcome: Report::DONE } };
    let actions = tell_at(&mut world.core, world.at, outcome);
    assert!(!actions.iter().any(|action| matches!(action, Action::Reply { .. })), "it is not settled: {actions:?}");
    let (error, again_in) = (transport::Error::Lost { uri: String::new(), cause: String::new() }, SECOND);
    world.tell(Event::Transport(transport::Event::Lost { error, again_in }));
    world.tell(attached(2));
    task(&mut world, 2, true);
    assert_eq!(world.replies().len(), 1, "its settlement is repeated");
}

#[test]
fn a_tasks_own_rate_holds_it_back_and_no_other() {
    let mut world = World::with_application();
    let begun = |world: &mut World| -> Vec<String> {
        let tasks = world.frames().into_iter().filter_map(|frame| Some(frame.get("task")?["id"].as_str()?.to_owned()));
        tasks.collect()
    };
    for number in 1..=3 {
        world.deliver(number, "rated");
    }
    assert_eq!(begun(&mut world), ["1"]);
    world.ends(ONE, 1, Report::DONE);
    assert!(begun(&mut world).is_empty());
    world.deliver(4, "plain");
    assert_eq!(begun(&mut world), ["4"]);
    world.ends(ONE, 4, Report::DONE);
    world.passes(6 * SECOND);
    assert_eq!(begun(&mut world), ["2"]);
    world.ends(ONE, 2, Report::DONE);
    let answer = world.commands(Command::CeleryRateLimit { task: "rated".to_owned(), rate: "0".to_owned() });
    assert_eq!(answer, Answer::said("rate limit disabled successfully"));
    assert_eq!(begun(&mut world), ["3"]);
    let unknown = Command::CeleryRateLimit { task: "none".to_owned(), rate: "1/m".to_owned() };
    assert_eq!(world.commands(unknown), Answer::refused("unknown task"));
}

#[test]
fn no_two_tasks_of_a_rate_begin_together_however_late_they_are() {
    let two = WorkerId { slot: 1, life: 1 };
    let mut world = World::new(|queue| Queue { processes: 2, ..queue });
    world.ready(ONE, true);
    world.ready(two, true);
    let begun = |world: &mut World| -> Vec<(WorkerId, String)> {
        let sent = std::mem::take(&mut world.actions).into_iter().filter_map(|action| match action {
            Action::Send { worker, frame } => Some((worker, serde_json::from_slice::<Value>(&frame).unwrap())),
            _ => None,
        });
        sent.filter_map(|(worker, frame)| Some((worker, frame["task"]["id"].as_str()?.to_owned()))).collect()
    };
    for (number, name) in [(1, "rated"), (2, "plain"), (3, "rated"), (4, "rated")] {
        world.deliver(number, name);
    }
    let first = begun(&mut world);
    assert_eq!(first.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    world.passes(60 * SECOND);
    assert!(begun(&mut world).is_empty(), "nobody is free");
    for (worker, id) in first {
        world.ends(worker, id.parse().unwrap(), Report::DONE);
    }
    assert_eq!(begun(&mut world).len(), 1, "both would have had their turns long ago");
    world.passes(Duration::from_millis(5_999));
    assert!(begun(&mut world).is_empty());
    world.passes(Duration::from_millis(1));
    assert_eq!(begun(&mut world)[0].1, "4");
}

#[test]
fn what_is_given_back_takes_no_turn_along() {
    let mut world = World::with_application();
    for number in 1..=5 {
        world.deliver(number, "rated");
    }
    world.ends(ONE, 1, Report::DONE);
    for _ in 0..3 {
        world.commands(Command::Pause { queue: "celery".to_owned(), limit_ms: None, unkept: false });
        world.commands(Command::Resume { queue: "celery".to_owned() });
        for number in 2..=5 {
            world.deliver(number, "rated");
        }
    }
    world.frames();
    world.passes(6 * SECOND);
    assert_eq!(world.frames().len(), 1, "six seconds after the first");
}

#[test]
fn a_queue_that_is_no_longer_celerys_or_not_worked_leaves_no_lost_task_unsaid() {
    let other = |queue: Queue| {
        let settings = Settings {
            queues: vec![QueuePlan::of(queue)],
            supervisor: crate::config::Supervisor::default(),
            scheduler: false,
            names: crate::config::Names::default(),
            pipelines: Vec::new(),
        };
        Event::SettingsRead { number: None, wait: false, by: "somebody".to_owned(), settings: Box::new(settings) }
    };
    for queue in [Queue::new("celery", "shop"), Queue::new("foo", "kind")] {
        let mut world = World::with_application();
        world.deliver(1, "plain");
        world.dies(ONE);
        let next = WorkerId { slot: 0, life: 2 };
        assert!(world.core.has_lost(), "no worker is ready");
        world.actions.clear();
        let is_same = queue.name == "celery";
        world.tell(other(queue));
        assert!(world.logs("The result of lost task 1 is not stored: its queue is not worked any more"));
        assert!(!world.core.has_lost(), "a run that halts when all is done would wait for ever");
        if is_same {
            world.ready(next, true);
            let is_renewed = |action: &Action| matches!(action, Action::Spawn { worker, .. } if worker.slot == 1);
            assert!(world.actions.iter().any(is_renewed), "it was started for another protocol");
        }
    }
}

#[test]
fn tasks_of_other_queues_are_not_revoked() {
    let mut world = World::new(|queue| Queue { protocol: Protocol::Asynctask, ..queue });
    world.ready(ONE, false);
    world.deliver(1, "plain");
    let answer = world.commands(Command::CeleryRevoke { ids: vec!["1".to_owned()], terminate: true });
    assert_eq!(answer, Answer::Done(json!({ "revoked": 1, "terminated": [], "elsewhere": ["1"] })));
    assert!(!world.actions.iter().any(|action| matches!(action, Action::Signal { .. })));
}

#[test]
fn events_are_told_while_they_are_wanted() {
    let mut world = World::with_application();
    world.deliver(1, "plain");
    world.ends(ONE, 1, Report::DONE);
    assert!(world.events().is_empty());
    world.commands(Command::CeleryEvents { wanted: true });
    assert_eq!(world.frames().pop().unwrap()["control"]["method"], "enable_events");
    world.deliver(2, "plain");
    let result = serde_json::value::RawValue::from_string(r#""{'a': 1}""#.to_owned()).unwrap();
    let given = Given { result: Some(result), ..Given::default() };
    world.ends(ONE, 2, Report::Done { submit: Vec::new(), given: Some(Box::new(given)) });
    world.deliver(3, "plain");
    let raised = Raised { exception: "Retry in 3s".to_owned(), traceback: String::new() };
    let given = Given { retried: Some(raised), ..Given::default() };
    world.ends(ONE, 3, Report::Done { submit: Vec::new(), given: Some(Box::new(given)) });
    world.deliver(4, "plain");
    world.dies(ONE);
    let words: Vec<String> = world
        .events()
        .into_iter()
        .map(|(id, what)| match what {
            What::Received(received) => format!("{id} received {} {}", received.name, received.args),
            What::Succeeded { result, .. } => format!("{id} succeeded {result}"),
            What::Retried { exception, .. } => format!("{id} retried {exception}"),
            What::Failed { exception, .. } => format!("{id} failed {exception}"),
            What::Started { .. } => format!("{id} started"),
            What::Rejected { .. } | What::Revoked { .. } => format!("{id} {what:?}"),
        })
        .collect();
    assert_eq!(
        words,
        [
            "2 received plain (1,)",
            "2 started",
            "2 succeeded {'a': 1}",
            "3 received plain (1,)",
            "3 started",
            "3 retried Retry in 3s",
            "4 received plain (1,)",
            "4 started",
            "4 failed the worker died: killed by SIGSEGV",
        ]
    );
}

#[test]
fn the_view_shows_what_monitors_ask_for() {
    let mut world = World::with_application();
    world.deliver(1, "plain");
    world.deliver(2, "rated");
    let Answer::Done(view) = world.commands(Command::CeleryView {}) else { panic!() };
    assert_eq!((&view["active"][0]["id"], &view["active"][0]["name"]), (&json!("1"), &json!("plain")));
    assert_eq!((&view["reserved"][0]["id"], &view["reserved"][0]["time_start"]), (&json!("2"), &Value::Null));
    assert_eq!((&view["tasks"]["limited"]["time_limit"], &view["conf"]), (&json!(1.0), &json!({ "a": 1 })));
    assert_eq!((&view["pools"][0]["queue"], &view["pools"][0]["exchange"]), (&json!("celery"), &json!("celery")));
    world.ends(ONE, 1, Report::DONE);
    let Answer::Done(view) = world.commands(Command::CeleryView {}) else { panic!() };
    assert_eq!(view["total"], json!({ "plain": 1, "rated": 1 }));
    let payload = r#"{"task":"rated","args":[1],"kwargs":{}}"#;
    assert_eq!(view["active"][0]["payload"], payload);
    world.deliver_as(3, "plain", |mut task| {
        task.headers.insert("compression".to_owned(), json!("application/x-gzip"));
        task
    });
    world.deliver_as(4, "plain", |task| Task { body: vec![b' '; 5_000], ..task });
    let Answer::Done(view) = world.commands(Command::CeleryView {}) else { panic!() };
    let payloads: Vec<&Value> = view["reserved"].as_array().unwrap().iter().map(|task| &task["payload"]).collect();
    assert_eq!(payloads, [&Value::Null, &Value::Null], "what may unfold, or is long, is not looked into");
}
