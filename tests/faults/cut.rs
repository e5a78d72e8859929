//! The way to the broker: cut, stalled, silent; and a queue that is deleted meanwhile.

use std::{collections::BTreeSet, net::TcpListener, time::Duration};

use nix::sys::signal::Signal;

use super::{Dice, on_each, once_each, pass, stopped, told, vhost};
use crate::support::{
    Demo, Place,
    broker::{self, Broker},
    foreign::Foreign,
    log::{Master, Stopwatch, until},
    proxy::Proxy,
};

/// A demo on the tests' own broker with a proxy in between, and the option that leads a master through it.
fn proxied(query: &str) -> Option<(&'static Broker, Demo, Proxy, String)> {
    let broker = broker::controlled()?;
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
    told(&log, " is to be dead-lettered (crash", 2);
    told(&log, " dead-lettered to crash_failed", 1);
    told(&log, " dead-lettered to early_crash_failed", 1);
    until("something is left", || QUEUES.iter().all(|(queue, ..)| demo.is_empty(queue)) && demo.is_empty("twins"));
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

/// Two masters, at the same time, for whom the connection is lost in two ways.
#[test]
fn a_connection_lost_while_tasks_run_costs_nothing() {
    std::thread::scope(|scope| {
        scope.spawn(closed_by_the_broker);
        scope.spawn(cut_until_all_tasks_have_ended);
    });
}

fn closed_by_the_broker() {
    let Some((broker, demo, _, _)) = proxied("") else { return };
    let transport = format!("transport={}", demo.uri);
    cut_while_tasks_run(&demo, &transport, |master| {
        broker.control(&["close_all_connections", "--vhost", vhost(&demo), "test"]);
        master.expect("; again in ");
    });
}

/// Everything ends while there is nobody to tell it to.
fn cut_until_all_tasks_have_ended() {
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
    until("something is left", || demo.is_empty("foo"));
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    once_each(&demo, 0..10);
}

/// Cuts at random moments, while tasks are begun, acknowledged, and published again. Each queue has a master of its
/// own, so that a task that comes again comes to the master that knows it.
#[test]
fn cuts_at_random_moments_lose_nothing_and_repeat_no_success() {
    const MASTERS: u64 = 3;
    const TASKS: u64 = 120;
    const CUTS: u64 = 3;
    let Some((_, demo, proxy, transport)) = proxied("") else { return };
    let mut dice = Dice::new(4);
    let mut ids = Vec::new();
    let mut masters = Vec::new();
    for number in 0..MASTERS {
        let task = |n: u64| {
            let (n, milliseconds) = (number * TASKS + n, 5 + dice.below(60));
            let then = if n % 2 == 0 { "ok" } else { "error" };
            format!(r#"{{"n":{n},"sleep_ms":{milliseconds},"then":"{then}"}}"#)
        };
        let payloads: Vec<String> = (0..TASKS).map(task).collect();
        ids.push(demo.submit_ids(&format!("foo{number}"), payloads));
        let workers = format!(
            r#"{{"foo{number}": {{"worker": "demo_sleep_worker", "processes": 2,
                "retry": {{"max_attempts": 3, "first": "100ms"}}}}}}"#
        );
        let mut command = demo.master(&workers, &["--set", &transport]);
        command.env("LOG_LEVEL", "INFO");
        masters.push(demo.follow(command));
    }
    for cut in 1..=CUTS {
        pass(Duration::from_millis(200 + dice.below(500)));
        proxy.cut();
        for master in &masters {
            told(&master.log(), "The connection is back", cut as usize);
        }
    }
    let mut copies = 0;
    for (master, number) in masters.into_iter().zip(0..) {
        let queue = format!("foo{number}");
        until("something is left", || demo.is_empty(&queue));
        assert_eq!(stopped(master, Duration::from_secs(10)), 0);
        let letters = demo.dead_letters(&queue);
        let dead: BTreeSet<&str> = letters.iter().filter_map(|letter| letter["id"].as_str()).collect();
        assert_eq!(dead, ids[number].iter().map(String::as_str).skip(1).step_by(2).collect(), "dead letters");
        assert!(letters.iter().all(|letter| letter["attempts"] == 3), "{letters:?}");
        copies += letters.len() - dead.len();
    }
    // A copy whose confirm was cut off may be stored, and is stored again.
    println!("{CUTS} cuts of {MASTERS} masters: {copies} dead letters are there twice, with the same id");
    once_each(&demo, (0..MASTERS * TASKS).filter(|n| n % 2 == 0));
}

