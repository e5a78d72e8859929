//! One queue that cannot be worked, beside one that can.

use std::time::Duration;

use serde_json::Value;

use super::{once_each, stopped};
use crate::support::{
    Demo, Place, broker,
    foreign::Foreign,
    log::{Stopwatch, until},
};

const BOTH: &str = r#"{"good": "demo_sleep_worker", "bad": "demo_sleep_worker"}"#;

/// Queue `bad` has an exclusive consumer elsewhere.
fn occupied() -> Option<(Demo, Foreign)> {
    let demo = Demo::new(&Place::Amqp(broker::shared()?.fresh_vhost()));
    let foreign = Foreign::connect(&demo.uri);
    // A quorum queue knows no exclusive consumers.
    foreign.declare_classic("bad");
    foreign.consume_exclusively("bad");
    Some((demo, foreign))
}

fn queue(demo: &Demo, name: &str) -> Value {
    let status = demo.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).expect("the status is JSON");
    status["queues"][name].clone()
}

#[test]
fn an_unavailable_queue_is_shown_and_comes_back_and_the_others_are_worked() {
    let Some((demo, foreign)) = occupied() else { return };
    let mut master = demo.start(BOTH, &[]);
    master.expect("Queue bad is unavailable: queue \"bad\" cannot be had: ACCESS_REFUSED");
    let bad = queue(&demo, "bad");
    assert_eq!(bad["state"], "unavailable", "{bad}");
    assert!(bad["unavailable"]["error"].as_str().expect("a reason").contains("exclusive"), "{bad}");
    assert!(bad["unavailable"]["again_in_seconds"].as_f64().is_some_and(|seconds| seconds <= 36.0), "{bad}");
    assert_eq!(
        (&queue(&demo, "good")["state"], &queue(&demo, "good")["unavailable"]),
        (&"running".into(), &Value::Null)
    );
    let health = demo.run(&["health"]);
    assert!(
        health.code != 0 && health.stdout.contains("queue bad is unavailable"),
        "{}{}",
        health.stdout,
        health.stderr
    );
    demo.submit_all("good", (0..20).map(|n| format!(r#"{{"n":{n}}}"#)));
    until("the other queue is not worked", || demo.done().len() == 20);
    demo.submit("bad", r#"{"n":20}"#);
    foreign.stop_consuming();
    master.expect("Queue bad is available again");
    until("it is not worked again", || demo.done().len() == 21);
    assert!(demo.run(&["health"]).code == 0);
    let log = master.log().text();
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    once_each(&demo, 0..21);
    // Told once, however often it was tried.
    assert_eq!(log.matches("Queue bad is unavailable").count(), 1, "{log}");
    assert!(!log.contains("was lost"), "{log}");
}

#[test]
fn a_run_that_halts_does_the_work_of_the_others_and_names_the_queue() {
    let Some((demo, _foreign)) = occupied() else { return };
    demo.submit_all("good", (0..5).map(|n| format!(r#"{{"n":{n},"sleep_ms":200}}"#)));
    let watch = Stopwatch::start();
    let run = demo.workers(BOTH, &["--halt-when-empty"]);
    let took = watch.elapsed();
    assert_eq!(run.code, 69, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("queue bad was unavailable for 30 s"), "{}", run.stderr);
    assert!((Duration::from_secs(29)..Duration::from_secs(45)).contains(&took), "it took {took:?}");
    once_each(&demo, 0..5);
}
