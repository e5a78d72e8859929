//! Coordinators on RabbitMQ: one that is stopped, one whose broker has little patience, one whose connections are cut, and a broker that
//! is killed or takes nothing while jobs move.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    coordinators::{CHAIN, PAYLOAD, TASKS, WORKERS, all_is_done, chains, number},
    steps::{began, configure, counts, done, master, shown, started, tasks, touch, until_state},
    support::{
        Demo, Place, broker,
        log::{Stopwatch, until},
        storm::pass,
    },
};

const COORDINATES: &str = "Coordinates the jobs";
const LOST: &str = "The jobs are not coordinated here any more";

#[test]
fn while_a_coordinator_is_stopped_another_one_takes_over_and_the_first_changes_nothing() {
    let Some(place) = Place::amqp() else { return };
    let mut demo = Demo::new(&place);
    // The broker gives up a connection of which it hears nothing for twice as long.
    demo.uri.push_str("?heartbeat=2");
    let demo = &demo;
    configure(demo, CHAIN, &[], WORKERS);
    let mut first = master(demo, &["--queue", "a"]);
    first.expect(COORDINATES);
    let mut second = master(demo, &[]);
    let jobs = chains(demo, 3);
    until("a job is under way", || began(demo).iter().any(|did| did.step == "s1"));
    first.signal(Signal::SIGSTOP);
    second.expect(COORDINATES);
    for id in &jobs {
        until_state(demo, id, "done");
    }
    let before: Vec<_> = jobs.iter().map(|id| shown(demo, id)).collect();
    first.signal(Signal::SIGCONT);
    // It hears that the ledger is lost by itself, or by a step that it was about to store.
    first.expect("Another process coordinates the jobs");
    let after = started(demo, &["chain", PAYLOAD]);
    until_state(demo, &after, "done");
    assert_eq!(jobs.iter().map(|id| shown(demo, id)).collect::<Vec<_>>(), before, "it has changed nothing");
    all_is_done(demo, &jobs);
    drop((first, second));
}

#[test]
fn what_a_coordinator_holds_outlives_a_broker_with_little_patience() {
    let Some(broker) = broker::impatient() else { return };
    let demo = &Demo::new(&Place::Amqp(broker.fresh_vhost()));
    configure(demo, CHAIN, &[], WORKERS);
    let mut coordinator = master(demo, &["--queue", "a"]);
    coordinator.expect(COORDINATES);
    let jobs = chains(demo, 3);
    until("items wait that nobody works here", || jobs.iter().all(|id| tasks(&shown(demo, id), "s1")[2] == TASKS[1].1));
    // The broker closes what is held for 5 s: three times over.
    pass(Duration::from_secs(16));
    assert!(!coordinator.log().text().contains(LOST), "{}", coordinator.log().text());
    let items = master(demo, &["--queue", "items"]);
    for id in &jobs {
        until_state(demo, id, "done");
    }
    all_is_done(demo, &jobs);
    assert_eq!(counts(&done(demo)), TASKS.map(|(step, tasks)| (step, 3 * tasks as usize)).into());
    drop((coordinator, items));
}

#[test]
fn a_coordinator_whose_connections_are_cut_takes_the_ledger_again_and_has_lost_nothing() {
    let Some(broker) = broker::controlled() else { return };
    let address = broker.fresh_vhost();
    let vhost = address.rsplit('/').next().expect("an address names a virtual host").to_owned();
    let demo = &Demo::new(&Place::Amqp(address));
    configure(demo, CHAIN, &[], WORKERS);
    let mut only = master(demo, &[]);
    only.expect(COORDINATES);
    let jobs = chains(demo, 4);
    for _ in 0..3 {
        let before = done(demo).len();
        until("they move", || {
            done(demo).len() > before + 3 || jobs.iter().all(|id| shown(demo, id)["state"] == "done")
        });
        broker.control(&["close_all_connections", "--vhost", &vhost, "the test says so"]);
        only.expect(COORDINATES);
    }
    for id in &jobs {
        until_state(demo, id, "done");
    }
    all_is_done(demo, &jobs);
}

#[test]
fn jobs_outlive_a_broker_that_is_killed_or_takes_nothing_while_they_move() {
    let Some(broker) = broker::own() else { return };
    let demo = &Demo::new(&Place::Amqp(broker.fresh_vhost()));
    configure(demo, CHAIN, &[], WORKERS);
    let count = number("ASYNCTASK_JOBS_MOVING", 20);
    let masters = [master(demo, &[]), master(demo, &[])];
    // A quorum queue that was just made may stay dead after a kill of this broker, and nothing tells when it is safe.
    pass(Duration::from_secs(10));
    let payload = PAYLOAD.replacen('{', r#"{"s0": {"wait": "gate"}, "#, 1);
    let jobs: Vec<String> = (0..count).map(|_| started(demo, &["chain", &payload])).collect();
    touch(demo, "gate");
    let moved = |more: usize| {
        let before = done(demo).len();
        until("they move", || done(demo).len() >= before + more);
    };
    let watch = Stopwatch::start();
    for _ in 0..2 {
        moved(10);
        broker.kill();
        broker.restart();
    }
    moved(10);
    broker.control(&["set_vm_memory_high_watermark", "absolute", "1000000"]);
    pass(Duration::from_secs(5));
    broker.control(&["set_vm_memory_high_watermark", "0.6"]);
    for id in &jobs {
        until_state(demo, id, "done");
    }
    println!("{count} jobs were done {:.1} s after the first kill", watch.elapsed().as_secs_f64());
    all_is_done(demo, &jobs);
    drop(masters);
}
