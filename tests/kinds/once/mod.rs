//! Kinds with `mode: once`: a program of any language, one process a task, judged by its exit status.

mod memory;

use crate::support::{Demo, Place, demo::Ran, in_order};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A demo with a configuration file and these scripts beside it.
fn demo(place: &Place, queue: &str, kind: &str, scripts: &[(&str, &str)]) -> Demo {
    let demo = Demo::new(place);
    for (name, text) in scripts {
        std::fs::write(demo.folder.path().join(name), text).unwrap();
    }
    let yaml = format!("workers:\n  foo: {{ worker: once, {queue} }}\nkinds:\n  once: {{ mode: once, {kind} }}\n");
    std::fs::write(demo.folder.path().join("asynctask.yaml"), yaml).unwrap();
    demo
}

fn sh(place: &Place, queue: &str, script: &str) -> Demo {
    demo(place, queue, "command: [sh, work.sh]", &[("work.sh", script)])
}

/// Submits a JSON task and drains the queue.
fn drained(demo: &Demo, payloads: &[&str]) -> Ran {
    for payload in payloads {
        demo.submit("foo", payload);
    }
    demo.run(&["workers", "--halt-when-empty"])
}

fn letter(demo: &Demo) -> Value {
    let dead = demo.dead_letters("foo");
    assert_eq!(dead.len(), 1, "{dead:?}");
    demo.json(&["failed", "show", "foo", dead[0]["id"].as_str().unwrap(), "--json"])
}

