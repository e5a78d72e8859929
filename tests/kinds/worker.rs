//! The real child process, driven over its socket as the master does.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::support::demo::demo_program;
use serde_json::{Value, json};

/// A test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Worker {
    child: Child,
    socket: BufReader<UnixStream>,
}

impl Worker {
    fn command(kind: &str) -> Command {
        let mut command = Command::new(demo_program());
        // The socket comes as standard input: a test has no safe way to place it on another number.
        command.args(["__worker", kind, "foo"]).env("ASYNCTASK_FD", "0").env("ASYNCTASK_LOG_LEVEL", "DEBUG");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(command: &mut Command) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = command.stdin(OwnedFd::from(theirs)).spawn().unwrap();
        // The command holds the other end until it is told otherwise, and so would hide the end of the stream.
        command.stdin(Stdio::null());
        Self { child, socket: BufReader::new(ours) }
    }

    /// Started, and ready.
    fn of(kind: &str, name: &str) -> Self {
        let mut worker = Self::start(&mut Self::command(kind));
        let ready = json!({"ready": {"protocol": 1, "name": name, "concurrency": 1, "ahead": 64}});
        assert_eq!(worker.frame(), Some(ready));
        worker
    }

    fn say(&mut self, frame: &Value) {
        self.socket.get_mut().write_all(format!("{frame}\n").as_bytes()).unwrap();
    }

    /// The next frame; `None` at the end of the stream.
    fn frame(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.socket.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no frame came: {error}"),
        }
    }

    fn task(&mut self, payload: &Value) -> Option<Value> {
        self.say(&json!({"task": {"id": "t1", "queue": "foo", "attempt": 1, "max_attempts": 1, "payload": payload}}));
        self.frame()
    }

    /// How it ended, and what it printed on stdout and stderr.
    fn end(self) -> (ExitStatus, String, String) {
        let Self { mut child, socket } = self;
        let (mut out, mut err) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = child.wait().unwrap();
        drop(socket);
        (status, out, err)
    }

    fn halt(mut self) -> (String, String) {
        self.say(&json!({"halt": {"reason": "stop"}}));
        assert_eq!(self.frame(), Some(json!({"bye": {}})));
        let (status, out, err) = self.end();
        assert_eq!(status.code(), Some(0), "{err}");
        (out, err)
    }
}

#[test]
fn tasks_are_done_one_after_the_other_until_a_halt() {
    let mut worker = Worker::of("demo_foo_worker", "FooWorker");
    for payload in [json!({"foo": 1}), json!(null), json!([1, "a b"])] {
        assert_eq!(worker.task(&payload), Some(json!({"done": {"id": "t1"}})));
    }
    let (out, err) = worker.halt();
    assert_eq!(out, "FOO processed: {\"foo\":1}\nFOO processed: null\nFOO processed: [1,\"a b\"]\n");
    assert_eq!(err, "");
}

#[test]
fn a_payload_keeps_its_own_spelling_but_for_white_space() {
    let mut worker = Worker::of("demo_foo_worker", "FooWorker");
    let payload = r#"{ "big" : 123456789012345678901.50, "e":1e400 , "s": "a \" b\\" , "u":"\u00e9" }"#;
    let frame = format!("{{\"task\":{{\"id\":\"t1\",\"queue\":\"foo\",\"payload\":{payload}}}}}\n");
    worker.socket.get_mut().write_all(frame.as_bytes()).unwrap();
    assert_eq!(worker.frame(), Some(json!({"done": {"id": "t1"}})));
    let expected = r#"{"big":123456789012345678901.50,"e":1e400,"s":"a \" b\\","u":"\u00e9"}"#;
    assert_eq!(worker.halt().0, format!("FOO processed: {expected}\n"));
}

#[test]
fn errors_and_panics_are_told_and_the_worker_goes_on() {
    let mut worker = Worker::of("demo_error_worker", "ErrorWorker");
    assert_eq!(worker.task(&json!({"error": true})), Some(json!({"error": {"id": "t1", "error": "Oops!"}})));
    assert_eq!(worker.task(&json!({"error": false})), Some(json!({"done": {"id": "t1"}})));
    assert_eq!(worker.halt().0, "ERROR processed: {\"error\":false}\n");

    let mut worker = Worker::of("demo_sleep_worker", "SleepWorker");
    let told = worker.task(&json!({"then": "panic"})).unwrap();
    assert_eq!(told["error"]["error"], "asked to");
    assert!(told["error"]["detail"].as_str().unwrap().starts_with("panicked at examples/demo.rs:"), "{told}");
    let told = worker.task(&json!({"then": "retry"}));
    assert_eq!(told, Some(json!({"retry": {"id": "t1", "delay_ms": 100}})));
    assert_eq!(worker.task(&json!({"then": "dead"})), Some(json!({"failed": {"id": "t1", "error": "asked to"}})));
    let (out, err) = worker.halt();
    assert_eq!(out, "");
    assert!(err.contains("asked to"), "the panic's own message goes to stderr: {err}");
}

