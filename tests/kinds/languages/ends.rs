//! Ends that need a worker of no library: each ends as promised, the master's memory stays where it was, and the other
//! queue goes on.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::repository;
use crate::support::{
    Demo, Place,
    log::{Master, Stopwatch, until},
};

/// A demo whose queue `foo` is worked by `odd.py` in this mood, and `bar` by a kind that writes down what it did.
fn demo(mood: &str, supervisor: &str) -> Demo {
    let demo = Demo::new(&Place::sqlite());
    let program = repository("tests/kinds/languages/odd.py");
    demo.write(
        "asynctask.yaml",
        &format!(
            "workers: {{ foo: odd, bar: demo_file_worker }}\n\
             kinds: {{ odd: {{ command: [python3, {}, {mood}] }} }}\n\
             supervisor: {{ {supervisor} }}\n",
            program.display()
        ),
    );
    demo
}

/// Runs an odd task between two plain ones, and one of the other queue, until all is empty; the dead letter of the odd one.
fn dead_letter(demo: &Demo) -> Value {
    for payload in [r#"{"n":1}"#, r#"{"n":2,"odd":true}"#, r#"{"n":3}"#] {
        demo.submit("foo", payload);
    }
    demo.submit("bar", r#"{"other":1}"#);
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.stdout.matches("DEBUG:odd:Processing complete").count(), 2, "{}", run.stdout);
    assert_eq!(demo.done(), [r#"{"other":1}"#]);
    assert!(demo.is_empty("foo"));
    let letters = demo.dead_letters("foo");
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = demo.json(&["failed", "show", "foo", letters[0]["id"].as_str().expect("an id"), "--json"]);
    assert_eq!((&letter["payload"]["n"], &letter["reason"]), (&json!(2), &json!("crash")), "{letter}");
    letter
}

#[test]
fn a_fault_of_memory_is_a_crash() {
    let letter = dead_letter(&demo("segfault", ""));
    assert_eq!(letter["exit"]["signal"], "SIGSEGV", "{letter}");
}

#[test]
fn an_exit_with_success_in_the_middle_of_a_task_is_a_crash() {
    let letter = dead_letter(&demo("exit", ""));
    assert_eq!(letter["exit"]["code"], 0, "{letter}");
}

#[test]
fn garbage_on_the_socket_is_a_crash() {
    let letter = dead_letter(&demo("garbage", ""));
    assert!(letter["error"].as_str().is_some_and(|error| error.contains("does not parse")), "{letter}");
}

#[test]
fn a_frame_without_an_end_is_a_crash() {
    let letter = dead_letter(&demo("endless", ""));
    assert!(letter["error"].as_str().is_some_and(|error| error.contains("exceeds")), "{letter}");
}

#[test]
fn a_grandchild_that_keeps_the_socket_hides_no_death() {
    let demo = demo("grandchild", "");
    let letter = dead_letter(&demo);
    assert_eq!(letter["exit"]["signal"], "SIGKILL", "{letter}");
    assert_eq!(demo.processes().len(), 0, "the grandchild is gone with its task, although it left the group");
}

#[test]
fn who_is_never_ready_parks_its_queue_and_the_other_one_goes_on() {
    let demo = demo("never_ready", "start_timeout: 200ms, restart: { first: 10ms, longest: 10ms }");
    demo.submit("foo", "{}");
    let mut master = demo.start_configured(&[]);
    // Five times, of which the first and the fourth are told.
    master.expect("was not ready within 0.2 s; killed");
    master.expect("was not ready within 0.2 s; killed");
    master.expect("(4 failed starts in a row)");
    master.expect("parked");
    demo.submit("bar", r#"{"other":1}"#);
    master.expect("DEBUG:FileWorker:Processing complete");
    ends(master, Duration::from_secs(10));
    assert_eq!(demo.depth("foo")["ready"], 1);
    assert_eq!(demo.done(), [r#"{"other":1}"#]);
    demo.nobody_is_left();
}

#[test]
fn who_ignores_halt_is_killed_after_the_grace() {
    let demo = demo("deaf", "grace: 300ms");
    demo.submit("foo", "{}");
    let mut master = demo.start_configured(&[]);
    master.expect("DEBUG:odd:Processing complete");
    ends(master, Duration::from_secs(10));
    assert!(demo.is_empty("foo"));
    demo.nobody_is_left();
}

#[test]
fn a_hundred_megabytes_without_a_line_end_leave_the_masters_memory_as_it_was() {
    let demo = demo("flood", "");
    demo.submit("foo", r#"{"n":1}"#);
    let mut master = demo.start_configured(&[]);
    master.expect("DEBUG:odd:Processing complete");
    let before = peak_bytes(&master);
    demo.submit("foo", r#"{"n":2,"odd":true}"#);
    demo.submit("bar", r#"{"other":1}"#);
    master.expect("DEBUG:odd:Processing complete");
    let after = peak_bytes(&master);
    assert!(after < before + (10 << 20), "{before} bytes before, {after} after");
    let log = master.log();
    ends(master, Duration::from_secs(10));
    assert!(log.text().len() < 1 << 20, "the line was not cut: {} bytes", log.text().len());
    assert_eq!(demo.done(), [r#"{"other":1}"#]);
}

#[test]
fn who_never_stops_talking_is_heard_and_costs_no_memory() {
    let demo = demo("talk", "");
    demo.submit("foo", r#"{"n":1}"#);
    let mut master = demo.start_configured(&[]);
    master.expect("DEBUG:odd:Processing complete");
    let before = peak_bytes(&master);
    demo.submit("foo", r#"{"n":2,"odd":true}"#);
    master.expect("(cut at 64 KiB)");
    demo.submit("bar", r#"{"other":1}"#);
    master.expect("DEBUG:FileWorker:Processing complete");
    let slot = || demo.json(&["status", "--json"])["queues"]["foo"]["slots"][0].clone();
    until("the last of its progress is not shown", || slot()["task"]["progress"]["percent"] == 60.0);
    assert_eq!(slot()["task"]["progress"]["note"], "ä".repeat(128));
    let after = peak_bytes(&master);
    // Two frames of the largest size, as text and as what it means, and the lines of one turn.
    assert!(after < before + (100 << 20), "{before} bytes before, {after} after");
    demo.write("go", "");
    master.expect("DEBUG:odd:Processing complete");
    ends(master, Duration::from_secs(10));
    assert!(demo.dead_letters("foo").is_empty());
}

/// Stops a master, which takes at most so long.
fn ends(master: Master, limit: Duration) {
    let watch = Stopwatch::start();
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    assert!(watch.elapsed() < limit, "it took {:?}", watch.elapsed());
}

/// The most memory that a process has had.
fn peak_bytes(master: &Master) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", master.pid())).expect("the master lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
