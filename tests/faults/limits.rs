//! What bounds a task: its time limit, and how often it may be delivered without any outcome.

use nix::sys::signal::Signal;

use super::{on_each, once_each};
use crate::support::{Demo, Place, foreign::Foreign};

#[test]
fn a_task_over_its_time_limit_uses_its_attempts_and_no_more() {
    on_each(|demo| {
        let bad = demo.submit("foo", r#"{"n":0,"then":"hang"}"#);
        demo.submit_all("foo", (1..20).map(|n| format!(r#"{{"n":{n}}}"#)));
        let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 2, "timeout": "700ms",
            "retry": {"max_attempts": 2, "first": "100ms", "jitter": "0%"}}}"#;
        let run = demo.workers(workers, &["--halt-when-empty"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout.matches("ran into its time limit\n").count(), 2, "{}", run.stdout);
        once_each(demo, 1..20);
        let letter = demo.json(&["failed", "show", "foo", &bad, "--json"]);
        assert_eq!((&letter["reason"], &letter["attempts"]), (&"timeout".into(), &2.into()), "{letter}");
        assert_eq!(letter["exit"]["signal"], "SIGKILL", "{letter}");
        assert!(letter["in_hand_seconds"].as_f64().is_some_and(|seconds| (0.7..5.0).contains(&seconds)), "{letter}");
        assert!(demo.is_empty("foo"));
        demo.nobody_is_left();
    });
}

/// Masters that are killed with a task in hand say nothing about it; the deliveries are counted all the same.
fn deliveries_are_bounded(demo: &Demo) {
    let bad = demo.submit("foo", r#"{"n":0,"then":"hang"}"#);
    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "max_deliveries": 3}}"#;
    for _ in 0..3 {
        let mut master = demo.start(workers, &[]);
        master.expect("Got payload");
        master.signal(Signal::SIGKILL);
        assert_eq!(master.wait().0, -9);
        demo.nobody_is_left();
        assert_eq!(demo.depth("foo")["failed"], 0, "not before the limit");
    }
    demo.submit("foo", r#"{"n":1}"#);
    let run = demo.workers(workers, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.stdout.matches("Got payload").count(), 1, "{}", run.stdout);
    once_each(demo, [1]);
    let letters = demo.dead_letters("foo");
    assert_eq!(letters.len(), 1, "{letters:?}");
    // An attempt is what ended in an outcome: there was none.
    let told = (&letters[0]["id"], &letters[0]["reason"], &letters[0]["attempts"]);
    assert_eq!(told, (&bad.into(), &"deliveries".into(), &0.into()));
    assert!(demo.is_empty("foo"));
}

#[test]
fn a_task_whose_masters_are_killed_is_dead_lettered_at_the_limit_and_never_earlier() {
    on_each(deliveries_are_bounded);
}

/// Such a queue counts nothing by itself.
#[test]
fn nor_is_it_on_a_classic_queue() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    Foreign::connect(&demo.uri).declare_classic("foo");
    deliveries_are_bounded(&demo);
}
