//! Tasks that come again while they are in hand here, or after they have ended, on queues of every kind.

use std::time::Duration;

use lapin::types::AMQPValue;

use super::{once_each, stopped, told, vhost};
use crate::support::{
    Demo, Place,
    broker::{self, Broker},
    foreign::Foreign,
    log::{Master, until},
    proxy::Proxy,
};

/// Queues as others declare them; of the first kind, we do.
const KINDS: [&str; 4] = ["quorum", "classic", "priorities", "single"];

fn declare(demo: &Demo) {
    let foreign = Foreign::connect(&demo.uri);
    foreign.declare("classic", &[]);
    foreign.declare("priorities", &[("x-max-priority", AMQPValue::ShortShortUInt(5))]);
    foreign.declare("single", &[("x-single-active-consumer", AMQPValue::Boolean(true))]);
}

/// Three tasks of each kind of queue begin, the connection is lost, and all are done once.
fn lost_while_tasks_run(demo: &Demo, transport: &str, lose: impl FnOnce(&mut Master)) {
    declare(demo);
    let mut workers = Vec::new();
    for (kind, number) in KINDS.iter().zip(0..) {
        let payload = |n: u64| format!(r#"{{"n":{},"sleep_ms":3000}}"#, number * 3 + n);
        demo.submit_all(kind, (0..3).map(payload));
        workers.push(format!(r#""{kind}": {{"worker": "demo_sleep_worker", "processes": 3}}"#));
    }
    let mut master = demo.start(&format!("{{{}}}", workers.join(", ")), &["--set", transport]);
    let log = master.log();
    told(&log, "Got payload", 12);
    lose(&mut master);
    told(&log, "The connection is back", 1);
    told(&log, "Processing complete", 12);
    until("something is left", || KINDS.iter().all(|kind| demo.is_empty(kind)));
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    once_each(demo, 0..12);
    assert_eq!(log.text().matches("Got payload").count(), 12, "begun again: {}", log.text());
    assert!(KINDS.iter().all(|kind| demo.dead_letters(kind).is_empty()));
}

/// The connection is back before the tasks end, and after.
#[test]
fn no_kind_of_queue_has_a_task_run_again_after_a_loss() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let Some((broker, demo)) = controlled() else { return };
            let transport = format!("transport={}", demo.uri);
            lost_while_tasks_run(&demo, &transport, |master| {
                broker.control(&["close_all_connections", "--vhost", vhost(&demo), "test"]);
                master.expect("; again in ");
            });
        });
        scope.spawn(|| {
            let Some((broker, demo)) = controlled() else { return };
            let proxy = Proxy::before(broker.port());
            let transport = format!("transport={}", proxy.address(&demo.uri, broker.port()));
            lost_while_tasks_run(&demo, &transport, |master| {
                proxy.sever();
                master.expect("; again in ");
                told(&master.log(), "Processing complete", 12);
                assert!(!master.log().text().contains("The connection is back"));
                proxy.mend();
            });
        });
    });
}

fn controlled() -> Option<(&'static Broker, Demo)> {
    let broker = broker::controlled()?;
    Some((broker, Demo::new(&Place::Amqp(broker.fresh_vhost()))))
}

/// Of a message without an id nothing is promised, but it is neither lost nor run for ever.
#[test]
fn a_task_longer_than_the_time_out_of_the_broker_is_done_once() {
    let Some(broker) = broker::own() else { return };
    broker.control(&[
        "eval",
        "application:set_env(rabbit, consumer_timeout, 2000), application:set_env(rabbit, channel_tick_interval, 500).",
    ]);
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let foreign = Foreign::connect(&demo.uri);
    for queue in ["classic", "nameless"] {
        foreign.declare(queue, &[]);
    }
    foreign.declare("quorum", &[("x-queue-type", AMQPValue::LongString("quorum".into()))]);
    demo.submit("classic", r#"{"n":0,"sleep_ms":7000}"#);
    demo.submit("quorum", r#"{"n":1,"sleep_ms":7000}"#);
    foreign.publish("nameless", lapin::BasicProperties::default(), br#"{"n":2,"sleep_ms":3000}"#);
    let settings = r#"{"worker": "demo_sleep_worker", "processes": 2, "max_deliveries": 3}"#;
    let workers = format!(r#"{{"classic": {settings}, "quorum": {settings}, "nameless": {settings}}}"#);
    let master = demo.start(&workers, &[]);
    let log = master.log();
    // The broker takes each of them back before it is done.
    told(&log, " is unavailable: ", 3);
    told(&log, "Processing complete", 3);
    until("something is left", || ["classic", "quorum", "nameless"].iter().all(|queue| demo.is_empty(queue)));
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    let mut done = super::numbers_done(&demo);
    done.sort_unstable();
    assert_eq!(done.iter().filter(|n| **n < 2).collect::<Vec<_>>(), [&0, &1], "{}", log.text());
    assert!((1..=3).contains(&done.iter().filter(|n| **n == 2).count()), "{done:?}");
    for queue in ["classic", "quorum", "nameless"] {
        assert_eq!(demo.dead_letters(queue), [] as [serde_json::Value; 0], "{queue}");
    }
}
