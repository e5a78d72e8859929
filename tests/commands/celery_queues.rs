//! Queues whose messages are Celery's, by commands: what they make, count, remove and put back.

use std::time::{Duration, UNIX_EPOCH};

use asynctask::{
    client::{SubmitOptions, blocking::Client},
    config::{Sources, load},
};
use lapin::types::AMQPValue;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::refused;
use crate::support::{Demo, Place, foreign::Foreign, log::until};

const WORKERS: &str = "workers={thumbs: {worker: demo_file_worker, protocol: celery, max_priority: 5}}";
const DOES_NOTHING: &str = "workers={thumbs: {worker: demo_error_worker, protocol: celery, max_priority: 5}}";

/// A demo with RabbitMQ, if there is one, and whoever else uses it.
fn demo() -> Option<(Demo, Foreign)> {
    let demo = Demo::new(&Place::amqp()?);
    let foreign = Foreign::connect(&demo.uri);
    Some((demo, foreign))
}

/// As producers with Celery do.
fn declare(foreign: &Foreign) {
    foreign.declare_as_celery("thumbs", "thumbs", &[("x-max-priority", AMQPValue::LongInt(5))]).expect("no 406");
}

#[test]
fn a_payload_with_a_task_and_its_arguments_is_submitted_and_worked() {
    let Some((demo, foreign)) = demo() else { return };
    let payload = r#"{"task": "resize", "args": [1.50, "ä"], "kwargs": {"to": "b.png"}}"#;
    let run = demo.run(&["submit", "thumbs", payload, "--id", "mine", "--expires", "1h", "--set", WORKERS]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "mine\n", ""));
    declare(&foreign);
    let message = foreign.take("thumbs").expect("it is there");
    let headers = message.properties.headers().clone().expect("headers");
    let said = |name: &str| headers.inner()[name].clone();
    assert_eq!(
        (said("task"), said("id")),
        (AMQPValue::LongString("resize".into()), AMQPValue::LongString("mine".into()))
    );
    assert!(matches!(said("expires"), AMQPValue::LongString(_)));
    assert!(message.data.starts_with(br"[[1.50, "), "{:?}", message.data);
    foreign.publish("thumbs", message.properties, &message.data);
    // Lines, a delay, and a moment.
    let run = demo.feed(
        &["submit", "thumbs", "-", "--set", WORKERS, "--delay", "300ms"],
        "{\"task\": \"a\"}\n{\"task\": \"b\"}\n",
    );
    assert_eq!((run.code, run.stdout.as_str()), (0, "2 tasks submitted to queue thumbs\n"));
    let run = demo.run(&["workers", "--halt-when-empty", "--set", WORKERS]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(!run.stdout.contains("classic"), "{}", run.stdout);
    let mut done: Vec<Value> = demo.done().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    done.sort_by_key(|done| done["task"].to_string());
    let expected = [
        json!({"task": "a", "args": [], "kwargs": {}}),
        json!({"task": "b", "args": [], "kwargs": {}}),
        json!({"task": "resize", "args": [1.5, "ä"], "kwargs": {"to": "b.png"}}),
    ];
    assert_eq!(done, expected);
    declare(&foreign);
}

