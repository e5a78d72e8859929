//! Steps that are done again, and definitions that change, while a job is under way.

use nix::sys::signal::Signal;
use serde_json::json;

use super::{
    steps::{
        Did, began, configure, counts, done, drained, master, on_each, ordered, shown, started, states, tasks, touch,
        until_state,
    },
    support::{
        Demo,
        log::{Master, until},
    },
};

const FIVE: &str = "
five:
  steps:
    - { name: s1, queue: a }
    - { name: s2, queue: b }
    - { name: s3, queue: a }
    - { name: s4, queue: b }
    - { name: s5, queue: a }
";

fn steps_of(did: &[Did]) -> Vec<&str> {
    did.iter().map(|did| did.step.as_str()).collect()
}

#[test]
fn a_step_is_done_again_with_what_needs_it_while_a_later_one_runs() {
    on_each(|demo| {
        configure(demo, FIVE, &["a", "b"], "");
        let id =
            started(demo, &["five", r#"{"s1": {"result": "first"}, "s2": {"inputs": true}, "s4": {"wait": "gate"}}"#]);
        let mut worked = master(demo, &[]);
        until("step s4 is begun", || steps_of(&began(demo)) == ["s1", "s2", "s3", "s4"]);
        let before = shown(demo, &id);
        let said = ordered(demo, &["restart", &id, "s2"]);
        assert!(said.contains("does again: steps s2, s3, s4, s5"), "{said}");
        // Who worked the fourth is stopped; what it does counts for nothing.
        worked.expect("is dropped: its step counts for nothing any more");
        until("step s4 is begun again", || steps_of(&began(demo)) == ["s1", "s2", "s3", "s4", "s2", "s3", "s4"]);
        let after = shown(demo, &id);
        let kept = ["result", "round", "began_at", "ended_at"].map(|name| &before["steps"]["s1"][name]);
        assert_eq!(kept, ["result", "round", "began_at", "ended_at"].map(|name| &after["steps"]["s1"][name]));
        assert_ne!(before["steps"]["s4"]["round"], after["steps"]["s4"]["round"]);
        touch(demo, "gate");
        let job = until_state(demo, &id, "done");
        assert_eq!(counts(&done(demo)), [("s1", 1), ("s2", 2), ("s3", 2), ("s4", 1), ("s5", 1)].into());
        assert_eq!(job["steps"]["s2"]["result"]["s1"]["result"], "first");
        assert!(["s1", "s2", "s3", "s4", "s5"].iter().all(|step| tasks(&job, step) == [1, 0, 1]), "{job}");
        assert!(demo.dead_letters("b").is_empty());
    });
}

#[test]
fn a_step_is_done_again_alone() {
    on_each(|demo| {
        configure(demo, FIVE, &["a", "b"], "");
        let id = started(demo, &["five", "{}"]);
        assert_eq!(drained(demo).code, 0);
        ordered(demo, &["restart", &id, "s2", "--only"]);
        let job = shown(demo, &id);
        assert_eq!(states(&job), "running s1:done s2:waiting s3:done s4:done s5:done");
        assert_eq!(drained(demo).code, 0);
        assert_eq!(states(&shown(demo, &id)), "done s1:done s2:done s3:done s4:done s5:done");
        assert_eq!(steps_of(&done(demo)), ["s1", "s2", "s3", "s4", "s5", "s2"]);
    });
}

#[test]
fn what_a_splitter_of_a_void_round_submits_is_dropped() {
    on_each(|demo| {
        let pipeline = "one: { steps: [ { name: a, queue: a, each: items }, { name: b, queue: b } ] }";
        configure(demo, pipeline, &["a", "b", "items"], "");
        let id = started(demo, &["one", r#"{"a": {"items": 3, "wait": "gate"}}"#]);
        // One coordinates, the other one has the splitter.
        let mut coordinator = master(demo, &["--queue", "b"]);
        coordinator.expect("Coordinates the jobs");
        let worked = master(demo, &["--queue", "a", "--queue", "items"]);
        until("the splitter is begun", || began(demo).len() == 1);
        let round = shown(demo, &id)["steps"]["a"]["round"].clone();
        worked.signal(Signal::SIGSTOP);
        touch(demo, "gate");
        until("it has said what it submits", || done(demo).len() == 1);
        ordered(demo, &["restart", &id, "a"]);
        worked.signal(Signal::SIGCONT);
        let job = until_state(demo, &id, "done");
        assert_eq!((states(&job).as_str(), tasks(&job, "a")), ("done a:done b:done", [4, 0, 4]));
        assert_ne!(job["steps"]["a"]["round"], round);
        let did = done(demo);
        let of = |number: &str| did.iter().filter(|did| did.step == "a" && did.number == number).count();
        assert_eq!((of("-"), of("0"), of("1"), of("2")), (2, 1, 1, 1), "{did:?}");
        assert_eq!(did.iter().filter(|did| did.step == "b").count(), 1);
        assert!(demo.is_empty("items"));
        drop((coordinator, worked));
    });
}

#[test]
fn a_job_that_is_frozen_between_two_steps_goes_on_when_it_is_resumed_whatever_happened_meanwhile() {
    on_each(|demo| {
        configure(demo, FIVE, &["a", "b"], "");
        let id = started(demo, &["five", r#"{"s2": {"wait": "gate"}}"#]);
        let worked = master(demo, &[]);
        until("the second step is begun", || began(demo).len() == 2);
        ordered(demo, &["freeze", &id]);
        touch(demo, "gate");
        until("what was in hand goes on", || shown(demo, &id)["steps"]["s2"]["state"] == "done");
        worked.signal(Signal::SIGTERM);
        assert_eq!(worked.wait().0, 0);
        // All masters are new, and do not wait for it.
        let run = drained(demo);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(states(&shown(demo, &id)), "running s1:done s2:done s3:planned s4:planned s5:planned");
        assert_eq!(began(demo).len(), 2);
        ordered(demo, &["resume", &id]);
        assert_eq!(drained(demo).code, 0);
        assert_eq!(states(&shown(demo, &id)), "done s1:done s2:done s3:done s4:done s5:done");
        assert_eq!(steps_of(&done(demo)), ["s1", "s2", "s3", "s4", "s5"]);
    });
}

fn reloaded(demo: &Demo, master: &mut Master, pipelines: &str) {
    configure(demo, pipelines, &["a", "b"], "");
    master.signal(Signal::SIGHUP);
    master.expect("The reload is complete");
}

#[test]
fn a_job_goes_on_with_the_steps_that_it_began_with_until_it_is_told_otherwise() {
    on_each(|demo| {
        let two = "p: { steps: [ { name: old, queue: a }, { name: last, queue: a } ] }";
        let three = "p: { steps: [ { name: old, queue: a }, { name: new, queue: b }, { name: last, queue: a } ] }";
        configure(demo, two, &["a", "b"], "");
        let payload = r#"{"old": {"wait": "gate"}}"#;
        let jobs = [started(demo, &["p", payload]), started(demo, &["p", payload])];
        let mut worked = master(demo, &[]);
        until("the first step is begun", || began(demo).len() == 1);
        reloaded(demo, &mut worked, three);
        let new = started(demo, &["p", "{}"]);
        touch(demo, "gate");
        for id in &jobs {
            assert_eq!(states(&until_state(demo, id, "done")), "done old:done last:done");
        }
        assert_eq!(states(&until_state(demo, &new, "done")), "done old:done new:done last:done");
        let said = ordered(demo, &["restart", &jobs[1], "last", "--redefine"]);
        assert!(said.contains("does again: step last"), "{said}");
        let job = until_state(demo, &jobs[1], "done");
        assert_eq!(states(&job), "done old:done new:done last:done");
        assert_eq!(states(&shown(demo, &jobs[0])), "done old:done last:done");
        let of: Vec<Did> = done(demo).into_iter().filter(|did| did.job == jobs[1]).collect();
        assert_eq!(steps_of(&of), ["old", "last", "new", "last"]);
        assert_eq!(job["definition"]["steps"][1]["queue"], json!("b"));
    });
}
