//! What it costs to do nothing: an idle master wakes nobody, and neither it nor its workers are large.
//!
//! These tests wait by time, on purpose: what they measure is what happens while nothing happens. The figures are printed
//! always. How often a master wakes is judged in every build; how large it is only in the release build, if there is
//! one of the sources as they are (`cargo build --release --example demo`). RabbitMQ has no limit of its own: its figures
//! are for comparison.

#[path = "support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::Duration,
};

use support::{
    Demo, Place,
    demo::demo_program,
    log::{Master, Stopwatch},
};

/// After its start: until then it opens files and starts workers.
const SETTLING: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(10);

const MOST_SWITCHES_A_SECOND: f64 = 4.0;
const MOST_MASTER_RSS_KB: u64 = 15 * 1024;
const MOST_WORKER_PSS_KB: u64 = 2560;

struct Figures {
    switches_a_second: f64,
    master_rss_kb: u64,
    worker_pss_kb: Vec<u64>,
}

fn release_build() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(3).expect("target/PROFILE/deps/test");
    Some(target.join("release/examples/demo")).filter(|program| program.exists())
}

/// Whether a source file is newer.
fn is_stale(program: &Path) -> bool {
    let changed_at = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if changed_at(&path) > changed_at(program) {
                return true;
            }
        }
    }
    false
}

fn pass(time: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}

/// The number behind `name:` in a file of `/proc`.
fn number(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {name} in {file}:\n{text}"))
}

/// Of all its threads together.
fn voluntary_switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    threads.map(|thread| number(&format!("{}/status", thread.path().display()), "voluntary_ctxt_switches")).sum()
}

fn start(demo: &Demo, program: &Path) -> Master {
    let mut command: Command = demo.command_of(program, &["workers"]);
    let workers = r#"{"foo": "demo_foo_worker", "bar": "demo_bar_worker", "baz": "demo_baz_worker"}"#;
    // Served metrics cost nothing either while nobody asks.
    command.arg("--set").arg(format!("workers={workers}")).args(["--set", "metrics.listen=127.0.0.1:0"]);
    let mut master = demo.follow(command);
    for _ in 0..3 {
        master.expect("Starting; queue=");
    }
    master
}

fn measure(place: &Place, program: &Path) -> Figures {
    let demo = Demo::new(place);
    let master = start(&demo, program);
    pass(SETTLING);
    let (before, watch) = (voluntary_switches(master.pid()), Stopwatch::start());
    pass(MEASURED);
    let switches = voluntary_switches(master.pid()) - before;
    let workers = master.workers();
    assert_eq!(workers.len(), 3);
    Figures {
        switches_a_second: switches as f64 / watch.elapsed().as_secs_f64(),
        master_rss_kb: number(&format!("/proc/{}/status", master.pid()), "VmRSS"),
        worker_pss_kb: workers.iter().map(|pid| number(&format!("/proc/{pid}/smaps_rollup"), "Pss")).collect(),
    }
}

fn print(name: &str, figures: &Figures) {
    let Figures { switches_a_second, master_rss_kb, worker_pss_kb } = figures;
    println!(
        "idle on {name}: {switches_a_second:.1} voluntary switches/s, master {master_rss_kb} kB RSS, workers \
         {worker_pss_kb:?} kB PSS"
    );
}

#[test]
fn an_idle_master_wakes_nobody_and_is_small() {
    let release = release_build().filter(|program| !is_stale(program));
    let program = release.as_deref().unwrap_or_else(|| demo_program());
    let build = if release.is_some() { "release" } else { "debug" };
    let amqp = Place::amqp();
    let sqlite = std::thread::scope(|scope| {
        if let Some(place) = &amqp {
            scope.spawn(|| print(&format!("RabbitMQ, {build} build"), &measure(place, program)));
        }
        scope.spawn(|| measure(&Place::sqlite(), program)).join().expect("it is measured")
    });
    print(&format!("SQLite, {build} build"), &sqlite);
    assert!(sqlite.switches_a_second <= MOST_SWITCHES_A_SECOND);
    if release.is_none() {
        println!("memory is not judged: there is no release build of the demonstration program as the sources are now");
        return;
    }
    assert!(sqlite.master_rss_kb <= MOST_MASTER_RSS_KB);
    assert!(sqlite.worker_pss_kb.iter().all(|pss| *pss <= MOST_WORKER_PSS_KB));
}
