//! Jobs that are ended, by a person or by time, and what they left is wiped.

use serde_json::{Value, json};

use super::{
    steps::{
        began, configure, counts, done, drained, master, on_each, ordered, refused, shown, started, states, tasks,
        touch,
    },
    support::log::{Stopwatch, until},
};

/// What a master says of a task whose worker it ends.
const STOPPED: &str = "is dropped: its step counts for nothing any more";

const WIPED: &str = "
left:
  wipe_failed_after: 500ms
  steps:
    - { name: a, queue: a, wipe: wipes }
    - { name: b, queue: a, wipe: wipes, keep: true }
    - { name: c, queue: a, wipe: wipes }
    - { name: d, queue: a, wipe: wipes }
";

/// The steps that were wiped, in order.
fn wiped(demo: &super::support::Demo) -> Vec<String> {
    done(demo).into_iter().filter_map(|did| did.step.strip_prefix("wipe-").map(str::to_owned)).collect()
}

#[test]
fn of_a_job_with_thousands_of_items_nothing_is_left_when_it_is_cancelled() {
    on_each(|demo| {
        let pipeline =
            "big: { steps: [ { name: a, queue: a, each: items, wipe: wipes }, { name: b, queue: a, wipe: wipes } ] }";
        configure(demo, pipeline, &["a", "wipes"], "  items: { worker: steps, processes: 2 }");
        let payload = r#"{"a": {"items": 10000, "each": {"wait": "gate"}}}"#;
        let id = started(demo, &["big", payload]);
        let masters = [master(demo, &[]), master(demo, &[])];
        until("all is there, and four are in hand", || {
            tasks(&shown(demo, &id), "a")[2] == 10_010
                && began(demo).iter().filter(|did| !did.number.starts_with("from") && did.number != "-").count() == 4
        });
        let watch = Stopwatch::start();
        ordered(demo, &["cancel", &id]);
        assert_eq!(shown(demo, &id)["state"], "cancelled");
        let stopped = || masters.iter().map(|master| master.log().text().matches(STOPPED).count()).sum::<usize>();
        until("what is in hand is stopped", || stopped() == 4);
        let took = watch.elapsed().as_secs_f64();
        until("what waits is gone", || demo.is_empty("items"));
        let gone = watch.elapsed().as_secs_f64();
        println!("4 in hand are stopped {took:.2} s and 10000 items that waited gone {gone:.2} s after cancel began");
        // A broker gives them out, and they are dropped as they come.
        let longest = if demo.uri.starts_with("amqp") { 20.0 } else { 5.0 };
        assert!(took < 5.0 && gone < longest, "it took {took:.1} and {gone:.1} s");
        // Whatever comes of them now counts for nothing.
        touch(demo, "gate");
        until("it is wiped", || shown(demo, &id)["wiped"] == "yes");
        let job = shown(demo, &id);
        assert_eq!((states(&job).as_str(), wiped(demo)), ("cancelled a:cancelled b:skipped", vec!["a".to_owned()]));
        assert_eq!(counts(&done(demo))["a"], 10, "the pages alone were done");
        assert_eq!(drained(demo).code, 0);
        assert_eq!((began(demo).len(), demo.dead_letters("items").len()), (10 + 4 + 1, 0));
        drop(masters);
    });
}

#[test]
fn a_job_whose_time_is_over_has_failed_and_what_is_in_hand_is_stopped() {
    on_each(|demo| {
        let pipeline = "
slow:
  timeout: 5s
  on_failure: notices
  wipe_failed_after: forever
  steps: [ { name: a, queue: a }, { name: b, queue: a }, { name: c, queue: a } ]
";
        configure(demo, pipeline, &["a"], "  notices: null");
        let id = started(demo, &["slow", r#"{"b": {"wait": "never"}}"#]);
        let mut worked = master(demo, &[]);
        worked.expect("of slow failed: timeout");
        let job = shown(demo, &id);
        assert_eq!((states(&job).as_str(), &job["error"]), ("failed a:done b:cancelled c:skipped", &json!("timeout")));
        until("the worker is stopped", || demo.is_empty("a"));
        assert_eq!((demo.depth("notices")["ready"].clone(), demo.dead_letters("a").len()), (json!(1), 0));
    });
}

#[test]
fn a_wipe_that_fails_is_retried_and_the_job_stays_done() {
    on_each(|demo| {
        configure(demo, WIPED, &["a", "wipes"], "");
        let id = started(demo, &["left", r#"{"wipe-c": {"kill": "SIGKILL"}}"#]);
        let run = drained(demo);
        assert_eq!(run.code, 0, "{run:?}");
        let job = shown(demo, &id);
        assert_eq!((&job["state"], &job["wiped"]), (&json!("done"), &json!("failed")), "{job}");
        let error = "the wipe of step c failed: crash: the worker died: killed by SIGKILL";
        assert!(job["error"].as_str().is_some_and(|text| text.starts_with(error)), "{job}");
        assert_eq!(wiped(demo), ["d"]);
        touch(demo, "good");
        assert_eq!(demo.run(&["failed", "retry", "wipes", "--all"]).code, 0);
        assert_eq!(drained(demo).code, 0);
        let job = shown(demo, &id);
        assert_eq!((&job["state"], &job["wiped"], &job["error"]), (&json!("done"), &json!("yes"), &Value::Null));
        assert_eq!(wiped(demo), ["d", "c", "a"], "what is final stays");
    });
}

#[test]
fn what_a_failed_job_left_is_wiped_after_its_time_in_reverse_and_what_never_began_is_not() {
    on_each(|demo| {
        configure(demo, WIPED, &["a", "wipes"], "");
        let id = started(demo, &["left", r#"{"c": {"fail": "no"}}"#]);
        let mut worked = master(demo, &[]);
        worked.expect(&format!("Job {id} is wiped"));
        let job = shown(demo, &id);
        assert_eq!((states(&job).as_str(), &job["wiped"]), ("failed a:done b:done c:failed d:skipped", &json!("yes")));
        assert_eq!(wiped(demo), ["c", "a"]);
        // It is too late to heal it.
        touch(demo, "good");
        let run = demo.run(&["failed", "retry", "a", "--all"]);
        let error = format!("1 dead letter is not put back to work: job {id} is wiped");
        refused(&run, 1, &[&error], Some(&format!("asynctask jobs restart {id} --even-if-wiped")));
        assert_eq!(demo.dead_letters("a").len(), 1, "it lies where it was");
        until("nothing is left to do", || demo.is_empty("a"));
        assert_eq!(states(&shown(demo, &id)), "failed a:done b:done c:failed d:skipped");
    });
}

#[test]
fn what_is_kept_is_wiped_by_hand_and_what_is_final_with_all() {
    on_each(|demo| {
        configure(demo, WIPED, &["a", "wipes"], "");
        let id = started(demo, &["left", "{}"]);
        ordered(demo, &["keep", &id]);
        assert_eq!(drained(demo).code, 0);
        assert_eq!((wiped(demo).len(), &shown(demo, &id)["wiped"]), (0, &json!("no")));
        ordered(demo, &["wipe", &id]);
        assert_eq!(drained(demo).code, 0);
        assert_eq!(
            (wiped(demo), &shown(demo, &id)["wiped"]),
            (["d", "c", "a"].map(str::to_owned).into(), &json!("yes"))
        );
        ordered(demo, &["wipe", &id, "--all"]);
        assert_eq!(drained(demo).code, 0);
        assert_eq!(wiped(demo), ["d", "c", "a", "b"]);
        assert_eq!(demo.run(&["jobs", "show", &id]).code, 1);
    });
}
