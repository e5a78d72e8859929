//! Workers and masters that die: what the job says of it, what it costs, and how it heals.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    steps::{
        began, configure, counts, done, drained, master, on_each, ordered, places, shown, started, states, tasks,
        touch, until_state,
    },
    support::{Demo, Place, log::until},
};

const THREE: &str = "
three:
  key: '{payload.k}'
  on_failure: notices
  steps: [ { name: a, queue: a }, { name: b, queue: b }, { name: c, queue: c } ]
";

#[test]
fn a_job_says_what_its_worker_died_of_and_heals_when_the_dead_letter_is_retried() {
    on_each(|demo| {
        configure(
            demo,
            THREE,
            &["a", "c"],
            "  b: { worker: steps, retry: { max_attempts: 2, first: 2s } }\n  notices: null",
        );
        let payload =
            r#"{"k": "x", "a": {"result": 7}, "b": {"kill": "SIGSEGV", "say": "last words", "inputs": true}}"#;
        let id = started(demo, &["three", payload]);
        let worked = master(demo, &[]);
        // With an attempt left.
        let retrying = |job: &Value| job["steps"]["b"]["retrying"]["error"].clone();
        until("the retry is told", || !retrying(&shown(demo, &id)).is_null());
        let job = shown(demo, &id);
        assert_eq!(retrying(&job), "the worker died: killed by SIGSEGV", "{job}");
        assert!(job["steps"]["b"]["retrying"]["again_at"].is_string() && job["state"] == "running", "{job}");
        assert!(demo.run(&["jobs", "show", &id]).stdout.contains("retrying: again at "));
        // With none.
        let job = until_state(demo, &id, "failed");
        assert_eq!(states(&job), "failed a:done b:failed c:skipped");
        assert_eq!(job["error"], "step b failed: crash: the worker died: killed by SIGSEGV");
        let dead = &job["steps"]["b"]["dead_letters"][0];
        let letter = demo.json(&["failed", "show", "b", dead["id"].as_str().expect("an id"), "--json"]);
        assert_eq!((&letter["exit"]["signal"], &letter["attempts"]), (&json!("SIGSEGV"), &json!(2)), "{letter}");
        assert!(letter["output_tail"].as_str().is_some_and(|text| text.contains("last words")), "{letter}");
        assert!(letter["max_rss_bytes"].is_u64() || letter["max_rss_bytes"].is_null(), "{letter}");
        until("its summary is told", || demo.depth("notices")["ready"] == 1);

        touch(demo, "good");
        assert_eq!(demo.run(&["failed", "retry", "b", "--all"]).code, 0);
        let job = until_state(demo, &id, "done");
        assert_eq!(states(&job), "done a:done b:done c:done");
        assert_eq!((tasks(&job, "b"), &job["error"]), ([1, 0, 1], &Value::Null));
        assert_eq!(job["steps"]["b"]["result"], json!({ "a": { "state": "done", "result": 7, "memo": null } }));
        assert_eq!(demo.depth("notices")["ready"], 1, "a failure is told once");
        assert_eq!(counts(&began(demo)), [("a", 1), ("b", 3), ("c", 1)].into());
        drop(worked);
    });
}

