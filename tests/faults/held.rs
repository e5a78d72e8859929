//! A broker that closes the channel of whoever holds a message for 5 s. It is told by RabbitMQ's `consumer_timeout`, 30
//! minutes by default; a master, which does not know it, holds nothing that long but tasks that run that long.

use std::collections::BTreeMap;

use lapin::{BasicProperties, options::QueueDeclareOptions};
use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::support::{
    Demo, Place, broker,
    foreign::Foreign,
    log::{Log, Master, Stopwatch, until},
};

/// Longer than the broker bears, with its own look each second.
const LONG: std::time::Duration = std::time::Duration::from_secs(7);

fn demo() -> Option<Demo> {
    Some(Demo::new(&Place::Amqp(broker::impatient()?.fresh_vhost())))
}

/// Neither a session nor the lease was lost.
fn undisturbed(logs: &[Log]) {
    for text in logs.iter().map(Log::text) {
        assert!(!text.contains("again in") && !text.contains("The connection is back"), "a session was lost:\n{text}");
        assert!(!text.contains("is lost"), "the lease was lost:\n{text}");
    }
}

/// A schedule of every 2 s, whose tasks write their ids, and one that is never due.
const OFTEN: &str = "
application: app
workers: { idle: demo_quiet_worker }
kinds: { note: { command: [sh, -c, 'echo \"$ASYNCTASK_TASK_ID\" >>\"$DEMO_FILE\"'], mode: once } }
scheduled_workers:
  - { worker: note, second: '*/2', id: often, timezone: UTC }
  - { worker: note, year: 2099, id: yearly, timezone: UTC }
";

/// The moments (s) that were fired, in order.
fn moments(demo: &Demo, since: i64) -> Vec<i64> {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"asynctask.schedule");
    let id = |second: i64| Uuid::new_v5(&namespace, format!("often@{}", second * 1000).as_bytes()).to_string();
    let of: BTreeMap<String, i64> = (since..since + 600).map(|second| (id(second), second)).collect();
    demo.done().iter().map(|id| *of.get(id).unwrap_or_else(|| panic!("no moment has the id {id}"))).collect()
}

/// Each moment up to this one was fired and done, once.
fn each_once(demo: &Demo, since: i64, upto: i64) {
    until("the last moment is not done", || moments(demo, since).contains(&upto));
    let mut moments = moments(demo, since);
    moments.sort_unstable();
    let (Some(first), Some(last)) = (moments.first(), moments.last()) else { panic!("nothing was fired") };
    let wanted: Vec<i64> = (*first..=*last).step_by(2).collect();
    assert_eq!(moments, wanted, "not each moment once");
}

fn done(demo: &Demo, count: usize) {
    until(&format!("{count} moments were not fired"), || demo.done().len() >= count);
}

struct Schedulers {
    demo: Demo,
    since: i64,
    /// Works the tasks, so that the end of a scheduler interrupts none.
    worker: Master,
    first: Master,
    second: Master,
}

impl Schedulers {
    fn start() -> Option<Self> {
        let demo = demo()?;
        let since = asynctask::clock::Clock::wall().0 / 1000;
        demo.write("asynctask.yaml", OFTEN);
        let follow =
            |options: &[&str]| demo.follow(demo.command(&[&["workers", "--socket", "none"], options].concat()));
        let worker = follow(&[]);
        let first = follow(&["--scheduler", "--queue", "idle"]);
        done(&demo, 1);
        let mut second = follow(&["--scheduler", "--queue", "idle"]);
        second.expect("Another scheduler holds the schedules");
        Some(Self { demo, since, worker, first, second })
    }

    /// What the queue of the lease says, once nobody holds it.
    fn memory(&self) -> BTreeMap<String, i64> {
        let foreign = Foreign::connect(&self.demo.uri);
        until("somebody holds the lease", || foreign.ready("asynctask.schedules.app") > 0);
        let messages = std::iter::from_fn(|| foreign.take("asynctask.schedules.app"));
        let parsed = messages.map(|message| {
            let value: serde_json::Value = serde_json::from_slice(&message.data).expect("JSON");
            (value["schedule"].as_str().expect("a text").to_owned(), value["moment"].as_i64().expect("a number"))
        });
        let all: Vec<_> = parsed.collect();
        let memory: BTreeMap<_, _> = all.iter().cloned().collect();
        assert_eq!(memory.len(), all.len(), "more than one message of a schedule: {all:?}");
        memory
    }
}

