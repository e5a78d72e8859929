//! A broker that is short of memory: it takes nothing from publishers, and everything else goes on.

use std::{collections::BTreeSet, time::Duration};

use super::{once_each, stopped, told, vhost};
use crate::support::{
    Demo, Place,
    broker::{self, Broker},
    log::until,
};

#[test]
fn an_alarm_holds_up_retries_and_nothing_else() {
    // It is the whole broker's, so nobody else can use that one; one start of a broker has to do for all of this.
    let Some(broker) = broker::own() else { return };
    it_passes_and_retries_go_on(&broker);
    acknowledgements_go_on_and_a_stop_ends(&broker);
}

fn acknowledgements_go_on_and_a_stop_ends(broker: &Broker) {
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let good = 0..8_u64;
    demo.submit_all("good", good.clone().map(|n| format!(r#"{{"n":{n},"sleep_ms":1000}}"#)));
    let bad = demo.submit_ids("bad", (0..2).map(|n| format!(r#"{{"bad":{n},"sleep_ms":4000,"then":"error"}}"#)));
    let workers = r#"{"good": "demo_sleep_worker",
        "bad": {"worker": "demo_sleep_worker", "processes": 2, "retry": {"max_attempts": 2, "first": "100ms"}}}"#;
    let mut master = demo.start(workers, &[]);
    let log = master.log();
    told(&log, "Got payload", 3);
    broker.control(&["set_vm_memory_high_watermark", "0.00001"]);
    told(&log, "An unhandled exception occurred", 2);
    master.expect("the broker takes nothing from publishers for now");
    told(&log, "Processing complete", 8);
    let depth = |queue: &str| {
        let text = broker.control(&["list_queues", "-p", vhost(&demo), "name", "messages", "--no-table-headers"]);
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(queue)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|count| count.parse::<u32>().ok())
    };
    until("what was done is not acknowledged", || depth("good") == Some(0));
    // The retries are stored nowhere yet, so their tasks are where they were.
    assert_eq!((depth("bad"), depth("bad.retry.100")), (Some(2), Some(0)));
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    demo.nobody_is_left();
    broker.control(&["set_vm_memory_high_watermark", "0.6"]);
    once_each(&demo, good);
    let run = demo.workers(workers, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let letters = demo.dead_letters("bad");
    let ids: BTreeSet<&str> = letters.iter().filter_map(|letter| letter["id"].as_str()).collect();
    assert_eq!(ids, bad.iter().map(String::as_str).collect(), "{letters:?}");
    // What was sent into the alarm may yet be taken after it: a copy of a task, by its name.
    println!("{} dead letters of {} tasks", letters.len(), ids.len());
    assert!(demo.is_empty("good") && demo.is_empty("bad"));
}

fn it_passes_and_retries_go_on(broker: &Broker) {
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let ids = demo.submit_ids("bad", [r#"{"sleep_ms":2500,"then":"error"}"#.to_owned()]);
    let workers = r#"{"bad": {"worker": "demo_sleep_worker", "retry": {"max_attempts": 2, "first": "100ms"}}}"#;
    let mut master = demo.start(workers, &["--halt-when-empty"]);
    master.expect("Got payload");
    broker.control(&["set_vm_memory_high_watermark", "0.00001"]);
    master.expect("the broker takes nothing from publishers for now");
    broker.control(&["set_vm_memory_high_watermark", "0.6"]);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    assert_eq!(log.matches("Got payload").count(), 2, "{log}");
    let letters = demo.dead_letters("bad");
    assert_eq!((letters.len(), &letters[0]["id"], &letters[0]["attempts"]), (1, &ids[0].as_str().into(), &2.into()));
}
