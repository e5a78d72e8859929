//! A queue that the broker does not let us work, as a person sees it.

use serde_json::Value;

use crate::{
    ends_with, started, status,
    support::{Demo, Place, broker, foreign::Foreign, log::until},
    told,
};

#[test]
fn an_unavailable_queue_is_shown_and_comes_back_and_the_others_are_worked() {
    let Some(broker) = broker::shared() else { return };
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let foreign = Foreign::connect(&demo.uri);
    // A quorum queue knows no exclusive consumers.
    foreign.declare_classic("bad");
    foreign.consume_exclusively("bad");
    let mut master = started(&demo, "workers: { foo: demo_sleep_worker, bad: demo_sleep_worker }\n");
    master.expect("Queue bad is unavailable: queue \"bad\" cannot be had: ACCESS_REFUSED");
    let queues = status(&demo)["queues"].clone();
    let bad = &queues["bad"];
    assert_eq!(bad["state"], "unavailable", "{bad}");
    assert!(bad["unavailable"]["error"].as_str().expect("a reason").contains("exclusive"), "{bad}");
    assert!(bad["unavailable"]["again_in_seconds"].as_f64().is_some_and(|seconds| seconds <= 36.0), "{bad}");
    assert_eq!((&queues["foo"]["state"], &queues["foo"]["unavailable"]), (&"running".into(), &Value::Null));
    let health = demo.run(&["health"]);
    let said = health.stdout + &health.stderr;
    assert!(health.code != 0 && said.contains("queue bad is unavailable"), "{said}");
    demo.submit_all("foo", (0..20).map(|n| format!(r#"{{"n":{n}}}"#)));
    until("the other queue is not worked", || demo.done().len() == 20);
    foreign.stop_consuming();
    master.expect("Queue bad is available again");
    demo.submit("bad", r#"{"n":20}"#);
    until("it is not worked again", || demo.done().len() == 21);
    assert!(demo.run(&["health"]).code == 0);
    told(&demo, &["stop"]);
    let log = ends_with(master, 0);
    // Told once, however often it was tried.
    assert_eq!(log.matches("Queue bad is unavailable").count(), 1, "{log}");
    assert!(!log.contains("was lost"), "{log}");
}
