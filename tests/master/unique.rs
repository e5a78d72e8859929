//! `unique`: of tasks with the same key, one is in hand at a time, and the lock ends with the task, however that ends.
//!
//! Work that must not overlap makes a folder with its key's name and removes it: who finds it there was not alone.

use crate::support::{
    Demo, Place, broker,
    demo::Ran,
    log::{Master, until},
    proxy::Proxy,
};
use nix::sys::signal::Signal;

/// Two processes of one queue; what ran beside another task of its key is written down.
const ALONE: &str = r#"
key=$(sed 's/.*"k":\([0-9]*\).*/\1/')
mkdir "held.$key" 2>/dev/null || echo "$key" >> overlaps
sleep 0.01
rmdir "held.$key" 2>/dev/null
echo "$key" >> "$DEMO_FILE"
"#;

/// A demo whose queue `foo` is worked by a script, one process a task.
fn script(place: &Place, queue: &str, script: &str) -> Demo {
    let demo = Demo::new(place);
    demo.write("work.sh", script);
    demo.write(
        "asynctask.yaml",
        &format!("workers: {{ foo: {{ worker: once, {queue} }} }}\nkinds: {{ once: {{ mode: once, command: [sh, work.sh] }} }}\n"),
    );
    demo
}

fn overlaps(demo: &Demo) -> String {
    std::fs::read_to_string(demo.folder.path().join("overlaps")).unwrap_or_default()
}

/// Tasks of four keys.
fn of_four_keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("{{\"n\":{number},\"k\":{}}}", number / 2 % 4))
}

