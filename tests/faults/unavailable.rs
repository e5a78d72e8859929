//! One queue that cannot be worked, beside one that can.

use std::time::Duration;

use super::once_each;
use crate::support::{Demo, Place, broker, foreign::Foreign, log::Stopwatch};

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
