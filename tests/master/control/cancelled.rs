//! Ending one task by hand, wherever it is.

use super::{Demo, LONG, Place, ends_with, on_each_in_turn, refused, slots, started, status, told, until_slots};
use crate::support::log::{Master, until};

const SETTINGS: &str = "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n";

fn is_file(demo: &Demo) -> bool {
    demo.uri.starts_with("sqlite:")
}

/// A worker that takes two tasks at once and never ends one.
const TWO_AT_ONCE: &str = r#"
import json, os, socket
frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
def say(frame): frames.sendall(json.dumps(frame).encode() + b"\n")
say({"ready": {"protocol": 1, "name": "Two", "concurrency": 2}})
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "task" in frame and frame["task"]["payload"] == {"short": True}:
        say({"done": {"id": frame["task"]["id"]}})
    elif "halt" in frame:
        say({"bye": {}})
        break
"#;

fn ends(demo: &Demo, master: Master) {
    told(demo, &["stop", "--now"]);
    ends_with(master, 82);
}

#[test]
fn a_task_in_hand_is_cancelled_and_nothing_else() {
    on_each_in_turn(|demo| {
        let master = started(demo, SETTINGS);
        let ids = demo.submit_ids("foo", [LONG.to_owned(), r#"{"n":2}"#.to_owned()]);
        until_slots(demo, "busy", 1);
        assert_eq!(slots(demo)[0]["task"]["id"], ids[0].as_str());
        told(demo, &["cancel", &ids[0]]);
        until("the next one is not done", || demo.done() == [r#"{"n":2}"#]);
        until("there is no dead letter", || demo.dead_letters("foo").len() == 1);
        let letter = &demo.dead_letters("foo")[0];
        assert_eq!((&letter["id"], &letter["reason"]), (&ids[0].as_str().into(), &"cancelled".into()));
        // What has ended is not touched.
        let why =
            if is_file(demo) { "is a dead letter of queue foo already" } else { "not possible on this transport" };
        refused(demo, &["cancel", &ids[0]], why);
        assert_eq!(demo.dead_letters("foo").len(), 1);
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn a_waiting_task_is_removed_from_a_file_and_cannot_be_found_on_a_broker() {
    on_each_in_turn(|demo| {
        let master = started(demo, SETTINGS);
        told(demo, &["pause", "foo"]);
        let ready = demo.submit("foo", r#"{"n":1}"#);
        let ran = demo.run(&["submit", "bar", r#"{"n":2}"#, "--delay", "10m", "--json", "--id", "late-one"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        until("the task does not wait", || demo.depth("foo")["ready"] == 1);
        if is_file(demo) {
            assert_eq!(told(demo, &["cancel", &ready]), "it waited in queue foo and is removed\n");
            assert_eq!(told(demo, &["cancel", "late-one"]), "it waited in queue bar and is removed\n");
            assert!(demo.is_empty("foo") && demo.is_empty("bar"));
            refused(demo, &["cancel", &ready], "no such task");
            refused(demo, &["cancel", "nobody's"], "no such task");
        } else {
            refused(demo, &["cancel", &ready], "not possible on this transport");
            refused(demo, &["cancel", "nobody's"], "not possible on this transport");
            assert_eq!(demo.depth("foo")["ready"], 1);
        }
        // Removed, no dead letter.
        assert_eq!((demo.dead_letters("foo").len(), demo.dead_letters("bar").len()), (0, 0));
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn the_neighbours_of_a_cancelled_task_lose_no_attempt() {
    on_each_in_turn(|demo| {
        demo.write("two.py", TWO_AT_ONCE);
        let settings =
            "workers: { foo: { worker: two, concurrency: 2 } }\nkinds: { two: { command: [python3, two.py] } }\n";
        let mut master = started(demo, settings);
        let ids = demo.submit_ids("foo", ["{}".to_owned(), "{}".to_owned()]);
        until("not both are in hand", || status(demo)["queues"]["foo"]["in_hand"] == 2);
        let first = slots(demo)[0]["task"]["id"].as_str().expect("it is busy").to_owned();
        let other = ids.iter().find(|id| **id != first).expect("two different ones");
        told(demo, &["cancel", &first]);
        master.expect(&format!("task {other} is back in its queue, no attempt used"));
        until("there is no dead letter", || demo.dead_letters("foo").len() == 1);
        until("the other one is not begun again", || slots(demo)[0]["task"]["id"] == other.as_str());
        let letter = &demo.dead_letters("foo")[0];
        assert_eq!((&letter["id"], &letter["reason"]), (&first.as_str().into(), &"cancelled".into()));
        let slot = &slots(demo)[0];
        assert_eq!((&slot["failed"], &slot["restarts"]), (&1.into(), &1.into()), "{slot}");
        assert!(slot["last_exit"].as_str().is_some_and(|exit| exit.contains("a person cancelled")), "{slot}");
        told(demo, &["cancel", other]);
        until("the other one is no dead letter", || demo.dead_letters("foo").len() == 2);
        // It was its first attempt, still.
        let letters = demo.dead_letters("foo");
        let letter = letters.iter().find(|letter| letter["id"] == other.as_str()).expect("it is there");
        assert_eq!(letter["attempts"], 1, "{letter}");
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn a_task_in_the_hands_of_another_master_is_told_to_be_there() {
    let demo = Demo::new(&Place::sqlite());
    let mut other = demo.start(r#"{"foo": "demo_sleep_worker"}"#, &[]);
    let id = demo.submit("foo", LONG);
    other.expect("Got payload");
    let master = started(&demo, SETTINGS);
    refused(&demo, &["cancel", &id], &format!("in the hands of another master (pid {})", other.pid()));
    let again = demo.submit("foo", LONG);
    until_slots(&demo, "busy", 1);
    told(&demo, &["cancel", &again]);
    until("there is no dead letter", || demo.dead_letters("foo").len() == 1);
    told(&demo, &["stop"]);
    ends_with(master, 0);
    other.signal(nix::sys::signal::Signal::SIGQUIT);
    ends_with(other, 82);
}

/// The file is read through: with many tasks in it the command takes a moment, and no longer.
#[test]
fn one_of_many_is_found() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let ids = demo.submit_ids("foo", (0..20_000).map(|number| format!("{{\"n\":{number},\"sleep_ms\":600000}}")));
    let master = started(&demo, SETTINGS);
    until_slots(&demo, "busy", 1);
    told(&demo, &["cancel", &ids[19_999]]);
    assert_eq!(demo.depth("foo")["ready"], 19_998);
    ends(&demo, master);
}
