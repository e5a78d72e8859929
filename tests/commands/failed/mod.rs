//! `asynctask failed` and the ends of queues, as people and scripts meet them.

mod foreign;
mod full;
mod held;
mod kept;
mod kill;
mod many;
mod paced;
mod shared;
mod store;

use crate::support::{Demo, Place, demo::Ran, on_each};
use asynctask::task::{Failure, Reason};
use serde_json::{Value, json};

fn lines(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn ids(ran: &Ran) -> Vec<String> {
    lines(ran).iter().map(|line| line["id"].as_str().expect("an id").to_owned()).collect()
}

fn refused(run: &Ran, code: i32, error: &str) {
    assert_eq!(run.code, code, "{run:?}");
    assert!(run.stderr.starts_with("error: ") && run.stderr.contains(error), "no `{error}` in {run:?}");
}

/// Six dead letters `0` to `5`: two mistakes, the even ones of the one, the odd ones of the other.
fn six(demo: &Demo) {
    store::bury(demo, "foo", 6, |number| match number % 2 {
        0 => Failure::new(Reason::Error, format!("row {number} is missing"), asynctask::clock::Clock::wall()),
        _ => Failure::new(Reason::Crash, "the worker died", asynctask::clock::Clock::wall()),
    });
}

#[test]
fn a_listing_can_be_narrowed() {
    on_each(|demo| {
        six(demo);
        let list = |options: &[&str]| ids(&demo.run(&[&["failed", "list", "foo", "--json"], options].concat()));
        assert_eq!(list(&[]), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(list(&["--reason", "crash"]), ["1", "3", "5"]);
        assert_eq!(list(&["--limit", "2"]), ["0", "1"]);
        assert_eq!(list(&["--reason", "crash", "--limit", "2"]), ["1", "3"]);
        assert_eq!(list(&["--older-than", "1h"]), [""; 0]);
        let note = |limit| demo.run(&["failed", "list", "foo", "--summary", "--limit", limit]).stderr;
        assert_eq!(note("5"), "note: these are the first 5 of them; --limit N takes more\n");
        assert_eq!(note("6"), "");
        let print = demo.json(&["failed", "show", "foo", "2", "--json"])["fingerprint"].as_str().unwrap().to_owned();
        assert_eq!(list(&["--fingerprint", &print]), ["0", "2", "4"]);
        let summary = lines(&demo.run(&["failed", "list", "foo", "--summary", "--json"]));
        assert_eq!(summary.iter().map(|count| &count["count"]).collect::<Vec<_>>(), [3, 3]);
    });
}

#[test]
fn a_dry_run_changes_nothing() {
    on_each(|demo| {
        six(demo);
        let before = demo.run(&["failed", "export", "foo"]).stdout;
        for (verb, what) in [("retry", "retried"), ("purge", "deleted")] {
            let run = demo.run(&["failed", verb, "foo", "--reason", "crash", "--dry-run"]);
            assert_eq!((run.code, run.stdout), (0, format!("3 dead letters of queue foo would be {what}\n")));
            let answer = demo.json(&["failed", verb, "foo", "--all", "--dry-run", "--json"]);
            assert_eq!((&answer["matched"], &answer[what], &answer["dry_run"]), (&json!(6), &json!(0), &json!(true)));
        }
        assert_eq!(demo.run(&["failed", "export", "foo"]).stdout, before);
        assert!(demo.is_empty("foo"));
    });
}

#[test]
fn a_dead_letter_is_shown_in_the_order_in_which_a_person_reads() {
    on_each(|demo| {
        let id = demo.submit("foo", r#"{"die":true}"#);
        demo.workers(r#"{"foo": "demo_fragile_worker"}"#, &["--halt-when-empty"]);
        let shown = demo.run(&["failed", "show", "foo", &id]).stdout;
        // What belongs to a text of several lines is indented.
        let names: Vec<&str> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
        let names: Vec<&str> = names.iter().map(|line| line.split(':').next().unwrap_or_default()).collect();
        let first = ["payload", "id", "queue", "kind", "reason", "error", "exit", "oom", "output_tail", "attempts"];
        let rest = ["first_failed_at", "failed_at", "host", "pid"];
        let wanted: Vec<&str> = first.into_iter().chain(rest).filter(|name| names.contains(name)).collect();
        assert_eq!(names[..wanted.len()], wanted, "{shown}");
        let all = ["id", "queue", "kind", "reason", "error", "exit", "output_tail", "attempts", "failed_at", "pid"];
        assert!(all.iter().all(|name| names.contains(name)), "{shown}");
        // There is none of these; the object has them all the same.
        for name in ["detail", "headers", "properties", "history"] {
            assert!(!names.contains(&name), "{shown}");
        }
        assert!(shown.lines().all(|line| !line.ends_with(": -") && !line.ends_with(": ")), "{shown}");
        let object = demo.json(&["failed", "show", "foo", &id, "--json"]);
        assert_eq!((&object["detail"], &object["history"]), (&json!(""), &json!([])));
    });
}

#[test]
fn those_that_are_named_are_retried_and_the_unknown_are_named() {
    on_each(|demo| {
        six(demo);
        let run = demo.run(&["failed", "retry", "foo", "3", "absent", "1", "gone"]);
        refused(&run, 1, "queue foo has no dead letter with id \"absent\", \"gone\"");
        assert_eq!(run.stdout, "2 dead letters of queue foo retried\n");
        assert_eq!(ids(&demo.run(&["failed", "list", "foo", "--json"])), ["0", "2", "4", "5"]);
        assert_eq!(demo.depth("foo")["ready"], 2);
        assert_eq!(store::waiting(demo, "foo"), ["1", "3"]);
        for bad in
            [&["failed", "retry", "foo"][..], &["failed", "retry", "foo", "1", "--all"], &["failed", "purge", "foo"]]
        {
            assert_eq!(demo.run(bad).code, 64, "{bad:?}");
        }
        refused(&demo.run(&["failed", "retry", "foo", "--all", "--rate", "often"]), 64, "not a rate");
        let answer = demo.json(&["failed", "retry", "foo", "--all", "--json", "--rate", "100/s"]);
        assert_eq!((&answer["retried"], &answer["matched"], &answer["missing"]), (&json!(4), &json!(4), &json!([])));
        assert_eq!(demo.run(&["failed", "retry", "foo", "--all"]).stdout, "0 dead letters of queue foo retried\n");
    });
}

#[test]
fn a_payload_is_mended_and_the_task_remembers_how_it_died() {
    on_each(|demo| {
        let id = demo.submit("foo", r#"{"error":true,"n":1.50}"#);
        let work = || demo.workers(r#"{"foo": "demo_error_worker"}"#, &["--halt-when-empty"]);
        work();
        let run = demo.run(&["failed", "retry", "foo", &id, "--set-payload", "again.0=x"]);
        assert_eq!(run.code, 0, "{run:?}");
        work();
        let letter = demo.json(&["failed", "show", "foo", &id, "--json"]);
        assert_eq!(letter["history"].as_array().map(Vec::len), Some(1), "{letter}");
        let ending = &letter["history"][0];
        assert_eq!(
            (&ending["reason"], &ending["error"], &ending["attempts"]),
            (&json!("error"), &json!("Oops!"), &json!(1))
        );
        assert_eq!(letter["attempts"], 1);
        let run = demo.run(&["failed", "retry", "foo", "--all", "--set-payload", "error=false"]);
        assert_eq!(run.code, 0, "{run:?}");
        let run = work();
        let text = r#"{"error":false,"n":1.50,"again":{"0":"x"}}"#;
        assert!(run.stdout.contains(&format!("ERROR processed: {text}")), "{}", run.stdout);
        assert!(demo.dead_letters("foo").is_empty());
    });
}

#[test]
fn one_payload_that_cannot_be_mended_and_nothing_is_moved() {
    on_each(|demo| {
        store::bury_bodies(demo, "foo", &[b"{}", b"\xff no json", b"{}"]);
        let run = demo.run(&["failed", "retry", "foo", "--all", "--set-payload", "a=1"]);
        refused(&run, 1, "the payload of dead letter \"1\" cannot be changed: the body is not UTF-8");
        assert!(run.stderr.contains("hint: nothing was moved"), "{run:?}");
        assert_eq!(demo.depth("foo")["failed"], 3);
        refused(&demo.run(&["failed", "retry", "foo", "0", "--set-payload", "a"]), 64, "has no =");
        assert_eq!(demo.run(&["failed", "retry", "foo", "0", "--set-payload", "a=1"]).code, 0);
        assert_eq!(
            demo.depth("foo"),
            json!({"kind": "demo_quiet_worker", "ready": 1, "delayed": 0, "in_hand": 0, "failed": 2})
        );
    });
}

#[test]
fn a_purge_must_be_meant() {
    on_each(|demo| {
        six(demo);
        refused(&demo.run(&["failed", "purge", "foo", "--all"]), 64, "needs --yes");
        assert_eq!(demo.depth("foo")["failed"], 6);
        let run = demo.run(&["failed", "purge", "foo", "--older-than", "1h", "--yes"]);
        assert_eq!(run.stdout, "0 dead letters of queue foo deleted\n");
        let run = demo.run(&["failed", "purge", "foo", "--reason", "crash", "--older-than", "0s", "--yes"]);
        assert_eq!(run.stdout, "3 dead letters of queue foo deleted\n", "{run:?}");
        assert_eq!(ids(&demo.run(&["failed", "list", "foo", "--json"])), ["0", "2", "4"]);
        refused(&demo.run(&["failed", "purge", "foo", "2", "9", "--yes"]), 1, "\"9\"");
        assert_eq!(demo.run(&["failed", "purge", "foo", "--all", "--yes"]).code, 0);
        assert_eq!(demo.depth("foo")["failed"], 0);
        assert!(demo.is_empty("foo"));
    });
}

#[test]
fn an_export_holds_all_and_takes_nothing() {
    on_each(|demo| {
        store::bury_bodies(demo, "foo", &[br#"{"a":1}"#, &[0, 255], b"text"]);
        let letters = lines(&demo.run(&["failed", "export", "foo"]));
        assert_eq!(letters[0]["payload"], json!({"a": 1}));
        assert_eq!(letters[1]["payload_base64"], "AP8=");
        assert_eq!(letters[2]["payload_base64"], "dGV4dA==");
        for letter in &letters {
            let id = letter["id"].as_str().unwrap();
            assert_eq!(*letter, demo.json(&["failed", "show", "foo", id, "--json"]));
        }
        assert!(lines(&demo.run(&["failed", "export", "foo", "--reason", "crash"])).is_empty());
        assert_eq!(demo.depth("foo")["failed"], 3);
    });
}

#[test]
fn dead_letters_past_their_time_vanish() {
    let demo = Demo::new(&Place::sqlite());
    let set = "workers={foo: {worker: demo_error_worker, dead_letter: {keep: 300ms}}, bar: demo_error_worker}";
    for queue in ["foo", "bar"] {
        demo.submit(queue, r#"{"error":true}"#);
    }
    let run = demo.run(&["workers", "--halt-when-empty", "--set", set]);
    assert_eq!(run.code, 0, "{run:?}");
    crate::support::log::until("the dead letter is still there", || demo.dead_letters("foo").is_empty());
    assert_eq!(demo.dead_letters("bar").len(), 1);
    // A master that looks around deletes it from the file, too.
    demo.run(&["workers", "--halt-when-empty", "--set", set]);
    assert_eq!(demo.run(&["failed", "retry", "foo", "--all"]).stdout, "0 dead letters of queue foo retried\n");
}

// The ends of queues.

#[test]
fn a_queue_is_emptied_and_deleted() {
    on_each(|demo| {
        six(demo);
        demo.submit_all("foo", (0..5).map(|number| number.to_string()));
        let run = demo.run(&["submit", "foo", "1", "--delay", "1h"]);
        assert_eq!(run.code, 0, "{run:?}");
        for verb in ["purge", "delete"] {
            refused(&demo.run(&["queues", verb, "foo"]), 64, "needs --yes");
            refused(&demo.run(&["queues", verb, "absent", "--yes"]), 1, "does not exist");
        }
        let run = demo.run(&["queues", "purge", "foo", "--yes"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "queue foo purged: 6 tasks\n"));
        assert_eq!(demo.depth("foo")["failed"], 6);
        demo.submit("foo", "1");
        let run = demo.run(&["queues", "delete", "foo", "--yes"]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.starts_with("queue foo deleted: 1 task\nits 6 dead letters stay"), "{run:?}");
        assert_eq!(demo.dead_letters("foo").len(), 6);
    });
}

#[test]
fn a_queue_that_is_worked_is_not_deleted() {
    on_each(|demo| {
        demo.submit("foo", r#"{"then":"hang"}"#);
        let mut master = demo.start(r#"{"foo": "demo_sleep_worker"}"#, &[]);
        master.expect("Got payload");
        let run = demo.run(&["queues", "delete", "foo", "--yes"]);
        refused(&run, 1, "is in use");
        master.signal(nix::sys::signal::Signal::SIGKILL);
        master.wait();
    });
}
