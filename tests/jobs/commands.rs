//! `asynctask jobs` with real processes on one file: with no master, with one, and with one that does not answer.

use std::{process::Stdio, thread};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    steps::{drained, places, refused, shown, started},
    support::{Demo, Place, demo::Ran, http::Site, log::until},
};

const SETTINGS: &str = "\
workers:
  a: demo_sleep_worker
  b: demo_sleep_worker
  wipe_a: demo_sleep_worker
pipelines:
  two:
    key: '{payload.k}'
    steps:
      - { name: first, queue: a, wipe: wipe_a }
      - { name: second, queue: b }
  free:
    steps:
      - { name: first, queue: a }
      - { name: second, queue: b }
";

fn demo() -> Demo {
    configured(Demo::new(&Place::sqlite()))
}

fn configured(demo: Demo) -> Demo {
    demo.write("asynctask.yaml", SETTINGS);
    demo
}

#[test]
fn without_a_master_each_command_carries_its_order_out_itself() {
    let demo = demo();
    let none = demo.run(&["jobs", "list"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, "no jobs\n"), "{none:?}");
    let id = started(&demo, &["two", r#"{"k": "x", "n": 1.50}"#]);
    let job = shown(&demo, "two/x");
    assert_eq!((job["id"].as_str(), &job["state"], &job["key"]), (Some(id.as_str()), &json!("running"), &json!("x")));
    assert!(demo.run(&["jobs", "show", &id, "--json"]).stdout.contains("\"payload\":{\"k\": \"x\", \"n\": 1.50}"));
    assert_eq!(demo.depth("a")["ready"], 1);
    let row = demo.json(&["jobs", "list", "--json"]);
    assert_eq!(row["steps"], json!({ "first": "waiting", "second": "planned" }), "{row}");
    assert_eq!(row["tasks"], json!({ "done": 0, "failed": 0, "known": 1 }));
    let table = demo.run(&["jobs", "list", "--pipeline", "two", "--key", "x", "--state", "running"]).stdout;
    assert!(table.lines().count() == 2 && table.contains(&id) && table.contains("two/x"), "{table}");
    let said = ["is frozen", "goes on", "nothing is wiped at its end", "is cancelled"];
    for (verb, said) in ["freeze", "resume", "keep", "cancel"].into_iter().zip(said) {
        let run = demo.run(&["jobs", verb, "two/x"]);
        assert_eq!(run.code, 0, "{verb}: {run:?}");
        assert!(run.stdout.contains(&id) && run.stdout.contains(said), "{verb}: {run:?}");
        assert_eq!(shown(&demo, &id)["frozen"], json!(verb == "freeze"));
    }
    assert_eq!(shown(&demo, &id)["state"], "cancelled");
    assert_eq!(demo.depth("a")["ready"], 0, "what waited is gone");
    assert_eq!(drained(&demo).code, 0);
    assert!(demo.done().is_empty(), "{:?}", demo.done());
}

#[test]
fn a_script_waits_for_the_end_of_a_job() {
    let demo = demo();
    let mut master = demo.start_configured(&[]);
    master.expect("Starting; queue=b");
    let done = demo.run(&["jobs", "start", "two", r#"{"k": "good"}"#, "--wait"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let job = shown(&demo, done.stdout.trim());
    assert_eq!((&job["state"], &job["error"], &job["tasks"]["done"]), (&json!("done"), &Value::Null, &json!(2)));
    assert!(job["began_at"].is_string() && job["ended_at"].is_string());

    let failed = demo.run(&["jobs", "start", "two", r#"{"k": "bad", "then": "dead"}"#, "--wait"]);
    refused(&failed, 80, &["of two/bad failed: "], Some("see asynctask jobs show"));
    let id = failed.stdout.trim();
    let job = shown(&demo, id);
    assert_eq!(job["steps"]["first"]["reason"], "failed", "{job}");
    assert_eq!(job["steps"]["second"]["state"], "skipped", "{job}");

    let dead: Vec<Value> = demo
        .run(&["failed", "list", "--job", id, "--json"])
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is an object"))
        .collect();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!((&dead[0]["job"], &dead[0]["step"], &dead[0]["index"]), (&json!(id), &json!("first"), &json!(0)));
    assert_eq!(demo.run(&["failed", "list", "a", "--job", "two/good"]).stdout, "no dead letters of queue a\n");
    assert!(demo.run(&["failed", "list", "--job", "two/bad"]).stdout.contains("first"));

    let slow = demo.run(&["jobs", "start", "free", r#"{"sleep_ms": 600000}"#, "--wait", "--timeout", "1s"]);
    refused(&slow, 81, &["has not ended in time", "step first"], Some("it goes on"));
    assert_eq!(demo.run(&["jobs", "cancel", slow.stdout.trim()]).code, 0);
    let cancelled = shown(&demo, slow.stdout.trim());
    assert_eq!(cancelled["state"], "cancelled");
    until("the worker is stopped", || demo.json(&["queues", "--json"])["a"]["in_hand"] == 0);
}

#[test]
fn the_refusals_say_what_is_meant_and_what_to_do() {
    let demo = demo();
    let id = started(&demo, &["two", r#"{"k": "x"}"#]);
    refused(&demo.run(&["jobs", "start", "tow", "{}"]), 1, &["tow"], Some("two"));
    refused(&demo.run(&["jobs", "start", "two", r#"{"k": "x"}"#]), 1, &["two/x", &id], None);
    refused(&demo.run(&["jobs", "restart", "two/x", "secnod"]), 1, &["secnod"], Some("second"));
    refused(&demo.run(&["jobs", "cancel", "two/y"]), 1, &["two/y"], None);
    refused(&demo.run(&["jobs", "show", "two/yx"]), 1, &["there is no job two/yx"], Some("asynctask jobs list"));
    refused(&demo.run(&["jobs", "show", "nope"]), 1, &["there is no job nope"], Some("PIPELINE/KEY"));
    refused(&demo.run(&["jobs", "start", "two", "{oops"]), 64, &["PAYLOAD: the payload is not JSON"], None);
    refused(&demo.run(&["jobs", "start", "two", "--id", "a/b"]), 64, &["--id", "letters, digits"], None);
    refused(&demo.run(&["jobs", "start", "two", "--timeout", "3s"]), 64, &["--wait"], None);
    refused(&demo.run(&["jobs", "freeze"]), 64, &["JOB"], None);
    let freeze = demo.run(&["jobs", "freeze", "--key", "x"]);
    refused(&freeze, 64, &["--pipeline <PIPELINE>"], Some("jobs freeze JOB | --pipeline PIPELINE [--key KEY]"));
    assert!(!freeze.stderr.contains("<JOB>"), "that and a key exclude each other: {freeze:?}");
    refused(
        &demo.run(&["jobs", "freeze", "--pipeline", "free", "--key", "x"]),
        1,
        &["free has no key"],
        Some("--pipeline free"),
    );
    refused(&demo.run(&["jobs", "list", "--state", "gone"]), 64, &["gone"], None);
    let mut memory = demo.command(&["jobs", "list"]);
    // Of two transports the last one counts, and the demo's stands before this one.
    let memory = memory.args(["--set", "transport=localmem:x"]).output().expect("it runs");
    assert_eq!(memory.status.code(), Some(78), "{memory:?}");
    let several = demo.run(&["jobs", "cancel", "nope", "two/x", "nothing"]);
    assert_eq!(several.code, 1, "{several:?}");
    assert!(several.stdout.contains(&id) && several.stderr.contains("nope") && several.stderr.contains("nothing"));
}

#[test]
fn of_two_starts_with_one_key_at_the_same_moment_one_is_refused_with_the_id_of_the_other() {
    super::steps::on_each(|demo| {
        demo.write("asynctask.yaml", SETTINGS);
        only_one_is_made(demo);
    });
}

fn only_one_is_made(demo: &Demo) {
    for round in 0..5 {
        let payload = format!(r#"{{"k": "{round}"}}"#);
        let runs: Vec<Ran> = thread::scope(|scope| {
            let start = || scope.spawn(|| demo.run(&["jobs", "start", "two", &payload]));
            let both = [start(), start()];
            both.map(|run| run.join().expect("it does not panic")).into()
        });
        let (good, bad): (Vec<&Ran>, Vec<&Ran>) = runs.iter().partition(|run| run.code == 0);
        assert_eq!((good.len(), bad.len()), (1, 1), "{runs:?}");
        refused(bad[0], 1, &[good[0].stdout.trim()], None);
    }
    let list = demo.run(&["jobs", "list", "--json"]).stdout;
    assert_eq!(list.lines().count(), 5, "{list}");
}

#[test]
fn many_starts_at_the_same_moment_are_all_carried_out_without_a_master() {
    super::steps::on_each(|demo| {
        demo.write("asynctask.yaml", SETTINGS);
        // Jobs that have ended are looked through for each.
        let first = started(demo, &["free", "{}"]);
        assert_eq!(demo.run(&["jobs", "cancel", &first]).code, 0);
        let runs: Vec<Ran> = thread::scope(|scope| {
            let starts: Vec<_> = (0..12).map(|_| scope.spawn(|| demo.run(&["jobs", "start", "free", "{}"]))).collect();
            starts.into_iter().map(|run| run.join().expect("it does not panic")).collect()
        });
        assert!(runs.iter().all(|run| run.code == 0), "{runs:?}");
        let list = demo.run(&["jobs", "list", "--json", "--state", "running"]).stdout;
        assert_eq!(list.lines().count(), 12, "{list}");
    });
}

#[test]
fn one_id_is_one_job_however_often_it_is_started() {
    let demo = demo();
    for _ in 0..2 {
        assert_eq!(started(&demo, &["free", "{}", "--id", "build-7"]), "build-7");
    }
    assert_eq!(drained(&demo).code, 0);
    assert_eq!(started(&demo, &["free", "{}", "--id", "build-7"]), "build-7");
    assert_eq!(drained(&demo).code, 0);
    assert_eq!(demo.done().len(), 2, "one task a step: {:?}", demo.done());
    assert_eq!(demo.run(&["jobs", "list", "--json"]).stdout.lines().count(), 1);
}

#[test]
fn a_restart_that_another_one_has_asked_for_already_says_so() {
    let demo = demo();
    let id = started(&demo, &["free", "{}"]);
    assert_eq!(drained(&demo).code, 0);
    let runs: Vec<Ran> = thread::scope(|scope| {
        let restart = || scope.spawn(|| demo.run(&["jobs", "restart", &id, "second"]));
        let both = [restart(), restart()];
        both.map(|run| run.join().expect("it does not panic")).into()
    });
    assert!(runs.iter().all(|run| run.code == 0), "{runs:?}");
    assert_eq!(demo.depth("b")["ready"], 1, "one new round: {runs:?}");
    let said: Vec<&str> = runs.iter().map(|run| run.stdout.trim()).collect();
    let count = |text: &str| said.iter().filter(|said| said.contains(text)).count();
    assert_eq!(
        (count("does again: step second"), count("was told to do these steps again a moment ago")),
        (1, 1),
        "{runs:?}"
    );
    assert_eq!(drained(&demo).code, 0);
    assert_eq!(demo.done().len(), 3, "{:?}", demo.done());
    assert_eq!(shown(&demo, &id)["state"], "done");
}

#[test]
fn a_job_whose_outputs_were_wiped_is_done_again_only_if_that_is_meant() {
    let demo = demo();
    let id = started(&demo, &["two", r#"{"k": "x"}"#]);
    assert_eq!(drained(&demo).code, 0);
    assert_eq!(shown(&demo, &id)["wiped"], "yes");
    refused(&demo.run(&["jobs", "restart", &id, "second"]), 1, &["wiped"], Some("--even-if-wiped"));
    assert_eq!(demo.run(&["jobs", "restart", &id, "second", "--even-if-wiped"]).code, 0);
    assert_eq!(drained(&demo).code, 0);
    assert_eq!(shown(&demo, &id)["state"], "done");
}

#[test]
fn an_order_that_nobody_carries_out_is_stored_and_done_at_the_next_takeover() {
    let demo = demo();
    let mut master = demo.start_configured(&[]);
    master.expect("Coordinates the jobs of demo");
    let id = started(&demo, &["free", r#"{"sleep_ms": 600000}"#]);
    until("the first task is in hand", || demo.json(&["queues", "--json"])["a"]["in_hand"] == 1);
    master.signal(Signal::SIGSTOP);
    // Whoever waits for the end of a job waits for its beginning, longer than an order takes otherwise.
    let mut waits = demo.command(&["jobs", "start", "two", r#"{"k": "waits"}"#, "--wait", "--timeout", "5m"]);
    let waits = waits.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts");
    let stored = demo.run(&["jobs", "cancel", &id]);
    refused(
        &stored,
        3,
        &["the order is stored"],
        Some("it is carried out by the next process that coordinates the jobs"),
    );
    assert!(stored.stderr.starts_with("waiting for the process that coordinates the jobs\n"), "{stored:?}");
    // The id of what begins later is known, and who does not wait so long is told so.
    let later = demo.run(&["jobs", "start", "two", r#"{"k": "later"}"#, "--wait", "--timeout", "1s"]);
    refused(
        &later,
        81,
        &["the order is stored"],
        Some("it is carried out by the next process that coordinates the jobs"),
    );
    let later = later.stdout.trim();
    assert_eq!(demo.run(&["jobs", "show", later]).code, 1, "it is not there yet");
    assert_eq!(shown(&demo, &id)["state"], "running");
    // Its control socket is free when it has ended.
    drop(master);
    // Whoever takes the ledger next carries it out first.
    let mut next = demo.start_configured(&[]);
    next.expect("is cancelled");
    let waited = waits.wait_with_output().expect("it ends");
    assert!(waited.status.success(), "{waited:?}");
    assert_eq!(shown(&demo, &id)["state"], "cancelled");
    until("what was ordered later is done", || shown(&demo, later)["state"] == "done");
    next.signal(Signal::SIGTERM);
    let (code, log) = next.wait();
    assert_eq!(code, 0, "{log}");
    assert!(demo.done().iter().all(|line| line.contains("later") || line.contains("waits")), "{:?}", demo.done());
}

#[test]
fn who_purges_a_queue_of_a_live_job_is_told_and_its_task_ends_as_cancelled() {
    for demo in places().iter().map(Demo::new).map(configured) {
        let id = started(&demo, &["two", r#"{"k": "x"}"#]);
        let asked = demo.run(&["queues", "purge", "a"]);
        refused(&asked, 64, &["needs --yes"], None);
        let purged = demo.run(&["queues", "purge", "a", "--yes"]);
        assert_eq!((purged.code, purged.stdout.as_str()), (0, "queue a purged: 1 task\n"), "{purged:?}");
        assert!(purged.stderr.contains(&format!("job {id} of two/x uses queue a")), "{purged:?}");
        // What was told to the ledger is folded by whoever looks after it next.
        assert_eq!(demo.run(&["jobs", "keep", &id]).code, 0);
        let job = shown(&demo, &id);
        assert_eq!((&job["state"], &job["steps"]["first"]["reason"]), (&json!("failed"), &json!("cancelled")), "{job}");
    }
}

#[test]
fn a_running_master_tells_of_its_jobs_in_status_and_log() {
    let demo = demo();
    let mut master = demo.start_configured(&["--socket", "one.sock"]);
    master.expect("Coordinates the jobs of demo (0 open)");
    let id = started(&demo, &["free", r#"{"sleep_ms": 600000}"#]);
    master.expect(&format!("Job {id} of free begins"));
    master.expect(&format!("Job {id}: step first begins"));
    let other = demo.start_configured(&["--socket", "two.sock"]);
    let status = |socket: &str| demo.json(&["status", "--json", "--socket", socket]);
    let counts = json!({ "running": 1, "planned": 0, "failed": 0, "frozen": 0 });
    let here = status("one.sock");
    assert_eq!((&here["coordinator"]["held"], &here["jobs"]), (&json!(true), &counts), "{here}");
    assert!(here["coordinator"]["epoch"].is_u64() && here["coordinator"]["entries"].is_u64(), "{here}");
    until("the other one is up", || demo.run(&["status", "--socket", "two.sock"]).code == 0);
    let there = status("two.sock");
    assert_eq!(there["coordinator"], json!({ "held": false, "epoch": null, "entries": null }));
    assert_eq!(there["jobs"], counts, "{there}");
    // The other one takes over at once.
    master.signal(Signal::SIGKILL);
    until("the other one coordinates", || status("two.sock")["coordinator"]["held"] == true);
    assert_eq!(demo.run(&["jobs", "cancel", &id]).code, 0);
    other.signal(Signal::SIGTERM);
    let (_, log) = other.wait();
    assert!(log.contains(&format!("Job {id} is cancelled")), "{log}");
}

#[test]
fn a_scraper_sees_jobs_by_their_state_and_how_long_they_took() {
    let demo = demo();
    demo.write("asynctask.yaml", &format!("metrics: {{ listen: 127.0.0.1:0 }}\n{SETTINGS}"));
    let mut master = demo.start_configured(&[]);
    let site = Site::told(&master.expect("Metrics at http://"));
    master.expect("Starting; queue=b");
    let done = demo.run(&["jobs", "start", "free", "{}", "--wait"]);
    assert_eq!(done.code, 0, "{done:?}");
    let live = started(&demo, &["two", r#"{"k": "x", "sleep_ms": 600000}"#]);
    let numbers = site.numbers();
    for (name, value) in [
        ("asynctask_coordinator", 1.0),
        (r#"asynctask_jobs{pipeline="two",state="running"}"#, 1.0),
        (r#"asynctask_jobs{pipeline="free",state="running"}"#, 0.0),
        (r#"asynctask_job_run_seconds_count{pipeline="free",state="done"}"#, 1.0),
        (r#"asynctask_step_run_seconds_count{pipeline="free",step="second"}"#, 1.0),
    ] {
        assert_eq!(numbers.get(name), Some(&value), "{name}: {numbers:?}");
    }
    assert!(numbers["asynctask_oldest_job_age_seconds"] < 600.0 && numbers.contains_key("asynctask_ledger_entries"));
    assert_eq!(demo.run(&["jobs", "cancel", &live]).code, 0);
}

#[test]
fn a_queue_that_a_reload_removes_is_told_with_the_jobs_that_need_it() {
    let demo = demo();
    let mut master = demo.start_configured(&[]);
    master.expect("Starting; queue=b");
    let id = started(&demo, &["free", r#"{"sleep_ms": 600000}"#]);
    demo.write("asynctask.yaml", "workers: { a: demo_sleep_worker }\n");
    master.signal(Signal::SIGHUP);
    let line = master.expect("Queue b is not worked here any more");
    assert!(line.starts_with("WARNING:") && line.ends_with(&format!("jobs need it: {id} of free")), "{line}");
    // They are there and can be ended, whatever the settings say by now.
    demo.write("asynctask.yaml", "workers: { x: demo_sleep_worker }\n");
    let page = demo.run(&["jobs", "show", &id]).stdout;
    assert!(page.contains("waits for: queue a, which no `workers` of these settings name"), "{page}");
    assert_eq!(demo.run(&["jobs", "cancel", &id]).code, 0);
}

#[test]
fn what_is_kept_is_wiped_by_hand_and_with_all_of_it_the_job_is_forgotten() {
    let demo = demo();
    let id = started(&demo, &["two", r#"{"k": "x"}"#]);
    assert_eq!(demo.run(&["jobs", "keep", "two/x"]).code, 0);
    assert_eq!(drained(&demo).code, 0);
    assert_eq!((demo.done().len(), &shown(&demo, &id)["wiped"]), (2, &json!("no")));
    let wiped = demo.json(&["jobs", "wipe", "two/x", "--all", "--json"]);
    assert_eq!(wiped["job"], json!(id), "{wiped}");
    assert_eq!(drained(&demo).code, 0);
    assert_eq!(demo.done().len(), 3, "the task that wipes: {:?}", demo.done());
    refused(&demo.run(&["jobs", "show", &id]), 1, &["there is no job"], None);
    assert_eq!(demo.run(&["jobs", "list"]).stdout, "no jobs\n");
}

#[test]
fn a_frozen_pipeline_begins_no_job_until_it_is_resumed() {
    let demo = demo();
    let frozen = demo.run(&["jobs", "freeze", "--pipeline", "two", "--key", "x"]);
    assert_eq!(frozen.code, 0, "{frozen:?}");
    let other = demo.run(&["jobs", "start", "two", r#"{"k": "y"}"#]);
    assert_eq!(other.code, 0, "another key: {other:?}");
    let id = started(&demo, &["two", r#"{"k": "x"}"#]);
    assert_eq!((&shown(&demo, &id)["state"], &demo.depth("a")["ready"]), (&json!("planned"), &json!(1)));
    assert_eq!(demo.run(&["jobs", "resume", "--pipeline", "two", "--key", "x"]).code, 0);
    assert_eq!((&shown(&demo, &id)["state"], &demo.depth("a")["ready"]), (&json!("running"), &json!(2)));
}
