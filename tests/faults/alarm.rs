//! A broker that is short of memory: it takes nothing from publishers, and everything else goes on.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{once_each, stopped, told, vhost};
use crate::support::{
    Demo, Place,
    broker::{self, Broker},
    log::until,
};

#[test]
fn an_alarm_holds_up_retries_and_nothing_else() {
    // It is the whole broker's, so nobody else can use that one; one start of a broker has to do for all of this.
    let Some(broker) = broker::own() else { return };
    it_passes_and_retries_go_on(&broker);
    acknowledgements_go_on_and_a_stop_ends(&broker);
    submitters_are_told_and_give_up(&broker);
    a_broker_that_is_killed_has_what_was_said(&broker);
}

/// The number before a text.
fn number_before(text: &str, after: &str) -> u64 {
    let (before, _) = text.split_once(after).unwrap_or_else(|| panic!("no `{after}` in {text}"));
    let digits = before.rsplit(|sign: char| !sign.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no number before `{after}` in {text}"))
}

/// How many of a queue there are, delayed ones not counted.
fn ready(demo: &Demo) -> u64 {
    demo.depth("foo")["ready"].as_u64().expect("a count")
}

fn submitters_are_told_and_give_up(broker: &Broker) {
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    demo.submit_all("foo", (0..3).map(|n| n.to_string()));
    broker.control(&["set_vm_memory_high_watermark", "absolute", "1000000"]);
    let one = demo.run(&["submit", "foo", "7", "--id", "mine", "--wait", "4s"]);
    let many = demo.feed(&["submit", "foo", "-", "--json", "--wait", "4s"], &"8\n".repeat(1_000));
    let takes_nothing = "the broker takes nothing from publishers for now (low on memory)";
    for (run, hint) in [
        (&one, "hint: task mine may or may not be stored"),
        (
            &many,
            "hint: no task was submitted before it; line 1 may or may not be stored; nothing from line 2 on is stored",
        ),
    ] {
        assert_eq!((run.code, run.stdout.as_str()), (69, ""), "{run:?}");
        let lines: Vec<&str> = run.stderr.lines().collect();
        assert_eq!(lines[0], format!("waiting for {takes_nothing}"), "{run:?}");
        assert!(lines[1].starts_with("error: ") && lines[1].contains(takes_nothing), "{run:?}");
        assert_eq!(lines[2..], [hint], "{run:?}");
    }
    // One that goes on when the broker does.
    let mut command = demo.command(&["submit", "foo", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the demo starts");
    child.stdin.take().expect("piped").write_all("9\n".repeat(500).as_bytes()).expect("it reads");
    let mut told = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_line(&mut told).expect("a line");
    assert!(told.contains(takes_nothing), "{told}");
    // Whoever is stopped in it says the same.
    let mut stopped = demo.command(&["submit", "foo", "7"]);
    let mut stopped = stopped.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the demo starts");
    let mut errors = BufReader::new(stopped.stderr.take().expect("piped"));
    errors.read_line(&mut told).expect("a line");
    kill(Pid::from_raw(i32::try_from(stopped.id()).expect("a pid")), Signal::SIGINT).expect("it lives");
    errors.read_to_string(&mut told).expect("text");
    assert_eq!(stopped.wait().expect("it is our child").code(), Some(130), "{told}");
    assert!(
        told.contains("error: interrupted by SIGINT\nhint: task ") && told.ends_with("may or may not be stored\n"),
        "{told}"
    );
    broker.control(&["set_vm_memory_high_watermark", "0.6"]);
    let output = child.wait_with_output().expect("it is our child");
    assert!(output.status.success(), "{output:?}");
    until("what was said to be stored is not there", || ready(&demo) >= 503);
    assert!(ready(&demo) <= 503 + 3, "three may be there as well: {}", ready(&demo));
}

fn a_broker_that_is_killed_has_what_was_said(broker: &Broker) {
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    demo.submit("foo", "0");
    let mut command = demo.command(&["submit", "foo", "-", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the demo starts");
    let mut input = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || input.write_all("1\n".repeat(1_000_000).as_bytes()));
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut printed = 0_u64;
    let mut line = String::new();
    // So many that the queue is older than a second: a younger one may stay dead after a kill of this broker.
    while printed < 40_000 && output.read_line(&mut line).expect("text") > 0 {
        printed += 1;
    }
    broker.kill();
    printed += output.lines().count() as u64;
    let mut told = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
    assert_eq!(child.wait().expect("it is our child").code(), Some(69), "{told}");
    let _ = writer.join().expect("the writer does not panic");
    let stored = number_before(&told, " tasks before it were submitted");
    assert_eq!(stored, printed, "{told}");
    let perhaps = if told.contains("may or may not") { 256 } else { 0 };
    broker.restart();
    // A queue that comes back counts what it has read so far.
    until("what was said to be stored is not there", || ready(&demo) > stored);
    let there = ready(&demo) - 1;
    assert!(there <= stored + perhaps, "{there} are there: {told}");
}

fn acknowledgements_go_on_and_a_stop_ends(broker: &Broker) {
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let good = 0..8_u64;
    demo.submit_all("good", good.clone().map(|n| format!(r#"{{"n":{n},"sleep_ms":1000}}"#)));
    let bad = demo.submit_ids("bad", (0..2).map(|n| format!(r#"{{"bad":{n},"sleep_ms":4000,"then":"error"}}"#)));
    let workers = r#"{"good": "demo_sleep_worker",
        "bad": {"worker": "demo_sleep_worker", "processes": 2, "retry": {"max_attempts": 2, "first": "100ms"}}}"#;
    let mut master = demo.start(workers, &["--set", "supervisor.grace=1s"]);
    let log = master.log();
    told(&log, "Got payload", 3);
    broker.control(&["set_vm_memory_high_watermark", "0.00001"]);
    told(&log, "An unhandled exception occurred", 2);
    master.expect("the broker takes nothing from publishers for now");
    told(&log, "Processing complete", 8);
    let depth = |queue: &str| {
        let text = broker.control(&["list_queues", "-p", vhost(&demo), "name", "messages", "--no-table-headers"]);
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(queue)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|count| count.parse::<u32>().ok())
    };
    until("what was done is not acknowledged", || depth("good") == Some(0));
    // The retries are stored nowhere yet, so their tasks are where they were.
    assert_eq!((depth("bad"), depth("bad.retry.100")), (Some(2), Some(0)));
    assert_eq!(stopped(master, Duration::from_secs(10)), 82);
    let text = log.text();
    assert!(text.contains("2 outcomes could not be stored; their tasks will be done again"), "{text}");
    assert!(!text.contains("of 2 failed; again in"), "a retry is said that is not stored: {text}");
    demo.nobody_is_left();
    broker.control(&["set_vm_memory_high_watermark", "0.6"]);
    once_each(&demo, good);
    let run = demo.workers(workers, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let letters = demo.dead_letters("bad");
    let ids: BTreeSet<&str> = letters.iter().filter_map(|letter| letter["id"].as_str()).collect();
    assert_eq!(ids, bad.iter().map(String::as_str).collect(), "{letters:?}");
    // What was sent into the alarm may yet be taken after it: a copy of a task, by its name.
    println!("{} dead letters of {} tasks", letters.len(), ids.len());
    assert!(demo.is_empty("good") && demo.is_empty("bad"));
}

fn it_passes_and_retries_go_on(broker: &Broker) {
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let ids = demo.submit_ids("bad", [r#"{"sleep_ms":2500,"then":"error"}"#.to_owned()]);
    let workers = r#"{"bad": {"worker": "demo_sleep_worker", "retry": {"max_attempts": 2, "first": "100ms"}}}"#;
    let mut master = demo.start(workers, &["--halt-when-empty"]);
    master.expect("Got payload");
    broker.control(&["set_vm_memory_high_watermark", "0.00001"]);
    master.expect("the broker takes nothing from publishers for now");
    broker.control(&["set_vm_memory_high_watermark", "0.6"]);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    assert_eq!(log.matches("Got payload").count(), 2, "{log}");
    let letters = demo.dead_letters("bad");
    assert_eq!((letters.len(), &letters[0]["id"], &letters[0]["attempts"]), (1, &ids[0].as_str().into(), &2.into()));
}
