//! Pauses of queues: for a time, over the end of a master, for somebody.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Demo, Place, asked, ends_with, failed_with, on_each_in_turn, started, status, told};
use crate::support::log::until;

const SETTINGS: &str = "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n";

fn paused(demo: &Demo) -> Value {
    status(demo)["queues"]["foo"]["paused"].clone()
}

#[test]
fn a_pause_for_a_time_ends_by_itself() {
    on_each_in_turn(|demo| {
        let mut master = started(demo, SETTINGS);
        assert_eq!(
            told(demo, &["pause", "foo", "--for", "1500ms"]),
            "paused for 1.5 s, then resumed by itself; tasks in hand are finished\n"
        );
        demo.submit("foo", r#"{"n":1}"#);
        let shown = paused(demo);
        assert!(shown["until"].is_string() && shown["since"].is_string() && shown["kept"] == true, "{shown}");
        master.expect("Queue foo is resumed: its pause is over");
        until("the task is not done", || demo.done().len() == 1);
        assert_eq!(paused(demo), Value::Null);
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn the_last_word_on_a_pause_counts() {
    let demo = Demo::new(&Place::sqlite());
    let master = started(&demo, SETTINGS);
    told(&demo, &["pause", "foo", "--for", "200ms"]);
    told(&demo, &["pause", "foo"]);
    // The first time is over now at the latest when one that was asked for later is.
    told(&demo, &["pause", "bar", "--for", "400ms"]);
    until("bar is paused for ever", || status(&demo)["queues"]["bar"]["paused"].is_null());
    assert_eq!(paused(&demo)["until"], Value::Null);
    told(&demo, &["pause", "foo", "--for", "1h"]);
    assert!(paused(&demo)["until"].is_string());
    for wrong in ["0", "-1s", "soon", "1x"] {
        let ran = demo.run(&["control", "pause", "foo", "--for", wrong]);
        assert_eq!(ran.code, 64, "{wrong}: {}", ran.stderr);
    }
    told(&demo, &["resume", "foo"]);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn a_pause_outlives_the_master_however_that_ends() {
    on_each_in_turn(|demo| {
        let master = started(demo, SETTINGS);
        told(demo, &["pause", "foo"]);
        let file = demo.folder.path().join("asynctask.sock.paused");
        until("nothing is kept", || file.exists());
        demo.submit("foo", r#"{"n":1}"#);
        master.signal(Signal::SIGKILL);
        assert_eq!(master.wait().0, -9);
        let mut master = demo.start_configured(&[]);
        let line = master.expect("Queue foo is paused, as uid ");
        assert!(line.contains("`control resume foo` works it at once"), "{line}");
        master.expect("Starting; queue=bar");
        demo.submit("bar", r#"{"n":2}"#);
        until("the other queue is not worked", || demo.done().len() == 1);
        assert_eq!(status(demo)["queues"]["foo"]["state"], "paused");
        assert!(paused(demo)["by"].as_str().is_some_and(|by| by.starts_with("uid ")));
        told(demo, &["stop"]);
        ends_with(master, 0);
        let mut master = demo.start_configured(&[]);
        master.expect("Queue foo is paused, as uid ");
        told(demo, &["resume", "foo"]);
        until("the task is not done", || demo.done().len() == 2);
        until("a pause is kept that is over", || !file.exists());
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn a_pause_whose_time_is_over_is_over() {
    let demo = Demo::new(&Place::sqlite());
    let past = json!({
        "foo": { "by": "uid 0 (pid 1)", "since_ms": 1_700_000_000_000_u64, "until_ms": 1_700_000_900_000_u64 },
        "gone": { "by": "uid 0 (pid 1)", "since_ms": 1_700_000_000_000_u64, "until_ms": null },
    });
    demo.write("asynctask.sock.paused", &past.to_string());
    demo.submit("foo", r#"{"n":1}"#);
    let master = started(&demo, SETTINGS);
    until("the task is not done", || demo.done().len() == 1);
    let file = demo.folder.path().join("asynctask.sock.paused");
    until("a pause is kept that is over", || !file.exists());
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn a_run_that_is_to_halt_is_not_held_up_by_what_another_one_paused() {
    let demo = Demo::new(&Place::sqlite());
    let kept = json!({ "foo": { "by": "uid 0 (pid 1)", "since_ms": 0, "until_ms": null } });
    demo.write("asynctask.sock.paused", &kept.to_string());
    demo.write("asynctask.yaml", SETTINGS);
    demo.submit("foo", r#"{"n":1}"#);
    let ran = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!((ran.code, demo.done().len()), (0, 1), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_command_says_for_whom_it_is_given() {
    let demo = Demo::new(&Place::sqlite());
    let mut master = started(&demo, SETTINGS);
    let answer = asked(&demo, &json!({ "command": "pause", "queue": "foo", "for": "anna" }));
    assert!(answer["done"].is_string(), "{answer}");
    let line = master.expect("asks: pause foo");
    assert!(line.contains(") for anna asks"), "{line}");
    assert!(paused(&demo)["by"].as_str().is_some_and(|by| by.ends_with(" for anna")));
    let long = "x".repeat(101);
    for wrong in [json!(""), json!("a\nb"), json!(1), json!(null), json!(long)] {
        let answer = asked(&demo, &json!({ "command": "resume", "queue": "foo", "for": wrong }));
        assert!(answer["refused"]["message"].as_str().is_some_and(|text| text.contains("`for` is a name")), "{answer}");
    }
    let ran = demo.run(&["control", "--socket", "nowhere", "pause", "foo"]);
    failed_with(&ran, "no master answers");
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

/// A pause that Celery's tools ask for is one of the worker, as there.
#[test]
fn a_pause_that_is_not_to_be_kept_ends_with_its_master() {
    let demo = Demo::new(&Place::sqlite());
    let master = started(&demo, SETTINGS);
    asked(&demo, &json!({ "command": "pause", "queue": "foo", "unkept": true }));
    assert_eq!(paused(&demo)["kept"], false);
    demo.submit("foo", r#"{"n":1}"#);
    told(&demo, &["stop"]);
    ends_with(master, 0);
    let master = demo.start_configured(&[]);
    until("the task is not done", || demo.done().len() == 1);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}
