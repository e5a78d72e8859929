//! Under a service manager: what is told to its socket and when, priorities for its journal, and the unit file.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::MetadataExt,
            net::{UnixDatagram, UnixStream},
        },
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{
    Demo, Place,
    demo::demo_program,
    http::Site,
    log::{Master, until},
    notify::NotifySocket,
};
use nix::sys::signal::Signal;

fn under(demo: &Demo, hearing: &NotifySocket, watchdog: Option<(&str, u32)>) -> Command {
    let mut command = demo.command(&["workers"]);
    command.env("NOTIFY_SOCKET", &hearing.name).env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    if let Some((microseconds, pid)) = watchdog {
        command.env("WATCHDOG_USEC", microseconds).env("WATCHDOG_PID", pid.to_string());
    }
    command
}

fn stopped(master: Master) -> String {
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    log
}

/// Is ready when somebody wrote into the pipe beside it.
const LATE: &str = r#"
import json, os, socket
open("go").read()
frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
frames.sendall(b'{"ready": {"protocol": 1}}\n')
for line in frames.makefile("rb"):
    if "halt" in json.loads(line):
        frames.sendall(b'{"bye": {}}\n')
        break
"#;

fn late(demo: &Demo) {
    demo.write("late.py", LATE);
    nix::unistd::mkfifo(&demo.folder.path().join("go"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let settings = "workers: { foo: late, bar: demo_quiet_worker }\nkinds: { late: { command: [python3, late.py] } }\n\
                    supervisor: { start_timeout: 1m }\n";
    demo.write("asynctask.yaml", settings);
}

#[test]
fn a_life_is_told_as_it_is() {
    for abstractly in [false, true] {
        let demo = Demo::new(&Place::sqlite());
        let hearing =
            if abstractly { NotifySocket::in_the_abstract() } else { NotifySocket::in_folder(demo.folder.path()) };
        late(&demo);
        let mut master = demo.follow(under(&demo, &hearing, None));
        master.expect("Starting; queue=bar");
        // One queue is ready, the other is not.
        assert!(hearing.rest().iter().all(|told| told.starts_with("STATUS=2 queues, ")), "too early");
        fs::write(demo.folder.path().join("go"), "go\n").expect("the worker reads");
        let (ready, before) = hearing.until("READY=1");
        assert!(before.iter().all(|told| told.starts_with("STATUS=")), "{before:?}");
        assert_eq!(ready.lines().next(), Some("READY=1"));
        assert!(ready.contains("\nSTATUS=2 queues, 2/2 workers"), "{ready}");
        stopped(master);
        let rest = hearing.rest();
        let first = &rest[0];
        assert!(first.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=20000000\nSTATUS=draining: "), "{rest:?}");
        assert_eq!(rest.iter().filter(|told| told.contains("STOPPING=1")).count(), 1, "{rest:?}");
        // Nobody asked for a watchdog, and ready is one once.
        assert!(!rest.iter().any(|told| told.contains("WATCHDOG") || told.contains("READY")), "{rest:?}");
    }
}

#[test]
fn a_long_end_asks_for_more_time() {
    let demo = Demo::new(&Place::sqlite());
    let hearing = NotifySocket::in_folder(demo.folder.path());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
    let mut master = demo.follow(under(&demo, &hearing, None));
    hearing.until("READY=1");
    demo.submit("foo", r#"{"sleep_ms":7000}"#);
    master.expect("Got payload");
    master.signal(Signal::SIGTERM);
    let (told, _) = hearing.until("STOPPING=1");
    assert!(told.contains("1 task in hand"), "{told}");
    // Before the five seconds after which it is due once more the task has not ended.
    let (again, before) = hearing.until("EXTEND_TIMEOUT_USEC=20000000");
    assert!(!again.contains("STOPPING") && before.is_empty(), "{before:?} {again}");
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("Complete"), "{log}");
    assert_eq!(demo.done().len(), 1);
}

#[test]
fn the_broker_is_waited_for_by_one_that_is_ready() {
    let mut demo = Demo::new(&Place::sqlite());
    // Nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    demo.uri = format!("amqp://guest:guest@{nobody}");
    let hearing = NotifySocket::in_folder(demo.folder.path());
    demo.write("asynctask.yaml", "workers: { foo: demo_quiet_worker }\n");
    let master = demo.follow(under(&demo, &hearing, None));
    let (ready, _) = hearing.until("READY=1");
    assert!(ready.ends_with(", transport not connected"), "{ready}");
    stopped(master);
}

#[test]
fn the_watchdog_is_fed_by_whom_it_is_meant_for() {
    let demo = Demo::new(&Place::sqlite());
    let hearing = NotifySocket::in_folder(demo.folder.path());
    demo.write("asynctask.yaml", "workers: { foo: demo_quiet_worker }\n");
    // Of another process: systemd watches what it started itself.
    let master = demo.follow(under(&demo, &hearing, Some(("100000", std::process::id()))));
    hearing.until("READY=1");
    let told = hearing.next(Duration::from_secs(2));
    assert!(told.as_ref().is_none_or(|told| !told.contains("WATCHDOG")), "{told:?}");
    stopped(master);
    hearing.rest();

    // A shell takes the number of the master, which takes its place.
    let own = under(&demo, &hearing, None);
    let mut command = Command::new("sh");
    command.args(["-c", r#"WATCHDOG_PID=$$ WATCHDOG_USEC=200000 exec "$0" "$@""#]).arg(own.get_program());
    command.args(own.get_args()).current_dir(demo.folder.path()).stdin(Stdio::null());
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let master = demo.follow(command);
    hearing.until("READY=1");
    for _ in 0..5 {
        hearing.until("WATCHDOG=1");
    }
    stopped(master);
}

#[test]
fn a_manager_that_does_not_listen_holds_up_nobody() {
    let demo = Demo::new(&Place::sqlite());
    let hearing = NotifySocket::in_folder(demo.folder.path());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
    let shut = UnixDatagram::unbound().expect("a socket");
    shut.set_nonblocking(true).expect("a socket");
    // Until it takes no more.
    while shut.send_to(b"X_FULL=1", &hearing.name).is_ok() {}
    let mut master = demo.follow(under(&demo, &hearing, None));
    master.expect("Starting; queue=foo");
    demo.submit_all("foo", (0..20).map(|number| format!(r#"{{"n":{number}}}"#)));
    until("the tasks are not done", || demo.done().len() == 20);
    // What a manager waits for is not lost: it hears of it once it listens.
    let (ready, _) = hearing.until("READY=1");
    assert!(ready.contains("STATUS="), "{ready}");
    stopped(master);
    drop(hearing);

    // And one that is gone altogether is told about in the log.
    fs::remove_file(demo.folder.path().join("notify")).expect("it was there");
    let gone =
        NotifySocket { socket: shut, name: demo.folder.path().join("notify").to_str().expect("text").to_owned() };
    let mut master = demo.follow(under(&demo, &gone, None));
    master.expect("cannot tell the service manager anything");
    master.expect("Starting; queue=foo");
    stopped(master);
}

// The journal.

/// What `$JOURNAL_STREAM` says where this is the journal.
fn named(stream: impl AsFd) -> String {
    let file = File::from(stream.as_fd().try_clone_to_owned().expect("it is open"));
    let metadata = file.metadata().expect("it is open");
    format!("{}:{}", metadata.dev(), metadata.ino())
}

/// A master's run with this end of a pipe or socket as its stdout, and what came out at the other.
fn journalled(demo: &Demo, mut command: Command, stdout: OwnedFd, mut other: impl Read) -> String {
    demo.submit("foo", r#"{"then":"error"}"#);
    demo.submit("bar", "{}");
    let mut child = command.stdout(stdout).stderr(Stdio::inherit()).spawn().expect("the demo starts");
    // The command keeps its own copy of the writing end open.
    drop(command);
    let mut text = String::new();
    other.read_to_string(&mut text).expect("text");
    assert!(child.wait().expect("it is our child").success(), "{text}");
    text
}

#[test]
fn lines_for_the_journal_have_priorities() {
    let workers = "{foo: demo_sleep_worker, bar: demo_foo_worker}";
    for format in ["plain", "full"] {
        let demo = Demo::new(&Place::sqlite());
        let (reader, writer) = UnixStream::pair().expect("a socket");
        let mut command = demo.master(workers, &["--halt-when-empty", "--log-format", format]);
        command.env("JOURNAL_STREAM", named(&writer));
        let text = journalled(&demo, command, writer.into(), reader);
        let marked = |line: &str| ["<3>", "<4>", "<6>", "<7>"].iter().any(|mark| line.starts_with(mark));
        assert!(text.lines().all(marked), "{text}");
        let has = |mark: &str, what: &str| text.lines().any(|line| line.starts_with(mark) && line.contains(what));
        // A message of two lines, each with its priority.
        assert!(has("<3>", "An unhandled exception occurred") && has("<3>", "Oops!"), "{text}");
        assert!(
            has("<4>", "dead-lettered to foo_failed") && has("<7>", "Got payload") && has("<6>", "Complete"),
            "{text}"
        );
        assert!(has("<6>", "FOO processed"), "{text}");
    }
    let demo = Demo::new(&Place::sqlite());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = demo.master(workers, &["--halt-when-empty", "--log-format", "json"]);
    command.env("JOURNAL_STREAM", named(&writer));
    let text = journalled(&demo, command, writer.into(), reader);
    assert!(text.lines().all(|line| line.starts_with('{')), "{text}");
    // The variable was inherited, and stdout is something else.
    let demo = Demo::new(&Place::sqlite());
    let (_, elsewhere) = std::io::pipe().expect("a pipe");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = demo.master(workers, &["--halt-when-empty"]);
    command.env("JOURNAL_STREAM", named(&elsewhere));
    let text = journalled(&demo, command, writer.into(), reader);
    assert!(text.starts_with("INFO:AsyncTaskWorkerTask:Launching"), "{text}");
}

#[test]
fn an_error_on_stderr_is_one_in_the_journal() {
    let demo = Demo::new(&Place::sqlite());
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = demo.master("{foo: nobody}", &[]);
    command.env("JOURNAL_STREAM", named(&writer)).stdout(Stdio::null()).stderr(writer);
    let mut child = command.spawn().expect("the demo starts");
    drop(command);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert_eq!(child.wait().expect("it is our child").code(), Some(78), "{text}");
    assert!(text.starts_with("<3>error: ") && text.lines().all(|line| line.starts_with("<3>")), "{text}");
}

// Whoever reads the log.

#[test]
fn a_log_whose_reader_has_gone_does_not_stop_the_work() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = demo.command(&["workers"]);
    let mut child = command.stdout(writer).spawn().expect("the demo starts");
    drop(command);
    // As `head -c 1`.
    reader.read_exact(&mut [0]).expect("a line comes");
    drop(reader);
    demo.submit_all("foo", (0..20).map(|number| format!(r#"{{"n":{number}}}"#)));
    until("the tasks are not done", || demo.done().len() == 20);
    assert_eq!(demo.run(&["control", "stop"]).code, 0);
    assert_eq!(child.wait().expect("it is our child").code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_work() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\nmetrics: { listen: 127.0.0.1:0 }\n");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = demo.command(&["workers"]);
    let mut child = command.stdout(writer).spawn().expect("the demo starts");
    drop(command);
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line comes");
    let site = Site::told(line.trim_end());
    // More lines than the pipe and the queue before it hold: as in `| less`, where nobody scrolls.
    let padding = "x".repeat(60_000);
    demo.submit_all("foo", (0..60).map(|number| format!(r#"{{"n":{number},"padding":"{padding}"}}"#)));
    until("the tasks are not done", || demo.done().len() == 60);
    let status = demo.json(&["status", "--json"]);
    assert_eq!(status["queues"]["foo"]["done"], 60);
    assert!(site.numbers()["asynctask_log_lines_dropped_total"] > 0.0);
    assert_eq!(demo.run(&["control", "stop"]).code, 0);
    assert_eq!(child.wait().expect("it is our child").code(), Some(0));
    drop(reader);
}

// The unit file.

#[test]
fn the_unit_file_is_as_systemd_wants_it() {
    let there = Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no systemd-analyze (on Debian or Ubuntu: sudo apt-get install systemd)");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let text = include_str!("../../config/asynctask-workers@.service");
    // Everything it needs is there where it is installed; here the program is elsewhere.
    let text = text.replace("/usr/bin/asynctask ", &format!("{} ", demo_program().display()));
    let unit = folder.path().join("asynctask-workers@demo.service");
    File::create(&unit).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
    let ran = analyze(&["verify", "--man=no"], &unit);
    assert_eq!((ran.0, ran.1.as_str()), (true, ""));
    let (done, told) = analyze(&["security", "--offline=true", "--threshold=20"], &unit);
    println!("{}", told.lines().last().unwrap_or_default());
    assert!(done, "exposed more than 2.0: {told}");
}

fn analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output().expect("it is there");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
}
