//! A master that does not run for a while, and its workers with it or not: nobody is late for that.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::{on_each, pass, stopped, told};
use crate::support::{
    Demo,
    log::{Master, until},
};

/// A task that takes some time of its own, however long it is stopped; it leaves a file and then another.
const STEPS: &str = "cat >/dev/null; touch begun-once; for n in $(seq 15); do sleep 0.1; done; touch done-once";
/// The same in a shorter time.
const STEP: &str = "cat >/dev/null; touch begun-once; sleep 0.3; touch done-once";
/// The same for the payload's seconds, with frames.
const WORKER: &str = r#"
import json, os, pathlib, signal, socket, time
for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(name, signal.SIG_IGN)
master = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
def say(frame, **fields):
    master.sendall(json.dumps({frame: fields}).encode() + b"\n")
say("ready", protocol=1)
for line in master.makefile("rb"):
    (frame, fields), *_ = json.loads(line).items()
    if frame == "task":
        pathlib.Path("begun-" + fields["queue"]).touch()
        time.sleep(fields["payload"])
        say("done", id=fields["id"])
        pathlib.Path("done-" + fields["queue"]).touch()
    elif frame == "ping":
        say("pong", n=fields["n"])
    elif frame == "halt":
        say("bye")
        break
"#;
/// Longer than any limit of these tests.
const PAUSE: Duration = Duration::from_secs(6);

/// Whether the work of a task has come so far: `begun-…`, `done-…`.
fn there(demo: &Demo, mark: &str) -> bool {
    demo.folder.path().join(mark).exists()
}

fn wait_for(demo: &Demo, marks: &[&str]) {
    until(&format!("not there: {marks:?}"), || marks.iter().all(|mark| there(demo, mark)));
}

fn settings(demo: &Demo, workers: &str, more: &str) {
    demo.write("w.py", WORKER);
    let kinds = format!(
        "kinds: {{ once: {{ command: [sh, -c, '{STEPS}'], mode: once }}, w: {{ command: [python3, w.py] }}, \
         short: {{ command: [sh, -c, '{STEP}'], mode: once }} }}\n"
    );
    demo.write("asynctask.yaml", &format!("{kinds}workers: {{ {workers} }}\n{more}"));
}

fn started(demo: &Demo, queues: usize) -> Master {
    let mut master = demo.start_configured(&[]);
    for _ in 0..queues {
        master.expect("Starting; queue=");
    }
    master
}

fn nothing_was_late(demo: &Demo, log: &str, queues: &[&str]) {
    assert!(!log.contains("ran into its time limit") && !log.contains("killed"), "{log}");
    assert_eq!(log.matches("Got payload").count(), queues.len(), "begun twice: {log}");
    for queue in queues {
        let depth = demo.depth(queue);
        assert!(demo.is_empty(queue) && depth["failed"] == 0, "{queue}: {depth}\n{log}");
    }
}

#[test]
fn what_ended_while_the_master_did_not_run_is_done() {
    on_each(|demo| {
        let workers = "b: { worker: w, timeout: 4s }, once: { worker: once, timeout: 4s }, \
                       r: { worker: w, timeout: 4s, retry: { max_attempts: 2, first: 100ms } }";
        settings(demo, workers, "");
        let master = started(demo, 3);
        for queue in ["b", "r", "once"] {
            demo.submit(queue, "0.7");
        }
        wait_for(demo, &["begun-b", "begun-r", "begun-once"]);
        master.signal(Signal::SIGSTOP);
        wait_for(demo, &["done-b", "done-r", "done-once"]);
        pass(PAUSE);
        master.signal(Signal::SIGCONT);
        let log = master.log();
        told(&log, "Processing complete", 3);
        told(&log, "The master did not run for up to ", 1);
        assert_eq!(stopped(master, Duration::from_secs(20)), 0);
        nothing_was_late(demo, &log.text(), &["b", "once", "r"]);
    });
}

