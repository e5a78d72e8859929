//! Workers, masters and the broker are killed while thousands of chains of three are done: each chain ends with its result, or
//! the member of it that was lost is a dead letter.
//!
//! `ASYNCTASK_CELERY_SEED` (several, by commas) and `ASYNCTASK_CELERY_CHAINS` make it other storms, and longer ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc,
    time::Duration,
};

use nix::{
    sys::{
        signal::Signal,
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use serde_json::Value;

use super::{
    application::{Application, FOLDER, Kind, Workers},
    support::{
        broker::{self, Broker},
        log::{Master, Stopwatch, until},
        storm::{Dice, pass},
    },
};

/// In plain `cargo test`.
const SEED: &str = "1";
const CHAINS: &str = "400";
const PROCESSES: u32 = 3;
/// A look at what is done, and perhaps a kill.
const PACE: Duration = Duration::from_millis(100);
/// A worker dies each so many links, more or less: by what is done and not by time, since on a busy machine a Python that
/// imports Celery may take longer to start than it would live.
const LINKS: u64 = 40;
/// All is done, or was lost, when this long nothing more is.
const CALM: Duration = Duration::from_secs(3);
/// Nothing is done for this long: whatever is missing does not come any more.
const STILL: Duration = Duration::from_secs(40);
/// RabbitMQ 3.10 loses a quorum queue that was declared in the last second before its end.
const OLD_ENOUGH: Duration = Duration::from_secs(3);
const MASTERS: u64 = 3;
const BROKERS: u64 = 2;

/// One that is published by somebody who wants to know that it is stored, and whose results outlive the broker.
const SETTINGS: &str = r#"{"broker_transport_options": {"confirm_publish": true}, "result_extended": false,
    "task_publish_retry_policy": {"max_retries": 60, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.5}}"#;

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

#[derive(Default)]
struct Toll {
    workers: u32,
    masters: u64,
    brokers: u64,
}

struct Storm<'a> {
    application: &'a Application,
    broker: &'a Broker,
    master: Master,
    toll: Toll,
}

/// How often each link `(chain, number)` was done, by the notes that they left.
fn done(application: &Application) -> BTreeMap<(u64, u64), u32> {
    let text = std::fs::read_to_string(application.folder.join("links")).unwrap_or_default();
    let mut times = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().unwrap_or_else(|_| panic!("not ours: {line}"));
        *times.entry((number(1), number(2))).or_default() += 1;
    }
    times
}

impl Storm<'_> {
    /// Until every chain has come to its end or lost a member.
    fn rage(&mut self, dice: &mut Dice, chains: u64) {
        let all = chains * 3;
        let (mut masters, mut brokers) = (dice.moments(MASTERS, all), dice.moments(BROKERS, all));
        let mut workers = dice.moments(all / LINKS, all);
        let (mut count, mut since, began) = (0, Stopwatch::start(), Stopwatch::start());
        std::thread::scope(|scope| {
            let (up_again, boots) = mpsc::channel();
            let mut is_down = false;
            loop {
                pass(PACE);
                is_down = is_down && boots.try_recv().is_err();
                let links = done(self.application).len() as u64;
                if links > count || is_down {
                    (count, since) = (links, Stopwatch::start());
                }
                if workers.front().is_some_and(|at| links >= *at) {
                    workers.pop_front();
                    self.kill_a_worker(dice);
                }
                if masters.front().is_some_and(|at| links >= *at) {
                    masters.pop_front();
                    self.kill_the_master();
                }
                if !is_down && began.elapsed() > OLD_ENOUGH && brokers.front().is_some_and(|at| links >= *at) {
                    brokers.pop_front();
                    self.toll.brokers += 1;
                    let broker = self.broker;
                    broker.kill();
                    is_down = true;
                    // What it had in hand ends with nobody to tell it to.
                    self.kill_a_worker(dice);
                    let up_again = up_again.clone();
                    scope.spawn(move || {
                        broker.restart();
                        up_again.send(())
                    });
                }
                // What a killed worker had in hand is a dead letter, and ends its chain.
                let ended = links + 3 * u64::from(self.toll.workers) >= all;
                let is_over = masters.is_empty() && brokers.is_empty() && !is_down;
                if ended && is_over && since.elapsed() > CALM {
                    return;
                }
                if since.elapsed() > STILL {
                    let status = self.application.command(&["status"]).output().expect("the program starts");
                    let log = self.master.log().text();
                    panic!("nothing is done for {STILL:?} after {links} links: {status:?}\n{}", tail(&log));
                }
            }
        });
    }

    fn kill_a_worker(&mut self, dice: &mut Dice) {
        self.toll.workers += u32::from(dice.kill_a_worker(&self.master));
    }

    fn kill_the_master(&mut self) {
        self.master.signal(Signal::SIGKILL);
        let application = self.application;
        // All of its threads: until then they hold its control socket, though it has no environment any more by which it is found.
        let pid = Pid::from_raw(self.master.pid() as i32);
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("it is a child of this process");
        until("a process of a killed master is left", || application.processes().is_empty());
        self.toll.masters += 1;
        self.master = application.master(&[]);
    }
}

