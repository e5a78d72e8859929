//! How fast a queue is drained, how soon an idle worker starts, and how soon a dead one is replaced.
//!
//! ```text
//! cargo bench --bench drain              all of it
//! cargo bench --bench drain -- sqlite    one transport (sqlite, amqp), or `latency`
//! cargo bench --bench drain -- jobs      what pipelines cost: see `jobs`
//! cargo bench --bench drain -- measure … one step of `tests/bench/compare`, which interleaves them with other systems: see `measure`
//! ```
//!
//! Each figure stands beside a bare loop over the same queue in the same run: what counts is the ratio, since the
//! machine's own speed cancels out. `bare` does nothing but take and acknowledge.
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

#[path = "../support/mod.rs"]
mod support;

mod bare;
mod jobs;
mod measure;
mod measured;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use asynctask::{App, Context, Outcome, client::blocking::Client};
use measured::nanoseconds;
use serde::de::IgnoredAny;

/// Drains of each kind, taken in turn; what is printed is the median of each, and of their ratios.
const ROUNDS: usize = 5;
/// Tasks of a drain.
const TASKS: usize = 30_000;
/// Length of a payload, in bytes.
const PAYLOAD: usize = 100;
/// Samples of a latency.
const SAMPLES: usize = 200;
/// Deaths watched.
const DEATHS: usize = 40;

fn app() -> App {
    jobs::register(measured::register(App::new("drain"))).worker_fn("stamp", stamp).worker_fn("die", die)
}

/// Tells how long its task was on the way.
#[expect(clippy::unnecessary_wraps, reason = "the shape of a worker's function")]
fn stamp(sent: u64, _: &Context) -> asynctask::TaskResult {
    println!("latency {}", nanoseconds().saturating_sub(sent));
    Ok(Outcome::Done)
}

fn die(_: IgnoredAny, _: &Context) -> asynctask::TaskResult {
    println!("dies {}", nanoseconds());
    std::process::abort()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "workers" || first == "__worker") {
        return app().run();
    }
    if let Some(("measure", step)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return measure::run(step);
    }
    if let Some(("jobs", numbers)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        jobs::run(numbers);
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("{TASKS} tasks of {PAYLOAD} bytes, 2 workers, one task at a time each");
    if wanted("sqlite") {
        sqlite(folder.path());
    }
    let broker = if wanted("amqp") || wanted("latency") { support::broker::shared() } else { None };
    if wanted("amqp") {
        broker.map_or_else(|| println!("amqp: left out, no broker"), |broker| amqp(&broker.fresh_vhost()));
    }
    if wanted("latency") {
        let file = format!("sqlite:{}", folder.path().join("latency.db").display());
        let uris = [Some(file), broker.map(support::broker::Broker::fresh_vhost)];
        for uri in uris.into_iter().flatten() {
            latency(&uri);
            replacement(&uri);
        }
    }
    ExitCode::SUCCESS
}

fn sqlite(folder: &Path) {
    let (mut singly, mut in_tens, mut in_64s, mut ours) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        singly.push(bare::sqlite(&folder.join(format!("bare{round}.db")), TASKS, PAYLOAD, 1));
        in_tens.push(bare::sqlite(&folder.join(format!("tens{round}.db")), TASKS, PAYLOAD, 10));
        in_64s.push(bare::sqlite(&folder.join(format!("64s{round}.db")), TASKS, PAYLOAD, 64));
        ours.push(drain(&format!("sqlite:{}", folder.join(format!("drain{round}.db")).display())));
    }
    report("sqlite", "bare rusqlite, one by one", &singly, &ours);
    report("sqlite", "bare rusqlite, in tens", &in_tens, &ours);
    report("sqlite", "bare rusqlite, in 64s", &in_64s, &ours);
}

fn amqp(uri: &str) {
    let (mut batched, mut each, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (rates, acks) in [(&mut batched, bare::ACKS), (&mut each, 1)] {
            measure::fill(uri, "bare", TASKS, PAYLOAD);
            rates.push(bare::amqp(uri, "bare", TASKS, acks));
        }
        ours.push(drain(uri));
    }
    report("amqp", "bare lapin, batched acks", &batched, &ours);
    report("amqp", "bare lapin, an ack each", &each, &ours);
}

