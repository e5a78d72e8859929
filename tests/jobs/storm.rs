//! Jobs while their workers and masters are killed: two masters on one file, or on a broker that is killed as well; pages of items, what
//! is after them.
//!
//! `ASYNCTASK_JOBS_STORM_SEED` (several, by commas), `ASYNCTASK_JOBS_STORM_JOBS` and `ASYNCTASK_JOBS_STORM_ITEMS` make it another
//! storm, or a longer one: 50 jobs of 200 items take some minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{
    broker::{self, Broker},
    log::{Master, Stopwatch},
    storm::{Dice, pass},
};

/// A worker dies this often.
const PACE: Duration = Duration::from_millis(150);
/// A master dies each time that so many workers have.
const MASTERS: u32 = 12;
/// After so long without an effect nobody is killed: what is dead by then is to come back by itself.
const REST: Duration = Duration::from_secs(15);
/// Nothing happens for this long, though nobody is killed: whatever is missing does not come any more. A master that could not reach its
/// broker several times tries again after half a minute.
const STILL: Duration = Duration::from_mins(2);

const SETTINGS: &str = r"
control: { socket: none }
supervisor: { restart: { first: 50ms, longest: 100ms }, start_timeout: 60s }
pipelines:
  storm:
    steps:
      - { name: fetch, queue: single }
      - { name: split, queue: pages, each: items }
      - { name: join, queue: single }
      - { name: check, queue: single }
      - { name: publish, queue: single }
workers:
  single: { worker: storm, retry: &again { max_attempts: 1000, first: 100ms, factor: 1, jitter: 0% }, breaker: &never { failures: 100000 } }
  pages: { worker: storm, retry: *again, breaker: *never }
  items: { worker: storm, processes: 2, retry: *again, breaker: *never }
kinds:
  storm: { command: [python3, storm.py] }
";