/// The end of a long log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(400)..].join("\n")
}

/// The ids of the members of each chain, in order.
fn sent(application: &Application, chains: u64) -> Vec<Vec<String>> {
    let path = application.folder.join("links");
    let lines = format!(
        "import json, uuid\nfrom celery import chain\nfrom shop import app, tasks\npath = {:?}\n\
         for number in range({chains}):\n    \
         ids = [str(uuid.uuid4()) for _ in range(3)]\n    \
         first, *rest = [tasks.step.s(*start, number, path).set(task_id=id) for id, start in zip(ids, [(0,), (), ()])]\n    \
         chain(first, *rest).apply_async()\n    print(json.dumps(ids))\n",
        path.display().to_string()
    );
    let printed = application.python("shop", &lines);
    printed.lines().map(|line| serde_json::from_str(line).expect("a list of ids")).collect()
}

/// The state of a task in the result backend.
fn state(application: &Application, id: &str) -> Option<String> {
    let text = std::fs::read(application.folder.join(format!("results/celery-task-meta-{id}"))).ok()?;
    let result: Value = serde_json::from_slice(&text).ok()?;
    Some(result["status"].as_str()?.to_owned())
}

fn storm(broker: &Broker, seed: u64, chains: u64) {
    let watch = Stopwatch::start();
    let environment = vec![("SHOP_SETTINGS", SETTINGS.to_owned())];
    let kind = Kind { results: FOLDER.to_owned(), environment, ..Kind::shop(PROCESSES) };
    let Some(application) = Application::at(broker.fresh_vhost(), vec![kind]) else { return };
    let mut dice = Dice::new(seed);
    let ids = sent(&application, chains);
    assert_eq!(ids.len() as u64, chains);
    let master = application.master(&[]);
    let mut storm = Storm { application: &application, broker, master, toll: Toll::default() };
    storm.rage(&mut dice, chains);
    let Storm { mut master, toll, .. } = storm;
    // The last one lives, and may have something in hand. A TERM that comes before it listens is the system's to obey.
    master.expect("Launching");
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert!(matches!(code, 0 | 82), "ended with {code}: {log}");
    // The calm after it: what is left is done.
    let (code, log) = application.master(&["--halt-when-empty"]).wait();
    assert_eq!(code, 0, "{log}");

    let letters = application.dead_letters("celery");
    let dead: BTreeSet<&str> = letters.iter().filter_map(|letter| letter["id"].as_str()).collect();
    let (mut succeeded, mut lost, mut without_result) = (0, Vec::new(), 0);
    for (number, members) in ids.iter().enumerate() {
        let buried = members.iter().find(|id| dead.contains(id.as_str()));
        if state(&application, &members[2]).as_deref() == Some("SUCCESS") {
            succeeded += 1;
        } else if let Some(id) = buried {
            without_result += usize::from(state(&application, id).as_deref() != Some("FAILURE"));
        } else {
            lost.push((number, members));
        }
    }
    let times = done(&application);
    let again: u32 = times.values().map(|times| times - 1).sum();
    let twice = times.values().filter(|times| **times > 1).count();
    println!(
        "storm of chains, seed {seed}: {chains} chains, {} workers, {} masters and {} brokers killed: {succeeded} with \
         their result, {} dead letters ({without_result} of them without a result of their own), {} lost, {twice} links \
         done more than once ({again} runs too many), in {:.1} s",
        toll.workers,
        toll.masters,
        toll.brokers,
        dead.len(),
        lost.len(),
        watch.elapsed().as_secs_f64(),
    );
    assert_eq!((toll.masters, toll.brokers), (MASTERS, BROKERS));
    assert!(lost.is_empty(), "neither a result nor a dead letter: {lost:?}");
}

#[test]
fn a_storm_loses_no_chain() {
    if Workers::of_this_run() == Workers::Celerys {
        return;
    }
    let Some(broker) = broker::own() else { return };
    let chains = setting("ASYNCTASK_CELERY_CHAINS", CHAINS).parse().expect("ASYNCTASK_CELERY_CHAINS is a number");
    for seed in setting("ASYNCTASK_CELERY_SEED", SEED).split(',') {
        storm(&broker, seed.trim().parse().expect("ASYNCTASK_CELERY_SEED has numbers"), chains);
    }
}
