//! Whoever reads the log does not hold up the work: a reader that stops (`| less`), one that goes away (`| head`), a
//! log that was never wanted.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    time::Duration,
};

use crate::support::{
    Demo, Place,
    log::{Stopwatch, until},
    on_each_in_turn,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The pipe holds 64 KiB and the log's queue 1 MiB; a line of `Got payload` has about as much as this.
const PAYLOAD: usize = 4 * 1024;
const TASKS: usize = 600;

fn start(demo: &Demo, workers: &str) -> Child {
    let mut command = demo.master(workers, &["--socket", "none"]);
    command.stdout(Stdio::piped()).spawn().expect("the demo starts")
}

fn submit(demo: &Demo) {
    let fill = "x".repeat(PAYLOAD);
    demo.submit_all("foo", (0..TASKS).map(|number| format!(r#"{{"n":{number},"fill":"{fill}"}}"#)));
}

fn stop(master: &Child) {
    kill(Pid::from_raw(i32::try_from(master.id()).expect("a pid")), Signal::SIGTERM).expect("it lives");
}

#[test]
fn a_reader_that_stops_reading_does_not_stop_the_work() {
    on_each_in_turn(|demo| {
        let mut master = start(demo, r#"{"foo": "demo_file_worker"}"#);
        let mut log = BufReader::new(master.stdout.take().expect("it is piped"));
        let mut line = String::new();
        log.read_line(&mut line).expect("a line");
        // And no more, as `less` on its first page.
        submit(demo);
        until("the tasks are not done", || demo.done().len() == TASKS);
        // The end waits 2 s for the reader, who takes the rest now or never.
        stop(&master);
        let mut rest = String::new();
        log.read_to_string(&mut rest).expect("text");
        assert_eq!(master.wait().expect("it is our child").code(), Some(0));
        let got = rest.matches("Got payload").count();
        assert!((10..TASKS).contains(&got), "{got} of {TASKS} lines: the log was never full, or is lost");
        assert!(rest.contains(" lines dropped"), "what was left out is not told");
        demo.nobody_is_left();
    });
}

#[test]
fn a_reader_that_never_reads_again_does_not_keep_the_master_from_ending() {
    let demo = Demo::new(&Place::sqlite());
    let mut master = start(&demo, r#"{"foo": "demo_file_worker"}"#);
    submit(&demo);
    until("the tasks are not done", || demo.done().len() == TASKS);
    stop(&master);
    let _unread = master.stdout.take();
    assert_eq!(master.wait().expect("it is our child").code(), Some(0));
    demo.nobody_is_left();
}

#[test]
fn a_closed_stdout_ends_the_log_and_not_the_work() {
    on_each_in_turn(|demo| {
        // The one says nothing; the other prints a line for each task.
        let mut master = start(demo, r#"{"foo": "demo_file_worker", "bar": "demo_foo_worker"}"#);
        let mut log = BufReader::new(master.stdout.take().expect("it is piped"));
        let mut line = String::new();
        log.read_line(&mut line).expect("a line");
        drop(log);
        let fill = "x".repeat(PAYLOAD);
        demo.submit_all("bar", (0..TASKS).map(|number| format!(r#"{{"n":{number},"fill":"{fill}"}}"#)));
        submit(demo);
        until("the tasks are not done", || demo.done().len() == TASKS);
        until("the talkative ones are not done", || demo.is_empty("bar"));
        assert!(demo.dead_letters("bar").is_empty() && demo.dead_letters("foo").is_empty());
        stop(&master);
        assert_eq!(master.wait().expect("it is our child").code(), Some(0));
        demo.nobody_is_left();
    });
}

/// Prints more than everything between it and a reader can hold. The file `begun` is there when it has begun.
const TALKER: &str = r#"
import os, socket
def talk():
    open("begun", "w").close()
    for _ in range(8 * 1024):
        print("t" * 1023, flush=True)
if "ASYNCTASK_FD" in os.environ:
    import json
    frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
    say = lambda frame: frames.sendall(json.dumps(frame).encode() + b"\n")
    say({"ready": {"protocol": 1}})
    for line in frames.makefile("rb"):
        frame = json.loads(line)
        if "task" in frame:
            talk()
            say({"done": {"id": frame["task"]["id"]}})
        elif "halt" in frame:
            say({"bye": {}})
            break
else:
    talk()
"#;

fn talker(mode: &str) -> Demo {
    let demo = Demo::new(&Place::sqlite());
    demo.write("talker.py", TALKER);
    demo.write("asynctask.yaml", &format!("kinds: {{ talker: {{ command: [python3, talker.py], mode: {mode} }} }}\n"));
    demo.submit("foo", "{}");
    demo
}

#[test]
fn a_stuck_log_does_not_hold_up_a_stop() {
    for mode in ["frames", "once"] {
        let demo = talker(mode);
        let mut command = demo.master(r#"{"foo": "talker"}"#, &["--socket", "none", "--set", "supervisor.grace=90s"]);
        let mut master = command.stdout(Stdio::piped()).spawn().expect("the demo starts");
        until("the task is not begun", || demo.folder.path().join("begun").exists());
        let watch = Stopwatch::start();
        stop(&master);
        let _unread = master.stdout.take();
        assert_eq!(master.wait().expect("it is our child").code(), Some(0), "{mode}");
        assert!(watch.elapsed() < Duration::from_secs(45), "{mode}: the stop took {:?}", watch.elapsed());
        assert!(demo.is_empty("foo") && demo.dead_letters("foo").is_empty(), "{mode}");
        demo.nobody_is_left();
    }
}

/// `2>&1`: what is said last goes into the same pipe.
#[test]
fn nor_does_it_hold_up_an_end_with_an_error() {
    let demo = talker("once");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let options = ["--socket", "none", "--halt-when-empty", "--halt-timeout", "2s", "--set", "supervisor.grace=90s"];
    let mut command = demo.master(r#"{"foo": "talker"}"#, &options);
    command.stderr(writer.try_clone().expect("a pipe")).stdout(writer);
    let master = command.spawn().expect("the demo starts");
    drop(command);
    let ended = RefCell::new(master);
    let status = || ended.borrow_mut().try_wait().expect("it is our child");
    until("it does not end", || status().is_some());
    assert_eq!(status().and_then(|status| status.code()), Some(81));
    demo.nobody_is_left();
    drop(reader);
}

/// A worker that says what its payload says, wherever there is a place for it.
const PARROT: &str = r#"
import json, os, socket
frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
say = lambda frame: frames.sendall(json.dumps(frame).encode() + b"\n")
say({"ready": {"protocol": 1, "name": "Parrot\u2028Worker"}})
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "task" in frame:
        task, text = frame["task"], frame["task"]["payload"]["text"]
        say({"log": {"level": "info", "message": text}})
        say({"progress": {"id": task["id"], "percent": 1, "note": text}})
        say({text: {}})
        say({task["payload"]["outcome"]: {"id": task["id"], "error": text, "detail": text}})
    elif "halt" in frame:
        say({"bye": {}})
        break
"#;

#[test]
fn nobody_forges_a_line_of_the_log_or_of_a_list() {
    const FORGED: &str = "AsyncTaskWorkerTask:forged";
    let ends = ["\n", "\r", "\u{85}", "\u{2028}", "\u{2029}", "\u{b}", "\n\u{200b}"];
    let lines: String = ends.map(|end| format!("{end}ERROR:{FORGED}")).concat();
    let text = format!("x{lines}\u{1b}[31m\u{202e}\u{7f} amqp://u:hunter2/@b@h/v");
    on_each_in_turn(|demo| {
        demo.write("parrot.py", PARROT);
        demo.write("asynctask.yaml", "kinds: { parrot: { command: [python3, parrot.py] } }\n");
        for outcome in ["error", "retry", "failed", "malformed"] {
            demo.submit("foo", &serde_json::json!({ "text": text, "outcome": outcome }).to_string());
        }
        let mut shown = Vec::new();
        let workers = r#"{"foo": {"worker": "parrot", "retry": {"max_attempts": 2, "first": "100ms"}}}"#;
        let format = if demo.uri.starts_with("sqlite") { "full" } else { "plain" };
        let ran = demo.workers(workers, &["--halt-when-empty", "--log-format", format]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("amqp://u:***@h/v"), "{}", ran.stdout);
        assert!(ran.stdout.contains(FORGED) && ran.stdout.contains("ParrotWorker"), "{}", ran.stdout);
        shown.push(ran.stdout);
        for letter in demo.dead_letters("foo") {
            let id = letter["id"].as_str().expect("text");
            shown.push(demo.run(&["failed", "show", "foo", id]).stdout);
        }
        assert_eq!(shown.len(), 5);
        shown.push(demo.run(&["failed", "list", "foo"]).stdout);
        let payload = serde_json::json!({ "text": text, "outcome": "error" }).to_string();
        shown.push(demo.run(&["run", "parrot", &payload]).stdout);
        shown.push(demo.run(&["submit", &text, "1"]).stderr);
        for text in shown {
            let breaks = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}', '\u{b}'];
            let forged = text
                .split(breaks)
                .find(|line| line.trim_start_matches('\u{200b}').starts_with(&format!("ERROR:{FORGED}")));
            assert_eq!(forged, None, "{text}");
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{7f}', '\u{2028}', '\r']), "{text:?}");
            // A payload is shown as it is to whoever asks for it.
            let told = text.lines().filter(|line| !line.starts_with("payload: ")).collect::<String>();
            assert!(!told.contains("hunter2"), "{text}");
        }
    });
}

/// A pipe holds 64 KiB: the rest of such a line is written while the master reads.
#[test]
fn a_line_that_is_larger_than_the_pipe_goes_through() {
    const LINES: usize = 40;
    on_each_in_turn(|demo| {
        let fill = "y".repeat(300_000);
        demo.submit_all("foo", (0..LINES).map(|_| format!("\"{fill}\"")));
        let ran = demo.run(&[
            "workers",
            "--halt-when-empty",
            "--set",
            r#"workers={"foo": {"worker": "demo_foo_worker", "timeout": "20s"}}"#,
        ]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let shown = ran.stdout.matches(" … (line cut at 64 KiB)").count();
        assert_eq!((ran.stdout.matches("FOO processed: ").count(), shown), (LINES, LINES));
    });
}
