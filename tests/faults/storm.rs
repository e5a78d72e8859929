//! Everything at once: workers and masters killed, the broker killed, while tasks are done.
//!
//! `ASYNCTASK_FAULT_SEED` (several, by commas) and `ASYNCTASK_FAULT_TASKS` make it another storm, or a longer one.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::mpsc,
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{Dice, numbers_done, pass, times_done};
use crate::support::{
    Demo, Place,
    broker::{self, Broker},
    log::{Log, Master, Stopwatch},
    postgres::{self, Server},
};

/// In plain `cargo test`.
const SEED: u64 = 1;
const TASKS: u64 = 1_500;
/// A worker dies this often.
const PACE: Duration = Duration::from_millis(50);
/// Nothing is done for this long: whatever is missing does not come any more.
const STILL: Duration = Duration::from_secs(30);
/// What a master may hold of one queue's short tasks, done or not, until the transport has confirmed their settlements. On
/// a busy machine all of them may be done and not yet settled when it is killed.
const IN_FLIGHT: usize = 512;
/// RabbitMQ 3.10 loses a quorum queue that was declared in the last second before its end.
const OLD_ENOUGH: Duration = Duration::from_secs(2);

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn seeds() -> Vec<u64> {
    let text = setting("ASYNCTASK_FAULT_SEED").unwrap_or_else(|| SEED.to_string());
    text.split(',').map(|seed| seed.trim().parse().expect("ASYNCTASK_FAULT_SEED has numbers")).collect()
}

/// What carries the tasks, and falls.
trait Falls: Sync {
    fn name(&self) -> &'static str;
    fn kill(&self);
    fn restart(&self);
}

impl Falls for Broker {
    fn name(&self) -> &'static str {
        "RabbitMQ"
    }

    fn kill(&self) {
        Broker::kill(self);
    }

    fn restart(&self) {
        Broker::restart(self);
    }
}

impl Falls for Server {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn kill(&self) {
        self.stop(Signal::SIGQUIT);
    }

    fn restart(&self) {
        self.start();
    }
}

/// What happened in a storm.
#[derive(Default)]
struct Toll {
    workers: u32,
    masters: u32,
    brokers: u32,
    /// Of the lines of what was done, those that a killed master may not have settled.
    unsettled: Vec<std::ops::Range<usize>>,
}

struct Storm<'a> {
    demo: &'a Demo,
    broker: Option<&'a dyn Falls>,
    master: Master,
    logs: Vec<Log>,
    toll: Toll,
}

fn start(demo: &Demo) -> Master {
    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 4,
        "retry": {"max_attempts": 1000, "first": "100ms", "factor": 1, "jitter": "0%"}}}"#;
    // A worker that dies again and again before its first task would wait longer and longer; the storm would calm.
    let restart = "supervisor.restart={first: 50ms, longest: 100ms}";
    let mut command = demo.master(workers, &["--set", restart]);
    command.env("LOG_LEVEL", "INFO");
    demo.follow(command)
}

impl Storm<'_> {
    /// Until everything is done, or nothing is done any more.
    fn rage(&mut self, dice: &mut Dice, tasks: u64) {
        let mut masters = dice.moments(3, tasks);
        let mut brokers = if self.broker.is_some() { dice.moments(2, tasks) } else { VecDeque::new() };
        let (mut count, mut since, began) = (0, Stopwatch::start(), Stopwatch::start());
        std::thread::scope(|scope| {
            let (up_again, boots) = mpsc::channel();
            let mut is_down = false;
            loop {
                pass(PACE);
                self.kill_a_worker(dice);
                is_down = is_down && boots.try_recv().is_err();
                let done = self.demo.done().len();
                if done > count || is_down {
                    (count, since) = (done, Stopwatch::start());
                }
                let unique = times_done(self.demo).len() as u64;
                if masters.front().is_some_and(|at| unique >= *at) {
                    masters.pop_front();
                    self.kill_the_master();
                }
                if !is_down && began.elapsed() > OLD_ENOUGH && brokers.front().is_some_and(|at| unique >= *at) {
                    brokers.pop_front();
                    self.toll.brokers += 1;
                    let broker = self.broker.expect("there are no moments without one");
                    broker.kill();
                    is_down = true;
                    let up_again = up_again.clone();
                    scope.spawn(move || {
                        broker.restart();
                        up_again.send(())
                    });
                }
                let is_over = masters.is_empty() && brokers.is_empty() && !is_down;
                if (unique == tasks && is_over) || since.elapsed() > STILL {
                    return;
                }
            }
        });
    }

    fn kill_a_worker(&mut self, dice: &mut Dice) {
        self.toll.workers += u32::from(dice.kill_a_worker(&self.master));
    }

    fn kill_the_master(&mut self) {
        let from = self.demo.done().len().saturating_sub(IN_FLIGHT);
        self.master.signal(Signal::SIGKILL);
        self.demo.nobody_is_left();
        self.toll.unsettled.push(from..self.demo.done().len());
        self.toll.masters += 1;
        self.begin_again();
    }

    fn begin_again(&mut self) {
        self.master = start(self.demo);
        self.logs.push(self.master.log());
    }
}

