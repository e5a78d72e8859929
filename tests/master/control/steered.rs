//! What a master can be told.

use super::{LONG, ends_with, on_each_in_turn, refused, slots, started, status, told, until_slots};
use crate::support::{Demo, Place, log::until};

const SETTINGS: &str = "workers: { foo: demo_sleep_worker, bar: demo_sleep_worker }\n";

#[test]
fn a_paused_queue_takes_nothing_until_it_is_resumed() {
    on_each_in_turn(|demo| {
        let mut master = started(demo, SETTINGS);
        told(demo, &["pause", "foo"]);
        let line = master.expect("pause foo");
        assert!(line.contains("uid ") && line.contains("pid "), "who asked is not told: {line}");
        refused(demo, &["pause", "foo"], "paused already");
        refused(demo, &["resume", "bar"], "not paused");
        refused(demo, &["pause", "elsewhere"], "not a queue of this master");
        demo.submit("foo", r#"{"n":1}"#);
        demo.submit("bar", r#"{"n":2}"#);
        until("the other queue is not worked", || demo.done() == [r#"{"n":2}"#]);
        until("the task does not wait", || status(demo)["queues"]["foo"]["ready"] == 1);
        assert_eq!(status(demo)["queues"]["foo"]["state"], "paused");
        told(demo, &["resume", "foo"]);
        until("the task is not done", || demo.done().len() == 2);
        told(demo, &["stop"]);
        ends_with(master, 0);
    });
}

#[test]
fn a_queue_gets_as_many_processes_as_it_is_told() {
    on_each_in_turn(|demo| {
        let master = started(demo, SETTINGS);
        assert_eq!(told(demo, &["scale", "foo", "3"]), "1 process before, 3 now\n");
        until_slots(demo, "idle", 3);
        demo.submit_all("foo", [LONG.to_owned(), LONG.to_owned(), LONG.to_owned()]);
        until_slots(demo, "busy", 3);
        // What is in hand is finished, or in this case cancelled.
        told(demo, &["scale", "foo", "1"]);
        let stopping = |wanted: &str| slots(demo).iter().filter(|slot| slot["state"] == wanted).count();
        assert_eq!((stopping("stopping"), stopping("busy")), (2, 1));
        for slot in slots(demo) {
            told(demo, &["cancel", slot["task"]["id"].as_str().expect("it is busy")]);
        }
        until_slots(demo, "idle", 1);
        refused(demo, &["scale", "foo", "0"], "1 to 10000");
        refused(demo, &["scale", "foo", "10001"], "1 to 10000");
        until("the tasks are no dead letters", || demo.dead_letters("foo").len() == 3);
        assert!(demo.dead_letters("foo").iter().all(|letter| letter["reason"] == "cancelled"));
        told(demo, &["stop"]);
        ends_with(master, 0);
        assert!(demo.is_empty("foo"));
    });
}

#[test]
fn the_log_level_changes_at_once() {
    on_each_in_turn(|demo| {
        let master = started(demo, SETTINGS);
        told(demo, &["log-level", "error"]);
        refused(demo, &["log-level", "loud"], "\"loud\" is not a level");
        demo.submit("foo", r#"{"n":1}"#);
        until("the task is not done", || demo.done().len() == 1);
        told(demo, &["log-level", "debug"]);
        demo.submit("foo", r#"{"n":2}"#);
        until("the task is not done", || demo.done().len() == 2);
        told(demo, &["stop"]);
        let log = ends_with(master, 0);
        assert!(!log.contains(r#"Got payload: {"n":1}"#) && log.contains(r#"Got payload: {"n":2}"#), "{log}");
    });
}

/// Kinds that log themselves, in each way there is. Each tells the level that it was started with, too.
const LOGGING: &str = r#"
kinds:
  py: { command: [python3, logging_worker.py], env: { PYTHONPATH: "PYTHON" } }
  js: { command: [node, logging_worker.mjs], env: { NODE_WORKER: "NODE/worker.mjs" } }
  sh: { command: [sh, -c, 'echo "once at $ASYNCTASK_LOG_LEVEL"'], mode: once }
workers: { foo: demo_logging_worker, py: py, js: js, sh: sh }
"#;
const PYTHON: &str = "
import os
from asynctask_worker import run, worker

@worker('py')
def work(payload, task):
    task.log('INFO', f'py info {payload}')
    task.log('DEBUG', f'py debug {payload}')
    print(f'py was started at', os.environ['ASYNCTASK_LOG_LEVEL'])

run()
";
const NODE: &str = "
const { serve } = await import(process.env.NODE_WORKER);
serve('js', async (payload, task) => {
  task.log('INFO', `js info ${payload}`);
  task.log('DEBUG', `js debug ${payload}`);
  console.log(`js was started at ${process.env.ASYNCTASK_LOG_LEVEL}`);
});
";

/// Workers that run, and workers that are started later, log as a person said, in every language; back to where it was, too.
#[test]
fn the_log_level_reaches_workers_that_run_and_those_that_come() {
    let demo = Demo::new(&Place::sqlite());
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let (python, node) = (examples.join("python"), examples.join("node"));
    let mut settings =
        LOGGING.replace("\"PYTHON\"", &format!("{python:?}")).replace("NODE/", &format!("{}/", node.display()));
    let has_node = std::process::Command::new("node").arg("--version").output().is_ok();
    if !has_node {
        crate::support::left_out("node is not installed");
        settings = settings.replace("js: js, ", "");
    }
    demo.write("logging_worker.py", PYTHON);
    demo.write("logging_worker.mjs", NODE);
    demo.write("asynctask.yaml", &settings);
    let mut command = demo.command(&["workers"]);
    command.env("LOG_LEVEL", "INFO");
    let master = demo.follow(command);
    let kinds: &[&str] = if has_node { &["py", "js"] } else { &["py"] };
    let log = master.log();
    until("not all are ready", || {
        [&["foo"], kinds].concat().iter().all(|queue| log.text().contains(&format!("Starting; queue={queue}\n")))
    });
    let each = |payload: &str| {
        for queue in [&["foo", "sh"], kinds].concat() {
            demo.submit(queue, payload);
        }
        until("not all is done", || {
            let queues = status(&demo)["queues"].clone();
            let left = |queue: &str| {
                queues[queue]["ready"].as_u64().unwrap_or(1) + queues[queue]["in_hand"].as_u64().unwrap_or(1)
            };
            [&["foo", "sh"], kinds].concat().into_iter().all(|queue| left(queue) == 0)
        });
    };
    let mut seen = 0;
    // How many lines of which text came since the last look.
    let mut told_since = |texts: &[(String, usize)]| {
        let text = log.text()[seen..].to_owned();
        for (line, times) in texts {
            assert_eq!(text.matches(line.as_str()).count(), *times, "{line} in:\n{text}");
        }
        seen += text.len();
    };
    let expected = |payload: u32, info: usize, debug: usize, once: &str, started: &str| {
        let mut texts = vec![
            (format!("INFO:LoggingWorker:Logging Worker received: {payload}"), info),
            (format!("once at {once}"), 1),
        ];
        for kind in kinds {
            texts.push((format!("INFO:{kind}:{kind} info {payload}"), info));
            texts.push((format!("DEBUG:{kind}:{kind} debug {payload}"), debug));
            texts.push((format!("{kind} was started at {started}"), 1));
        }
        texts
    };
    each("1");
    told_since(&expected(1, 1, 0, "INFO", "INFO"));
    for (payload, level, info, debug) in [(2, "debug", 1, 1), (3, "error", 0, 0), (4, "info", 1, 0)] {
        told(&demo, &["log-level", level]);
        each(&payload.to_string());
        told_since(&expected(payload, info, debug, &level.to_uppercase(), "INFO"));
    }
    // A worker that comes later has it from its beginning, and a reload does not take it back.
    told(&demo, &["log-level", "debug"]);
    told(&demo, &["reload", "--wait"]);
    let pids = || -> Vec<(String, serde_json::Value)> {
        let queues = status(&demo)["queues"].clone();
        let idle = |queue: &&str| queues[*queue]["slots"][0]["state"] == "idle" && queues[*queue]["slots"][1].is_null();
        let queues = &queues;
        let of = |queue: &str| (queue.to_owned(), queues[queue]["slots"][0]["pid"].clone());
        [&["foo"], kinds].concat().into_iter().filter(idle).map(of).collect()
    };
    let before = pids();
    told(&demo, &["restart"]);
    until("not all are renewed", || {
        let now = pids();
        now.len() == before.len() && now.iter().all(|one| !before.contains(one))
    });
    told_since(&[]);
    each("5");
    told_since(&expected(5, 1, 1, "DEBUG", "DEBUG"));
    told(&demo, &["stop"]);
    ends_with(master, 0);
}

#[test]
fn a_stopping_master_is_told_nothing_else() {
    on_each_in_turn(|demo| {
        let mut master = started(demo, SETTINGS);
        demo.submit("foo", LONG);
        until_slots(demo, "busy", 1);
        told(demo, &["stop"]);
        master.expect("Termination received; shutting down children");
        assert_eq!(status(demo)["state"], "stopping");
        assert_eq!(demo.run(&["health"]).code, 1);
        refused(demo, &["scale", "foo", "2"], "the master is stopping");
        told(demo, &["stop", "--now"]);
        ends_with(master, 82);
        assert_eq!(demo.depth("foo")["ready"], 1);
    });
}
