//! Masters that die between two messages, on a broker: what they had sent is there, what they had not sent is not. A plain client
//! stands for such a master, since no signal meets that moment, and works the queue of the first step as one.

use std::collections::{BTreeMap, BTreeSet};

use asynctask::{
    clock::Clock,
    jobs::entry::{End, Entry, How},
    membership::{Membership, ledger_queue},
};
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};
use nix::sys::signal::Signal;
use uuid::Uuid;

use super::{
    steps::{began, configure, counts, done, drained, master, shown, started, states, tasks, touch, until_state},
    support::{Demo, Place, broker, foreign::Foreign, log::until, proxy::Proxy, storm::Dice},
};

const JOB: &str = "asynctask-job";
const TWO: &str = "two: { steps: [ { name: a, queue: a, each: items }, { name: b, queue: b } ] }";

/// A folder on a broker, with two steps; of the first one nobody works the queue.
fn demo() -> Option<Demo> {
    let demo = Demo::new(&Place::amqp()?);
    configure(&demo, TWO, &["a", "items", "b"], "");
    Some(demo)
}

/// A master that has one task in hand, for as long as it lives.
struct DyingMaster {
    foreign: Foreign,
    held: Delivery,
    place: Membership,
    execution: Uuid,
}

impl DyingMaster {
    /// Takes the task of this queue.
    fn of(demo: &Demo, queue: &str) -> Self {
        let foreign = Foreign::connect(&demo.uri);
        until("the first step begins", || foreign.exists(queue) && foreign.ready(queue) > 0);
        let held = foreign.hold(queue).expect("it is ready");
        let headers = held.properties.headers().clone().expect("it is of a job");
        let Some(AMQPValue::LongString(text)) = headers.inner().get(JOB) else { panic!("{headers:?}") };
        let place = serde_json::from_str(&text.to_string()).expect("its place in the job");
        Self { foreign, held, place, execution: Uuid::now_v7() }
    }

    /// Stores items with these numbers.
    fn submits(&self, numbers: &[u32]) {
        for (index, number) in (0..).zip(numbers) {
            let member = self.place.member(self.execution, index);
            let mut headers = FieldTable::default();
            let text = serde_json::to_string(&member).expect("a place can be written");
            headers.insert(JOB.into(), AMQPValue::LongString(text.into()));
            let id = Uuid::new_v5(&self.execution, index.to_string().as_bytes()).to_string();
            let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(id.into());
            self.foreign.publish("items", properties.with_headers(headers), format!("{{\"n\":{number}}}").as_bytes());
        }
    }

    /// Tells the ledger that the task is done and has submitted so many items.
    fn tells_the_end(&self, items: u32) {
        let how = How::Done { execution: self.execution, items, result: None };
        let end = Entry::End(Box::new(End { member: (&self.place).into(), at: Clock::wall(), how, memo: None }));
        let ledger = ledger_queue(&self.place.application);
        self.foreign.publish(&ledger, BasicProperties::default().with_delivery_mode(2), &end.to_bytes());
    }

    /// Removes the task, as the last thing that it does.
    fn settles(self) {
        self.foreign.done(&self.held);
    }

    /// Dies: the task goes back to its queue.
    fn dies(self) {
        drop(self);
    }
}

/// The numbers of the items that were done.
fn items(demo: &Demo) -> BTreeSet<String> {
    done(demo).into_iter().filter(|did| did.step == "a" && did.number != "-").map(|did| did.number).collect()
}

fn has_done(demo: &Demo, numbers: &[&str]) {
    until(&format!("items {numbers:?} are not done"), || {
        let done = items(demo);
        numbers.iter().all(|number| done.contains(*number))
    });
}

