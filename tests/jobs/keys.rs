//! What keeps a job from beginning, or one of its tasks from being worked: its key, a schedule's, that of a queue, its id.

use std::time::Duration;

use serde_json::json;

use super::{
    steps::{
        began, configure, counts, done, drained, master, on_each, ordered, refused, shown, started, states, touch,
        until_state,
    },
    support::{log::until, storm::pass},
};

#[test]
fn a_schedule_begins_nothing_while_the_key_is_live_or_frozen() {
    on_each(|demo| {
        let pipeline = "nightly: { key: '{payload.k}', steps: [ { name: a, queue: a } ] }";
        let schedule = "scheduled_workers: [{ pipeline: nightly, payload: { k: x, a: { wait: gate } }, every: 1s }]\n";
        configure(demo, pipeline, &["a"], "");
        let settings = std::fs::read_to_string(demo.folder.path().join("asynctask.yaml")).expect("it was written");
        demo.write("asynctask.yaml", &format!("{settings}{schedule}"));
        ordered(demo, &["freeze", "--pipeline", "nightly"]);
        let mut worked = master(demo, &["--scheduler"]);
        worked.expect("No job of nightly/x begins by schedule: it is frozen");
        let jobs = || demo.run(&["jobs", "list", "--json"]).stdout.lines().count();
        assert_eq!(jobs(), 0);
        ordered(demo, &["resume", "--pipeline", "nightly"]);
        until("a moment begins one", || jobs() == 1);
        let line = worked.expect("No job of nightly/x begins by schedule: job ");
        assert!(line.starts_with("INFO:jobs:"), "{line}");
        assert_eq!(jobs(), 1);
        touch(demo, "gate");
        until("the next moment finds the key free", || jobs() > 1);
    });
}

#[test]
fn a_job_says_which_of_its_tasks_waits_for_the_key_of_a_queue() {
    on_each(|demo| {
        let queue = "  a: { worker: steps, processes: 2, unique: { key: 'one', after: 500ms } }";
        configure(demo, "p: { key: '{payload.k}', steps: [ { name: s, queue: a } ] }", &[], queue);
        let first = started(demo, &["p", r#"{"k": 1, "s": {"wait": "gate"}}"#]);
        let _worked = master(demo, &[]);
        until("the first one is begun", || began(demo).len() == 1);
        let second = started(demo, &["p", r#"{"k": 2}"#]);
        let snoozed = || shown(demo, &second)["steps"]["s"]["snoozed"].clone();
        until("the second one waits", || snoozed()["again_at"].is_string());
        assert!(demo.run(&["jobs", "show", &second]).stdout.contains("snoozed: again at "));
        touch(demo, "gate");
        for id in [&first, &second] {
            assert_eq!(states(&until_state(demo, id, "done")), "done s:done");
        }
        assert_eq!(counts(&began(demo)), [("s", 2)].into(), "no attempt was used");
    });
}

#[test]
fn a_job_that_two_tasks_start_under_one_id_is_one_job() {
    on_each(|demo| {
        let pipelines = "
starts: { key: '{payload.k}', steps: [ { name: a, queue: a } ] }
other: { steps: [ { name: b, queue: a } ] }
";
        configure(demo, pipelines, &["a"], "");
        for key in 1..=3 {
            let start = r#"{"pipeline": "other", "id": "the-one"}"#;
            started(demo, &["starts", &format!(r#"{{"k": {key}, "a": {{"start": [{start}, {start}]}}}}"#)]);
        }
        assert_eq!(drained(demo).code, 0);
        assert_eq!(counts(&done(demo)), [("a", 3), ("b", 1)].into());
        let other = demo.json(&["jobs", "list", "--pipeline", "other", "--json"]);
        assert_eq!((&other["id"], &other["state"]), (&json!("the-one"), &json!("done")));
    });
}

#[test]
fn jobs_are_planned_until_fewer_run_and_begin_by_their_priority() {
    on_each(|demo| {
        configure(demo, "p: { max_running: 1, steps: [ { name: s, queue: a } ] }", &["a"], "");
        let jobs = ["", "0", "5", "0"].map(|priority| {
            let mut arguments = vec!["p", "{}"];
            if !priority.is_empty() {
                arguments.extend(["--priority", priority]);
            }
            // Jobs of one millisecond have an order, too; that they are of different ones is what is shown here.
            pass(Duration::from_millis(2));
            started(demo, &arguments)
        });
        let counted = |state: &str| demo.run(&["jobs", "list", "--state", state, "--json"]).stdout.lines().count();
        assert_eq!((counted("running"), counted("planned")), (1, 3));
        ordered(demo, &["priority", &jobs[3], "9"]);
        assert_eq!(drained(demo).code, 0);
        let order: Vec<String> = began(demo).into_iter().map(|did| did.job).collect();
        assert_eq!(order, [0, 3, 2, 1].map(|of: usize| jobs[of].clone()));
    });
}

#[test]
fn the_next_job_of_a_key_begins_when_what_the_one_before_left_is_wiped() {
    on_each(|demo| {
        let pipeline = "
p:
  key: '{payload.k}'
  conflict: wait
  wipe_failed_after: 100ms
  steps: [ { name: write, queue: a, wipe: wipes }, { name: use, queue: a } ]
";
        configure(demo, pipeline, &["a", "wipes"], "");
        let first = started(demo, &["p", r#"{"k": 1, "wipe-write": {"wait": "gate"}}"#]);
        let second = started(demo, &["p", r#"{"k": 1, "write": {"wait": "go"}, "use": {"fail": "no"}}"#]);
        let mut worked = master(demo, &[]);
        until("the first one is being wiped", || began(demo).iter().any(|did| did.step == "wipe-write"));
        assert_eq!(states(&shown(demo, &second)), "planned write:planned use:planned");
        touch(demo, "gate");
        worked.expect(&format!("Job {first} is wiped"));
        until("the second one begins", || began(demo).iter().any(|did| did.job == second));
        // It fails, and its time comes while a third one has the key.
        let third = started(demo, &["p", r#"{"k": 1, "write": {"wait": "third"}}"#]);
        touch(demo, "go");
        until("the third one begins", || began(demo).iter().any(|did| did.job == third));
        pass(Duration::from_millis(300));
        assert_eq!(shown(demo, &second)["wiped"], "no");
        let run = demo.run(&["jobs", "wipe", &second]);
        refused(&run, 1, &[&format!("cannot be wiped: its key is held by job {third}")], Some("asynctask jobs show "));
        touch(demo, "third");
        worked.expect(&format!("Job {third} is wiped"));
        worked.expect(&format!("Job {second} is wiped"));
        let order: Vec<String> =
            began(demo).into_iter().filter(|did| did.step.starts_with("wipe")).map(|did| did.job).collect();
        assert_eq!(order, [first, third, second]);
    });
}