fn report(transport: &str, bare: &str, theirs: &[f64], ours: &[f64]) {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    let (least, most) = ratios.iter().fold((f64::MAX, 0.0_f64), |(least, most), one| (least.min(*one), most.max(*one)));
    let (theirs, ours, ratio) = (median(theirs), median(ours), median(&ratios));
    println!(
        "{transport:8} {bare:28} {theirs:8.0}/s   asynctask {ours:8.0}/s   ratio {ratio:.2} ({least:.2} to {most:.2})"
    );
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Tasks per second from the first begun to the last ended.
fn drain(uri: &str) -> f64 {
    measure::fill(uri, "noop", TASKS, PAYLOAD);
    let records = tempfile::tempdir().expect("a temporary folder");
    let workers = r#"{"noop": {"worker": "noop", "processes": 2}}"#;
    Master::start(uri, workers, &["--halt-when-empty"], Some(records.path())).finish();
    let total = measured::read(records.path());
    assert_eq!(total.count, TASKS as u64, "each task is done once where nothing fails");
    TASKS as f64 / Duration::from_nanos(total.ended - total.began).as_secs_f64()
}

/// From the submit to the first line of the worker, with nothing else to do.
fn latency(uri: &str) {
    let master = Master::start(uri, r#"{"stamp": "stamp"}"#, &[], None);
    let mut master = master.ready(1);
    let client = Client::open(uri).expect("the transport opens");
    let mut samples: Vec<u64> = (0..SAMPLES)
        .map(|_| {
            client.submit("stamp", &nanoseconds()).expect("the task is stored");
            master.value("latency ")
        })
        .collect();
    master.stop();
    print_percentiles(uri, "submit to start, idle", &mut samples);
}

/// From the death of a worker in the middle of a task to its replacement being ready.
fn replacement(uri: &str) {
    let workers = r#"{"die": {"worker": "die", "breaker": {"failures": 1000000}}}"#;
    let mut master = Master::start(uri, workers, &[], None).ready(1);
    let client = Client::open(uri).expect("the transport opens");
    let mut samples: Vec<u64> = (0..DEATHS)
        .map(|_| {
            client.submit("die", &0).expect("the task is stored");
            let died = master.value("dies ");
            master.expect("Starting; queue=");
            nanoseconds().saturating_sub(died)
        })
        .collect();
    master.stop();
    print_percentiles(uri, "death to replacement ready", &mut samples);
}

fn print_percentiles(uri: &str, what: &str, samples: &mut [u64]) {
    samples.sort_unstable();
    let milliseconds =
        |share: usize| Duration::from_nanos(samples[(samples.len() - 1) * share / 100]).as_secs_f64() * 1e3;
    let scheme = uri.split(':').next().unwrap_or_default();
    println!("{scheme:8} {what:28} p50 {:.2} ms   p99 {:.2} ms", milliseconds(50), milliseconds(99));
}

/// This program as a master, its log followed.
struct Master {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    since: Instant,
}

impl Master {
    /// `records` is the folder where its workers leave what they measured.
    fn start(uri: &str, workers: &str, options: &[&str], records: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("workers").args(options).args(["--set", &format!("transport={uri}")]);
        command.args(["--set", &format!("workers={workers}")]).stdout(Stdio::piped());
        command.envs(records.map(|folder| (measured::FOLDER, folder)));
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Self { child, lines, since: Instant::now() }
    }

    /// Waits until its workers are.
    fn ready(mut self, workers: usize) -> Self {
        for _ in 0..workers {
            self.expect("Starting; queue=");
        }
        self
    }

    fn expect(&mut self, text: &str) -> String {
        for line in self.lines.by_ref().map_while(Result::ok) {
            if line.contains(text) {
                return line;
            }
        }
        panic!("\"{text}\" never came; {:?} after the start", self.since.elapsed());
    }

    fn value(&mut self, prefix: &str) -> u64 {
        let line = self.expect(prefix);
        line.trim_start_matches(prefix).trim().parse().expect("a number of nanoseconds")
    }

    fn finish(mut self) {
        while self.lines.next().is_some() {}
        assert!(self.child.wait().expect("it is our child").success());
    }

    fn stop(self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        self.finish();
    }
}
