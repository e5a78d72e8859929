//! Renewals and ends under load: nothing is interrupted, lost or repeated.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use super::{Demo, LONG, each_once, ends_with, on_each_in_turn, payloads, refused, slots, started, told, until_slots};
use crate::support::log::until;

fn pids(demo: &Demo) -> BTreeSet<u64> {
    slots(demo).iter().filter_map(|slot| slot["pid"].as_u64()).collect()
}

#[test]
fn a_rolling_restart_interrupts_nothing() {
    on_each_in_turn(|demo| {
        let master = started(demo, "workers: { foo: { worker: demo_sleep_worker, processes: 3 } }\n");
        demo.submit_all("foo", payloads(600, 20));
        until("no task is done", || !demo.done().is_empty());
        for queue in [&["restart", "foo"][..], &["restart"][..]] {
            let before = pids(demo);
            told(demo, queue);
            until("not all workers are new", || {
                let now = pids(demo);
                now.len() == 3 && now.is_disjoint(&before)
            });
        }
        refused(demo, &["restart", "bar"], "not a queue of this master");
        assert!(demo.done().len() < 600, "the load ended before the restarts");
        until("the tasks are not done", || demo.done().len() == 600);
        until_slots(demo, "idle", 3);
        each_once(demo, 600);
        told(demo, &["stop"]);
        let log = ends_with(master, 0);
        assert_eq!(log.matches("Got payload").count(), 600, "a task was begun twice");
        assert!(!log.contains("died"), "{log}");
        demo.nobody_is_left();
    });
}

#[test]
fn recycled_workers_lose_and_repeat_nothing() {
    on_each_in_turn(|demo| {
        let recycle = "recycle: { max_tasks: 10 }";
        demo.write(
            "asynctask.yaml",
            &format!("workers: {{ foo: {{ worker: demo_sleep_worker, processes: 2, {recycle} }} }}\n"),
        );
        demo.submit_all("foo", payloads(300, 5));
        let master = demo.start_configured(&["--halt-when-empty"]);
        let log = ends_with(master, 0);
        each_once(demo, 300);
        assert_eq!(log.matches("Got payload").count(), 300, "a task was begun twice");
        assert!(log.matches("has done its number of tasks").count() >= 4, "{log}");
        assert!(!log.contains("died"), "{log}");
        demo.nobody_is_left();
    });
}

#[test]
fn a_stop_within_the_grace_interrupts_nothing() {
    on_each_in_turn(|demo| {
        let workers = "workers: { foo: { worker: demo_sleep_worker, processes: 2 } }\nsupervisor: { grace: 5s }\n";
        let master = started(demo, workers);
        demo.submit_all("foo", payloads(6, 1000));
        until_slots(demo, "busy", 2);
        master.signal(Signal::SIGTERM);
        let log = ends_with(master, 0);
        let begun = log.matches("Got payload").count();
        assert!(begun < 6, "it took new tasks in a stop");
        each_once(demo, begun);
        assert_eq!(demo.depth("foo")["ready"], 6 - begun);
    });
}

#[test]
fn tasks_longer_than_the_grace_are_back_in_their_queue() {
    on_each_in_turn(|demo| {
        let workers = "workers: { foo: { worker: demo_sleep_worker, processes: 2 } }\nsupervisor: { grace: 2s }\n";
        let master = started(demo, workers);
        demo.submit_all("foo", payloads(4, 600_000));
        until_slots(demo, "busy", 2);
        master.signal(Signal::SIGTERM);
        ends_with(master, 82);
        demo.nobody_is_left();
        assert_eq!((&demo.depth("foo")["ready"], demo.done().len()), (&4.into(), 0));
        // The next attempt of each is its first: with one allowed, its end makes a dead letter that says 1.
        let last = r#"{"foo": {"worker": "demo_sleep_worker", "processes": 4, "timeout": "300ms"}}"#;
        let ran = demo.workers(last, &["--halt-when-empty", "--socket", "none"]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        let letters = demo.dead_letters("foo");
        assert_eq!(letters.len(), 4);
        assert!(letters.iter().all(|letter| letter["attempts"] == 1), "{letters:?}");
    });
}

/// Nobody here obeys: only the clock of the stronger stop ends it, 2 s after it was asked for.
#[test]
fn a_stronger_stop_is_not_undone_by_weaker_ones() {
    on_each_in_turn(|demo| {
        demo.write_python_worker("deaf");
        demo.write("asynctask.yaml", "kinds: { python: { command: [python3, worker.py, deaf] } }\nworkers: { foo: python }\nsupervisor: { grace: 10m }\n");
        let mut master = demo.start_configured(&[]);
        master.expect("Starting; queue=foo");
        let id = demo.submit("foo", LONG);
        master.expect("PYTHON begins");
        let watch = crate::support::log::Stopwatch::start();
        master.signal(Signal::SIGQUIT);
        master.expect("Termination received; shutting down children");
        // Weaker, or no stop at all.
        for weaker in [Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGQUIT] {
            master.signal(weaker);
        }
        refused(demo, &["pause", "foo"], "the master is stopping");
        refused(demo, &["scale", "foo", "2"], "the master is stopping");
        ends_with(master, 82);
        assert!(watch.elapsed().as_secs() < 20, "the grace began anew: {:?}", watch.elapsed());
        demo.nobody_is_left();
        until("the task is not back", || demo.depth("foo")["ready"] == 1);
        let last = r#"{"foo": {"worker": "demo_sleep_worker", "timeout": "300ms"}}"#;
        assert_eq!(demo.workers(last, &["--halt-when-empty", "--socket", "none"]).code, 0);
        let letters = demo.dead_letters("foo");
        assert_eq!((&letters[0]["id"], &letters[0]["attempts"]), (&id.as_str().into(), &1.into()));
    });
}

#[test]
fn a_quit_interrupts_at_once() {
    on_each_in_turn(|demo| {
        let master = started(demo, "workers: { foo: demo_sleep_worker }\n");
        let id = demo.submit("foo", LONG);
        until_slots(demo, "busy", 1);
        master.signal(Signal::SIGQUIT);
        ends_with(master, 82);
        demo.nobody_is_left();
        // No attempt was used: this one is the first.
        let ran = demo.workers(
            r#"{"foo": {"worker": "demo_sleep_worker", "timeout": "300ms"}}"#,
            &["--halt-when-empty", "--socket", "none"],
        );
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        let letters = demo.dead_letters("foo");
        assert_eq!((&letters[0]["id"], &letters[0]["attempts"], letters.len()), (&id.as_str().into(), &1.into(), 1));
    });
}
