//! Dead letters of jobs that are put back to work: when that heals their job, and when they stay where they are. Of the file alone:
//! a broker keeps dead letters and jobs in different queues, and moves the one without a look at the other.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    steps::{
        began, configure, counts, done, drained, master, ordered, refused, shown, started, states, tasks, touch,
        until_state,
    },
    support::{Demo, Place, log::until, storm::pass},
};

const KEYED: &str = "
p:
  key: '{payload.k}'
  wipe_failed_after: 6s
  steps: [ { name: a, queue: a, wipe: wipes }, { name: b, queue: b } ]
";

fn demo(pipelines: &str) -> Demo {
    let demo = Demo::new(&Place::Sqlite);
    configure(&demo, pipelines, &["a", "b", "wipes"], "");
    demo
}

#[test]
fn a_job_of_which_a_task_is_retried_is_at_work_and_is_not_wiped_under_it() {
    let demo = demo(KEYED);
    let id = started(&demo, &["p", r#"{"k": 1, "b": {"wait": "gate", "fail": "no"}}"#]);
    let mut worked = master(&demo, &[]);
    touch(&demo, "gate");
    worked.expect(&format!("Job {id} of p/1 failed"));
    std::fs::remove_file(demo.folder.path().join("gate")).expect("it is there");
    touch(&demo, "good");
    let run = demo.run(&["failed", "retry", "b", "--job", &id, "--json"]);
    let told: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((run.code, &told["retried"], &told["left"]), (0, &json!(1), &json!(0)), "{run:?}");
    until("it is begun again", || counts(&began(&demo))["b"] == 2);
    let job = until_state(&demo, &id, "running");
    assert_eq!((states(&job).as_str(), tasks(&job, "b")), ("running a:done b:running", [0, 0, 1]));
    assert_eq!((&job["steps"]["b"]["dead_letters"], &job["error"]), (&json!([]), &Value::Null));
    let restart = demo.run(&["jobs", "restart", &id, "--failed"]);
    refused(&restart, 1, &["nothing that failed"], None);
    let another = demo.run(&["jobs", "start", "p", r#"{"k": 1}"#]);
    refused(&another, 1, &[&format!("job {id} of p/1 is running")], None);
    // Longer than the time after which a failed one is wiped.
    pass(Duration::from_millis(6_300));
    assert_eq!(shown(&demo, &id)["wiped"], "no");
    touch(&demo, "gate");
    assert_eq!(states(&until_state(&demo, &id, "done")), "done a:done b:done");
    worked.expect(&format!("Job {id} is wiped"));
    let order: Vec<String> = done(&demo).into_iter().map(|did| did.step).collect();
    assert_eq!(order, ["a", "b", "wipe-a"]);
}

#[test]
fn a_dead_letter_whose_task_would_change_nothing_stays() {
    let pipelines = "
wiped: { remember: 8s, steps: [ { name: a, queue: a, wipe: wipes } ] }
again: { steps: [ { name: b, queue: b } ] }
";
    let demo = demo(pipelines);
    let wiped = started(&demo, &["wiped", r#"{"a": {"fail": "no"}, "wipe-a": {"wait": "gate"}}"#]);
    let again = started(&demo, &["again", r#"{"b": {"fail": "no"}}"#]);
    assert_eq!(drained(&demo).code, 0);
    ordered(&demo, &["wipe", &wiped]);
    let retry = || demo.run(&["failed", "retry", "a", "--all"]);
    let error = |what: &str| format!("1 dead letter is not put back to work: job {wiped} is {what}");
    let hint = format!("asynctask jobs restart {wiped} --even-if-wiped");
    refused(&retry(), 1, &[&error("being wiped")], Some(&hint));
    touch(&demo, "gate");
    assert_eq!(drained(&demo).code, 0);
    refused(&retry(), 1, &[&error("wiped")], Some(&hint));
    until("it is forgotten", || demo.run(&["jobs", "show", &wiped]).code == 1);
    refused(&retry(), 1, &[&error("forgotten")], Some("asynctask jobs start wiped"));
    assert_eq!((demo.dead_letters("a").len(), counts(&began(&demo))["a"]), (1, 1));

    // What a restart does again has no dead letter any more, and what was cancelled keeps it until then.
    let first = demo.dead_letters("b")[0]["id"].clone();
    ordered(&demo, &["restart", &again, "b"]);
    assert!(demo.dead_letters("b").is_empty());
    assert_eq!(drained(&demo).code, 0);
    let letters = demo.dead_letters("b");
    assert_eq!(letters.len(), 1);
    assert_ne!(letters[0]["id"], first);
    touch(&demo, "good");
    assert_eq!(demo.run(&["failed", "retry", "b", "--job", &again]).stdout.trim(), "1 dead letter of queue b retried");
    assert_eq!(drained(&demo).code, 0);
    assert_eq!(states(&shown(&demo, &again)), "done b:done");
}

#[test]
fn a_dead_letter_of_a_job_whose_key_another_one_has_stays() {
    let demo = demo(&KEYED.replace("6s", "1h"));
    let first = started(&demo, &["p", r#"{"k": 1, "b": {"fail": "no"}}"#]);
    assert_eq!(drained(&demo).code, 0);
    let second = started(&demo, &["p", r#"{"k": 1}"#]);
    let run = demo.run(&["failed", "retry", "b", "--job", &first, "--json"]);
    refused(&run, 1, &[&format!("the key of job {first} is held by job {second}")], Some(&second));
    let told: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((&told["matched"], &told["retried"], &told["left"]), (&json!(1), &json!(0), &json!(1)));
    // It has the key until it is wiped.
    ordered(&demo, &["cancel", &second]);
    refused(&demo.run(&["failed", "retry", "b", "--job", &first]), 1, &[&format!("held by job {second}")], None);
    assert_eq!(drained(&demo).code, 0);
    touch(&demo, "good");
    assert_eq!(demo.run(&["failed", "retry", "b", "--job", &first]).code, 0);
    assert_eq!(drained(&demo).code, 0);
    assert_eq!(states(&shown(&demo, &first)), "done a:done b:done");
}