#[test]
fn a_master_that_is_killed_before_the_broker_hears_what_is_done_repeats_the_task_and_counts_it_once() {
    let Some(demo) = demo() else { return };
    let port = broker::shared().expect("it is there").port();
    let proxy = Proxy::before(port);
    let id = started(&demo, &["two", r#"{"a": {"wait": "gate"}}"#]);
    let first = master(&demo, &["--set", &format!("transport={}", proxy.address(&demo.uri, port))]);
    until("the first task is begun", || began(&demo).len() == 1);
    proxy.stall();
    touch(&demo, "gate");
    until("the first task is done", || done(&demo).len() == 1);
    first.signal(Signal::SIGKILL);
    drop(first);
    proxy.cut();
    let run = drained(&demo);
    assert_eq!(run.code, 0, "{run:?}");
    let job = shown(&demo, &id);
    assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("done a:done b:done", [1, 0, 1]));
    assert_eq!(counts(&began(&demo)), [("a", 2), ("b", 1)].into());
}

#[test]
fn of_a_master_that_died_before_it_told_the_end_of_a_splitter_no_item_counts() {
    let Some(demo) = demo() else { return };
    let _coordinator = master(&demo, &["--queue", "items", "--queue", "b"]);
    let id = started(&demo, &["two", r#"{"a": {"items": 3}}"#]);
    let dying = DyingMaster::of(&demo, "a");
    dying.submits(&[100, 101]);
    has_done(&demo, &["100", "101"]);
    dying.dies();
    let _next = master(&demo, &["--queue", "a"]);
    let job = until_state(&demo, &id, "done");
    assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("done a:done b:done", [4, 0, 4]));
    assert_eq!(items(&demo).len(), 5, "the second list was waited for, the first was worked in vain");
    assert_eq!(counts(&done(&demo))["b"], 1);
}

#[test]
fn of_a_master_that_died_after_it_told_the_end_of_a_splitter_its_items_alone_count() {
    let Some(demo) = demo() else { return };
    let _coordinator = master(&demo, &["--queue", "b"]);
    // One that is of no job makes the queue.
    demo.submit("items", "{}");
    let id = started(&demo, &["two", r#"{"a": {"items": 3}}"#]);
    let dying = DyingMaster::of(&demo, "a");
    dying.submits(&[100, 101]);
    dying.tells_the_end(2);
    until("it is counted", || tasks(&shown(&demo, &id), "a") == [1, 0, 3]);
    dying.dies();
    // The task comes again, and its items are worked before those that count.
    let next = master(&demo, &["--queue", "a"]);
    until("the second list is there", || demo.depth("items")["ready"] == 6);
    assert_eq!(tasks(&shown(&demo, &id), "a"), [1, 0, 3], "it counts for nothing");
    let _works = master(&demo, &["--queue", "items"]);
    let job = until_state(&demo, &id, "done");
    has_done(&demo, &["0", "1", "2", "100", "101"]);
    assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("done a:done b:done", [3, 0, 3]));
    assert_eq!((tasks(&shown(&demo, &id), "a"), counts(&done(&demo))["b"]), ([3, 0, 3], 1));
    drop(next);
}

#[test]
fn items_that_end_before_the_end_of_their_splitter_is_told_wait_for_it() {
    let Some(demo) = demo() else { return };
    let _coordinator = master(&demo, &["--queue", "items", "--queue", "b"]);
    let id = started(&demo, &["two", "{}"]);
    let slow = DyingMaster::of(&demo, "a");
    slow.submits(&[0, 1, 2]);
    has_done(&demo, &["0", "1", "2"]);
    until("their ends are folded", || slow.foreign.ready(&ledger_queue("demo")) == 0);
    assert_eq!(tasks(&shown(&demo, &id), "a"), [0, 0, 1]);
    slow.tells_the_end(3);
    slow.settles();
    let job = until_state(&demo, &id, "done");
    assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("done a:done b:done", [4, 0, 4]));
}

/// Takes all messages of a queue and puts each back twice, in any order.
fn double(foreign: &Foreign, queue: &str, dice: &mut Dice) {
    let mut all = Vec::new();
    while let Some(message) = foreign.take(queue) {
        all.extend(
            [message.properties.clone(), message.properties].map(|properties| (properties, message.data.clone())),
        );
    }
    while !all.is_empty() {
        let (properties, body) = all.swap_remove(dice.below(all.len() as u64) as usize);
        foreign.publish(queue, properties, &body);
    }
}

#[test]
fn whatever_a_broker_doubles_and_shuffles_is_counted_once() {
    let Some(demo) = demo() else { return };
    // Who works the queues knows nothing of pipelines: what is told lies there until somebody coordinates.
    let settings = std::fs::read_to_string(demo.folder.path().join("asynctask.yaml")).expect("a file of ours");
    demo.write("plain.yaml", &settings.replace(&format!("pipelines:\n  {TWO}\n"), ""));
    let id = started(&demo, &["two", r#"{"a": {"items": 25, "page": 10}}"#]);
    let foreign = Foreign::connect(&demo.uri);
    let mut dice = Dice::new(8);
    let mut folds = 0;
    while shown(&demo, &id)["state"] == "running" {
        for queue in ["a", "items", "b"] {
            if Foreign::connect(&demo.uri).exists(queue) {
                double(&foreign, queue, &mut dice);
            }
        }
        let run = demo.run(&["workers", "--halt-when-empty", "-c", "plain.yaml"]);
        assert_eq!(run.code, 0, "{run:?}");
        double(&foreign, &ledger_queue("demo"), &mut dice);
        // Whoever gives an order folds what lies there first; a job that is done by that takes none.
        demo.run(&["jobs", "priority", &id, "1"]);
        folds += 1;
        assert!(folds < 20, "{}", shown(&demo, &id));
    }
    let job = shown(&demo, &id);
    assert_eq!(
        (states(&job).as_str(), tasks(&job, "a"), tasks(&job, "b")),
        ("done a:done b:done", [28, 0, 28], [1, 0, 1])
    );
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for did in done(&demo) {
        ids.entry(format!("{} {}", did.step, did.number)).or_default().insert(did.task);
    }
    assert_eq!((ids["a -"].len(), ids["b -"].len()), (1, 1), "each step was begun once");
    assert!(done(&demo).len() > 29, "tasks were doubled");
}
