//! Ends of all kinds, gentle and not: a worker is killed, the master is killed, Ctrl-C, TERM once, twice, three times,
//! to the master or to everybody, with workers that listen and workers that are deaf.
//!
//! Each test shows the same two things at its end: nothing is lost (every id that was submitted is accounted for, and
//! an interrupted task has used no attempt), and no process is left.

mod terminal;

use std::{collections::BTreeSet, os::unix::process::CommandExt, time::Duration};

use crate::support::{
    Demo, Place,
    log::{Master, Stopwatch},
    on_each,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Far longer than any test: such a task ends by force or not at all.
const LONG: &str = r#"{"sleep_ms":600000,"error":true}"#;
/// What a busy machine may add to a limit.
const SLACK: Duration = Duration::from_secs(6);

fn kill_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        // One may be gone already: the master stops it at the same time.
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}

/// Waits for the end, which comes within `limit`; its exit code.
fn ends_within(master: Master, limit: Duration) -> i32 {
    let watch = Stopwatch::start();
    let (code, _) = master.wait();
    let took = watch.elapsed();
    assert!(took <= limit, "the end took {took:?}, at most {limit:?} were allowed");
    code
}

/// Nobody is left, and exactly these tasks lie in `queue`, none with an attempt used: a worker that fails each of
/// them makes all of them dead letters after one attempt.
fn all_are_back(demo: &Demo, queue: &str, ids: &[String]) {
    demo.nobody_is_left();
    let run = demo.workers(&format!(r#"{{"{queue}": "demo_error_worker"}}"#), &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let letters = demo.dead_letters(queue);
    let found: BTreeSet<&str> = letters.iter().filter_map(|letter| letter["id"].as_str()).collect();
    assert_eq!(found, ids.iter().map(String::as_str).collect(), "ids");
    assert_eq!(letters.len(), ids.len(), "each once");
    for letter in &letters {
        assert_eq!((&letter["reason"], &letter["attempts"]), (&"error".into(), &1.into()), "{letter}");
    }
    assert!(demo.is_empty(queue));
}

#[test]
fn a_worker_that_is_killed_has_used_an_attempt_and_its_neighbours_go_on() {
    on_each(|demo| {
        let id = demo.submit("foo", LONG);
        let mut master = demo.start(r#"{"foo": "demo_sleep_worker"}"#, &["--halt-when-empty"]);
        master.expect("Got payload");
        demo.submit("foo", r#"{"n":2}"#);
        let victims = master.workers();
        assert_eq!(victims.len(), 1);
        kill_all(&victims, Signal::SIGKILL);
        master.expect("Worker for queue foo died; restarting...");
        let line = master.expect("is to be dead-lettered");
        assert!(line.contains(&id) && line.contains("SIGKILL"), "{line}");
        assert_eq!(master.wait().0, 0);
        assert_eq!(demo.done(), [r#"{"n":2}"#]);
        let letter = demo.json(&["failed", "show", "foo", &id, "--json"]);
        assert_eq!((&letter["reason"], &letter["attempts"]), (&"crash".into(), &1.into()));
        assert_eq!(letter["exit"]["signal"], "SIGKILL", "{letter}");
        assert_eq!(letter["pid"], victims[0]);
        assert!(letter["in_hand_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{letter}");
        assert!(demo.is_empty("foo"));
        demo.nobody_is_left();
    });
}

#[test]
fn a_killed_workers_task_is_retried_while_it_has_attempts() {
    on_each(|demo| {
        let id = demo.submit("foo", LONG);
        let workers = r#"{"foo": {"worker": "demo_sleep_worker", "retry": {"max_attempts": 2, "first": "100ms"}}}"#;
        let mut master = demo.start(workers, &["--halt-when-empty"]);
        for end in ["is retried in", "is to be dead-lettered"] {
            master.expect("Got payload");
            kill_all(&master.workers(), Signal::SIGKILL);
            let line = master.expect(end);
            assert!(line.contains(&id) && line.contains("SIGKILL"), "{line}");
        }
        assert_eq!(master.wait().0, 0);
        let letters = demo.dead_letters("foo");
        assert_eq!(letters.len(), 1);
        assert_eq!((&letters[0]["id"], &letters[0]["attempts"]), (&id.into(), &2.into()));
        assert!(demo.is_empty("foo"));
        demo.nobody_is_left();
    });
}

#[test]
fn a_killed_master_takes_its_workers_along_and_the_next_one_does_everything() {
    on_each(|demo| {
        let ids = demo.submit_ids("foo", (0..6).map(|_| LONG.to_owned()));
        let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 2}}"#;
        let mut master = demo.start(workers, &[]);
        master.expect("Got payload");
        master.expect("Got payload");
        let workers = master.workers();
        assert_eq!((workers.len(), demo.processes().len()), (2, 3));
        master.signal(Signal::SIGKILL);
        assert_eq!(master.wait().0, -9);
        for pid in workers {
            crate::support::log::until("an orphan is left", || !is_alive(pid));
        }
        all_are_back(demo, "foo", &ids);
    });
}

/// Whether a process runs; one that is dead and waits to be reaped by init does not.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_killed_master_takes_a_deaf_program_along_too() {
    on_each(|demo| {
        demo.write_python_worker("deaf");
        let ids = demo.submit_ids("foo", [LONG.to_owned()]);
        let mut master = demo.start(r#"{"foo": "python"}"#, &[]);
        master.expect("PYTHON begins");
        master.signal(Signal::SIGKILL);
        assert_eq!(master.wait().0, -9);
        all_are_back(demo, "foo", &ids);
    });
}

#[test]
fn control_c_is_an_orderly_stop() {
    on_each(|demo| {
        let task = |n: u32| format!(r#"{{"n":{n},"sleep_ms":1000,"error":true}}"#);
        let ids = demo.submit_ids("foo", (0..3).map(task));
        let mut command = demo.master(r#"{"foo": "demo_sleep_worker"}"#, &[]);
        // What a shell does with a program in the foreground.
        command.process_group(0);
        let mut master = demo.follow(command);
        master.expect("Got payload");
        master.signal_group(Signal::SIGINT);
        master.expect("Termination received; shutting down children");
        let (code, log) = master.wait();
        assert_eq!(code, 0);
        assert!(log.contains("Processing complete\n") && log.contains("Children dead\n"), "{log}");
        assert_eq!(demo.done(), [task(0)]);
        all_are_back(demo, "foo", &ids[1..]);
    });
}

#[test]
fn a_term_to_everybody_interrupts_no_worker_written_in_rust() {
    on_each(|demo| {
        let task = |n: u32| format!(r#"{{"n":{n},"sleep_ms":1000,"error":true}}"#);
        let ids = demo.submit_ids("foo", (0..4).map(task));
        let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 2}}"#;
        let mut master = demo.start(workers, &[]);
        master.expect("Got payload");
        master.expect("Got payload");
        // As a container's end or a service manager does: to each process of the group.
        kill_all(&master.workers(), Signal::SIGTERM);
        master.signal(Signal::SIGTERM);
        assert_eq!(master.wait().0, 0);
        let done: BTreeSet<String> = demo.done().into_iter().collect();
        assert_eq!(done, [task(0), task(1)].into());
        all_are_back(demo, "foo", &ids[2..]);
    });
}

#[test]
fn a_program_that_dies_of_a_term_to_everybody_costs_no_attempt() {
    on_each(|demo| {
        demo.write_python_worker("plain");
        let ids = demo.submit_ids("foo", [LONG.to_owned(), LONG.to_owned()]);
        let mut master = demo.start(r#"{"foo": "python"}"#, &[]);
        master.expect("PYTHON begins");
        master.signal(Signal::SIGTERM);
        kill_all(&master.workers(), Signal::SIGTERM);
        assert_eq!(ends_within(master, SLACK), 82);
        all_are_back(demo, "foo", &ids);
    });
}

/// The order in which the signals to a group arrive is nobody's choice: here the master has seen the death, and begun
/// a new worker, before it hears of the stop that explains it.
#[test]
fn nor_does_one_that_dies_of_it_before_its_master_hears_of_it() {
    on_each(|demo| {
        demo.write_python_worker("plain");
        let ids = demo.submit_ids("foo", [LONG.to_owned(), LONG.to_owned()]);
        let mut master = demo.start(r#"{"foo": "python"}"#, &["--set", "supervisor.grace=1s"]);
        master.expect("PYTHON begins");
        kill_all(&master.workers(), Signal::SIGTERM);
        master.expect("Worker for queue foo died; restarting...");
        master.signal(Signal::SIGTERM);
        assert_eq!(ends_within(master, Duration::from_secs(1 + 2) + SLACK), 82);
        all_are_back(demo, "foo", &ids);
    });
}

#[test]
fn what_takes_longer_than_the_grace_is_interrupted() {
    on_each(|demo| {
        let ids = demo.submit_ids("foo", [LONG.to_owned(), LONG.to_owned()]);
        let mut master = demo.start(r#"{"foo": "demo_sleep_worker"}"#, &["--set", "supervisor.grace=1s"]);
        master.expect("Got payload");
        master.signal(Signal::SIGTERM);
        // The grace, and the patience of an interrupt.
        assert_eq!(ends_within(master, Duration::from_secs(1 + 2) + SLACK), 82);
        let depth = demo.depth("foo");
        assert_eq!((&depth["ready"], &depth["failed"]), (&2.into(), &0.into()), "{depth}");
        all_are_back(demo, "foo", &ids);
    });
}

fn second_term(kind: &str, at_work: &str) {
    on_each(|demo| {
        demo.write_python_worker("plain");
        let ids = demo.submit_ids("foo", [LONG.to_owned(), LONG.to_owned()]);
        let mut master = demo.start(&format!(r#"{{"foo": "{kind}"}}"#), &[]);
        master.expect(at_work);
        master.signal(Signal::SIGTERM);
        master.expect("Termination received; shutting down children");
        master.signal(Signal::SIGTERM);
        assert_eq!(ends_within(master, Duration::from_secs(2) + SLACK), 82);
        all_are_back(demo, "foo", &ids);
    });
}

#[test]
fn a_second_term_interrupts_a_worker_written_in_rust() {
    second_term("demo_sleep_worker", "Got payload");
}

#[test]
fn a_second_term_interrupts_a_program() {
    second_term("python", "PYTHON begins");
}

#[test]
fn a_third_term_kills_now() {
    on_each(|demo| {
        demo.write_python_worker("stubborn");
        let ids = demo.submit_ids("foo", [LONG.to_owned(), LONG.to_owned()]);
        let mut master = demo.start(r#"{"foo": "python"}"#, &[]);
        master.expect("PYTHON begins");
        master.signal(Signal::SIGTERM);
        master.expect("Termination received; shutting down children");
        master.signal(Signal::SIGTERM);
        // Told by the second; left alone, it would be killed 2 s later.
        master.expect("PYTHON got SIGTERM");
        master.signal(Signal::SIGTERM);
        assert_eq!(ends_within(master, Duration::from_millis(1800)), 82);
        all_are_back(demo, "foo", &ids);
    });
}

#[test]
fn a_worker_that_is_deaf_to_everything_is_gone_within_bounds() {
    on_each(|demo| {
        demo.write_python_worker("deaf");
        let ids = demo.submit_ids("foo", [LONG.to_owned(), LONG.to_owned()]);
        let mut master = demo.start(r#"{"foo": "python"}"#, &["--set", "supervisor.grace=1s"]);
        master.expect("PYTHON begins");
        master.signal(Signal::SIGTERM);
        assert_eq!(ends_within(master, Duration::from_secs(1 + 2) + SLACK), 82);
        all_are_back(demo, "foo", &ids);
    });
}

/// There is nothing to interrupt, so the end is a good one.
#[test]
fn a_deaf_worker_without_a_task_is_gone_within_bounds() {
    on_each(|demo| {
        demo.write_python_worker("deaf");
        let mut master = demo.start(r#"{"foo": "python"}"#, &["--set", "supervisor.grace=1s"]);
        master.expect("Starting; queue=foo");
        master.signal(Signal::SIGTERM);
        assert_eq!(ends_within(master, Duration::from_secs(1 + 2) + SLACK), 0);
        demo.nobody_is_left();
    });
}

#[test]
fn a_stop_ends_though_the_broker_is_down() {
    let Some(broker) = crate::support::broker::own() else { return };
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    // The first task takes its second so that the queues are older than that when the broker is killed: RabbitMQ
    // 3.10 loses a quorum queue that was declared in the last second before its end.
    let first = r#"{"sleep_ms":1500}"#.to_owned();
    let ids = demo.submit_ids("busy", [first, LONG.to_owned(), LONG.to_owned()]);
    let mut busy = demo.start(r#"{"busy": "demo_sleep_worker"}"#, &["--set", "supervisor.grace=1s"]);
    let mut idle = demo.start(r#"{"idle": "demo_sleep_worker"}"#, &[]);
    idle.expect("Starting; queue=idle");
    busy.expect("Processing complete");
    busy.expect("Got payload");
    broker.kill();
    busy.expect("again in");
    idle.expect("again in");
    busy.signal(Signal::SIGTERM);
    idle.signal(Signal::SIGTERM);
    assert_eq!(ends_within(idle, SLACK), 0);
    assert_eq!(ends_within(busy, Duration::from_secs(1 + 2) + SLACK), 82);
    demo.nobody_is_left();
    broker.restart();
    all_are_back(&demo, "busy", &ids[1..]);
}

#[test]
fn what_ended_while_the_broker_was_down_is_said_to_be_done_again() {
    let Some(broker) = crate::support::broker::own() else { return };
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    demo.submit_all("foo", (0..2).map(|n| format!(r#"{{"n":{n},"sleep_ms":3000}}"#)));
    demo.submit("foo", r#"{"sleep_ms":3000,"then":"error"}"#);
    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 3}}"#;
    let mut command = demo.master(workers, &["--set", "supervisor.grace=20s"]);
    command.stderr(std::fs::File::create(demo.folder.path().join("stderr")).expect("a file in a folder of ours"));
    command.stdout(std::process::Stdio::piped());
    let mut master = Master::follow(command.spawn().expect("the demo starts"));
    let log = master.log();
    crate::support::log::until("not all are begun", || log.text().matches("Got payload").count() == 3);
    broker.kill();
    master.expect("again in");
    crate::support::log::until("not all have ended", || log.text().matches("Processing complete").count() == 2);
    master.expect("An unhandled exception");
    master.signal(Signal::SIGTERM);
    let (code, text) = master.wait();
    assert_eq!(code, 82, "{text}");
    let line = "3 outcomes could not be stored; their tasks will be done again";
    assert!(text.contains(&format!("ERROR:AsyncTaskWorkerTask:{line}")), "{text}");
    assert!(!text.contains("dead-lettered"), "{text}");
    let stderr = std::fs::read_to_string(demo.folder.path().join("stderr")).expect("it was made");
    assert!(stderr.contains(&format!("error: {line}")), "{stderr}");
    demo.nobody_is_left();
}