#[test]
fn the_transcript_reads_as_with_other_kinds() {
    for place in Place::all() {
        let demo = sh(&place, "processes: 1", "printf 'SH processed: '; cat; echo");
        let run = drained(&demo, &[r#"{"foo":1}"#, r#"{"foo":2}"#]);
        in_order(
            &run,
            &[
                "INFO:AsyncTaskWorkerTask:Launching once to work on queue foo",
                "INFO:once:Starting; queue=foo",
                r#"DEBUG:once:Got payload: {"foo":1}"#,
                r#"SH processed: {"foo":1}"#,
                "DEBUG:once:Processing complete",
                r#"DEBUG:once:Got payload: {"foo":2}"#,
                r#"SH processed: {"foo":2}"#,
                "DEBUG:once:Processing complete",
                "INFO:once:No tasks found in queue",
                "INFO:once:Terminating",
                "INFO:AsyncTaskWorkerTask:All workers halted; closing down...",
                "INFO:AsyncTaskWorkerTask:Complete",
            ],
        );
        assert_eq!(run.code, 0);
        for once in ["Launching", "Starting", "Terminating"] {
            assert_eq!(run.stdout.matches(once).count(), 1, "{}", run.stdout);
        }
        assert!(demo.is_empty("foo"));
    }
}

#[test]
fn the_payload_comes_unchanged_and_the_environment_says_whose_it_is() {
    let script = r#"
import os, sys
body = sys.stdin.buffer.read()
print(body, *(os.environ["ASYNCTASK_" + name] for name in ("QUEUE", "TASK_ID", "ATTEMPT", "MAX_ATTEMPTS", "SLOT")))
print("ASYNCTASK_FD" in os.environ, os.environ["GREETING"])
"#;
    let kind = "command: [python3, work.py], env: { GREETING: hello }";
    let demo = demo(&Place::sqlite(), "processes: 1", kind, &[("work.py", script)]);
    let id = demo.submit("foo", "{ \"a\" : 1 }");
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert!(run.stdout.contains(&format!("b'{{ \"a\" : 1 }}' foo {id} 1 1 foo[1]\n")), "{}", run.stdout);
    assert!(run.stdout.contains("False hello\n"), "{}", run.stdout);
}

#[test]
fn packed_bodies_are_unpacked_for_json_and_told_of_for_bytes() {
    use asynctask::payload::Packing;
    let Some(place) = Place::amqp() else { return };
    let script = r#"
import gzip, os, sys
body = sys.stdin.buffer.read()
print("GOT", gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body, os.environ.get("ASYNCTASK_CONTENT_ENCODING"))
"#;
    for (accepts, seen) in [
        ("json", ["b'{\"a\":  1}' None", "b'{\"a\":2}' None", "b'[3]' None"]),
        ("bytes", ["b'{\"a\":\\n 1}' gzip", "b'{\"a\":2}' utf-8", "b'[3]' None"]),
    ] {
        let kind = format!("command: [python3, work.py], accepts: {accepts}");
        let demo = demo(&place, "processes: 1", &kind, &[("work.py", script)]);
        // The queue is there once it was worked.
        assert_eq!(demo.run(&["workers", "--halt-when-empty"]).code, 0);
        let foreign = crate::support::foreign::Foreign::connect(&demo.uri);
        let said = |word: &'static str| lapin::BasicProperties::default().with_content_encoding(word.into());
        foreign.publish("foo", said("gzip"), &Packing::Gzip.pack(b"{\"a\":\n 1}"));
        foreign.publish("foo", said("utf-8"), b"{\"a\":2}");
        foreign.publish("foo", lapin::BasicProperties::default(), b"[3]");
        // That of another master, whose task this one is, is not theirs.
        let mut command = demo.command(&["workers", "--halt-when-empty"]);
        let output = command.env("ASYNCTASK_CONTENT_ENCODING", "x").output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let got: Vec<&str> = stdout.lines().filter_map(|line| line.strip_prefix("GOT ")).collect();
        assert_eq!(got, seen, "{accepts}: {stdout}");
    }
}

#[test]
fn a_kind_that_accepts_json_gets_nothing_else() {
    let kind = "command: [cat], accepts: json";
    let demo = demo(&Place::sqlite(), "processes: 1", kind, &[]);
    // A producer that encodes twice.
    let run = drained(&demo, &[r#""{\"a\":1}""#]);
    in_order(&run, &[r#"DEBUG:once:Got payload: {"a":1}"#, r#"{"a":1}"#]);
}

#[test]
fn the_exit_status_decides() {
    for (script, reason, error) in [
        ("echo before; echo 'no such file' >&2; echo; exit 1", "error", "no such file"),
        ("exit 3", "error", "exit status 3"),
        ("echo never; exit 65", "failed", "never"),
        ("kill -9 $$", "crash", "the worker died: killed by SIGKILL"),
    ] {
        let demo = sh(&Place::sqlite(), "processes: 1", script);
        let run = drained(&demo, &["{}"]);
        let letter = letter(&demo);
        assert_eq!((&letter["reason"], &letter["error"]), (&json!(reason), &json!(error)), "{}", run.stdout);
        assert_eq!((&letter["attempts"], &letter["kind"]), (&json!(1), &json!("once")));
        assert!(letter["exit"].is_object() && letter["pid"].is_u64(), "{letter}");
        assert_eq!(run.code, 0);
    }
}

#[test]
fn status_75_is_tried_again_while_attempts_are_left() {
    let script = "test \"$ASYNCTASK_ATTEMPT\" = 2 || { echo busy; exit 75; }; echo second of $ASYNCTASK_MAX_ATTEMPTS";
    let demo = sh(&Place::sqlite(), "retry: { max_attempts: 3, first: 100ms }", script);
    let run = drained(&demo, &["{}"]);
    in_order(&run, &["busy", "DEBUG:once:Retry asked for: busy", "second of 3", "DEBUG:once:Processing complete"]);
    assert!(demo.is_empty("foo") && demo.dead_letters("foo").is_empty());
    // None left.
    let demo = sh(&Place::sqlite(), "processes: 1", "echo busy; exit 75");
    drained(&demo, &["{}"]);
    assert_eq!(letter(&demo)["error"], "busy");
}

#[test]
fn at_its_time_limit_the_whole_group_is_killed() {
    let script = "sleep 1000 & echo child $!; wait";
    let demo = sh(&Place::sqlite(), "timeout: 300ms", script);
    let run = drained(&demo, &["{}"]);
    let letter = letter(&demo);
    assert_eq!(letter["reason"], "timeout", "{}", run.stdout);
    assert!(is_gone(child(&run.stdout)));
}

#[test]
fn what_a_process_leaves_behind_is_killed_and_holds_nobody_up() {
    let demo = sh(&Place::sqlite(), "processes: 1", "sleep 1000 & echo child $!");
    let run = drained(&demo, &["{}"]);
    in_order(&run, &["DEBUG:once:Processing complete", "INFO:AsyncTaskWorkerTask:Complete"]);
    assert!(is_gone(child(&run.stdout)));
}

fn child(stdout: &str) -> u32 {
    stdout.lines().find_map(|line| line.strip_prefix("child ")).expect("the script says it").parse().unwrap()
}

/// Dead, or dead and not yet reaped by whoever inherited it.
fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])))
}

#[test]
fn slots_are_places_for_processes_at_once() {
    // Each waits until the other one has begun.
    let script = "mkfifo fifo 2>/dev/null; if mkdir first 2>/dev/null; then echo a > fifo; else cat fifo; fi";
    let demo = sh(&Place::sqlite(), "processes: 2, timeout: 30s", script);
    let run = drained(&demo, &["{}", "{}"]);
    assert_eq!(run.stdout.matches("Processing complete").count(), 2, "{}", run.stdout);
    assert_eq!(run.stdout.matches("Launching").count(), 1, "{}", run.stdout);
    assert_eq!(run.stdout.matches("Starting; queue=foo").count(), 2, "{}", run.stdout);
}

#[test]
fn a_stop_waits_for_the_process() {
    let demo = sh(&Place::sqlite(), "processes: 1", "mkfifo fifo; echo begun; cat fifo");
    demo.submit("foo", "{}");
    let mut master = demo.start_configured(&[]);
    master.expect("begun");
    master.signal(Signal::SIGTERM);
    master.expect("shutting down children");
    std::fs::write(demo.folder.path().join("fifo"), "end\n").unwrap();
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("Processing complete") && log.contains("Terminating"), "{log}");
    assert!(demo.is_empty("foo"));
}

