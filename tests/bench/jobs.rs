//! What pipelines cost: items of a job beside the same tasks without one, the way from step to step, a thousand live jobs.
//!
//! ```text
//! cargo bench --bench drain -- jobs              all of it, 100,000 items: some minutes
//! cargo bench --bench drain -- jobs 20000 3      so many items, so many rounds
//! ```
//!
//! On SQLite. A splitter submits pages of [`PAGE`] tasks, and itself once more for the next page; with a job these are its items,
//! without one tasks of a queue. Both are measured inside of the tasks, as all drains are, in turn within each round. What counts
//! are the ratios.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use asynctask::{App, Context, Outcome, TaskResult, client::blocking::Client};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    Master,
    measured::{self, nanoseconds},
    median, print_percentiles,
};

/// Items of a splitter's page.
const PAGE: u64 = 1000;
const ITEMS: u64 = 100_000;
const ROUNDS: usize = 3;
/// Jobs of two steps, one after the other.
const WALKS: usize = 200;
/// Live jobs that do nothing.
const LIVE: u64 = 1000;
/// Times that a coordinator is killed, with and without live jobs.
const TAKEOVERS: usize = 5;
/// Pages of metrics that are asked for.
const SCRAPES: usize = 200;
/// How long an idle master is watched.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) fn register(app: App) -> App {
    app.worker_fn("split", split)
        .worker_fn("starter", starter)
        .worker_fn("first", |_: IgnoredAny, context: &Context| {
            context.set_result(&nanoseconds())?;
            Ok(Outcome::Done)
        })
        .worker_fn("second", second)
}

/// Where a splitter goes on.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Page {
    from: u64,
    to: u64,
}

fn split(page: Page, context: &Context) -> TaskResult {
    let is_in_job = context.job().is_some();
    let end = page.to.min(page.from + PAGE);
    // Of the length that the other drains have.
    let text = "x".repeat(super::PAYLOAD - 2);
    for _ in page.from..end {
        if is_in_job { context.item(&text)? } else { context.submit("items", &text)? }
    }
    let next = Page { from: end, ..page };
    if end == page.to {
        return Ok(Outcome::Done);
    }
    if is_in_job {
        context.more(&next)?;
    } else {
        context.submit("pages", &next)?;
    }
    Ok(Outcome::Done)
}

/// Which jobs are to be started.
#[derive(Serialize, Deserialize)]
struct Start {
    pipeline: String,
    count: u64,
    payload: Option<Page>,
}

fn starter(start: Start, context: &Context) -> TaskResult {
    let Start { pipeline, count, payload } = start;
    for _ in 0..count {
        context.start_pipeline(&pipeline, &payload, None)?;
    }
    Ok(Outcome::Done)
}

/// Tells how long ago the step before it ended.
fn second(_: IgnoredAny, context: &Context) -> TaskResult {
    let now = nanoseconds();
    let input = context.job().and_then(|job| job.input("first")).ok_or("it has no input")?;
    let ended: u64 = input.result()?.ok_or("the step before gave nothing")?;
    println!("latency {}", now.saturating_sub(ended));
    Ok(Outcome::Done)
}

const LISTING: &str = r#"pipelines={"listing": {"steps": [{"name": "list", "queue": "pages", "each": "items"}]}}"#;
const WALK: &str =
    r#"pipelines={"walk": {"steps": [{"name": "first", "queue": "first"}, {"name": "second", "queue": "second"}]}}"#;
const WAITS: &str = r#"pipelines={"waits": {"steps": [{"name": "wait", "queue": "nobody"}]}}"#;

/// A master with these workers and pipelines.
fn master(uri: &str, workers: &str, pipelines: &str, options: &[&str], records: Option<&Path>) -> Master {
    let mut all = vec!["--set", pipelines, "--set", "control.socket=none"];
    all.extend(options);
    Master::start(uri, workers, &all, records)
}

