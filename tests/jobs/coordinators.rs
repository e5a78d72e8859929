//! Coordinators that are killed, stopped, locked out, and told nonsense.

use std::path::Path;

use asynctask::{
    jobs::{
        entry::{Entry, How},
        entry_list,
    },
    membership::ledger_queue,
    task::NewTask,
    transport,
};
use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::Value;

use super::{
    steps::{
        began, configure, counts, done, drained, master, on_each, ordered, places, shown, started, states, tasks,
        touch, until_state,
    },
    support::{
        Demo, Place,
        log::{Master, until},
        storm::{Dice, pass},
    },
};

pub(super) const CHAIN: &str = "
chain:
  steps:
    - { name: s0, queue: a }
    - { name: s1, queue: a, each: items }
    - { name: s2, queue: a }
    - { name: s3, queue: a, each: items }
    - { name: s4, queue: a }
";
pub(super) const PAYLOAD: &str = r#"{"s1": {"items": 6, "page": 4}, "s3": {"items": 5}}"#;
/// Tasks of each step of a job.
pub(super) const TASKS: [(&str, u64); 5] = [("s0", 1), ("s1", 8), ("s2", 1), ("s3", 6), ("s4", 1)];
/// A worker that comes late, and one that a signal reaches at any moment.
pub(super) const WORKERS: &str = "
  items: { worker: steps, processes: 2, max_deliveries: 1000, breaker: { failures: 100000 } }
  a: { worker: steps, max_deliveries: 1000, breaker: { failures: 100000 } }
";

pub(super) fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn file(demo: &Demo) -> Connection {
    let path = demo.uri.strip_prefix("sqlite:").expect("these tests have a file");
    let file = Connection::open(path).expect("the file of tasks");
    file.busy_timeout(std::time::Duration::from_secs(20)).expect("it can be set");
    file
}

pub(super) fn chains(demo: &Demo, count: usize) -> Vec<String> {
    (0..count).map(|_| started(demo, &["chain", PAYLOAD])).collect()
}

/// Each job is done, each of its tasks counted once, and each step was begun by one round that counted.
pub(super) fn all_is_done(demo: &Demo, jobs: &[String]) {
    let did = done(demo);
    for id in jobs {
        let job = shown(demo, id);
        assert_eq!(job["state"], "done", "{job}");
        for (step, known) in TASKS {
            assert_eq!(tasks(&job, step), [known, 0, known], "{job}");
            let round = job["steps"][step]["round"].as_str().expect("it began");
            let firsts = did.iter().filter(|did| did.job == *id && did.step == step && did.number == "-");
            let (ours, others): (Vec<_>, Vec<_>) = firsts.partition(|did| did.task == round);
            assert!(!ours.is_empty(), "step {step} of {job} was done by nobody");
            // A broker keeps tasks of a coordinator that died before it had stored that it begins the step: they run for nothing.
            assert!(others.is_empty() || !demo.uri.starts_with("sqlite:"), "a task of no round: {others:?}");
        }
    }
}

#[test]
fn jobs_go_on_although_whoever_coordinates_them_is_killed_at_each_line_that_it_writes() {
    for place in places() {
        whoever_coordinates_is_killed(&Demo::new(&place));
    }
}

fn whoever_coordinates_is_killed(demo: &Demo) {
    configure(demo, CHAIN, &[], WORKERS);
    let jobs = chains(demo, 3);
    let seed = number("ASYNCTASK_JOBS_STORM_SEED", 1);
    let kills = number("ASYNCTASK_JOBS_KILLS", 25);
    let mut dice = Dice::new(seed);
    // Two that work and wait for the ledger, two that take turns in dying with it.
    let lasting = master(demo, &["--queue", "items"]);
    let mut both = [master(demo, &[]), master(demo, &[])];
    for kill in 0..kills {
        let victim = &mut both[(kill % 2) as usize];
        // Some line of it, whatever it says, and a moment after it: in the middle of what follows.
        victim.expect(if dice.below(2) == 0 { ":jobs:" } else { "Launching" });
        pass(std::time::Duration::from_micros(dice.below(60_000)));
        victim.signal(Signal::SIGKILL);
        *victim = master(demo, &[]);
    }
    for id in &jobs {
        until_state(demo, id, "done");
    }
    all_is_done(demo, &jobs);
    drop((both, lasting));
}