#[test]
fn an_attempt_that_succeeds_is_all_a_job_needs() {
    on_each(|demo| {
        configure(demo, THREE, &["a", "b", "c"], "  notices: null");
        let id = started(demo, &["three", r#"{"k": "x", "b": {"raise": "not now", "memo": 1}}"#]);
        let mut worked = master(demo, &[]);
        worked.expect("not now");
        touch(demo, "good");
        let job = until_state(demo, &id, "done");
        assert_eq!((tasks(&job, "b"), &job["steps"]["b"]["retrying"]), ([1, 0, 1], &Value::Null), "{job}");
        assert_eq!(demo.depth("notices")["ready"], 0);
    });
}

#[test]
fn a_master_that_is_killed_before_it_stores_what_is_done_repeats_the_task_and_counts_it_once() {
    let demo = Demo::new(&Place::sqlite());
    let other = "\nother: { steps: [ { name: only, queue: c } ] }";
    configure(&demo, &format!("{THREE}{other}"), &["a", "b", "c"], "  notices: null");
    let payload = r#"{"k": "x", "a": {"wait": "gate", "start": [{"pipeline": "other"}]}}"#;
    let id = started(&demo, &["three", payload]);
    let first = master(&demo, &[]);
    until("the first task is begun", || began(&demo).len() == 1);
    // Nobody can write into the file while this one does.
    let writer = rusqlite::Connection::open(demo.folder.path().join("tasks.db")).expect("the file of tasks");
    writer.execute_batch("BEGIN IMMEDIATE").expect("it is free sometimes");
    touch(&demo, "gate");
    until("the first task is done", || done(&demo).len() == 1);
    first.signal(Signal::SIGKILL);
    drop(first);
    writer.execute_batch("ROLLBACK").expect("it was begun");
    assert_eq!(states(&shown(&demo, &id)), "running a:running b:planned c:planned");
    let run = drained(&demo);
    assert_eq!(run.code, 0, "{run:?}");
    let job = shown(&demo, &id);
    assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("done a:done b:done c:done", [1, 0, 1]));
    assert_eq!(counts(&began(&demo)), [("a", 2), ("b", 1), ("c", 1), ("only", 1)].into());
    let others = demo.run(&["jobs", "list", "--pipeline", "other", "--json"]).stdout;
    assert_eq!(others.lines().count(), 1, "{others}");
}

#[test]
fn a_splitter_whose_result_is_too_long_has_submitted_nothing() {
    on_each(|demo| {
        configure(demo, "one: { steps: [ { name: a, queue: a, each: items } ] }", &["a", "items"], "");
        let id = started(demo, &["one", r#"{"a": {"items": 3, "long": 40000}}"#]);
        let run = drained(demo);
        assert_eq!(run.code, 0, "{run:?}");
        let job = shown(demo, &id);
        assert_eq!((tasks(&job, "a"), counts(&began(demo))), ([0, 1, 1], [("a", 2)].into()), "{job}");
        let error = "its result has 40002 bytes, more than 32768: put it into a file and give its name";
        assert_eq!((&job["steps"]["a"]["reason"], &job["steps"]["a"]["error"]), (&json!("error"), &json!(error)));
    });
}

#[test]
fn however_a_task_ends_its_step_ends_with_that_reason() {
    on_each(|demo| {
        let pipeline = "one: { key: '{payload.k}', steps: [ { name: a, queue: a }, { name: b, queue: b } ] }";
        configure(demo, pipeline, &["b"], "  a: { worker: steps, max_deliveries: 2, breaker: { failures: 100000 } }");
        started(demo, &["one", r#"{"k": "shape", "a": {"malformed": "no such shape"}}"#]);
        started(demo, &["one", r#"{"k": "end", "a": {"fail": "never"}}"#]);
        let run = drained(demo);
        assert_eq!(run.code, 0, "{run:?}");
        let ended = |key: &str| {
            let job = shown(demo, &format!("one/{key}"));
            assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("failed a:failed b:skipped", [0, 1, 1]));
            (job["steps"]["a"]["reason"].clone(), job["steps"]["a"]["error"].clone())
        };
        assert_eq!(ended("shape"), (json!("malformed"), json!("no such shape")));
        assert_eq!(ended("end"), (json!("failed"), json!("never")));

        // Delivered too often, since masters die with it.
        let id = started(demo, &["one", r#"{"k": "lost", "a": {"wait": "gate"}}"#]);
        let before = began(demo).len();
        for lost in 1..=2 {
            let killed = master(demo, &[]);
            until("it is begun", || began(demo).len() == before + lost);
            killed.signal(Signal::SIGKILL);
        }
        let last = master(demo, &[]);
        until_state(demo, &id, "failed");
        assert_eq!(ended("lost").0, "deliveries");
        drop(last);
    });
}

#[test]
fn what_was_done_before_a_crash_is_not_done_again_by_a_restart_of_what_failed() {
    for place in places() {
        let demo = &Demo::new(&place);
        let pipeline = "one: { steps: [ { name: a, queue: a, each: items }, { name: b, queue: b } ] }";
        configure(demo, pipeline, &["a", "items", "b"], "");
        let id = started(demo, &["one", r#"{"a": {"items": 12, "bad": [3, 7], "hold": [8]}}"#]);
        let killed = master(demo, &[]);
        until("two have failed, and the next is begun", || {
            tasks(&shown(demo, &id), "a")[1] == 2 && began(demo).iter().any(|did| did.number == "8")
        });
        killed.signal(Signal::SIGKILL);
        drop(killed);
        for file in ["good", "gate"] {
            touch(demo, file);
        }
        let said = ordered(demo, &["restart", &id, "--failed"]);
        assert!(said.contains("does again what failed and did not begin: steps a, b"), "{said}");
        let run = drained(demo);
        assert_eq!(run.code, 0, "{run:?}");
        let job = shown(demo, &id);
        assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("done a:done b:done", [13, 0, 13]));
        let mut numbers: Vec<String> =
            done(demo).into_iter().filter(|did| did.step == "a").map(|did| did.number).collect();
        numbers.sort_by_key(|number| number.parse::<i32>().unwrap_or(-1));
        let all: Vec<String> =
            std::iter::once("-".to_owned()).chain((0..12).map(|number| number.to_string())).collect();
        assert_eq!(numbers, all, "each once");
        assert_eq!(counts(&began(demo)), [("a", 13 + 2 + 1), ("b", 1)].into(), "two failed, one was in hand");
    }
}