pub(crate) fn run(words: &[String]) {
    let mut numbers = words.iter().map(|word| word.parse::<u64>().expect("a number"));
    let items = numbers.next().unwrap_or(ITEMS);
    let rounds = numbers.next().map_or(ROUNDS, |rounds| rounds as usize);
    println!("{items} items in pages of {PAGE}, {rounds} rounds; sqlite, 2 workers of items, one of pages");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for language in ["rust", "python"] {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let file = |name: &str| folder.path().join(format!("{language}-{name}{round}.db"));
            without.push(listing(&file("tasks"), language, items, false));
            with.push(listing(&file("job"), language, items, true));
        }
        report_items(language, &without, &with);
    }
    walks(&folder.path().join("walks.db"));
    live(folder.path());
}

/// What a run of a splitter gave.
struct Listing {
    /// Tasks per second.
    rate: f64,
    /// What the master grew by after its first second, in KiB.
    growth: u64,
    /// The most that a job's state was, in bytes.
    state: u64,
}

fn listing(file: &Path, language: &str, items: u64, is_job: bool) -> Listing {
    let uri = format!("sqlite:{}", file.display());
    let records = tempfile::tempdir().expect("a temporary folder");
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/comparison/programs");
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    let kinds = serde_json::json!({ "python": {
        "command": ["python3", programs.join("asynctask_kinds.py"), "noop"],
        "env": { "PYTHONPATH": module, "PYTHONDONTWRITEBYTECODE": "1" },
    } });
    let kinds = format!("kinds={kinds}");
    let kind = if language == "rust" { "noop" } else { "python" };
    let workers =
        serde_json::json!({ "pages": "split", "items": { "worker": kind, "processes": 2 }, "starter": "starter" });
    let page = Page { from: 0, to: items };
    let client = Client::open(&uri).expect("the transport opens");
    if is_job {
        client.submit("starter", &Start { pipeline: "listing".to_owned(), count: 1, payload: Some(page) })
    } else {
        client.submit("pages", &page)
    }
    .expect("the task is stored");
    drop(client);
    let options = ["--halt-when-empty", "--set", &kinds];
    let master = master(&uri, &workers.to_string(), LISTING, &options, Some(records.path()));
    let watch = Watch::start(master.child.id(), file);
    master.finish();
    let (growth, state) = watch.end();
    let total = measured::read(records.path());
    assert_eq!(total.count, items, "each item is done once where nothing fails");
    let rate = items as f64 / Duration::from_nanos(total.ended - total.began).as_secs_f64();
    Listing { rate, growth, state }
}

fn report_items(language: &str, without: &[Listing], with: &[Listing]) {
    let rates = |listings: &[Listing]| listings.iter().map(|listing| listing.rate).collect::<Vec<f64>>();
    let ratios: Vec<f64> = with.iter().zip(without).map(|(with, without)| with.rate / without.rate).collect();
    let (least, most) = ratios.iter().fold((f64::MAX, 0.0_f64), |(least, most), one| (least.min(*one), most.max(*one)));
    println!(
        "items, {language:8} without a job {:8.0}/s   with {:8.0}/s   ratio {:.2} ({least:.2} to {most:.2})",
        median(&rates(without)),
        median(&rates(with)),
        median(&ratios),
    );
    let most = |listings: &[Listing], of: fn(&Listing) -> u64| listings.iter().map(of).max().unwrap_or_default();
    println!(
        "items, {language:8} the master grew by {} KiB at most without a job, by {} KiB with; state of the job at most {} bytes",
        most(without, |listing| listing.growth),
        most(with, |listing| listing.growth),
        most(with, |listing| listing.state),
    );
}

/// Looks at a master's memory and at its file while it runs.
struct Watch {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u64, u64)>,
}

