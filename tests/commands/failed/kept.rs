//! Dead letters are kept as long as said, also behind others that are kept longer, without anybody looking at them.
//!
//! A broker lets a message expire only at the head of its queue; what lies there is counted here by a passive declare.

use lapin::{BasicProperties, types::AMQPValue};

use super::{ids, on_each, store};
use crate::support::{
    Demo, Place,
    foreign::Foreign,
    log::{Master, Stopwatch, until},
};

/// With this `keep`, the dead letters of two queues in one place.
fn workers(keep: &str) -> String {
    let queue = |name: &str| {
        format!(r#""{name}": {{"worker": "demo_error_worker", "dead_letter": {{"queue": "dead", "keep": "{keep}"}}}}"#)
    };
    format!("{{{}, {}}}", queue("foo"), queue("bar"))
}

fn start(demo: &Demo, keep: &str) -> Master {
    let mut master = demo.start(&workers(keep), &[]);
    for _ in 0..2 {
        master.expect("Starting; queue=");
    }
    master
}

fn stop(master: Master) {
    master.signal(nix::sys::signal::Signal::SIGTERM);
    master.wait();
}

/// Lets these tasks of a queue fail for good while a master with this `keep` runs.
fn bury(demo: &Demo, queue: &str, keep: &str, names: &[&str]) {
    for name in names {
        let ran = demo.run(&["submit", queue, r#"{"error":true}"#, "--id", name]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let ran = demo.workers(&workers(keep), &["--halt-when-empty"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

fn left(demo: &Demo) -> Vec<String> {
    let set = format!("workers={}", workers("forever"));
    let list = |queue: &str| ids(&demo.run(&["failed", "list", queue, "--json", "--set", &set]));
    [list("foo"), list("bar")].concat()
}

#[test]
fn what_is_over_goes_from_behind_what_is_kept_for_ever() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    bury(&demo, "foo", "forever", &["f1"]);
    let foreign = Foreign::connect(&demo.uri);
    // Dead-lettered by others: it has no time.
    foreign.publish("dead", BasicProperties::default().with_message_id("f2".into()), b"1");
    let mut master = start(&demo, "2s");
    demo.submit_all("foo", ["a", "b", "c"].map(|name| format!(r#"{{"error":true,"n":"{name}"}}"#)));
    for _ in 0..3 {
        master.expect("dead-lettered to dead");
    }
    let watch = Stopwatch::start();
    until("they are kept", || foreign.ready("dead") == 2);
    eprintln!("gone after {:?}", watch.elapsed());
    stop(master);
    // Of which queue the other one is nobody knows.
    assert_eq!(left(&demo), ["f1", "f2", "f2"]);
}

#[test]
fn what_an_earlier_master_left_goes_too_and_the_others_keep_their_order() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    bury(&demo, "foo", "forever", &["f1"]);
    bury(&demo, "bar", "1s", &["a"]);
    bury(&demo, "foo", "forever", &["f2"]);
    bury(&demo, "bar", "1s", &["b", "c"]);
    bury(&demo, "foo", "1h", &["f3"]);
    let foreign = Foreign::connect(&demo.uri);
    // Both see to it, and to nothing twice.
    let masters = [start(&demo, "forever"), start(&demo, "forever")];
    until("they are kept", || foreign.ready("dead") == 3);
    masters.into_iter().for_each(stop);
    assert_eq!(left(&demo), ["f1", "f2", "f3"]);
}

/// More than are taken in the first step, so that some lie there while others are held.
#[test]
fn a_walk_that_is_on_is_not_disturbed() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    store::bury_many(&demo, "foo", 60);
    let foreign = Foreign::connect(&demo.uri);
    let is_retried = |number: &usize| number.is_multiple_of(2) && *number < 12;
    let (retried, kept): (Vec<usize>, Vec<usize>) = (0..60).partition(is_retried);
    let names = |numbers: &[usize]| -> Vec<String> { numbers.iter().map(ToString::to_string).collect() };
    let mut walk = demo.command(&["failed", "retry", "foo", "--rate", "1/s"]);
    let walk = walk.args(names(&retried)).stdout(std::process::Stdio::piped()).spawn().expect("the demo starts");
    until("it does not begin", || foreign.ready("foo") > 0);
    // It begins while the walk is on; what it buries is over meanwhile.
    let bar = r#"{"bar": {"worker": "demo_error_worker", "dead_letter": {"queue": "foo_failed", "keep": "500ms"}}}"#;
    let master = demo.start(bar, &[]);
    demo.submit_all("bar", [1, 2].map(|n| format!(r#"{{"error":true,"n":{n}}}"#)));
    let output = walk.wait_with_output().expect("it is our child");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "6 dead letters of queue foo retried\n");
    until("they are kept", || foreign.ready("foo_failed") == 54);
    stop(master);
    assert_eq!(ids(&demo.run(&["failed", "list", "foo", "--json"])), names(&kept));
    assert_eq!(store::waiting(&demo, "foo"), names(&retried));
}

/// Each return counts toward the limit of such a queue.
#[test]
fn a_queue_that_bears_few_returns_is_left_alone() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    let foreign = Foreign::connect(&demo.uri);
    let quorum = AMQPValue::LongString("quorum".into());
    foreign.declare("dead", &[("x-queue-type", quorum), ("x-delivery-limit", AMQPValue::LongInt(3))]);
    bury(&demo, "foo", "forever", &["f1"]);
    bury(&demo, "foo", "1s", &["a"]);
    let mut master = start(&demo, "1s");
    master.expect("\"dead\" is not swept");
    assert_eq!(foreign.ready("dead"), 2);
    stop(master);
    let first = foreign.take("dead").expect("it is there").properties;
    let returned = first.headers().as_ref().and_then(|headers| headers.inner().get("x-delivery-count").cloned());
    assert!(matches!(returned, None | Some(AMQPValue::LongLongInt(0))), "it was given back: {returned:?}");
}

#[test]
fn on_each_transport_the_count_is_right_while_a_master_lives() {
    on_each(|demo| {
        bury(demo, "foo", "forever", &["f1"]);
        let mut master = start(demo, "1s");
        demo.submit_all("foo", ["a", "b", "c"].map(|name| format!(r#"{{"error":true,"n":"{name}"}}"#)));
        for _ in 0..3 {
            master.expect("dead-lettered to dead");
        }
        let set = format!("workers={}", workers("forever"));
        let failed = || demo.json(&["queues", "--json", "--set", &set])["foo"]["failed"].clone();
        until("they are kept", || failed() == 1);
        stop(master);
        assert_eq!(left(demo), ["f1"]);
    });
}