#[test]
fn what_came_before_a_limit_is_read_before_it_is_judged() {
    on_each(|demo| {
        // The limit passes in a pause that is too short to be noticed. On a busy machine it may become longer; then limits are
        // longer, too, and nothing is shown.
        let is_noticed = |queue: &str, worker: &str| {
            settings(demo, &format!("{queue}: {{ worker: {worker}, timeout: 1s }}"), "");
            let mut master = started(demo, 1);
            let log = master.log();
            demo.submit(queue, "0.3");
            wait_for(demo, &[&format!("begun-{queue}")]);
            master.signal(Signal::SIGSTOP);
            wait_for(demo, &[&format!("done-{queue}")]);
            pass(Duration::from_millis(900));
            master.signal(Signal::SIGCONT);
            master.expect("Processing complete");
            assert_eq!(stopped(master, Duration::from_secs(20)), 0);
            for mark in ["begun", "done"] {
                std::fs::remove_file(demo.folder.path().join(format!("{mark}-{queue}"))).expect("it was there");
            }
            nothing_was_late(demo, &log.text(), &[queue]);
            log.text().contains("The master did not run for up to ")
        };
        for (queue, worker) in [("b", "w"), ("once", "short")] {
            assert!((0..5).any(|_| !is_noticed(queue, worker)), "{queue}: the pause was noticed five times");
        }
    });
}

/// Stops the master and all its workers' groups for longer than any limit, as a frozen container or a moved machine does.
fn freeze(master: &Master) {
    const NOTICE: &str = "The master did not run for up to ";
    let workers = master.workers();
    // A machine that is busy may have paused it before.
    let noticed = || master.log().text().matches(NOTICE).count();
    let before = noticed();
    master.signal(Signal::SIGSTOP);
    for pid in &workers {
        killpg(Pid::from_raw(*pid), Signal::SIGSTOP).expect("a worker leads its group");
    }
    pass(PAUSE);
    // The master first: it finds nothing said yet.
    master.signal(Signal::SIGCONT);
    until("the pause was not noticed", || noticed() > before);
    for pid in &workers {
        // Who was killed for it is gone.
        let _ = killpg(Pid::from_raw(*pid), Signal::SIGCONT);
        let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
    }
}

#[test]
fn a_task_has_its_time_although_all_was_frozen() {
    on_each(|demo| {
        settings(demo, "once: { worker: once, timeout: 4s }", "");
        let mut master = started(demo, 1);
        demo.submit("once", "1");
        wait_for(demo, &["begun-once"]);
        freeze(&master);
        master.expect("Processing complete");
        let log = master.log();
        assert_eq!(stopped(master, Duration::from_secs(20)), 0);
        nothing_was_late(demo, &log.text(), &["once"]);
        assert!(there(demo, "done-once"));
    });
}

#[test]
fn a_stop_waits_for_its_grace_although_all_was_frozen() {
    on_each(|demo| {
        settings(demo, "once: once", "supervisor: { grace: 4s }\n");
        let mut master = started(demo, 1);
        demo.submit("once", "1");
        wait_for(demo, &["begun-once"]);
        master.signal(Signal::SIGTERM);
        master.expect("Termination received; shutting down children");
        freeze(&master);
        let log = master.log();
        assert_eq!(master.wait().0, 0, "{}", log.text());
        nothing_was_late(demo, &log.text(), &["once"]);
        assert!(there(demo, "done-once"));
    });
}

#[test]
fn a_start_has_its_time_although_all_was_frozen() {
    let demo = Demo::new(&crate::support::Place::sqlite());
    let script = "import json, os, socket, time\n\
                  open('begun', 'w').close()\n\
                  for n in range(15): time.sleep(0.1)\n\
                  master = socket.socket(fileno=int(os.environ['ASYNCTASK_FD']))\n\
                  master.sendall(b'{\"ready\": {\"protocol\": 1}}\\n')\n\
                  for line in master.makefile('rb'):\n    \
                      if 'halt' in json.loads(line): break\n";
    demo.write("slow.py", script);
    demo.write(
        "asynctask.yaml",
        "kinds: { slow: { command: [python3, slow.py] } }\nworkers: { s: slow }\nsupervisor: { start_timeout: 4s }\n",
    );
    let mut master = demo.start_configured(&[]);
    wait_for(&demo, &["begun"]);
    freeze(&master);
    let line = master.expect("queue=s");
    assert!(line.contains("Starting"), "{line}");
    let log = master.log();
    assert_eq!(stopped(master, Duration::from_secs(20)), 0);
    assert!(!log.text().contains("was not ready within"), "{}", log.text());
}