#[test]
fn each_moment_is_fired_once_though_the_memory_of_another_is_old_and_the_scheduler_is_killed() {
    let Some(all) = Schedulers::start() else { return };
    let held = Stopwatch::start();
    let yearly = r#"{"schedule":"yearly","moment":1000}"#;
    Foreign::connect(&all.demo.uri).publish("asynctask.schedules.app", BasicProperties::default(), yearly.as_bytes());
    until("the time passes", || held.elapsed() > LONG);
    let before = all.demo.done().len();
    all.first.signal(Signal::SIGKILL);
    done(&all.demo, before + 3);
    let held = Stopwatch::start();
    until("the time passes", || held.elapsed() > LONG);
    undisturbed(&[all.worker.log(), all.first.log(), all.second.log()]);
    all.second.signal(Signal::SIGKILL);
    let memory = all.memory();
    assert_eq!(memory["yearly"], 1_000);
    each_once(&all.demo, all.since, memory["often"] / 1000);
}

#[test]
fn a_scheduler_that_was_frozen_fires_nothing_again() {
    let Some(all) = Schedulers::start() else { return };
    all.first.signal(Signal::SIGSTOP);
    // The broker takes the lease from it after 5 s, and the second one gets it within 3 s.
    let before = all.demo.done().len();
    done(&all.demo, before + 6);
    all.first.signal(Signal::SIGCONT);
    all.second.signal(Signal::SIGKILL);
    let before = all.demo.done().len();
    done(&all.demo, before + 3);
    let log = all.first.log();
    all.first.signal(Signal::SIGTERM);
    until("the first one did not end", || log.text().contains("Complete"));
    each_once(&all.demo, all.since, all.memory()["often"] / 1000);
}

/// Its consumer holds one that it was sent: the broker takes its channel from whoever holds one too long, and the queue with it.
#[test]
fn a_paused_queue_that_goes_with_its_last_consumer_outlives_a_long_pause() {
    let Some(demo) = demo() else { return };
    let foreign = Foreign::connect(&demo.uri);
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..QueueDeclareOptions::default() };
    foreign.declare_as("va", options, &[]);
    let ids = demo.submit_ids("va", (0..8).map(|n| format!(r#"{{"n":{n},"sleep_ms":200}}"#)));
    let master = demo.start(r#"{"va": {"worker": "demo_sleep_worker", "processes": 2}}"#, &["--socket", "a.sock"]);
    let control = |order: &str| assert_eq!(demo.run(&["control", order, "va", "--socket", "a.sock"]).code, 0);
    done(&demo, 2);
    control("pause");
    let held = Stopwatch::start();
    until("the time passes", || {
        assert!(foreign.exists("va"), "it is gone: {}", master.log().text());
        held.elapsed() > 2 * LONG
    });
    control("resume");
    done(&demo, ids.len());
    undisturbed(&[master.log()]);
    assert!(!master.log().text().contains("unavailable"), "{}", master.log().text());
    assert_eq!(super::stopped(master, std::time::Duration::from_secs(10)), 0);
    super::once_each(&demo, 0..8);
}

/// Each task is longer than the broker bears, so that it takes the channel of each; the queue is worked in between.
#[test]
fn a_queue_that_is_lost_with_each_task_is_had_again_at_once_each_time() {
    let Some(demo) = demo() else { return };
    // Ours has a time-out of its own.
    Foreign::connect(&demo.uri).declare("va", &[]);
    demo.submit_all("va", (0..4).map(|n| format!(r#"{{"n":{n},"sleep_ms":6500}}"#)));
    let ran = demo.workers(r#"{"va": "demo_sleep_worker"}"#, &["--halt-when-empty"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    super::once_each(&demo, 0..4);
    let pauses =
        ran.stdout.lines().filter_map(|line| line.split_once("is available again, after ")?.1.split_once(" s"));
    let pauses: Vec<f64> = pauses.map(|(seconds, _)| seconds.parse().expect("a number")).collect();
    assert!(pauses.len() >= 3, "it was not lost: {ran:?}");
    assert!(pauses.iter().all(|seconds| *seconds < 2.0), "{pauses:?}");
}