/// What the file says of a live job agrees: each member that was counted as known is ended, or has a task that waits, or its end is
/// an entry that is not folded yet.
fn agrees(file: &Connection) {
    let mut statement = file.prepare("SELECT id, state, content FROM job").expect("a table");
    let jobs = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("rows");
    let mut entries = file.prepare("SELECT body FROM entry").expect("a table");
    let entries = entries.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    let bodies: Vec<Vec<u8>> = entries.map(|body| body.expect("bytes")).collect();
    let entries = bodies.iter().flat_map(|body| entry_list::entries_of(body));
    let entries: Vec<Entry> = entries.map(|entry| Entry::parse(entry).expect("an entry of ours")).collect();
    for job in jobs {
        let (id, state, content): (String, String, String) = job.expect("a row");
        let content: Value = serde_json::from_str(&content).expect("JSON");
        let counted = |name: &str| -> i64 {
            let steps = content["steps"].as_array().expect("a list");
            steps.iter().map(|step| step["members"][name].as_i64().unwrap_or(0)).sum()
        };
        let (known, ended) = (counted("known"), counted("done") + counted("failed"));
        let (mut ends, mut items) = (0, 0);
        for entry in &entries {
            if let Entry::End(end) = entry
                && end.member.job == id
            {
                ends += 1;
                if let How::Done { items: submitted, .. } = end.how {
                    items += i64::from(submitted);
                }
            }
        }
        let waits = "SELECT count(*) FROM task WHERE job = ?1 AND state <> 2 AND member NOT LIKE '%\"wipe\":true%'";
        let waiting: i64 = file.query_row(waits, [&id], |row| row.get(0)).expect("a number");
        assert_eq!(known + items - ended - ends, waiting, "job {id} is {state}, {ends} ends are not folded: {content}");
        if state == "running" {
            assert!(waiting + ends > 0, "job {id} runs, and nothing of it is anywhere: {content}");
        }
    }
}

#[test]
fn the_file_of_a_master_that_was_killed_anywhere_agrees_and_the_next_one_goes_on() {
    let demo = &Demo::new(&Place::sqlite());
    configure(demo, CHAIN, &[], WORKERS);
    let mut jobs = Vec::new();
    let mut dice = Dice::new(number("ASYNCTASK_JOBS_STORM_SEED", 1));
    let (mut kills, mut in_the_middle) = (0, 0);
    while kills < number("ASYNCTASK_JOBS_KILLS", 12) {
        // However fast the machine is, each of them has something to do.
        jobs.extend(chains(demo, 4));
        let mut only = master(demo, &[]);
        only.expect("Coordinates the jobs");
        pass(std::time::Duration::from_millis(20 + dice.below(200)));
        only.signal(Signal::SIGKILL);
        drop(only);
        let file = file(demo);
        agrees(&file);
        let whole: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
        assert_eq!(whole, "ok");
        let live = |job: &String| shown(demo, job)["state"] == "running";
        in_the_middle += u64::from(jobs.iter().any(live));
        kills += 1;
    }
    assert!(in_the_middle > 0, "no master was killed before all was done: this test tests nothing");
    assert_eq!(drained(demo).code, 0);
    agrees(&file(demo));
    all_is_done(demo, &jobs);
}

