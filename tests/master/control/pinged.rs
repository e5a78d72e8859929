//! Workers that are alive and do not listen.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{ends_with, on_each_in_turn, slots, started, told, until_slots};
use crate::support::log::until;

const FREEZE: Signal = Signal::SIGSTOP;

fn freeze(pid: i32) {
    kill(Pid::from_raw(pid), FREEZE).expect("it lives");
}

#[test]
fn an_idle_worker_that_is_stopped_is_found_by_a_ping_and_replaced() {
    on_each_in_turn(|demo| {
        let settings = "workers: { foo: { worker: demo_sleep_worker, processes: 2 } }\nsupervisor: { ping: 2s }\n";
        let mut master = started(demo, settings);
        until_slots(demo, "idle", 2);
        let before = master.workers();
        freeze(before[0]);
        let line = master.expect("did not answer a ping within 2 s");
        assert!(line.contains("is killed: it was idle"), "{line}");
        until("the worker is not replaced", || {
            let now = master.workers();
            now.len() == 2 && now.contains(&before[1]) && !now.contains(&before[0])
        });
        until_slots(demo, "idle", 2);
        let last: Vec<String> = slots(demo).iter().map(|slot| slot["last_exit"].to_string()).collect();
        assert_eq!(last.iter().filter(|exit| exit.contains("did not answer a ping")).count(), 1, "{last:?}");
        // Both work, and nobody else was taken for silent.
        demo.submit_all("foo", super::payloads(20, 100));
        until("the tasks are not done", || demo.done().len() == 20);
        super::each_once(demo, 20);
        told(demo, &["stop"]);
        let log = ends_with(master, 0);
        assert_eq!(log.matches("did not answer a ping").count(), 1, "{log}");
        demo.nobody_is_left();
    });
}

#[test]
fn a_busy_worker_that_is_stopped_is_replaced_at_the_time_limit_of_its_task() {
    on_each_in_turn(|demo| {
        let foo = "{ worker: demo_sleep_worker, timeout: 3s, retry: { max_attempts: 2, first: 10ms } }";
        let mut master = started(demo, &format!("workers: {{ foo: {foo} }}\nsupervisor: {{ ping: 1s }}\n"));
        demo.submit("foo", r#"{"n":1,"sleep_ms":1500}"#);
        master.expect("Got payload");
        freeze(master.workers()[0]);
        // Pings go on around it: the time limit is what finds it.
        let line = master.expect("is killed: ");
        assert!(line.contains("ran into its time limit"), "{line}");
        until("the task is not done", || demo.done().len() == 1);
        until_slots(demo, "idle", 1);
        super::each_once(demo, 1);
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}