#[test]
fn what_would_overlap_without_keys_does_not_with_them() {
    for place in Place::all() {
        let demo = script(&place, r#"processes: 4, unique: { key: "{payload.k}", after: 100ms }"#, ALONE);
        demo.submit_all("foo", of_four_keys(60));
        let run = demo.run(&["workers", "--halt-when-empty"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!((demo.done().len(), overlaps(&demo).as_str()), (60, ""), "{}", run.stdout);
        assert!(run.stdout.contains("has its key"), "nothing was in the way of anything: {}", run.stdout);
        assert!(demo.is_empty("foo") && demo.dead_letters("foo").is_empty());
    }
}

#[test]
fn the_script_of_these_tests_sees_an_overlap() {
    let demo = script(&Place::sqlite(), "processes: 4", ALONE);
    demo.submit_all("foo", (0..60).map(|_| r#"{"k":1}"#.to_owned()));
    demo.run(&["workers", "--halt-when-empty"]);
    assert_ne!(overlaps(&demo), "");
}

#[test]
fn two_masters_on_one_file_are_in_each_others_way() {
    let demo = script(&Place::sqlite(), r#"processes: 2, unique: { key: "{payload.k}", after: 100ms }"#, ALONE);
    demo.submit_all("foo", of_four_keys(120));
    let start = || demo.follow(demo.command(&["workers", "--halt-when-empty", "--socket", "none"]));
    let masters = [start(), start()];
    let mut refused = 0;
    for (code, log) in masters.map(Master::wait) {
        assert_eq!(code, 0, "{log}");
        assert!(log.contains("Got payload"), "it did nothing: {log}");
        refused += log.matches("has its key").count();
    }
    assert!(refused > 0, "nothing was in the way of anything");
    assert_eq!((demo.done().len(), overlaps(&demo).as_str()), (120, ""));
    assert!(demo.is_empty("foo") && demo.dead_letters("foo").is_empty());
}

/// A master that works the sleeping kind in two processes, with these settings.
fn sleepers(demo: &Demo, settings: &str) -> Master {
    demo.start(&format!("{{foo: {{worker: demo_sleep_worker, processes: 2, {settings}}}}}"), &[])
}

fn drain(demo: &Demo, settings: &str) -> Ran {
    let workers = format!("{{foo: {{worker: demo_sleep_worker, processes: 2, {settings}}}}}");
    let run = demo.workers(&workers, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    run
}

const KEY: &str = r#"unique: {key: "{queue}:{payload.k}", after: 100ms}"#;

#[test]
fn the_key_of_a_killed_master_is_free() {
    for place in Place::all() {
        let demo = Demo::new(&place);
        demo.submit("foo", r#"{"k":1,"sleep_ms":600000}"#);
        let mut master = sleepers(&demo, KEY);
        master.expect("Got payload");
        master.signal(Signal::SIGKILL);
        master.wait();
        // The next master gets the same task back, and one more of its key, and does both, each in its turn.
        demo.submit("foo", r#"{"k":1,"n":2}"#);
        drain(&demo, &format!("timeout: 500ms, {KEY}"));
        assert_eq!(demo.done(), [r#"{"k":1,"n":2}"#]);
        assert_eq!(demo.dead_letters("foo")[0]["reason"], "timeout");
    }
}

#[test]
fn the_key_of_an_accepted_task_is_held_and_dies_with_its_master() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", r#"{"k":1,"sleep_ms":600000}"#);
    let early = format!("acks: early, {KEY}");
    let mut master = sleepers(&demo, &early);
    master.expect("Got payload");
    demo.submit("foo", r#"{"k":1,"n":2}"#);
    master.expect("has its key \"foo:1\"");
    master.signal(Signal::SIGKILL);
    master.wait();
    drain(&demo, &early);
    assert_eq!(demo.done(), [r#"{"k":1,"n":2}"#]);
}

#[test]
fn every_end_of_a_task_ends_its_lock() {
    let retry = "timeout: 2s, retry: {max_attempts: 2, first: 1h, longest: 1h}";
    for then in ["error", "retry", "dead", "panic", "exit", "segfault", "hang"] {
        let demo = Demo::new(&Place::sqlite());
        demo.submit("foo", &format!(r#"{{"k":1,"sleep_ms":300,"then":"{then}"}}"#));
        demo.submit("foo", r#"{"k":1,"n":2}"#);
        let mut master = sleepers(&demo, &format!("{retry}, {KEY}"));
        master.expect("has its key");
        // Also while the first one waits for its retry.
        master.expect("Processing complete");
        master.signal(Signal::SIGTERM);
        assert_eq!(master.wait().0, 0);
        assert_eq!(demo.done(), [r#"{"k":1,"n":2}"#], "{then}");
    }
}

#[test]
fn an_interrupted_task_and_its_key_are_there_for_the_next_master() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", r#"{"k":1,"sleep_ms":600000}"#);
    let mut master = sleepers(&demo, KEY);
    master.expect("Got payload");
    let mut other = sleepers(&demo, KEY);
    other.expect("Starting");
    demo.submit("foo", r#"{"k":1,"n":2}"#);
    master.signal(Signal::SIGQUIT);
    assert_eq!(master.wait().0, 82);
    other.expect(r#"Got payload: {"k":1"#);
    other.signal(Signal::SIGQUIT);
    other.wait();
    drain(&demo, &format!("timeout: 500ms, {KEY}"));
    assert_eq!(demo.done(), [r#"{"k":1,"n":2}"#]);
}

#[test]
fn a_task_whose_key_is_held_is_dropped_or_dead_lettered_if_it_is_to_be() {
    for place in Place::all() {
        for (conflict, said) in
            [("drop", "is dropped: task"), ("dead-letter", "dead-lettered to foo_failed: cancelled")]
        {
            let demo = Demo::new(&place);
            let holder = demo.submit("foo", r#"{"k":1,"sleep_ms":1500}"#);
            let second = demo.submit("foo", r#"{"k":1,"n":2}"#);
            demo.submit("foo", r#"{"k":2,"n":3}"#);
            let unique = format!(r#"unique: {{key: "{{payload.k}}", conflict: {conflict}}}"#);
            let run = drain(&demo, &unique);
            let line = run.stdout.lines().find(|line| line.contains(said)).unwrap_or_else(|| panic!("{}", run.stdout));
            assert!(line.contains(&second) && line.contains(&holder), "{line}");
            assert_eq!(demo.done(), [r#"{"k":2,"n":3}"#, r#"{"k":1,"sleep_ms":1500}"#]);
            let letters = demo.dead_letters("foo");
            if conflict == "drop" {
                assert!(letters.is_empty(), "{letters:?}");
            } else {
                assert_eq!((letters.len(), &letters[0]["id"]), (1, &second.into()));
                assert_eq!((&letters[0]["reason"], &letters[0]["attempts"]), (&"cancelled".into(), &0.into()));
                let error = format!("its key \"1\" is held by task {holder}, which is in hand");
                assert_eq!(letters[0]["error"], error.as_str());
            }
        }
    }
}

#[test]
fn many_tasks_of_a_held_key_hold_up_no_other_and_do_not_spin() {
    for place in Place::all() {
        let demo = Demo::new(&place);
        demo.submit("foo", r#"{"k":1,"sleep_ms":3000}"#);
        demo.submit_all("foo", (0..100).map(|number| format!("{{\"k\":1,\"n\":{number}}}")));
        demo.submit("foo", r#"{"k":2,"other":true}"#);
        let run = drain(&demo, r#"unique: {key: "{payload.k}", after: 2s}"#);
        let done = demo.done();
        assert_eq!((done.len(), done[0].as_str()), (102, r#"{"k":2,"other":true}"#));
        // While the first one sleeps each of the others asks twice at most; after it, whoever comes at the wrong moment.
        let asked = run.stdout.matches("has its key").count();
        assert!((100..1000).contains(&asked), "{asked}");
    }
}

#[test]
fn tasks_without_a_key_hold_nobody_back() {
    // Each waits for the other.
    let both = "touch here.$ASYNCTASK_TASK_ID; until [ $(ls here.* | wc -l) -ge 2 ]; do sleep 0.02; done";
    let demo = script(&Place::sqlite(), r#"processes: 2, timeout: 20s, unique: "{payload.k}""#, both);
    demo.submit("foo", r#"{"k":null}"#);
    demo.submit("foo", "[1]");
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!((run.code, demo.dead_letters("foo").len()), (0, 0), "{}", run.stdout);
}

#[test]
fn a_lost_connection_frees_no_key_of_a_task_in_hand() {
    let Some(broker) = broker::controlled() else { return };
    let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
    let proxy = Proxy::before(broker.port());
    let transport = format!("transport={}", proxy.address(&demo.uri, broker.port()));
    demo.submit("foo", r#"{"k":1,"sleep_ms":4000}"#);
    let mut command =
        demo.master(&format!("{{foo: {{worker: demo_sleep_worker, processes: 2, {KEY}}}}}"), &["--halt-when-empty"]);
    let mut master = demo.follow({
        command.args(["--set", &transport]);
        command
    });
    master.expect("Got payload");
    proxy.cut();
    master.expect("The connection is back");
    demo.submit("foo", r#"{"k":1,"n":2}"#);
    master.expect("has its key \"foo:1\"");
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    // The first one was not run twice, and the second one not before its end.
    assert_eq!(demo.done(), [r#"{"k":1,"sleep_ms":4000}"#, r#"{"k":1,"n":2}"#]);
    assert_eq!(log.matches("Got payload").count(), 2, "{log}");
}

#[test]
fn a_queue_drained_in_the_foreground_keeps_the_keys_too() {
    let demo = Demo::new(&Place::sqlite());
    let set = format!("workers={{foo: {{worker: demo_sleep_worker, {KEY}}}}}");
    demo.submit("foo", r#"{"k":1,"sleep_ms":1500}"#);
    let mut master = demo.start(&format!("{{foo: {{worker: demo_sleep_worker, {KEY}}}}}"), &[]);
    master.expect("Got payload");
    demo.submit("foo", r#"{"k":1,"n":2}"#);
    demo.submit("foo", r#"{"k":2,"n":3}"#);
    let run = demo.run(&["process", "foo", "--set", &set]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("waits: its key \"foo:1\" is held by task"), "{}", run.stdout);
    until("not all were done", || demo.done().len() == 3);
    assert_eq!(demo.done()[0], r#"{"k":2,"n":3}"#);
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}