fn storm(place: &Place, broker: Option<&dyn Falls>, seed: u64, tasks: u64) {
    let watch = Stopwatch::start();
    let demo = Demo::new(place);
    let mut dice = Dice::new(seed);
    // One to three milliseconds, and from the middle on nothing: then masters take many at once.
    let payload = |n: u64| {
        let milliseconds = if n < tasks / 2 { 1 + dice.below(3) } else { 0 };
        format!(r#"{{"n":{n},"sleep_ms":{milliseconds}}}"#)
    };
    let payloads: Vec<String> = (0..tasks).map(payload).collect();
    let ids = demo.submit_ids("foo", payloads);
    assert_eq!(ids.len() as u64, tasks);
    let master = start(&demo);
    let logs = vec![master.log()];
    let mut storm = Storm { demo: &demo, broker, master, logs, toll: Toll::default() };
    storm.rage(&mut dice, tasks);
    let Storm { mut master, logs, toll, .. } = storm;
    // The last one lives, and may have something in hand. A TERM that comes before it listens is the system's to obey.
    master.expect("Launching");
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert!(matches!(code, 0 | 82), "ended with {code}: {log}");
    demo.nobody_is_left();
    // The calm after it: what is left is done, and the queue is empty.
    let rest = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 4}}"#;
    let mut command = demo.master(rest, &["--halt-when-empty"]);
    command.env("LOG_LEVEL", "INFO");
    let (code, log) = demo.follow(command).wait();
    assert_eq!(code, 0, "{log}");
    assert!(demo.is_empty("foo"));

    let dead: BTreeSet<String> =
        demo.dead_letters("foo").iter().filter_map(|letter| letter["id"].as_str().map(str::to_owned)).collect();
    let times = times_done(&demo);
    let lost: Vec<u64> = (0..tasks).filter(|n| !times.contains_key(n) && !dead.contains(&ids[*n as usize])).collect();
    let twice: Vec<u64> = times.iter().filter(|(_, times)| **times > 1).map(|(n, _)| *n).collect();
    let again: u32 = times.values().map(|times| times - 1).sum();
    let unexplained = unexplained(&demo, &logs, &toll, &ids, &twice);
    println!(
        "storm on {}, seed {seed}: {tasks} tasks, {} workers, {} masters and {} brokers killed: {} lost, {} dead \
         letters, {} done more than once ({again} runs too many), {} of them unavoidable, in {:.1} s",
        broker.map_or("SQLite", Falls::name),
        toll.workers,
        toll.masters,
        toll.brokers,
        lost.len(),
        dead.len(),
        twice.len(),
        twice.len() - unexplained.len(),
        watch.elapsed().as_secs_f64(),
    );
    assert_eq!((toll.masters, toll.brokers), (3, if broker.is_some() { 2 } else { 0 }));
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(unexplained.is_empty(), "done twice, but in nobody's hands at a kill: {unexplained:?}");
    demo.nobody_is_left();
}

/// Of what was done more than once, that which no kill explains: neither was its worker killed with it in hand (it
/// may have finished without having said so), nor its master before it can have settled it.
fn unexplained(demo: &Demo, logs: &[Log], toll: &Toll, ids: &[String], twice: &[u64]) -> Vec<u64> {
    let in_hand: String = logs.iter().map(Log::text).collect();
    let crashed: BTreeSet<&str> = in_hand
        .lines()
        .filter(|line| line.contains(" (pid "))
        .filter_map(|line| line.split_once("): task ")?.1.split_once(' ').map(|(id, _)| id))
        .collect();
    let mut places: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (place, number) in numbers_done(demo).into_iter().enumerate() {
        places.entry(number).or_default().push(place);
    }
    let unsettled = |number: &u64| {
        let is_in = |place: &usize| toll.unsettled.iter().any(|range| range.contains(place));
        places[number].iter().any(is_in)
    };
    let is_known = |number: &u64| crashed.contains(ids[*number as usize].as_str()) || unsettled(number);
    twice.iter().copied().filter(|number| !is_known(number)).collect()
}

fn tasks() -> u64 {
    setting("ASYNCTASK_FAULT_TASKS").map_or(TASKS, |text| text.parse().expect("ASYNCTASK_FAULT_TASKS is a number"))
}

#[test]
fn a_storm_on_sqlite_loses_nothing() {
    for seed in seeds() {
        storm(&Place::sqlite(), None, seed, tasks());
    }
}

#[test]
fn a_storm_on_rabbitmq_loses_nothing() {
    let Some(broker) = broker::own() else { return };
    for seed in seeds() {
        storm(&Place::Amqp(broker.fresh_vhost()), Some(&broker), seed, tasks());
    }
}

#[test]
fn a_storm_on_postgresql_loses_nothing() {
    let Some(server) = postgres::own() else { return };
    for seed in seeds() {
        storm(&Place::Postgres(server.fresh_database()), Some(&server), seed, tasks());
    }
}
