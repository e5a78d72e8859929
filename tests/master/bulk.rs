//! Many tasks: each payload is done exactly once when nothing fails, on each transport.
//!
//! What was really done stands in a file that the workers append to, so nothing here trusts what the master counts;
//! what it counts has to agree with it.

use std::process::Command;

use crate::support::{Demo, Place, demo::Ran, in_order};

const MANY: u32 = 10_000;

/// Ten thousand lines of DEBUG about tasks would be measured along.
fn quietly(demo: &Demo, workers: &str) -> Ran {
    let mut command: Command = demo.master(workers, &["--halt-when-empty"]);
    command.env("LOG_LEVEL", "INFO");
    let mut master = demo.follow(command);
    let summary = master.expect(" processed, ");
    let (code, log) = master.wait();
    println!("{}: {summary}", demo.uri);
    Ran { stdout: log, stderr: String::new(), code }
}

/// Holds if the payloads `{"n":0}` to `{"n":count - 1}` were done, each exactly once.
fn exactly_once(demo: &Demo, count: u32) {
    let mut times = vec![0_u32; count as usize];
    for line in demo.done() {
        let number = line.strip_prefix(r#"{"n":"#).and_then(|rest| rest.strip_suffix('}'));
        let number: usize = number.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("not ours: {line}"));
        times[number] += 1;
    }
    let wrong: Vec<_> = times.iter().enumerate().filter(|(_, times)| **times != 1).take(10).collect();
    assert_eq!(wrong, [], "(n, times done), the first ten that are not once");
}

fn ten_thousand(place: &Place) {
    let demo = Demo::new(place);
    demo.submit_all("foo", (0..MANY).map(|n| format!(r#"{{"n":{n}}}"#)));
    let run = quietly(&demo, r#"{"foo": {"worker": "demo_file_worker", "processes": 4}}"#);
    assert_eq!(run.code, 0);
    exactly_once(&demo, MANY);
    let counted = format!("INFO:AsyncTaskWorkerTask:{MANY} processed, 0 failed, 0 retried, 0 dead-lettered");
    assert!(run.stdout.contains(&counted), "{}", run.stdout);
    in_order(
        &run,
        &["INFO:AsyncTaskWorkerTask:All workers halted; closing down...", "INFO:AsyncTaskWorkerTask:Complete"],
    );
    let depth = demo.depth("foo");
    assert_eq!(depth["failed"], 0, "{depth}");
    assert!(demo.is_empty("foo"));
}

#[test]
fn ten_thousand_tasks_on_sqlite_are_done_once_each() {
    ten_thousand(&Place::sqlite());
}

#[test]
fn ten_thousand_tasks_on_rabbitmq_are_done_once_each() {
    Place::amqp().iter().for_each(ten_thousand);
}

/// Each of 500 tasks submits two more to another queue of the same run; the run ends when those are done too.
fn follow_ups(place: &Place) {
    let demo = Demo::new(place);
    demo.write_python_worker("fan");
    demo.submit_all("foo", (0..500).map(|n| format!(r#"{{"n":{n}}}"#)));
    let workers =
        r#"{"foo": {"worker": "python", "processes": 2}, "bar": {"worker": "demo_file_worker", "processes": 2}}"#;
    let run = quietly(&demo, workers);
    assert_eq!(run.code, 0);
    exactly_once(&demo, 1000);
    assert!(run.stdout.contains("1500 processed, 0 failed, 0 retried, 0 dead-lettered"), "{}", run.stdout);
    assert!(demo.is_empty("foo") && demo.is_empty("bar"));
}

#[test]
fn follow_up_tasks_on_sqlite_are_done_before_the_end() {
    follow_ups(&Place::sqlite());
}

#[test]
fn follow_up_tasks_on_rabbitmq_are_done_before_the_end() {
    Place::amqp().iter().for_each(follow_ups);
}

/// A task that puts another into its own queue, a thousand times: the library's own way to submit.
fn requeued(place: &Place) {
    let demo = Demo::new(place);
    demo.submit_all("foo", (0..1000).map(|_| r#"{"foo":1}"#.to_owned()));
    let run = quietly(&demo, r#"{"foo": {"worker": "requeue_worker", "processes": 4}}"#);
    assert_eq!(run.code, 0);
    let count = |line: &str| run.stdout.lines().filter(|got| *got == line).count();
    for line in [r#"REQUEUE processed: {"foo":1}"#, "REQUEUE requeued", r#"REQUEUE processed: {"foo":2}"#] {
        assert_eq!(count(line), 1000, "{line}");
    }
    assert!(run.stdout.contains("2000 processed, 0 failed"), "{}", run.stdout);
    assert!(demo.is_empty("foo"));
}

#[test]
fn requeued_tasks_on_sqlite_are_done_before_the_end() {
    requeued(&Place::sqlite());
}

#[test]
fn requeued_tasks_on_rabbitmq_are_done_before_the_end() {
    Place::amqp().iter().for_each(requeued);
}