#[test]
fn a_payload_of_the_wrong_shape_is_malformed() {
    let mut worker = Worker::of("ctl_executor", "CtlExecutorWorker");
    let told = worker.task(&json!({"order": "x"})).unwrap();
    assert!(told["malformed"]["error"].as_str().unwrap().contains("missing field `command`"), "{told}");
    worker.say(&json!({"task": {"id": "t2", "queue": "foo", "payload_base64": "AA=="}}));
    assert_eq!(worker.frame().unwrap()["malformed"]["id"], "t2");
    worker.halt();
}

#[test]
fn a_requeue_is_stored_with_done_and_logged_in_its_place() {
    let mut worker = Worker::of("requeue_worker", "RequeueWorker");
    let submit = json!([{"queue": "foo", "payload": {"foo": 2}}]);
    assert_eq!(worker.task(&json!({"foo": 1})), Some(json!({"done": {"id": "t1", "submit": submit}})));
    assert_eq!(worker.task(&json!({"foo": 2})), Some(json!({"done": {"id": "t1"}})));
    assert_eq!(
        worker.halt().0,
        "REQUEUE processed: {\"foo\":1}\nDEBUG:RequeueWorker:Requeued payload: {\"foo\":2}\nREQUEUE requeued\n\
         REQUEUE processed: {\"foo\":2}\n"
    );
}

#[test]
fn the_log_level_can_be_changed_while_it_runs() {
    let mut worker = Worker::of("demo_logging_worker", "LoggingWorker");
    worker.task(&json!({"n": 1}));
    worker.say(&json!({"log_level": {"level": "ERROR"}}));
    worker.task(&json!({"n": 2}));
    assert_eq!(worker.halt().0, "INFO:LoggingWorker:Logging Worker received: {\"n\":1}\n");
}

#[test]
fn an_exit_in_the_middle_of_a_task_is_the_end_of_the_stream_without_an_outcome() {
    for (then, code, signal) in
        [("exit", Some(0), None), ("abort", None, Some(libc::SIGABRT)), ("segfault", None, Some(libc::SIGSEGV))]
    {
        let mut worker = Worker::of("demo_sleep_worker", "SleepWorker");
        assert_eq!(worker.task(&json!({"then": then})), None);
        let (status, ..) = worker.end();
        assert_eq!((status.code(), std::os::unix::process::ExitStatusExt::signal(&status)), (code, signal), "{then}");
    }
    let mut worker = Worker::of("demo_fragile_worker", "FragileWorker");
    assert_eq!(worker.task(&json!({"die": true})), None);
    assert_eq!(worker.end().1, "FRAGILE DYING!\n");
}

#[test]
fn questions_are_answered_and_the_unknown_is_ignored() {
    let mut worker = Worker::of("demo_quiet_worker", "QuietWorker");
    worker.say(&json!({"ping": {"n": 7}}));
    assert_eq!(worker.frame(), Some(json!({"pong": {"n": 7}})));
    worker.say(&json!({"recall": {}}));
    assert_eq!(worker.frame(), Some(json!({"returned": {"ids": []}})));
    worker.say(&json!({"later": {"id": "t1"}}));
    worker.say(&json!({"ping": {"n": 8, "new": true}}));
    assert_eq!(worker.frame(), Some(json!({"pong": {"n": 8}})));
    assert_eq!(worker.halt().0, "DEBUG:QuietWorker:Unknown frame ignored: later\n");
}

