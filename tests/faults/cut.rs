//! The way to the broker: cut, stalled, silent; and a queue that is deleted meanwhile.

use std::{net::TcpListener, time::Duration};

use super::{on_each, once_each, stopped, told, vhost};
use crate::support::{
    Demo, Place,
    broker::{self, Broker},
    foreign::Foreign,
    log::{Master, Stopwatch},
    proxy::Proxy,
};

/// A demo on the tests' own broker with a proxy in between, and the option that leads a master through it.
fn proxied(query: &str) -> Option<(&'static Broker, Demo, Proxy, String)> {
    let broker = broker::shared().filter(|broker| broker.is_own())?;
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let proxy = Proxy::before(broker.port());
    let transport = format!("transport={}{query}", proxy.address(&demo.uri, broker.port()));
    Some((broker, demo, proxy, transport))
}

/// What each queue's task does, and whether it is acknowledged when it begins.
const QUEUES: [(&str, &str, &str); 6] = [
    ("ok", "ok", "late"),
    ("error", "error", "late"),
    ("crash", "abort", "late"),
    ("early_ok", "ok", "early"),
    ("early_error", "error", "early"),
    ("early_crash", "segfault", "early"),
];

/// A task in each queue begins; `cut` happens to the connection and ends when the log says so; each task that can be
/// done is done once, each other one uses its two attempts and no more.
fn cut_while_tasks_run(demo: &Demo, transport: &str, cut: impl FnOnce(&mut Master)) {
    let mut workers: Vec<String> = Vec::new();
    for (number, (queue, then, acks)) in QUEUES.into_iter().enumerate() {
        let milliseconds = if then == "ok" { 5_000 } else { 3_000 };
        demo.submit(queue, &format!(r#"{{"n":{number},"sleep_ms":{milliseconds},"then":"{then}"}}"#));
        workers.push(format!(
            r#""{queue}": {{"worker": "demo_sleep_worker", "acks": "{acks}",
                "retry": {{"max_attempts": 2, "first": "100ms", "jitter": "0%"}}}}"#
        ));
    }
    // Two tasks by the same name are two tasks.
    for number in [6, 7] {
        let payload = format!(r#"{{"n":{number},"sleep_ms":5000}}"#);
        let ran = demo.run(&["submit", "twins", &payload, "--id", "twin"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    workers.push(r#""twins": {"worker": "demo_sleep_worker", "processes": 2}"#.to_owned());
    let mut master = demo.start(&format!("{{{}}}", workers.join(", ")), &["--set", transport]);
    let log = master.log();
    told(&log, "Got payload", 8);
    cut(&mut master);
    told(&log, "The connection is back", 1);
    told(&log, "Processing complete", 4);
    // Two attempts each: one retry, one dead letter.
    told(&log, " of 2 failed; again in ", 2);
    told(&log, " dead-lettered to error_failed", 1);
    told(&log, " dead-lettered to early_error_failed", 1);
    told(&log, " is dead-lettered (crash", 2);
    crate::support::log::until("something is left", || {
        QUEUES.iter().all(|(queue, ..)| demo.is_empty(queue)) && demo.is_empty("twins")
    });
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    once_each(demo, [0, 3, 6, 7]);
    let text = log.text();
    for (number, (queue, then, _)) in QUEUES.into_iter().enumerate() {
        let (begun, dead) = if then == "ok" { (1, 0) } else { (2, 1) };
        assert_eq!(text.matches(&format!(r#"Got payload: {{"n":{number},"#)).count(), begun, "begun in {queue}");
        let letters = demo.dead_letters(queue);
        assert_eq!(letters.len(), dead, "{letters:?}");
        assert!(letters.iter().all(|letter| letter["attempts"] == 2), "{letters:?}");
    }
    demo.nobody_is_left();
}

#[test]
fn connections_closed_by_the_broker_while_tasks_run_cost_nothing() {
    let Some((broker, demo, _, _)) = proxied("") else { return };
    let transport = format!("transport={}", demo.uri);
    cut_while_tasks_run(&demo, &transport, |master| {
        broker.control(&["close_all_connections", "--vhost", vhost(&demo), "test"]);
        master.expect("; again in ");
    });
}

/// Everything ends while there is nobody to tell it to.
#[test]
fn a_line_that_is_cut_until_all_tasks_have_ended_costs_nothing() {
    let Some((_, demo, proxy, transport)) = proxied("") else { return };
    cut_while_tasks_run(&demo, &transport, |master| {
        proxy.sever();
        master.expect("; again in ");
        let log = master.log();
        told(&log, "Processing complete", 4);
        told(&log, "An unhandled exception occurred", 2);
        told(&log, "died; restarting...", 2);
        assert!(!log.text().contains("The connection is back"), "{}", log.text());
        proxy.mend();
    });
}

#[test]
fn a_line_that_stalls_is_noticed_by_its_heartbeat() {
    let Some((_, demo, proxy, transport)) = proxied("?heartbeat=2") else { return };
    demo.submit_all("foo", (0..10).map(|n| format!(r#"{{"n":{n},"sleep_ms":700}}"#)));
    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 2}}"#;
    let mut master = demo.start(workers, &["--set", &transport]);
    let log = master.log();
    told(&log, "Processing complete", 2);
    proxy.stall();
    let watch = Stopwatch::start();
    let line = master.expect("; again in ");
    let noticed = watch.elapsed();
    println!("noticed after {noticed:.1?}: {line}");
    assert!(noticed < Duration::from_secs(9), "noticed after {noticed:?}");
    proxy.mend();
    master.expect("The connection is back");
    told(&log, "Processing complete", 10);
    crate::support::log::until("something is left", || demo.is_empty("foo"));
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    once_each(&demo, 0..10);
}

#[test]
fn a_line_that_is_cut_again_and_again_loses_nothing() {
    let Some((_, demo, proxy, transport)) = proxied("") else { return };
    demo.submit_all("foo", (0..60).map(|n| format!(r#"{{"n":{n},"sleep_ms":100,"then":"ok"}}"#)));
    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 2}}"#;
    let mut master = demo.start(workers, &["--set", &transport, "--halt-when-empty"]);
    for _ in 0..3 {
        master.expect("Processing complete");
        proxy.cut();
        master.expect("The connection is back");
    }
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    once_each(&demo, 0..60);
}

#[test]
fn a_queue_deleted_under_a_master_is_made_again() {
    let Some((_, demo, _, _)) = proxied("") else { return };
    demo.submit("foo", r#"{"n":0,"sleep_ms":2000}"#);
    let mut master = demo.start(r#"{"foo": "demo_sleep_worker"}"#, &[]);
    master.expect("Got payload");
    Foreign::connect(&demo.uri).delete("foo");
    master.expect("; again in ");
    master.expect("The connection is back");
    demo.submit("foo", r#"{"n":1}"#);
    told(&master.log(), "Processing complete", 2);
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    once_each(&demo, 0..2);
    assert!(demo.is_empty("foo"));
}

#[test]
fn a_server_that_says_nothing_is_out_of_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports");
    let uri = format!("amqp://127.0.0.1:{}", listener.local_addr().expect("it is bound").port());
    let demo = Demo::new(&Place::Amqp(uri));
    let workers = r#"{"foo": "demo_sleep_worker"}"#;
    let watch = Stopwatch::start();
    let halting = demo.start(workers, &["--halt-when-empty"]);
    // A stop ends while it is being waited for, and between two tries.
    for line in ["Starting; queue=foo", "does not answer within 10 s; again in "] {
        let mut master = demo.start(workers, &[]);
        master.expect(line);
        assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    }
    let (code, log) = halting.wait();
    let took = watch.elapsed();
    assert_eq!(code, 69, "{log}");
    assert!((Duration::from_secs(29)..Duration::from_secs(45)).contains(&took), "it took {took:?}");
    drop(listener);
}

#[test]
fn two_tasks_by_the_same_name_are_both_done() {
    on_each(|demo| {
        for number in 0..2 {
            let payload = format!(r#"{{"n":{number}}}"#);
            let ran = demo.run(&["submit", "foo", &payload, "--id", "twin"]);
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        }
        let run = demo.workers(r#"{"foo": "demo_sleep_worker"}"#, &["--halt-when-empty"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        once_each(demo, 0..2);
        assert!(demo.is_empty("foo"));
    });
}