#[test]
fn a_coordinator_that_was_stopped_for_long_goes_on_and_counts_everything_once() {
    let demo = &Demo::new(&Place::sqlite());
    configure(demo, CHAIN, &[], WORKERS);
    let mut stopped = master(demo, &["--queue", "a"]);
    stopped.expect("Coordinates the jobs");
    let jobs = chains(demo, 1);
    let worked = master(demo, &["--queue", "items"]);
    until("the items of a step are worked", || began(demo).iter().any(|did| did.step == "s1" && did.number != "-"));
    stopped.signal(Signal::SIGSTOP);
    until("what is there without it is done", || demo.is_empty("items"));
    let before = shown(demo, &jobs[0]);
    stopped.signal(Signal::SIGCONT);
    until_state(demo, &jobs[0], "done");
    all_is_done(demo, &jobs);
    assert_eq!(before["state"], "running");
    assert_eq!(counts(&done(demo)), TASKS.map(|(step, tasks)| (step, tasks as usize)).into());
    drop((stopped, worked));
}

/// `prlimit --fsize=…` for a process that runs, as one to whom a disk is full.
fn limit_files(master: &Master, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    let pid = i32::try_from(master.pid()).expect("a pid");
    // SAFETY: the kernel reads the limit, which lives until it has, and writes nothing.
    let result = unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(result, 0, "its limit can be set");
}

#[test]
fn without_room_on_the_disk_the_coordinator_waits_says_so_and_stores_nothing_by_halves() {
    let demo = &Demo::new(&Place::sqlite());
    configure(demo, CHAIN, &[], WORKERS);
    let mut full = master(demo, &[]);
    full.expect("Starting; queue=a");
    let jobs = chains(demo, 1);
    until("the first step is done", || began(demo).iter().any(|did| did.step == "s1"));
    limit_files(&full, 4096);
    let more = demo.run(&["jobs", "start", "chain", PAYLOAD]);
    // Who gives the order has room, and who is to carry it out has none.
    assert_eq!(more.code, 3, "{more:?}");
    full.expect("what must be stored is kept and tried again");
    agrees(&file(demo));
    limit_files(&full, libc::RLIM_INFINITY);
    until("both are done", || demo.run(&["jobs", "list", "--state", "done", "--json"]).stdout.lines().count() == 2);
    all_is_done(demo, &jobs);
    agrees(&file(demo));
}

#[test]
fn jobs_wait_for_a_file_that_somebody_else_has_locked() {
    let demo = &Demo::new(&Place::sqlite());
    configure(demo, CHAIN, &[], WORKERS);
    let jobs = chains(demo, 20);
    let masters = [master(demo, &[]), master(demo, &[])];
    let other = file(demo);
    for _ in 0..3 {
        let before = done(demo).len();
        until("they move", || done(demo).len() > before + 20);
        other.execute_batch("BEGIN IMMEDIATE").expect("it is free sometimes");
        // Longer than one waits for a lock without a word.
        pass(std::time::Duration::from_millis(2500));
        other.execute_batch("ROLLBACK").expect("it was begun");
    }
    for id in &jobs {
        until_state(demo, id, "done");
    }
    all_is_done(demo, &jobs);
    assert!(masters.iter().all(|master| Path::new(&format!("/proc/{}", master.pid())).exists()));
}

#[test]
fn entries_that_nobody_of_ours_wrote_change_nothing_and_stop_nobody() {
    on_each(nobody_of_ours_wrote);
}