#[test]
fn tasks_that_were_not_begun_are_given_back_while_another_one_runs() {
    let folder = tempfile::tempdir().unwrap();
    let held = folder.path().join("held");
    nix::unistd::mkfifo(&held, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Runs until the test opens the other end.
    let payload = json!({"command": "cat held"});
    let mut command = Worker::command("ctl_executor");
    let commands = json!([payload["command"]]).to_string();
    command.env("ASYNCTASK_CTL_COMMANDS", commands).env("ASYNCTASK_FOLDER", folder.path());
    let mut worker = Worker::start(&mut command);
    assert_eq!(worker.frame().unwrap()["ready"]["ahead"], 64);
    for id in ["a", "b"] {
        worker.say(&json!({"task": {"id": id, "queue": "foo", "payload": payload}}));
    }
    let mut log = String::new();
    BufReader::new(worker.child.stdout.as_mut().unwrap()).read_line(&mut log).unwrap();
    assert!(log.contains("Executing Task"), "{log}");
    for ids in [json!(["b"]), json!([])] {
        worker.say(&json!({"recall": {}}));
        assert_eq!(worker.frame(), Some(json!({"returned": {"ids": ids}})));
    }
    std::fs::write(held, "").unwrap();
    assert_eq!(worker.frame(), Some(json!({"done": {"id": "a"}})));
    worker.halt();
}

#[test]
fn the_thread_that_answers_recalls_takes_no_signal_and_programs_inherit_nothing_of_it() {
    let mut command = Worker::command("ctl_executor");
    let list = "sh -c 'ls -l /proc/$$/fd'";
    let mut worker = Worker::start(command.env("ASYNCTASK_CTL_COMMANDS", json!([list]).to_string()));
    assert_eq!(worker.frame().unwrap()["ready"]["ahead"], 64);
    assert_eq!(worker.task(&json!({"command": list})), Some(json!({"done": {"id": "t1"}})));
    let blocked = |thread: &std::path::Path| {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
        u64::from_str_radix(mask, 16).unwrap()
    };
    let threads = std::fs::read_dir(format!("/proc/{}/task", worker.child.id())).unwrap();
    for thread in threads.map(|thread| thread.unwrap().path()) {
        let is_ours = std::fs::read_to_string(thread.join("comm")).unwrap() == "recalls\n";
        for signal in [libc::SIGTERM, libc::SIGCHLD, libc::SIGUSR1, libc::SIGALRM] {
            assert_eq!(blocked(&thread) & (1 << (signal - 1)) != 0, is_ours, "{signal} in {}", thread.display());
        }
    }
    let (out, _) = worker.halt();
    assert!(out.contains("0 -> /dev/null"), "{out}");
    assert!(!out.contains("socket") && !out.contains("timer") && !out.contains("event"), "{out}");
}

#[test]
fn signals_that_ask_to_end_do_nothing() {
    use nix::sys::signal::{Signal, kill};
    let mut worker = Worker::of("demo_quiet_worker", "QuietWorker");
    let pid = nix::unistd::Pid::from_raw(worker.child.id().cast_signed());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        kill(pid, signal).unwrap();
        assert_eq!(worker.task(&json!({})), Some(json!({"done": {"id": "t1"}})));
    }
    worker.halt();
}

#[test]
fn it_ends_with_its_socket() {
    let worker = Worker::of("demo_quiet_worker", "QuietWorker");
    worker.socket.get_ref().shutdown(std::net::Shutdown::Both).unwrap();
    let (status, out, err) = worker.end();
    assert_eq!((status.code(), out.as_str(), err.as_str()), (Some(0), "", ""));
}

#[test]
fn a_line_that_is_no_frame_ends_it_with_the_reason() {
    let mut worker = Worker::of("demo_quiet_worker", "QuietWorker");
    worker.socket.get_mut().write_all(b"hello\n").unwrap();
    assert_eq!(worker.frame(), None);
    let (status, _, err) = worker.end();
    assert_eq!(status.code(), Some(70));
    assert!(err.starts_with("error: from the master: a frame does not parse: "), "{err}");
}