#[test]
fn another_payload_is_refused_with_the_form_it_has() {
    let Some((demo, foreign)) = demo() else { return };
    for payload in ["7", r#"{"task": 7}"#, r#"{"task": "a", "args": {}}"#, r#"{"tusk": "a"}"#] {
        let run = demo.run(&["submit", "thumbs", payload, "--set", WORKERS]);
        refused(&run, 1, r#"{"task": NAME, "args": [...], "kwargs": {...}}"#, None);
    }
    let run = demo.feed(&["submit", "thumbs", "-", "--set", WORKERS], "{\"task\": \"a\"}\n7\n");
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(!foreign.exists("thumbs"), "nothing was made for what is refused");
}

#[test]
fn dead_letters_are_put_back_as_they_came_into_a_queue_as_its_producers_declare_it() {
    let Some((demo, foreign)) = demo() else { return };
    let payload = r#"{"task": "resize", "args": [1], "kwargs": {"error": true}}"#;
    demo.run(&["submit", "thumbs", payload, "--id", "mine", "--set", DOES_NOTHING]);
    let sent = foreign.take("thumbs").expect("it is there");
    foreign.publish("thumbs", sent.properties.clone(), b"no body of a task");
    let run = demo.run(&["workers", "--halt-when-empty", "--set", DOES_NOTHING]);
    assert!(run.stdout.contains("dead-lettered to thumbs_failed: malformed"), "{}", run.stdout);
    let letters = demo.dead_letters("thumbs");
    assert_eq!((&letters[0]["id"], &letters[0]["reason"]), (&json!("mine"), &json!("malformed")));
    let depth = demo.json(&["queues", "--json", "--set", WORKERS])["thumbs"].clone();
    assert_eq!((&depth["ready"], &depth["failed"]), (&json!(0), &json!(1)));
    let run = demo.run(&["queues", "delete", "thumbs", "--yes", "--set", WORKERS]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(!foreign.exists("thumbs"));
    // Its own channel went with the question.
    let foreign = Foreign::connect(&demo.uri);
    let run = demo.run(&["failed", "retry", "thumbs", "--all", "--set", WORKERS]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    declare(&foreign);
    let again = foreign.take("thumbs").expect("it is back");
    let (is, was) = (&again.properties, &sent.properties);
    assert_eq!((is.message_id(), is.correlation_id(), is.priority()), (&None, was.correlation_id(), was.priority()));
    let theirs = |properties: &lapin::BasicProperties| -> Vec<_> {
        let table = properties.headers().clone().expect("headers");
        table
            .inner()
            .iter()
            .filter(|(name, _)| !name.as_str().starts_with("asynctask-"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    assert_eq!((theirs(is), again.data.as_slice()), (theirs(was), &b"no body of a task"[..]));
    foreign.publish("thumbs", again.properties, &again.data);
    let run = demo.run(&["queues", "purge", "thumbs", "--yes", "--set", WORKERS]);
    assert_eq!((run.code, foreign.ready("thumbs")), (0, 0), "{}", run.stderr);
}

#[test]
fn a_program_submits_through_its_settings() {
    let Some((demo, foreign)) = demo() else { return };
    let sources = Sources {
        set: vec![format!("transport={}", demo.uri), WORKERS.to_owned()],
        rust_kinds: vec!["demo_file_worker".to_owned()],
        cwd: demo.folder.path().to_owned(),
        application: "demo".to_owned(),
        ..Sources::default()
    };
    let client = Client::from_config(&load(&sources).expect("settings")).expect("a client");
    let later = SubmitOptions::new().at(UNIX_EPOCH + Duration::from_secs(1)).priority(3).header("x-mine", 7);
    let id = client.submit_with("thumbs", &json!({"task": "resize", "args": [1]}), later).expect("submitted");
    let message = foreign.take("thumbs").expect("it is there");
    let headers = message.properties.headers().clone().expect("headers");
    assert_eq!(headers.inner()["id"], AMQPValue::LongString(id.into()));
    assert_eq!((message.properties.priority(), &headers.inner()["x-mine"]), (&Some(3), &AMQPValue::LongLongInt(7)));
    let error = client.submit("thumbs", &7).expect_err("it is no task");
    assert!(error.to_string().contains("a payload for one is"), "{error}");
    declare(&foreign);
}

#[test]
fn a_worker_submits_to_a_queue_of_celerys_that_is_worked_elsewhere() {
    let Some((demo, foreign)) = demo() else { return };
    let script = r#"#!/usr/bin/env python3
import json, os
channel = os.fdopen(int(os.environ["ASYNCTASK_FD"]), "r+b", buffering=0)
def say(frame): channel.write(json.dumps(frame).encode() + b"\n")
say({"ready": {"protocol": 1, "name": "Sender"}})
for line in channel:
    frame = json.loads(line)
    if "task" in frame:
        task = frame["task"]
        say({"done": {"id": task["id"], "submit": [{"queue": "thumbs", "payload": task["payload"]}]}})
    elif "ping" in frame:
        say({"pong": frame["ping"]})
    elif "halt" in frame:
        say({"bye": {}})
        break
"#;
    demo.write("sender.py", script);
    let settings = [
        "kinds={sender: {command: [python3, sender.py]}}",
        "workers={sent: sender, thumbs: {worker: demo_file_worker, protocol: celery, max_priority: 5}}",
    ];
    let set = settings.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>();
    demo.run(&[&["submit", "sent", r#"{"task": "resize", "args": [1]}"#], &set[..]].concat());
    demo.run(&[&["submit", "sent", "7"], &set[..]].concat());
    let run = demo.run(&[&["workers", "--queue", "sent", "--halt-when-empty"], &set[..]].concat());
    assert!(run.stdout.contains("a payload for one is"), "{}", run.stdout);
    declare(&foreign);
    let message = foreign.take("thumbs").expect("the one that is a task of Celery's");
    assert!(message.properties.headers().clone().expect("headers").contains_key("task"));
    assert!(foreign.take("thumbs").is_none());
    assert_eq!(demo.dead_letters("sent").len(), 1, "the other one is kept with its task");
}

#[test]
fn workers_know_the_node_and_what_becomes_of_failures() {
    let Some((demo, _)) = demo() else { return };
    demo.write("told.sh", "#!/bin/sh\necho \"node=$ASYNCTASK_CELERY_NODE failures=$ASYNCTASK_CELERY_FAILURES\"\n");
    let settings = [
        "kinds={told: {command: [sh, told.sh], mode: once}}",
        "workers={thumbs: {worker: told, protocol: celery}, plain: told}",
        "celery={node: 'w@here', failures: drop}",
    ];
    let set = settings.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>();
    demo.run(&[&["submit", "thumbs", r#"{"task": "a"}"#], &set[..]].concat());
    demo.run(&[&["submit", "plain", "7"], &set[..]].concat());
    let run = demo.run(&[&["workers", "--halt-when-empty"], &set[..]].concat());
    assert!(run.stdout.contains("node=w@here failures=drop"), "{}", run.stdout);
    assert!(run.stdout.contains("node= failures=\n"), "{}", run.stdout);
}

#[test]
fn a_schedule_of_a_task_of_celerys_is_listed_and_fires() {
    let Some((demo, foreign)) = demo() else { return };
    let set = r"scheduled_workers=[{celery: shop.clean, args: [7], queue: elsewhere, every: 1s}]";
    let listed = demo.json(&["schedules", "--json", "--set", set])["schedules"][0].clone();
    assert_eq!((&listed["celery"], &listed["queue"]), (&json!("shop.clean"), &json!("elsewhere")));
    let mut command = demo.command(&["workers", "--scheduler", "--set", set, "--set", WORKERS]);
    command.env("TZ", "UTC");
    let mut master = demo.follow(command);
    master.expect("Triggering scheduled execution of shop.clean");
    until("no message of the schedule", || {
        let foreign = Foreign::connect(&demo.uri);
        foreign.exists("elsewhere") && Foreign::connect(&demo.uri).ready("elsewhere") > 0
    });
    let message = foreign.take("elsewhere").expect("it is there");
    assert!(message.data.starts_with(b"[[7],{},"));
    foreign.declare_as_celery("elsewhere", "elsewhere", &[]).expect("no 406");
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}

#[test]
fn a_reload_changes_the_form_of_a_queue() {
    let Some((demo, foreign)) = demo() else { return };
    let settings = |more: &str| {
        let text = format!(
            "transport: {}\ncontrol: {{socket: a.sock}}\nworkers: {{ thumbs: {{ worker: demo_file_worker{more} }} }}\n",
            demo.uri
        );
        demo.write("asynctask.yaml", &text);
    };
    foreign.declare_as_celery("thumbs", "thumbs", &[]).expect("declared");
    settings("");
    let master = demo.start_configured(&[]);
    demo.submit("thumbs", "1");
    until("the first is not done", || demo.done() == ["1"]);
    settings(", protocol: celery, exchange: other");
    let run = demo.run_configured(&["control", "reload", "--wait"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let run = demo.run_configured(&["submit", "thumbs", r#"{"task": "a"}"#]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    until("the second is not done", || demo.done().len() == 2);
    assert_eq!(demo.done()[1], r#"{"task":"a","args":[],"kwargs":{}}"#);
    foreign.declare_as_celery("thumbs", "other", &[]).expect("bound already");
    settings("");
    assert_eq!(demo.run_configured(&["control", "reload", "--wait"]).code, 0);
    demo.submit("thumbs", "3");
    until("the third is not done", || demo.done().len() == 3);
    assert_eq!(demo.done()[2], "3");
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}
