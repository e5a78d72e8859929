//! The control socket, end to end: what a running master tells, what it can be told, and who cannot disturb it.

mod accounts;
mod cancelled;
mod hostile;
mod pauses;
mod pinged;
mod reload;
mod rolling;
mod shown;
mod socket;
mod steered;
mod unavailable;
mod views;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

use crate::support::{
    Demo, Place,
    demo::Ran,
    log::{Master, until},
    on_each_in_turn,
};
use serde_json::Value;

/// Far longer than any test: such a task ends by force or not at all.
const LONG: &str = r#"{"sleep_ms":600000}"#;

/// A master that works these settings, once its queue `foo` has a worker that is ready.
fn started(demo: &Demo, settings: &str) -> Master {
    demo.write("asynctask.yaml", settings);
    let mut master = demo.start_configured(&[]);
    master.expect("Starting; queue=foo");
    master
}

fn status(demo: &Demo) -> Value {
    demo.json(&["status", "--json"])
}

/// Does as told.
fn told(demo: &Demo, arguments: &[&str]) -> String {
    let ran = demo.run(&[&["control"], arguments].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}: {}", ran.stdout);
    ran.stdout
}

/// What the master answers to a line at its socket.
fn asked(demo: &Demo, command: &Value) -> Value {
    let mut stream = UnixStream::connect(demo.folder.path().join("asynctask.sock")).expect("it listens");
    stream.write_all(format!("{command}\n").as_bytes()).expect("it takes a line");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("it answers");
    serde_json::from_str(&answer).expect("JSON")
}

/// Does not do as told.
fn refused(demo: &Demo, arguments: &[&str], why: &str) {
    let ran = demo.run(&[&["control"], arguments].concat());
    assert_eq!(ran.code, 1, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    failed_with(&ran, why);
}

/// One line that says what is wrong, and perhaps one that helps.
fn failed_with(ran: &Ran, why: &str) {
    let first = ran.stderr.lines().next().unwrap_or_default();
    assert!(first.starts_with("error: ") && first.contains(why), "{}", ran.stderr);
    assert!(ran.stderr.lines().skip(1).all(|line| line.starts_with("hint: ")), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

/// The states of the slots of `foo`.
fn slots(demo: &Demo) -> Vec<Value> {
    status(demo)["queues"]["foo"]["slots"].as_array().expect("a list").clone()
}

fn until_slots(demo: &Demo, state: &str, count: usize) {
    until(&format!("not {count} slots that are {state}"), || {
        let slots = slots(demo);
        slots.len() == count && slots.iter().all(|slot| slot["state"] == state)
    });
}

/// Payloads that the sleep worker writes down, each different.
fn payloads(count: usize, sleep_ms: u32) -> Vec<String> {
    (0..count).map(|number| format!(r#"{{"n":{number},"sleep_ms":{sleep_ms}}}"#)).collect()
}

/// Each of them was done, once.
fn each_once(demo: &Demo, count: usize) {
    let done = demo.done();
    let different: BTreeSet<&String> = done.iter().collect();
    assert_eq!((done.len(), different.len()), (count, count), "done, and different ones");
    assert_eq!(demo.dead_letters("foo"), Vec::<Value>::new());
}

/// Waits for the end and its exit code.
fn ends_with(master: Master, code: i32) -> String {
    let (got, log) = master.wait();
    assert_eq!(got, code, "{log}");
    log
}