#[test]
fn what_cannot_start_says_why() {
    let mut worker = Worker::start(&mut Worker::command("no_such_worker"));
    assert_eq!(worker.frame(), None);
    let (status, _, err) = worker.end();
    assert_eq!((status.code(), err.as_str()), (Some(1), "error: demo has no worker kind \"no_such_worker\"\n"));

    let mut command = Worker::command("ctl_executor");
    let mut worker = Worker::start(command.env("ASYNCTASK_CTL_COMMANDS", "{}"));
    assert_eq!(worker.frame(), None);
    let (status, _, err) = worker.end();
    assert_eq!(status.code(), Some(1));
    assert!(err.starts_with("error: ctl_executor cannot start: ASYNCTASK_CTL_COMMANDS: "), "{err}");

    let output = Worker::command("demo_quiet_worker").env_remove("ASYNCTASK_FD").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn commands_run_only_if_a_schedule_has_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("script"), "#!/opt/none/bin/python\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path().join("script"), executable).unwrap();
    let commands = json!([
        "sh -c 'pwd; echo oops >&2'",
        "false",
        "sh -c 'kill -9 $$'",
        "no-such-program-here",
        "sh 'x",
        "env no-such-program-here",
        "sh -c 'exec /etc/passwd'",
        "./script",
    ]);
    let mut command = Worker::command("ctl_executor");
    command.env("ASYNCTASK_CTL_COMMANDS", commands.to_string()).env("ASYNCTASK_FOLDER", folder.path());
    let mut worker = Worker::start(&mut command);
    assert_eq!(worker.frame().unwrap()["ready"]["name"], "CtlExecutorWorker");

    assert_eq!(worker.task(&json!({"command": commands[0]})), Some(json!({"done": {"id": "t1"}})));
    for (command, error) in [
        (&commands[1], "Received unexpected exit code: expected 0; got 1"),
        (&commands[2], "The command was killed by SIGKILL"),
        (&commands[3], "cannot run \"no-such-program-here\": it was not found: No such file or directory (os error 2)"),
        (&commands[4], "not a command line: a ' is not closed"),
        (
            &commands[5],
            "Received unexpected exit code: expected 0; got 127: \"env\", or a program that it runs, was not found",
        ),
        (
            &commands[6],
            "Received unexpected exit code: expected 0; got 126: \"sh\", or a program that it runs, could not be executed",
        ),
        (&commands[7], "cannot run \"./script\": it could not be executed: No such file or directory (os error 2)"),
    ] {
        let told = worker.task(&json!({"command": command})).unwrap();
        assert_eq!(told["error"]["error"], error);
    }
    let told = worker.task(&json!({"command": "true"})).unwrap();
    assert!(told["failed"]["error"].as_str().unwrap().contains("no schedule"), "{told}");

    let (out, _) = worker.halt();
    let expected = format!(
        "INFO:CtlExecutorWorker:Executing Task: sh -c 'pwd; echo oops >&2'\nINFO:CtlExecutorWorker:{}\n\
         INFO:CtlExecutorWorker:oops\nINFO:CtlExecutorWorker:Executing Task: false\n\
         ERROR:CtlExecutorWorker:Failed execution\n",
        folder.path().canonicalize().unwrap().display()
    );
    assert!(out.starts_with(&expected), "{out}");
}

#[test]
fn what_was_done_is_seen_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("done");
    let mut worker = Worker::start(Worker::command("demo_file_worker").env("DEMO_FILE", &file));
    worker.frame();
    assert_eq!(worker.task(&json!({"n": 1})), Some(json!({"done": {"id": "t1"}})));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"n\":1}\n");
    worker.halt();

    let mut worker = Worker::start(Worker::command("demo_sleep_worker").env("DEMO_FILE", &file));
    worker.frame();
    assert_eq!(worker.task(&json!({"sleep_ms": 1})), Some(json!({"done": {"id": "t1"}})));
    assert_eq!(worker.task(&json!({"then": "error"})).unwrap()["error"]["error"], "Oops!");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"n\":1}\n{\"sleep_ms\":1}\n");
    worker.halt();
}

#[test]
fn an_idle_worker_is_small() {
    let worker = Worker::of("demo_quiet_worker", "QuietWorker");
    let pid = worker.child.id();
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap().display().to_string();
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    // Its own memory. What is mapped from the binary's file is shared by all workers, but for tables of addresses, which are as
    // large as the program is and have nothing to do with what a worker does.
    let (mut own, mut is_program) = (0, false);
    for line in smaps.lines() {
        match line.strip_prefix("Anonymous:") {
            Some(size) if !is_program => own += size.trim().trim_end_matches(" kB").parse::<u32>().unwrap(),
            // A mapping begins with its addresses; all else are its numbers.
            None if line.split(' ').next().is_some_and(|word| word.contains('-')) => {
                is_program = line.ends_with(&program);
            }
            Some(_) | None => {}
        }
    }
    assert!((1..256).contains(&own), "{own} kB: {smaps}");
    worker.halt();
}
