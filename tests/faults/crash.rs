//! Tasks that kill their workers: one among many, and all of them.

use std::time::Duration;

use super::{on_each, once_each, stopped};
use crate::support::{Demo, Place, demo::Ran, log::Stopwatch};

const GOOD: u64 = 1_000;

/// A thousand tasks of 10 ms, with one among them that kills its worker or without; how long it took, and the id.
fn thousand(demo: &Demo, bad: Option<&str>) -> (Ran, Duration, String) {
    let good = |n: u64| format!(r#"{{"n":{n},"sleep_ms":10}}"#);
    let bad = bad.map(|then| format!(r#"{{"n":{GOOD},"then":"{then}"}}"#));
    let payloads = (0..GOOD / 2).map(good).chain(bad).chain((GOOD / 2..GOOD).map(good));
    let ids = demo.submit_ids("foo", payloads);
    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 4,
        "retry": {"max_attempts": 3, "first": "100ms", "jitter": "0%"}}}"#;
    let watch = Stopwatch::start();
    let mut command = demo.master(workers, &["--halt-when-empty"]);
    command.env("LOG_LEVEL", "INFO");
    let (code, stdout) = demo.follow(command).wait();
    let took = watch.elapsed();
    assert_eq!(code, 0, "{stdout}");
    once_each(demo, 0..GOOD);
    assert!(demo.is_empty("foo"));
    (Ran { stdout, stderr: String::new(), code }, took, ids[GOOD as usize / 2].clone())
}

fn one_among_many(place: &impl Fn() -> Option<Place>, then: &str, signal: &str) {
    let (Some(one), Some(other)) = (place(), place()) else { return };
    let (_, without, _) = thousand(&Demo::new(&one), None);
    let demo = Demo::new(&other);
    let (run, with, id) = thousand(&demo, Some(then));
    assert_eq!(run.stdout.matches("Worker for queue foo died; restarting...").count(), 3, "{}", run.stdout);
    let letters = demo.dead_letters("foo");
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((&letters[0]["reason"], &letters[0]["attempts"]), (&"crash".into(), &3.into()), "{}", letters[0]);
    let shown = demo.json(&["failed", "show", "foo", &id, "--json"]);
    assert_eq!(shown["exit"]["signal"], signal, "{shown}");
    assert!(shown["output_tail"].as_str().is_some_and(|tail| tail.contains("SLEEP DYING!")), "{shown}");
    let text = demo.run(&["failed", "show", "foo", &id]).stdout;
    assert!(text.contains(signal) && text.contains("SLEEP DYING!"), "{text}");
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!("{then} among {GOOD}: {with:.1?} with it, {without:.1?} without: {ratio:.2} times as long");
    assert!(ratio < 2.0, "{ratio:.2} times as long");
}

#[test]
fn a_task_that_aborts_on_sqlite_disturbs_no_other() {
    one_among_many(&|| Some(Place::sqlite()), "abort", "SIGABRT");
}

#[test]
fn a_task_that_segfaults_on_rabbitmq_disturbs_no_other() {
    one_among_many(&Place::amqp, "segfault", "SIGSEGV");
}

#[test]
fn a_kind_that_aborts_on_everything_parks_its_queue_which_keeps_its_tasks() {
    on_each(|demo| {
        demo.submit_all("foo", (0..1_000).map(|n| format!(r#"{{"n":{n},"then":"abort"}}"#)));
        let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 4}, "well": "demo_file_worker"}"#;
        let mut master = demo.start(workers, &[]);
        let line = master.expect("Queue foo is parked for ");
        assert!(line.contains("too many of its tasks crashed or timed out in a row"), "{line}");
        // The other queue is as well as before.
        demo.submit("well", r#"{"n":1}"#);
        master.expect("Processing complete");
        assert_eq!(stopped(master, Duration::from_secs(10)), 0);
        let dead = the_rest_is_there(demo, 0);
        // What a stop may not hide: a run that is to end when all is done says that it is not.
        let workers = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 4}, "well": "demo_quiet_worker"}"#;
        let run = demo.workers(workers, &["--halt-when-empty"]);
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("queue foo is parked"), "{}", run.stderr);
        let more = the_rest_is_there(demo, dead);
        println!("{}: {dead} dead letters when it was parked, {more} more in a second run", demo.uri);
    });
}

/// At most twenty dead letters more than before, and everything else in the queue.
fn the_rest_is_there(demo: &Demo, before: u64) -> u64 {
    let depth = demo.depth("foo");
    let (Some(ready), Some(failed)) = (depth["ready"].as_u64(), depth["failed"].as_u64()) else { panic!("{depth}") };
    assert!((before + 10..=before + 20).contains(&failed) && ready + failed == 1_000, "{depth}");
    failed - before
}
