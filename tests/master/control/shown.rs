//! `status` and `health`.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Demo, LONG, Place, ends_with, failed_with, on_each_in_turn, slots, started, status, told};
use crate::support::log::{Stopwatch, until};

/// Tells how far it is, then waits for a line in the pipe beside it.
const PATIENT: &str = r#"
import json, os, socket
frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
def say(frame): frames.sendall(json.dumps(frame).encode() + b"\n")
say({"ready": {"protocol": 1, "name": "Patient"}})
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "task" in frame:
        id = frame["task"]["id"]
        say({"progress": {"id": id, "percent": 40, "note": "on page 2"}})
        open("go").read()
        say({"done": {"id": id}})
    elif "ping" in frame:
        say({"pong": frame["ping"]})
    elif "halt" in frame:
        say({"bye": {}})
        break
"#;

/// The kinds of values of an object, by its keys.
fn shape(of: &Value) -> Value {
    match of {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(number) if number.is_f64() => "float".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "text".into(),
    }
}

#[test]
fn status_has_the_shape_that_is_promised() {
    on_each_in_turn(|demo| {
        demo.write("patient.py", PATIENT);
        let go = demo.folder.path().join("go");
        nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let settings = "workers: { foo: patient }\nkinds: { patient: { command: [python3, patient.py] } }\n";
        let master = started(demo, settings);
        let told = status(demo);
        let scheduler = shape(&told["scheduler"]);
        let slot = json!({
            "slot": "text", "pid": "number", "state": "text", "uptime_seconds": "float", "task": "null", "tasks": [], "ahead": "number", "done": "number",
            "failed": "number", "restarts": "number", "last_exit": "null", "rss_bytes": "number",
        });
        let queue = json!({
            "kind": "text", "state": "text", "ready": "number", "delayed": "number", "in_hand": "number",
            "failed": "number", "done": "number", "unavailable": "null", "stuck": "null", "parked": "null", "paused": "null", "worked_alone": "null",
            "slots": [slot],
        });
        let expected = json!({
            "pid": "number", "version": "text", "state": "text", "uptime_seconds": "float",
            "transport": { "uri": "text", "connected": "bool" }, "scheduler": scheduler, "queues": { "foo": queue }, "left_running": [],
        });
        assert_eq!(shape(&told), expected, "{told:#}");
        assert!(scheduler.is_object());
        assert_eq!((&told["pid"], &told["state"]), (&master.pid().into(), &"running".into()));
        assert!(!told["transport"]["uri"].to_string().contains("guest:guest"), "{told:#}");
        let foo = &told["queues"]["foo"];
        assert_eq!((&foo["kind"], &foo["state"], &foo["done"]), (&"patient".into(), &"running".into(), &0.into()));
        assert_eq!((&foo["slots"][0]["slot"], &foo["slots"][0]["state"]), (&"foo[1]".into(), &"idle".into()));
        assert_eq!(foo["slots"][0]["pid"], master.workers()[0]);

        let ids = demo.submit_ids("foo", ["{}".to_owned(), "{}".to_owned()]);
        until("the worker is not busy with the first task", || slots(demo)[0]["task"]["progress"].is_object());
        let slot = &slots(demo)[0];
        assert_eq!((&slot["state"], &slot["task"]["id"]), (&"busy".into(), &ids[0].as_str().into()));
        assert_eq!(slot["task"]["progress"], json!({ "percent": 40.0, "note": "on page 2" }));
        assert!(slot["task"]["age_seconds"].is_f64());
        assert!(slot["rss_bytes"].as_u64() > Some(1 << 20), "{slot}");
        assert!(slot["uptime_seconds"].as_f64() >= slot["task"]["age_seconds"].as_f64(), "{slot}");
        for id in &ids {
            // One after the other: the pipe has one reader.
            until("the worker is not busy with this task", || slots(demo)[0]["task"]["id"] == id.as_str());
            std::fs::write(&go, "go\n").expect("the worker reads");
        }
        until("the tasks are not counted", || slots(demo)[0]["done"] == 2);
        let table = demo.run(&["status"]);
        assert!(table.stdout.contains("foo[1]") && table.stdout.contains("patient"), "{}", table.stdout);
        super::told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn a_worker_that_is_stopped_is_told_and_ended_by_its_time_limit() {
    let demo = Demo::new(&Place::sqlite());
    demo.write(
        "asynctask.yaml",
        "workers: { foo: { worker: once, timeout: 1h }, limited: { worker: once, timeout: 1s } }
kinds: { once: { command: [sleep, '600'], mode: once } }\n",
    );
    let mut master = demo.start_configured(&[]);
    master.expect("Starting; queue=limited");
    let slot = |queue: &str| status(&demo)["queues"][queue]["slots"][0].clone();
    let stop = |pid: i32, signal: Signal| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it is there");
    };
    let pid_of = |queue: &str| {
        until("the process is not there", || slot(queue)["state"] == "busy" && slot(queue)["pid"].is_u64());
        i32::try_from(slot(queue)["pid"].as_i64().expect("a pid")).expect("a pid")
    };
    demo.submit("foo", "1");
    let pid = pid_of("foo");
    assert_eq!(slot("foo").get("stopped"), None);
    stop(pid, Signal::SIGSTOP);
    master.expect(&format!("foo[1] (pid {pid}) was stopped by SIGSTOP"));
    assert_eq!((&slot("foo")["state"], &slot("foo")["stopped"]), (&"busy".into(), &true.into()));
    let table = demo.run(&["status"]).stdout;
    assert!(table.contains("busy, stopped"), "{table}");
    stop(pid, Signal::SIGCONT);
    master.expect(&format!("foo[1] (pid {pid}) goes on"));
    assert_eq!(slot("foo").get("stopped"), None);
    stop(pid, Signal::SIGSTOP);
    master.expect(&format!("foo[1] (pid {pid}) was stopped by SIGSTOP"));

    demo.submit("limited", "1");
    stop(pid_of("limited"), Signal::SIGSTOP);
    master.expect("limited[1] (pid");
    until("its time limit does not end it", || !demo.dead_letters("limited").is_empty());
    assert_eq!(demo.dead_letters("limited")[0]["reason"], "timeout");
    until("the place is not open again", || slot("limited")["state"] == "idle");
    assert_eq!(slot("limited").get("stopped"), None);
    // The other one does not hear the TERM of an interruption.
    told(&demo, &["stop", "--now"]);
    ends_with(master, 82);
}

#[test]
fn a_slot_says_what_it_is_at_before_and_after_a_worker() {
    let demo = Demo::new(&Place::sqlite());
    demo.write(
        "asynctask.yaml",
        "workers: { foo: demo_quiet_worker, slow: slow, broken: broken, once: once }
kinds:
  slow: { command: [sleep, '600'] }
  broken: { command: ['false'] }
  once: { command: [sleep, '600'], mode: once }
supervisor: { start_timeout: 5m, restart: { first: 10m, longest: 10m } }\n",
    );
    let mut master = demo.start_configured(&[]);
    master.expect("Starting; queue=foo");
    let slot = |queue: &str| status(&demo)["queues"][queue]["slots"][0].clone();
    until("the broken one does not wait", || slot("broken")["state"] == "waiting");
    let broken = slot("broken");
    assert_eq!(
        (&broken["pid"], &broken["rss_bytes"], &broken["uptime_seconds"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&broken["restarts"], &broken["last_exit"]), (&1.into(), &"exit status 1: before it was ready".into()));
    let starting = slot("slow");
    assert_eq!(
        (&starting["state"], &starting["task"], &starting["last_exit"]),
        (&"starting".into(), &Value::Null, &Value::Null)
    );
    assert!(starting["pid"].is_u64() && starting["rss_bytes"].is_u64() && starting["uptime_seconds"].is_f64());
    // A place for one process a task is open, and nobody is there.
    assert_eq!((&slot("once")["state"], &slot("once")["pid"]), (&"idle".into(), &Value::Null));
    let id = demo.submit("once", "1");
    until("the process is not there", || slot("once")["state"] == "busy" && slot("once")["pid"].is_u64());
    assert_eq!(slot("once")["task"]["id"], id.as_str());
    told(&demo, &["cancel", &id]);
    until("the place is not open again", || slot("once")["state"] == "idle");
    assert!(slot("once")["last_exit"].as_str().is_some_and(|exit| exit.ends_with("a person cancelled a task of it")));
    assert_eq!(demo.dead_letters("once")[0]["reason"], "cancelled");
    told(&demo, &["stop", "--now"]);
    ends_with(master, 0);
}

#[test]
fn a_signal_writes_the_status_to_the_log() {
    let demo = Demo::new(&Place::sqlite());
    let settings =
        "workers: { foo: { worker: demo_sleep_worker, processes: 2, timeout: 300ms }, bar: demo_quiet_worker }\n";
    let mut master = started(&demo, settings);
    demo.submit("foo", r#"{"then":"hang"}"#);
    until("the task is no dead letter", || demo.dead_letters("foo").len() == 1);
    let id = demo.submit("bar", "1");
    until("the task is not done", || status(&demo)["queues"]["bar"]["done"] == 1);
    super::until_slots(&demo, "idle", 2);
    master.signal(Signal::SIGUSR1);
    master.expect("2 queues, 3/3 workers, 0 tasks in hand, 0 parked, 1 restart");
    master
        .expect("queue foo (demo_sleep_worker): running, 0 tasks in workers' hands, 0 delivered and not begun, 0 done");
    let first = master.expect("foo[1] (pid ");
    let second = master.expect("foo[2] (pid ");
    let failed = if first.contains("1 failed") { first } else { second };
    assert!(failed.contains(": idle, 0 done, 1 failed, 1 restart; last exit: "), "{failed}");
    assert!(failed.contains("SIGKILL") && failed.ends_with("ran into its time limit"), "{failed}");
    master
        .expect("queue bar (demo_quiet_worker): running, 0 tasks in workers' hands, 0 delivered and not begun, 1 done");
    master.expect(": idle, 1 done, 0 failed, 0 restarts");
    told(&demo, &["stop"]);
    let log = ends_with(master, 0);
    assert!(!log.contains(&format!("task {id} for")), "{log}");
}

#[test]
fn status_is_watched_until_nobody_reads_it() {
    use std::io::{BufRead, BufReader};
    let demo = Demo::new(&Place::sqlite());
    let master = started(&demo, "workers: { foo: demo_quiet_worker }\n");
    let mut command = demo.command(&["status", "--watch", "--json"]);
    let mut watching = command.stdout(std::process::Stdio::piped()).spawn().expect("the demo starts");
    let mut lines = BufReader::new(watching.stdout.take().expect("it is piped")).lines();
    for _ in 0..2 {
        let line = lines.next().expect("a line each second").expect("text");
        let told: Value = serde_json::from_str(&line).expect("an object a line");
        assert_eq!(told["queues"]["foo"]["state"], "running");
    }
    drop(lines);
    assert_eq!(watching.wait().expect("it is our child").code(), Some(0));
    told(&demo, &["stop"]);
    ends_with(master, 0);
    assert_eq!(demo.run(&["status", "--watch"]).code, 3, "nobody to watch");
}

#[test]
fn health_waits_and_tells_by_its_exit_code() {
    on_each_in_turn(|demo| {
        demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker, bar: demo_quiet_worker }\n");
        let ran = demo.run(&["health"]);
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        failed_with(&ran, "no master answers");
        assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
        assert_eq!(demo.run(&["status"]).code, 3);
        assert_eq!(demo.run(&["control", "pause", "foo"]).code, 3);
        let crash = "workers: { foo: { worker: demo_sleep_worker, breaker: { failures: 1, pause: 10m } }, bar: demo_quiet_worker }\n";
        demo.write("asynctask.yaml", crash);
        let mut master = std::thread::scope(|scope| {
            // Before the master is there.
            let waiting = scope.spawn(|| demo.run(&["health", "--wait", "50s"]));
            let master = demo.start_configured(&[]);
            let ran = waiting.join().expect("no panic");
            assert_eq!((ran.stdout.as_str(), ran.code), ("healthy\n", 0), "{}", ran.stderr);
            master
        });
        assert_eq!(demo.json(&["health", "--json"])["healthy"], true);
        // Without a time it has one of its own, and what follows is no time.
        assert_eq!(demo.json(&["health", "--wait", "--json"])["healthy"], true);
        assert_eq!(demo.run(&["health", "--wait"]).code, 0);
        assert_eq!(demo.run(&["health", "--wait=soon"]).code, 64);
        demo.submit("foo", r#"{"then":"abort"}"#);
        master.expect("Queue foo is parked");
        let watch = Stopwatch::start();
        let ran = demo.run(&["health", "--wait", "2s"]);
        let why = "queue foo is parked: too many of its tasks crashed or timed out in a row; it is tried again in ";
        assert!(ran.code == 1 && ran.stdout.starts_with(why), "{}{}", ran.stdout, ran.stderr);
        assert!(watch.elapsed().as_secs() >= 1, "it did not wait");
        assert_eq!(status(demo)["queues"]["foo"]["state"], "parked");
        assert_eq!(told(demo, &["unpark", "foo"]), "worked again\n");
        let ran = demo.run(&["health", "--wait", "50s"]);
        assert_eq!(ran.code, 0, "{}", ran.stdout);
        demo.submit("foo", LONG);
        until("the task is not in hand", || slots(demo)[0]["state"] == "busy");
        assert_eq!(demo.run(&["health"]).code, 0);
        told(demo, &["stop", "--now"]);
        ends_with(master, 82);
    });
}

#[test]
fn a_master_without_a_file_has_no_socket() {
    let demo = Demo::new(&Place::sqlite());
    let mut master = demo.start(r#"{"foo": "demo_quiet_worker"}"#, &[]);
    master.expect("Starting; queue=foo");
    let ran = demo.run(&["status"]);
    assert_eq!(ran.code, 3);
    failed_with(&ran, "there is no control socket");
    assert!(ran.stderr.contains("hint: ") && !demo.files().iter().any(|name| name.contains("asynctask.sock")));
}
