//! What a master can be told.

use crate::{LONG, ends_with, on_each, refused, slots, started, status, support::log::until, told, until_slots};

const SETTINGS: &str = "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n";

#[test]
fn a_paused_queue_takes_nothing_until_it_is_resumed() {
    on_each(|demo| {
        let mut master = started(demo, SETTINGS);
        told(demo, &["pause", "foo"]);
        let line = master.expect("pause foo");
        assert!(line.contains("uid ") && line.contains("pid "), "who asked is not told: {line}");
        refused(demo, &["pause", "foo"], "paused already");
        refused(demo, &["resume", "bar"], "not paused");
        refused(demo, &["pause", "elsewhere"], "not a queue of this master");
        demo.submit("foo", r#"{"n":1}"#);
        demo.submit("bar", r#"{"n":2}"#);
        until("the other queue is not worked", || demo.done() == [r#"{"n":2}"#]);
        until("the task does not wait", || status(demo)["queues"]["foo"]["ready"] == 1);
        assert_eq!(status(demo)["queues"]["foo"]["state"], "paused");
        told(demo, &["resume", "foo"]);
        until("the task is not done", || demo.done().len() == 2);
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn a_queue_gets_as_many_processes_as_it_is_told() {
    on_each(|demo| {
        let master = started(demo, SETTINGS);
        assert_eq!(told(demo, &["scale", "foo", "3"]), "1 processes before, 3 now\n");
        until_slots(demo, "idle", 3);
        demo.submit_all("foo", [LONG.to_owned(), LONG.to_owned(), LONG.to_owned()]);
        until_slots(demo, "busy", 3);
        // What is in hand is finished, or in this case cancelled.
        told(demo, &["scale", "foo", "1"]);
        let stopping = |wanted: &str| slots(demo).iter().filter(|slot| slot["state"] == wanted).count();
        assert_eq!((stopping("stopping"), stopping("busy")), (2, 1));
        for slot in slots(demo) {
            told(demo, &["cancel", slot["task"]["id"].as_str().expect("it is busy")]);
        }
        until_slots(demo, "idle", 1);
        refused(demo, &["scale", "foo", "0"], "1 to 10000");
        refused(demo, &["scale", "foo", "10001"], "1 to 10000");
        until("the tasks are no dead letters", || demo.dead_letters("foo").len() == 3);
        assert!(demo.dead_letters("foo").iter().all(|letter| letter["reason"] == "cancelled"));
        told(demo, &["stop"]);
        ends_with(master, 0);
        assert!(demo.is_empty("foo"));
    });
}

#[test]
fn the_log_level_changes_at_once() {
    on_each(|demo| {
        let master = started(demo, SETTINGS);
        told(demo, &["log-level", "error"]);
        refused(demo, &["log-level", "loud"], "\"loud\" is not a level");
        demo.submit("foo", r#"{"n":1}"#);
        until("the task is not done", || demo.done().len() == 1);
        told(demo, &["log-level", "debug"]);
        demo.submit("foo", r#"{"n":2}"#);
        until("the task is not done", || demo.done().len() == 2);
        told(demo, &["stop"]);
        let log = ends_with(master, 0);
        assert!(!log.contains(r#"Got payload: {"n":1}"#) && log.contains(r#"Got payload: {"n":2}"#), "{log}");
    });
}

#[test]
fn a_stopping_master_is_told_nothing_else() {
    on_each(|demo| {
        let mut master = started(demo, SETTINGS);
        demo.submit("foo", LONG);
        until_slots(demo, "busy", 1);
        told(demo, &["stop"]);
        master.expect("Termination received; shutting down children");
        assert_eq!(status(demo)["state"], "stopping");
        assert_eq!(demo.run(&["health"]).code, 1);
        refused(demo, &["scale", "foo", "2"], "the master is stopping");
        told(demo, &["stop", "--now"]);
        ends_with(master, 82);
        assert_eq!(demo.depth("foo")["ready"], 1);
    });
}
