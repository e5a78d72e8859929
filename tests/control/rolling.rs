//! Renewals and ends under load: nothing is interrupted, lost or repeated.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use crate::{
    Demo, LONG, each_once, ends_with, on_each, payloads, refused, slots, started, support::log::until, told,
    until_slots,
};

fn pids(demo: &Demo) -> BTreeSet<u64> {
    slots(demo).iter().filter_map(|slot| slot["pid"].as_u64()).collect()
}

#[test]
fn a_rolling_restart_interrupts_nothing() {
    on_each(|demo| {
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
    on_each(|demo| {
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
    on_each(|demo| {
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
fn a_quit_interrupts_at_once() {
    on_each(|demo| {
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