impl Watch {
    fn start(pid: u32, file: &Path) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (told, file) = (Arc::clone(&is_over), file.to_owned());
        let thread = std::thread::spawn(move || {
            let (mut first, mut growth, mut state) = (None, 0, 0);
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(if first.is_none() { 1000 } else { 100 }));
                let Some(kib) = status_number(pid, "VmRSS:") else { continue };
                growth = growth.max(kib.saturating_sub(*first.get_or_insert(kib)));
                state = state.max(state_length(&file).unwrap_or_default());
            }
            (growth, state)
        });
        Self { is_over, thread }
    }

    fn end(self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic")
    }
}

fn state_length(file: &Path) -> Option<u64> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = rusqlite::Connection::open_with_flags(file, flags).ok()?;
    let length: i64 = file.query_row("SELECT max(length(content)) FROM job", [], |row| row.get(0)).ok()?;
    u64::try_from(length).ok()
}

/// The first number behind a name in `/proc/PID/status`.
fn status_number(pid: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// From the end of a step to the begin of the next, one job after the other.
fn walks(file: &Path) {
    let uri = format!("sqlite:{}", file.display());
    let workers = r#"{"first": "first", "second": "second", "starter": "starter"}"#;
    let mut master = master(&uri, workers, WALK, &[], None).ready(3);
    let client = Client::open(&uri).expect("the transport opens");
    let start = Start { pipeline: "walk".to_owned(), count: 1, payload: None };
    let mut samples: Vec<u64> = (0..WALKS)
        .map(|_| {
            client.submit("starter", &start).expect("the task is stored");
            let took = master.value("latency ");
            master.expect("of walk is done");
            took
        })
        .collect();
    master.stop();
    print_percentiles(&uri, "step to step, idle", &mut samples);
}

/// What a thousand live jobs cost that nobody works: at a takeover, while nothing happens, and when metrics are read.
fn live(folder: &Path) {
    for count in [0, LIVE] {
        let uri = format!("sqlite:{}", folder.join(format!("live{count}.db")).display());
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let address = port.expect("a port of this machine is free").to_string();
        let metrics = format!("metrics={{\"listen\": \"{address}\"}}");
        let workers = r#"{"starter": "starter", "nobody": null}"#;
        let mut first = master(&uri, workers, WAITS, &["--set", &metrics], None).ready(1);
        if count > 0 {
            let client = Client::open(&uri).expect("the transport opens");
            let start = Start { pipeline: "waits".to_owned(), count, payload: None };
            client.submit("starter", &start).expect("the task is stored");
            for _ in 0..count {
                first.expect("of waits begins");
            }
        }
        let before = switches(first.child.id());
        std::thread::sleep(IDLE);
        let switches = (switches(first.child.id()) - before) as f64 / IDLE.as_secs_f64();
        let mut scrapes: Vec<u64> = (0..SCRAPES).map(|_| scrape(&address)).collect();
        let mut takeovers = Vec::new();
        for _ in 0..TAKEOVERS {
            let mut second = master(&uri, workers, WAITS, &[], None);
            second.expect("Another process coordinates the jobs");
            first.child.kill().expect("it runs");
            let killed = Instant::now();
            second.expect("Coordinates the jobs");
            takeovers.push(killed.elapsed().as_nanos() as u64);
            first.child.wait().expect("it is our child");
            first = second;
        }
        first.stop();
        println!("{count:4} live jobs: an idle master wakes up {switches:.1} times a second");
        print_percentiles(&uri, &format!("{count} live, metrics"), &mut scrapes);
        print_percentiles(&uri, &format!("{count} live, takeover"), &mut takeovers);
    }
}

/// Of all threads.
fn switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let threads = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    threads.filter_map(|thread| status_number(thread, "voluntary_ctxt_switches:")).sum()
}

/// How long a page of metrics takes.
fn scrape(address: &str) -> u64 {
    let began = nanoseconds();
    let mut stream = TcpStream::connect(address).expect("the master listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page of text");
    let took = nanoseconds() - began;
    assert!(page.contains("asynctask_jobs{"), "it tells of jobs: {page}");
    took
}