fn nobody_of_ours_wrote(demo: &Demo) {
    configure(demo, CHAIN, &[], WORKERS);
    let mut worked = master(demo, &[]);
    worked.expect("Coordinates the jobs");
    let id = started(demo, &["chain", r#"{"s0": {"wait": "gate"}}"#]);
    until("the first task is begun", || began(demo).len() == 1);
    let round = shown(demo, &id)["steps"]["s0"]["round"].as_str().expect("it began").to_owned();
    let other = uuid_of(7);
    let end = |job: &str, step: &str, round: &str, feeder: &str, index: u64| {
        format!(
            r#"{{"end":{{"job":"{job}","step":"{step}","round":"{round}","feeder":"{feeder}","index":{index},"at":1,"how":{{"done":{{"execution":"{other}","items":0}}}}}}}}"#
        )
    };
    let forged: Vec<Vec<u8>> = [
        end("nobody", "s0", &round, &round, 0),
        end(&id, "s9", &round, &round, 0),
        end(&id, "s0", &other, &other, 0),
        end(&id, "s0", &round, &round, 4_000_000_000),
        end(&id, "s0", &round, &round, 5_000_000_000),
        "{}".to_owned(),
        r#"{"end":{}}"#.to_owned(),
        r#"{"order":{"id":"o","at":1,"what":{"cancel":{"job":""}}}}"#.to_owned(),
        format!(
            r#"{{"order":{{"id":"o2","at":-9223372036854775808,"what":{{"priority":{{"job":"{}","priority":1}}}}}}}}"#,
            "x".repeat(9000)
        ),
        "[".repeat(100_000),
        "\u{0}".to_owned(),
    ]
    .map(String::into_bytes)
    .into_iter()
    .chain([vec![0xff; 100], vec![b' '; (16 << 20) + 1], Vec::new()])
    .collect();
    put_entries(demo, forged);
    // It comes behind them.
    ordered(demo, &["priority", &id, "1"]);
    assert_eq!(states(&shown(demo, &id)), "running s0:running s1:planned s2:planned s3:planned s4:planned");
    touch(demo, "gate");
    until_state(demo, &id, "done");
    assert!(worked.log().text().contains("an entry"), "{}", worked.log().text());
}

/// Puts entries where those of the ledger come, whatever is in them.
fn put_entries(demo: &Demo, bodies: Vec<Vec<u8>>) {
    let (events, _heard) = tokio::sync::mpsc::unbounded_channel();
    let address = transport::Uri::parse(&demo.uri, demo.folder.path()).expect("an address of ours");
    let client = transport::open(&address, events).expect("it opens");
    for body in bodies {
        let is_longest = body.len() > 16 << 20;
        let tasks = vec![NewTask { queue: ledger_queue("demo"), body, ..NewTask::default() }];
        let stored = transport::call(&*client, |reply| transport::Request::Submit { tasks, reply });
        // RabbitMQ 4 takes no longer ones.
        assert!(stored.is_ok() || is_longest, "{stored:?}");
    }
    transport::call(&*client, |reply| transport::Request::Close { reply }).expect("closed");
}

fn uuid_of(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

#[test]
fn a_master_without_queues_of_its_own_coordinates_what_others_work() {
    let demo = &Demo::new(&Place::sqlite());
    configure(demo, CHAIN, &[], "  a: null\n  items: null");
    let mut alone = master(demo, &["--set", "control.socket=alone.sock"]);
    alone.expect("Coordinates the jobs");
    let status = demo.json(&["status", "--json", "--socket", "alone.sock"]);
    assert_eq!(
        (&status["coordinator"]["held"], &status["state"]),
        (&Value::Bool(true), &Value::from("running")),
        "{status}"
    );
    let health = demo.run(&["health", "--socket", "alone.sock"]);
    assert_eq!(health.code, 0, "{health:?}");
    let jobs = chains(demo, 1);
    // Who works knows nothing of pipelines.
    configure(demo, CHAIN, &[], WORKERS);
    let settings = std::fs::read_to_string(demo.folder.path().join("asynctask.yaml")).expect("it was written");
    let (_, rest) = settings.split_once("workers:\n").expect("workers are configured");
    demo.write("plain.yaml", &format!("control: {{ socket: none }}\nworkers:\n{rest}"));
    let worked = master(demo, &["-c", "plain.yaml"]);
    until_state(demo, &jobs[0], "done");
    all_is_done(demo, &jobs);
    assert!(!worked.log().text().contains(":jobs:"), "{}", worked.log().text());
    alone.signal(Signal::SIGTERM);
    assert_eq!(alone.wait().0, 0);
}