fn setting(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn seeds() -> Vec<u64> {
    let text = std::env::var("ASYNCTASK_JOBS_STORM_SEED").ok().filter(|text| !text.is_empty());
    let text = text.unwrap_or_else(|| "1".to_owned());
    text.split(',').map(|seed| seed.trim().parse().expect("ASYNCTASK_JOBS_STORM_SEED has numbers")).collect()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asynctask"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("ASYNCTASK_CONFIG").env_remove("LOG_LEVEL");
    command
}

fn start(folder: &Path) -> Master {
    let mut command = command(folder, &["workers"]);
    Master::follow(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the program starts"))
}

fn output(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments).output().expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The jobs, as `jobs list --json` has them.
fn jobs(folder: &Path) -> Vec<Value> {
    let text = output(folder, &["jobs", "list", "--json"]);
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn done(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("done.txt")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What lies in the broker's queues, and which of them have no leader.
fn queues(broker: &Broker) -> String {
    let columns = ["name", "state", "messages_ready", "messages_unacknowledged", "consumers"];
    let hosts = broker.control(&["list_vhosts"]);
    let list = |host: &str| broker.control(&[&["list_queues", "-p", host], &columns[..]].concat());
    hosts.lines().filter(|host| host.starts_with('t')).map(list).collect()
}

/// On a file, or on a broker that dies, too.
fn storm(seed: u64, count: u64, items: u64, broker: Option<&Broker>) {
    let watch = Stopwatch::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path();
    let transport = broker.map_or(String::new(), |broker| format!("transport: {}\n", broker.fresh_vhost()));
    std::fs::write(place.join("asynctask.yaml"), transport + SETTINGS).expect("a file of ours");
    let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs/storm.py");
    std::fs::copy(worker, place.join("storm.py")).expect("a file of ours");
    if broker.is_some() {
        // A quorum queue that was just made may stay dead after a kill of this broker, and nothing tells when it is safe.
        let mut first = start(place);
        first.expect("Launching");
        pass(Duration::from_secs(10));
        first.signal(Signal::SIGTERM);
        first.wait();
    }
    for number in 0..count {
        let payload = format!(r#"{{"items":{items}}}"#);
        output(place, &["jobs", "start", "storm", &payload, "--id", &format!("job-{number}")]);
    }
    let mut dice = Dice::new(seed);
    let mut masters = [start(place), start(place)];
    let (mut workers_killed, mut masters_killed, mut brokers_killed) = (0, 0, 0);
    let (mut effects_seen, mut since, mut looked) = (0, Stopwatch::start(), Stopwatch::start());
    let (mut killed_before, mut effects_before) = (0, None);
    loop {
        pass(PACE);
        let victim = dice.below(2) as usize;
        if since.elapsed() < REST && dice.kill_a_worker(&masters[victim]) {
            workers_killed += 1;
            // Workers outlive a session of their master. A broker that dies again before anybody has come back to it shows nothing.
            if workers_killed - killed_before >= MASTERS && effects_before.is_none_or(|before| effects_seen > before) {
                masters[victim].signal(Signal::SIGKILL);
                masters[victim] = start(place);
                masters_killed += 1;
                if let Some(broker) = broker {
                    broker.kill();
                    broker.restart();
                    brokers_killed += 1;
                }
                effects_seen = done(place).len();
                (killed_before, effects_before, since) = (workers_killed, Some(effects_seen), Stopwatch::start());
            }
        }
        let now = done(place).len();
        if now > effects_seen {
            (effects_seen, since) = (now, Stopwatch::start());
        }
        assert!(
            since.elapsed() < STILL,
            "nothing happens any more: {:?}\n{}",
            jobs(place),
            broker.map(queues).unwrap_or_default()
        );
        // A look at all jobs costs more than a death.
        if looked.elapsed() > Duration::from_secs(3) {
            looked = Stopwatch::start();
            if jobs(place).iter().all(|job| job["state"] == "done") {
                break;
            }
        }
    }
    assert!(broker.is_none() || brokers_killed > 0, "all was done before the broker died: more jobs, or items");
    for mut master in masters {
        master.expect("Launching");
        master.signal(Signal::SIGTERM);
        let (code, log) = master.wait();
        assert!(matches!(code, 0 | 82), "ended with {code}: {log}");
    }

    // Every effect at least once, and each step begun by one accepted round: its first task has the round as its id.
    let mut effects: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut firsts: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for line in done(place) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let [job, step, task, number] = &words[..] else { panic!("a line that is none: {line}") };
        effects.entry((job.clone(), step.clone())).or_default().insert(number.clone());
        if ["-", "from-0"].contains(&number.as_str()) {
            firsts.entry((job.clone(), step.clone())).or_default().insert(task.clone());
        }
    }
    for number in 0..count {
        let job = format!("job-{number}");
        for step in ["fetch", "split", "join", "check", "publish"] {
            let rounds = firsts.get(&(job.clone(), step.to_owned())).map_or(0, BTreeSet::len);
            // On a broker a coordinator that dies before it has stored a step leaves a task of a round that nobody knows: it is worked in
            // vain, which the numbers of the job tell.
            assert!(rounds == 1 || rounds > 1 && broker.is_some(), "step {step} of {job} was begun by {rounds} rounds");
        }
        let split = &effects[&(job.clone(), "split".to_owned())];
        let missing: Vec<u64> = (0..items).filter(|item| !split.contains(&item.to_string())).collect();
        assert!(missing.is_empty(), "{job} never did {missing:?}");
    }
    let pages = items.div_ceil(50);
    for job in jobs(place) {
        assert_eq!(job["tasks"]["known"], 4 + pages + items, "{job}");
        assert_eq!(job["tasks"]["done"], 4 + pages + items, "{job}");
    }
    let again = done(place).len() as u64 - count * (4 + pages + items);
    println!(
        "storm over jobs, seed {seed}: {count} jobs of {items} items, {workers_killed} workers, {masters_killed} masters and \
         {brokers_killed} times the broker killed: all done, {again} tasks more than once, in {:.1} s",
        watch.elapsed().as_secs_f64()
    );
}

#[test]
fn a_storm_leaves_no_job_undone_and_begins_no_step_twice() {
    for seed in seeds() {
        storm(seed, setting("ASYNCTASK_JOBS_STORM_JOBS", 6), setting("ASYNCTASK_JOBS_STORM_ITEMS", 70), None);
    }
}

#[test]
fn a_storm_in_which_the_broker_dies_as_well_leaves_no_job_undone() {
    for seed in seeds() {
        let Some(broker) = broker::own() else { return };
        let (jobs, items) = (setting("ASYNCTASK_JOBS_STORM_JOBS", 6), setting("ASYNCTASK_JOBS_STORM_ITEMS", 70));
        storm(seed, jobs, items, Some(&broker));
    }
}