#[test]
fn an_interrupted_process_may_clean_up_and_its_task_is_back() {
    let script = "trap 'echo cleaned; exit 1' TERM; sleep 1000 & echo begun; wait";
    let demo = sh(&Place::sqlite(), "processes: 1", script);
    demo.submit("foo", "{}");
    let mut master = demo.start_configured(&[]);
    master.expect("begun");
    master.signal(Signal::SIGTERM);
    master.expect("shutting down children");
    master.signal(Signal::SIGTERM);
    master.expect("cleaned");
    let (code, log) = master.wait();
    assert_eq!(code, 82, "{log}");
    let depth = demo.depth("foo");
    assert_eq!((&depth["ready"], &depth["failed"]), (&json!(1), &json!(0)), "{log}");
}

#[test]
fn a_program_that_cannot_be_started_ends_a_halt_mode_run_and_loses_nothing() {
    let demo = demo(&Place::sqlite(), "processes: 1", "command: [no-such-program-at-all]", &[]);
    let run = drained(&demo, &["{}"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stderr.contains("worker kind once for queue foo could not be started"), "{}", run.stderr);
    let depth = demo.depth("foo");
    assert_eq!((&depth["ready"], &depth["failed"]), (&json!(1), &json!(0)), "{}", run.stdout);
}

/// A program that the kernel refuses has done no task: all of them wait as they were.
#[test]
fn a_file_that_is_no_program_does_no_task() {
    for (mode, text) in [("once", ""), ("frames", ""), ("once", "exit 0\n")] {
        for place in Place::all() {
            let demo = demo(&place, "processes: 1", "command: [./job]", &[("job", text)]);
            let folder = demo.folder.path();
            std::fs::set_permissions(folder.join("job"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let yaml = std::fs::read_to_string(folder.join("asynctask.yaml")).unwrap();
            let yaml = yaml.replace("mode: once", &format!("mode: {mode}"));
            std::fs::write(folder.join("asynctask.yaml"), yaml).unwrap();
            let run = drained(&demo, &["1", "2", "3"]);
            assert_eq!(run.code, 1, "{}", run.stdout);
            let why = if text.is_empty() { "it is empty" } else { "it is a text" };
            assert!(run.stdout.contains(&format!("{}/job: {why}", folder.display())), "{}", run.stdout);
            let depth = demo.depth("foo");
            assert_eq!((&depth["ready"], &depth["failed"]), (&json!(3), &json!(0)), "{}", run.stdout);
        }
    }
}

/// The same behind `env`, a shell and their like, who say it by their exit status.
#[test]
fn what_a_wrapper_cannot_execute_does_no_task() {
    for (command, said) in [
        ("[env, no-such-program-at-all]", "a program was not found (exit status 127): env:"),
        ("[sh, -c, 'exec /opt/none/bin/php']", "a program was not found (exit status 127): "),
        ("[sh, -c, 'exec /etc/passwd']", "a program could not be executed (exit status 126): "),
    ] {
        for place in Place::all() {
            let demo = demo(&place, "processes: 1", &format!("command: {command}"), &[]);
            let run = drained(&demo, &["1", "2", "3", "4"]);
            assert_eq!(run.code, 1, "{}", run.stdout);
            assert!(run.stdout.contains(&format!("foo[1] could not be started: {said}")), "{}", run.stdout);
            assert!(run.stderr.contains("worker kind once for queue foo could not be started"), "{}", run.stderr);
            // Those that were tried wait for a second.
            let depth = demo.depth("foo");
            let left = ["ready", "delayed"].map(|state| depth[state].as_u64().expect("a count")).iter().sum::<u64>();
            assert_eq!((left, &depth["failed"]), (4, &json!(0)), "{}", run.stdout);
        }
    }
}

#[test]
fn the_last_exit_of_a_place_reads_as_what_its_task_came_to() {
    let demo = sh(&Place::sqlite(), "processes: 1", "exit $(cat)");
    let mut master = demo.start_configured(&[]);
    master.expect("Starting; queue=foo");
    let slot = || demo.json(&["status", "--json"])["queues"]["foo"]["slots"][0].clone();
    for (status, words) in [
        ("0", "done (exit status 0)".to_owned()),
        ("3", "exit status 3: task ID failed".to_owned()),
        ("65", "exit status 65: task ID cannot be done".to_owned()),
    ] {
        let before = slot()["last_exit"].clone();
        let id = demo.submit("foo", status);
        crate::support::log::until("no process has ended", || slot()["last_exit"] != before);
        assert_eq!(slot()["last_exit"], words.replace("ID", &id));
        let shown = demo.run(&["status"]).stdout;
        assert!(shown.contains(&words.replace("ID", &id)) && !shown.contains("in hand "), "{shown}");
    }
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}

#[test]
fn a_program_that_cannot_be_started_is_said_to_be_so_by_run() {
    let demo = Demo::new(&Place::sqlite());
    demo.write(
        "asynctask.yaml",
        "workers: { a: absent, b: unfound }\nkinds:\n  absent: { command: [/no/such], mode: once }\n  unfound: { command: [sh,          -c, exec /no/such], mode: once }\n",
    );
    for kind in ["absent", "unfound"] {
        let run = demo.run(&["run", kind, "{}"]);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(&format!("error: worker kind {kind} could not be started\nhint: ")), "{run:?}");
        assert!(!run.stdout.contains("interrupted") && !run.stdout.contains("snooze:"), "{run:?}");
    }
}

#[test]
fn one_payload_is_run_without_a_queue() {
    let demo = sh(&Place::sqlite(), "processes: 1", "cat; echo; test \"$ASYNCTASK_MAX_ATTEMPTS\" = 1");
    let run = |payload| {
        let mut command = demo.command(&["run", "once", payload]);
        let output = command.env_remove("LOG_LEVEL").output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    assert_eq!(run("not JSON"), ("not JSON\ndone\n".to_owned(), Some(0)));
    let demo = sh(&Place::sqlite(), "processes: 1", "echo no; exit 65");
    let output = demo.command(&["run", "once", "--json"]).env_remove("LOG_LEVEL").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["outcome"], &last["error"], output.status.code()), (&json!("failed"), &json!("no"), Some(1)));
}
