//! All queues parked: who stays, for how long nothing is tried, what a night of it costs, and who ends.

use std::time::Duration;

use super::{on_each, stopped, told};
use crate::support::{
    Demo, Place,
    log::{Stopwatch, until},
};
use nix::sys::signal::Signal;

/// Tasks of a broken deploy.
const BAD: u64 = 60;
/// Pauses that are waited for.
const PAUSES: u64 = 4;

fn failed(demo: &Demo) -> u64 {
    demo.depth("foo")["failed"].as_u64().expect("a number")
}

#[test]
fn a_master_whose_queues_are_all_parked_stays_and_is_well_again_by_itself() {
    on_each(|demo| {
        let settings =
            "workers: { foo: { worker: demo_sleep_worker, breaker: { failures: 10, pause: 500ms, longest: 1s } } }\n";
        demo.write("asynctask.yaml", settings);
        demo.submit_all("foo", (0..BAD).map(|n| format!(r#"{{"n":{n},"then":"abort"}}"#)));
        let mut master = demo.start_configured(&[]);
        let watch = Stopwatch::start();
        // Doubled once, which is the longest.
        for seconds in ["0.5", "1", "1", "1"] {
            let line = master.expect("Queue foo is parked");
            assert!(line.contains(&format!("is parked for {seconds} s: ")), "{line}");
        }
        assert!(watch.elapsed() >= Duration::from_millis(2_500), "the pauses were not kept: {:?}", watch.elapsed());
        let health = demo.run(&["health"]);
        assert!(
            health.code == 1 && health.stdout.starts_with("queue foo is parked: too many of its tasks"),
            "{health:?}"
        );
        let status = demo.json(&["status", "--json"]);
        let queue = &status["queues"]["foo"];
        assert_eq!((&queue["state"], &queue["parked"]["pause_seconds"]), (&"parked".into(), &1.0.into()), "{queue}");
        // What has ended meanwhile is counted, too.
        let parkings = || master.log().text().matches("Queue foo is parked").count() as u64;
        let dead = failed(demo);
        assert!((10 + PAUSES - 1..=10 + parkings()).contains(&dead), "{dead} dead letters, {} parkings", parkings());
        // The deploy is mended: the next try finds out.
        assert_eq!(demo.run(&["queues", "purge", "foo", "--yes"]).code, 0);
        demo.submit("foo", r#"{"n":1000}"#);
        master.expect("Queue foo is worked again");
        until("the good task is not done", || demo.done() == [r#"{"n":1000}"#]);
        let health = demo.run(&["health", "--wait", "50s"]);
        assert_eq!(health.code, 0, "{health:?}");
        assert!(demo.json(&["status", "--json"])["queues"]["foo"]["parked"].is_null());
        assert_eq!(stopped(master, Duration::from_secs(20)), 0);
    });
}

#[test]
fn many_workers_that_crash_together_park_their_queue_once() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit_all("foo", (0..BAD).map(|n| format!(r#"{{"n":{n},"sleep_ms":100,"then":"abort"}}"#)));
    demo.write(
        "asynctask.yaml",
        "kinds: { broken: { command: [sh, -c, 'exit 1'] } }\nworkers:\n  \
         foo: { worker: demo_sleep_worker, processes: 8, breaker: { failures: 2, pause: 10m } }\n  \
         bar: { worker: broken, processes: 8 }\nsupervisor: { restart: { first: 10ms, longest: 20ms } }\n",
    );
    let master = demo.start_configured(&[]);
    let log = master.log();
    for queue in ["foo", "bar"] {
        told(&log, &format!("Queue {queue} is parked"), 1);
    }
    // All that were begun have ended when nothing is in hand.
    until("tasks are in hand for ever", || demo.depth("foo")["in_hand"] == 0);
    assert_eq!(stopped(master, Duration::from_secs(20)), 0);
    for queue in ["foo", "bar"] {
        let lines = log.text().matches(&format!("Queue {queue} is parked")).count();
        assert_eq!(lines, 1, "{queue}: {}", log.text());
    }
}

#[test]
fn a_master_in_which_no_worker_was_ever_ready_ends_and_costs_no_task_anything() {
    on_each(|demo| {
        demo.write(
            "asynctask.yaml",
            "kinds: { broken: { command: [sh, -c, 'exit 1'] }, absent: { command: [./absent], mode: once } }\n\
             workers: { foo: broken, bar: absent }\nsupervisor: { restart: { first: 10ms, longest: 20ms } }\n",
        );
        for queue in ["foo", "bar"] {
            demo.submit(queue, "1");
        }
        let master = demo.start_configured(&[]);
        let (code, log) = master.wait();
        assert_eq!(code, 69, "{log}");
        for queue in ["foo", "bar"] {
            assert_eq!(log.matches(&format!("Queue {queue} is parked")).count(), 1, "{log}");
            let depth = demo.depth(queue);
            assert_eq!((&depth["ready"], &depth["failed"]), (&1.into(), &0.into()), "{queue}: {depth}");
        }
    });
}

#[test]
fn whoever_starts_a_master_again_finds_its_queues_as_parked_as_they_were() {
    on_each(|demo| {
        let settings = "workers: { foo: { worker: demo_sleep_worker, breaker: { failures: 5, pause: 1s } } }\n";
        demo.write("asynctask.yaml", settings);
        demo.submit_all("foo", (0..BAD).map(|n| format!(r#"{{"n":{n},"then":"abort"}}"#)));
        let kept = demo.folder.path().join("asynctask.sock.parked");
        let is_kept = |pause: &str| std::fs::read_to_string(&kept).is_ok_and(|text| text.contains(pause));

        let mut master = demo.start_configured(&[]);
        master.expect("Queue foo is parked for 1 s: ");
        master.expect("Queue foo is parked for 2 s: ");
        until("the pause is not kept", || is_kept(r#""pause_seconds":2.0"#));
        assert_eq!(stopped(master, Duration::from_secs(20)), 0);

        // Its workers start all the same, for a service manager that waits for that. The next pause is longer than the last one was.
        let watch = Stopwatch::start();
        let mut master = demo.start_configured(&[]);
        let line = master.expect("as the run before left it");
        assert!(line.contains("too many of its tasks crashed or timed out in a row; `control unpark foo`"), "{line}");
        master.expect("Starting; queue=foo");
        master.expect("Queue foo is tried again");
        assert!(watch.elapsed() < Duration::from_secs(20), "the pause was longer than was kept: {:?}", watch.elapsed());
        master.expect("Queue foo is parked for 4 s: ");
        until("the pause is not kept", || is_kept(r#""pause_seconds":4.0"#));
        master.signal(Signal::SIGKILL);
        master.wait();

        // Six in the first life, one in the second, none since then.
        let mut master = demo.start_configured(&[]);
        master.expect("as the run before left it");
        until("dead letters are not stored", || failed(demo) == 7);
        assert_eq!(demo.run(&["queues", "purge", "foo", "--yes"]).code, 0);
        demo.submit("foo", r#"{"n":1000}"#);
        master.expect("Queue foo is worked again");
        until("the good task is not done", || demo.done() == [r#"{"n":1000}"#]);
        until("what is over is kept", || !kept.exists());
        assert_eq!(stopped(master, Duration::from_secs(20)), 0);
    });
}

#[test]
fn a_pause_is_kept_for_the_same_kind_until_somebody_knows_better() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker, bar: demo_quiet_worker }\n");
    let kept = demo.folder.path().join("asynctask.sock.parked");
    let of = |kind: &str| format!(r#"{{"kind":"{kind}","pause_seconds":600,"until_ms":4000000000000}}"#);
    let texts = [
        format!(r#"{{"foo":{},"gone":{}}}"#, of("demo_quiet_worker"), of("demo_sleep_worker")),
        r#"{"foo":{"kind":"#.to_owned(),
        format!(r#"{{"foo":{}}}"#, of("demo_sleep_worker")),
    ];
    let [of_others, cut_off, right] = texts.each_ref();
    for text in [of_others, cut_off] {
        std::fs::write(&kept, text).expect("written");
        let mut master = demo.start_configured(&[]);
        if text == cut_off {
            master.expect("asynctask.sock.parked, which says what is parked, cannot be read: ");
        }
        let done = demo.done().len();
        demo.submit("foo", "{}");
        until("the task is not done", || demo.done().len() > done);
        let log = master.log();
        assert_eq!(stopped(master, Duration::from_secs(20)), 0);
        assert!(!log.text().contains("is parked for"), "{}", log.text());
    }
    std::fs::write(&kept, right).expect("written");
    let mut master = demo.start_configured(&[]);
    let line = master.expect("Queue foo is parked for 600.0 s more");
    assert!(line.starts_with("WARNING"), "{line}");
    master.expect("Starting; queue=foo");
    assert_eq!(demo.run(&["health"]).code, 1);
    let done = demo.done().len();
    demo.submit("foo", "{}");
    let unparked = demo.run(&["control", "unpark", "foo"]);
    assert_eq!(unparked.code, 0, "{unparked:?}");
    until("the task is not done", || demo.done().len() > done);
    until("what is over is kept", || !kept.exists());
    // A run that is to halt has nobody who waits for the end of a pause.
    std::fs::write(&kept, right).expect("written");
    assert_eq!(stopped(master, Duration::from_secs(20)), 0);
    demo.submit("foo", "{}");
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!((run.code, demo.done().len()), (0, done + 2), "{run:?}");
}
