//! A queue that the broker does not let us work, as a person sees it.

use serde_json::Value;

use super::{ends_with, failed_with, started, status, told};
use crate::support::{Demo, Place, broker, foreign::Foreign, http::Site, log::until};

#[test]
fn a_dead_letter_queue_that_takes_nothing_is_shown_until_it_does() {
    let Some(broker) = broker::shared() else { return };
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let foreign = Foreign::connect(&demo.uri);
    foreign.declare_full("bad_failed");
    let workers = "{ foo: demo_sleep_worker, bad: { worker: demo_sleep_worker, processes: 4 } }";
    demo.write("asynctask.yaml", &format!("metrics: {{ listen: 127.0.0.1:0 }}\nworkers: {workers}\n"));
    let mut master = demo.start_configured(&[]);
    let site = Site::told(&master.expect("Metrics at http://"));
    demo.submit_all("bad", [r#"{"then":"dead"}"#, r#"{"then":"dead"}"#].map(str::to_owned));
    master.expect("Tasks of queue bad that have ended are stuck: ");
    until("not both tasks are shown", || status(&demo)["queues"]["bad"]["stuck"]["tasks"] == 2);
    let queues = status(&demo)["queues"].clone();
    let stuck = &queues["bad"]["stuck"];
    let error = stuck["error"].as_str().expect("a reason");
    assert!(error.contains("\"bad_failed\"") && error.contains("full"), "{stuck}");
    assert_eq!((&queues["foo"]["stuck"], &queues["bad"]["state"]), (&Value::Null, &"running".into()));
    let held = |queue: &str| site.numbers()[&format!("asynctask_tasks_stuck{{queue=\"{queue}\"}}")] as u64;
    assert_eq!((held("bad"), held("foo")), (2, 0));
    let unhealthy = || {
        let health = demo.run(&["health"]);
        health.code != 0 && (health.stdout + &health.stderr).contains("tasks of queue bad are stuck")
    };
    until("health says nothing", unhealthy);
    // Both queues are worked all the same.
    demo.submit_all("foo", (0..10).map(|n| format!(r#"{{"n":{n}}}"#)));
    demo.submit_all("bad", (10..20).map(|n| format!(r#"{{"n":{n}}}"#)));
    until("the queues are not worked", || demo.done().len() == 20);
    foreign.delete("bad_failed");
    master.expect("Queue bad_failed takes tasks of queue bad again");
    until("health is not well again", || demo.run(&["health"]).code == 0);
    until("it is still shown", || status(&demo)["queues"]["bad"]["stuck"] == Value::Null);
    assert_eq!(demo.dead_letters("bad").len(), 2);
    told(&demo, &["stop"]);
    let log = ends_with(master, 0);
    assert_eq!(log.matches("that have ended are stuck").count(), 1, "{log}");
}

#[test]
fn the_counts_of_a_queue_that_is_refused_are_unknown_and_those_of_others_are_not() {
    let Some(broker) = broker::shared() else { return };
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let foreign = Foreign::connect(&demo.uri);
    foreign.declare_exclusive("theirs");
    let mut master = started(&demo, "workers: { foo: demo_quiet_worker, theirs: demo_quiet_worker }\n");
    master.expect("Queue theirs is unavailable");
    told(&demo, &["pause", "foo"]);
    demo.submit("foo", "1");
    let count = |queue: &Value| ["ready", "delayed", "failed"].map(|name| queue[name].as_u64());
    until("the task is not counted", || count(&status(&demo)["queues"]["foo"]) == [Some(1), Some(0), Some(0)]);
    assert_eq!(count(&status(&demo)["queues"]["theirs"]), [None; 3]);
    let queues = demo.json(&["queues", "--json"]);
    assert_eq!([count(&queues["foo"]), count(&queues["theirs"])], [[Some(1), Some(0), Some(0)], [None; 3]]);
    let table = demo.run(&["queues"]).stdout;
    let row = |name: &str| table.lines().find(|line| line.trim_start().starts_with(name)).expect("a row").to_owned();
    let cells = |name: &str| row(name).split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        (cells("foo"), cells("theirs")),
        (vec!["1".to_owned(), "0".into(), "0".into(), "0".into()], vec!["-".into(); 4])
    );
    // Alone it says why.
    let ran = demo.run(&["queues", "--set", "workers.foo=null"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    failed_with(&ran, "queue \"theirs\" cannot be had");
    told(&demo, &["stop"]);
    let log = ends_with(master, 0);
    assert!(!log.contains("was lost"), "{log}");
}

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