/// It comes to itself when the broker has long given it up.
#[test]
fn a_master_that_is_frozen_beyond_its_heartbeats_repeats_nothing() {
    let Some((broker, demo, _, _)) = proxied("") else { return };
    demo.submit_all("foo", (0..4).map(|n| format!(r#"{{"n":{n},"sleep_ms":1500}}"#)));
    let transport = format!("transport={}?heartbeat=1", demo.uri);
    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 2}}"#;
    let master = demo.start(workers, &["--set", &transport]);
    let log = master.log();
    told(&log, "Got payload", 2);
    master.signal(Signal::SIGSTOP);
    let connections = || broker.control(&["list_connections", "vhost", "--no-table-headers"]);
    until("the broker keeps its connections", || !connections().lines().any(|line| line.trim() == vhost(&demo)));
    until("its workers do not finish", || demo.done().len() == 2);
    master.signal(Signal::SIGCONT);
    told(&log, "The connection is back", 1);
    told(&log, "Processing complete", 4);
    until("something is left", || demo.is_empty("foo"));
    assert_eq!(stopped(master, Duration::from_secs(10)), 0);
    once_each(&demo, 0..4);
}

#[test]
fn a_delay_queue_deleted_under_a_master_is_made_again() {
    let Some((_, demo, _, _)) = proxied("") else { return };
    let id = demo.submit("foo", r#"{"sleep_ms":1000,"then":"error"}"#);
    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "retry": {"max_attempts": 3, "first": "100ms"}}}"#;
    let mut master = demo.start(workers, &["--halt-when-empty"]);
    master.expect("Got payload");
    Foreign::connect(&demo.uri).delete("foo.retry.100");
    master.expect("attempt 1 of 3 failed");
    master.expect("Got payload");
    Foreign::connect(&demo.uri).delete("foo_failed");
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    let letters = demo.dead_letters("foo");
    assert_eq!((letters.len(), &letters[0]["id"], &letters[0]["attempts"]), (1, &id.into(), &3.into()));
}

#[test]
fn dead_letters_that_are_not_taken_are_kept_and_offered_again() {
    let Some((broker, demo, _, _)) = proxied("") else { return };
    let ids = demo.submit_ids("foo", (0..12).map(|n| format!(r#"{{"n":{n},"then":"error"}}"#)));
    let policy = r#"{"max-length":1,"overflow":"reject-publish"}"#;
    broker.control(&["set_policy", "-p", vhost(&demo), "full", "^foo_failed$", policy, "--apply-to", "queues"]);
    let mut master = demo.start(r#"{"foo": "demo_sleep_worker"}"#, &[]);
    let line = master.expect("Tasks of queue foo that have ended are stuck: ");
    assert!(line.contains("\"foo_failed\"") && line.contains("it is full or not available"), "{line}");
    // A stop meanwhile does not wait for it, but says so, and the next master goes on.
    let log = master.log();
    assert_eq!(stopped(master, Duration::from_secs(10)), 82);
    let text = log.text();
    assert!(text.contains(" could not be stored; "), "{text}");
    let (said, stored) = (text.matches(" dead-lettered to foo_failed").count(), demo.dead_letters("foo").len());
    assert!(said <= stored && stored < 12, "{said} dead letters are said, {stored} are stored: {text}");
    let mut master = demo.start(r#"{"foo": "demo_sleep_worker"}"#, &["--halt-when-empty"]);
    master.expect("are stuck: ");
    broker.control(&["clear_policy", "-p", vhost(&demo), "full"]);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    // Said once, however many tasks were offered however often, and once when it was over. The broker may refuse a
    // few more after the first that it takes: then it is told again.
    let (stuck, over) =
        (log.matches("are stuck: ").count(), log.matches("Queue foo_failed takes tasks of queue foo again").count());
    assert!(stuck == over && (1..=3).contains(&stuck), "{log}");
    let letters = demo.dead_letters("foo");
    let dead: BTreeSet<&str> = letters.iter().filter_map(|letter| letter["id"].as_str()).collect();
    assert_eq!(dead, ids.iter().map(String::as_str).collect(), "{log}");
    println!("{} dead letters of {} tasks", letters.len(), ids.len());
}

#[test]
fn a_queue_deleted_under_a_master_is_made_again() {
    let Some((_, demo, _, _)) = proxied("") else { return };
    demo.submit("foo", r#"{"n":0,"sleep_ms":2000}"#);
    let mut master = demo.start(r#"{"foo": "demo_sleep_worker"}"#, &[]);
    master.expect("Got payload");
    Foreign::connect(&demo.uri).delete("foo");
    master.expect("Queue foo is unavailable: ");
    master.expect("Queue foo is available again");
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
