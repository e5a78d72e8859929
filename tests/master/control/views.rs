//! What a master shows to programs: counts, settings in force, schedules, what ended lately.

use serde_json::{Value, json};

use super::{Demo, LONG, Place, asked, ends_with, on_each_in_turn, refused, slots, started, status, told, until_slots};
use crate::support::log::until;

fn view(demo: &Demo, command: &str) -> Value {
    let answer = asked(demo, &json!({ "command": command }));
    assert!(answer["done"].is_object(), "{command}: {answer}");
    answer["done"].clone()
}

fn events(demo: &Demo, after: u64) -> Value {
    let answer = asked(demo, &json!({ "command": "events", "after": after }));
    assert!(answer["done"].is_object(), "{answer}");
    answer["done"].clone()
}

#[test]
fn counters_never_go_down_and_tell_what_happened() {
    let settings = "workers: { foo: { worker: demo_sleep_worker, retry: { max_attempts: 2, first: 0s } } }\n";
    on_each_in_turn(|demo| {
        let master = started(demo, settings);
        demo.submit_all("foo", super::payloads(20, 0));
        demo.submit("foo", r#"{"then":"dead"}"#);
        until("not all is counted", || {
            let foo = view(demo, "counters")["queues"]["foo"].clone();
            foo["done"] == 20 && foo["dead"].as_object().is_some_and(|dead| dead.values().any(|count| count == 1))
        });
        let counters = view(demo, "counters");
        let foo = &counters["queues"]["foo"];
        let bounds = counters["bounds_seconds"].as_array().expect("a list").len();
        let buckets = foo["ran"]["buckets"].as_array().expect("a list");
        assert_eq!(buckets.len(), bounds + 1);
        assert!(buckets.iter().filter_map(Value::as_u64).sum::<u64>() >= 20, "{foo}");
        assert_eq!((&foo["state"], &foo["slots"]["idle"]), (&json!("running"), &json!(1)));
        assert_eq!(counters["run"], view(demo, "counters")["run"]);
        assert!(counters["run"].as_str().is_some_and(|run| run.len() == 36), "{counters}");
        assert!(counters["uptime_seconds"].is_f64() && counters["connected"] == true, "{counters}");
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn what_ends_is_told_from_the_first_question_on() {
    let demo = Demo::new(&Place::sqlite());
    let settings = "workers: { foo: { worker: demo_sleep_worker, retry: { max_attempts: 2, first: 0s } } }\n";
    let master = started(&demo, settings);
    demo.submit("foo", r#"{"n":0}"#);
    until("it is not done", || demo.done().len() == 1);
    assert_eq!(events(&demo, 0), json!({ "records": [], "lost": 0, "last": 0, "left_out": {} }));
    demo.submit("foo", r#"{"n":1}"#);
    let id = demo.submit("foo", r#"{"then":"segfault"}"#);
    until("not all is told", || events(&demo, 0)["records"].as_array().is_some_and(|records| records.len() >= 3));
    let recent = events(&demo, 0);
    let records = recent["records"].as_array().expect("a list");
    let of = |number: usize| [&records[number]["number"], &records[number]["outcome"], &records[number]["attempt"]];
    assert_eq!(of(0), [&json!(1), &json!("done"), &json!(1)], "{recent}");
    assert_eq!((of(1), of(2)), ([&json!(2), &json!("retried"), &json!(1)], [&json!(3), &json!("dead"), &json!(2)]));
    assert!(records[0]["slot"] == "foo[1]" && records[0]["pid"].is_u64() && records[0]["queue"] == "foo", "{recent}");
    assert_eq!((&records[2]["id"], &records[2]["exit"]["signal"]), (&json!(id), &json!("SIGSEGV")));
    assert_eq!(records[2]["fingerprint"], demo.dead_letters("foo")[0]["fingerprint"]);
    assert!(!recent.to_string().contains("segfault"), "nothing of a payload is told: {recent}");
    let last = recent["last"].as_u64().expect("a number");
    assert!(events(&demo, last)["records"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(events(&demo, last - 1)["records"][0]["number"], last);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn all_tasks_of_a_slot_are_shown_with_their_attempt() {
    let demo = Demo::new(&Place::sqlite());
    let master = started(&demo, "workers: { foo: { worker: demo_sleep_worker } }\n");
    let id = demo.submit("foo", LONG);
    until_slots(&demo, "busy", 1);
    let slot = &slots(&demo)[0];
    let tasks = slot["tasks"].as_array().expect("a list");
    assert_eq!((tasks.len(), &tasks[0]["id"], &tasks[0]["attempt"]), (1, &json!(id), &json!(1)), "{slot}");
    assert_eq!((&slot["ahead"], &slot["task"]["id"]), (&json!(0), &json!(id)));
    told(&demo, &["cancel", &id]);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn settings_in_force_are_those_of_the_last_reload_without_secrets() {
    let demo = Demo::new(&Place::sqlite());
    let settings = |timeout: &str| {
        format!(
            "workers: {{ foo: {{ worker: k, timeout: {timeout} }} }}\nkinds: {{ k: {{ command: [cat], mode: once, env: {{ TOKEN: hush }} }} }}\n"
        )
    };
    demo.write("asynctask.yaml", &settings("7s"));
    let master = demo.start_configured(&["--set", "supervisor.grace=3s"]);
    until("it does not answer", || demo.run(&["health"]).code == 0);
    let shown = view(&demo, "settings");
    assert_eq!(shown["settings"]["workers"]["foo"]["timeout"], 7.0, "{shown}");
    assert!(shown["files"][0].as_str().is_some_and(|file| file.ends_with("asynctask.yaml")), "{shown}");
    assert!(shown["options"].as_array().is_some_and(|options| options.contains(&json!("supervisor.grace"))), "{shown}");
    assert!(!shown.to_string().contains("hush"), "{shown}");
    demo.write("asynctask.yaml", &settings("9s"));
    told(&demo, &["reload", "--wait"]);
    assert_eq!(view(&demo, "settings")["settings"]["workers"]["foo"]["timeout"], 9.0);
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn a_schedule_runs_now_without_its_moments() {
    on_each_in_turn(|demo| {
        let settings = "workers: { foo: demo_sleep_worker }\nscheduled_workers: [{ queue: foo, id: nightly, payload: { n: 1 }, hour: 3 }]\n";
        demo.write("asynctask.yaml", settings);
        let mut master = demo.start_configured(&["--scheduler"]);
        master.expect("Starting; queue=foo");
        let answer: Value = serde_json::from_str(&told(demo, &["run-now", "nightly"])).expect("JSON");
        assert_eq!((&answer["schedule"], &answer["queue"]), (&json!("nightly"), &json!("foo")));
        until("it is not done", || demo.done().len() == 1);
        told(demo, &["run-now", "nightly"]);
        until("it is not done again", || demo.done().len() == 2);
        master.expect("run-now nightly");
        refused(demo, &["run-now", "nightlo"], "there is no schedule \"nightlo\"; did you mean \"nightly\"?");
        let schedules = view(demo, "schedules");
        let nightly = &schedules["schedules"][0];
        assert_eq!((&nightly["id"], nightly["next"].as_array().map(Vec::len)), (&json!("nightly"), Some(3)));
        assert_eq!(nightly["last_at"], Value::Null, "nothing is remembered of it: {nightly}");
        told(demo, &["stop"]);
        ends_with(master, 0);
        let mut master = demo.start_configured(&[]);
        master.expect("Starting; queue=foo");
        refused(demo, &["run-now", "nightly"], "it was not started with --scheduler");
        assert_eq!(status(demo)["scheduler"]["enabled"], false);
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}
