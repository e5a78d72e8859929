//! Files that may not grow: a limit of file size (`ulimit -f`), which needs no root.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::{
    Demo, Place,
    demo::Ran,
    log::{Master, until},
};

const SAID: &str = "the limit of file size (ulimit -f, LimitFSIZE=) is reached";
/// In blocks of 512 bytes.
const BLOCKS: u32 = 400;

/// Each of its tasks fails with an error that is as long as a page has room for several times.
const FAILING: &str = r#"
import json, os, socket
frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
say = lambda frame: frames.sendall(json.dumps(frame).encode() + b"\n")
say({"ready": {"protocol": 1}})
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "ping" in frame:
        say({"pong": frame["ping"]})
    elif "task" in frame:
        with open("begun", "a") as begun:
            begun.write(frame["task"]["id"] + "\n")
        say({"error": {"id": frame["task"]["id"], "error": "no", "detail": "d" * 30000}})
    elif "halt" in frame:
        say({"bye": {}})
        break
"#;

/// The same command under a limit of file size.
fn limited(command: &Command) -> Command {
    let mut limited = Command::new("sh");
    let script = format!("ulimit -S -f {BLOCKS}; exec \"$0\" \"$@\"");
    limited.args(["-c", &script]).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    limited
}

/// What `prlimit --fsize=unlimited` does to a process that runs.
fn raise_limit(master: &Master) {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    let pid = i32::try_from(master.pid()).expect("a pid");
    // SAFETY: the new limit is read, and the old one is not asked for.
    let result = unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &raw const unlimited, std::ptr::null_mut()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn ran(command: &Command) -> Ran {
    let output = limited(command).output().expect("there is a shell");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap_or(-1) }
}

#[test]
fn what_is_written_in_all_may_be_more_than_a_file_may_have() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit_all("foo", (0..300).map(|n| format!(r#"{{"n":{n}}}"#)));
    let ran = ran(&demo.master(r#"{"foo": "demo_sleep_worker"}"#, &["--halt-when-empty"]));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stdout.contains(SAID), "{}", ran.stdout);
    assert_eq!(demo.done().len(), 300);
}

#[test]
fn a_file_that_may_not_grow_holds_up_what_must_be_stored_and_loses_nothing() {
    const TASKS: usize = 12;
    let demo = Demo::new(&Place::sqlite());
    demo.write("failing.py", FAILING);
    demo.write("asynctask.yaml", "kinds: { failing: { command: [python3, failing.py] } }\n");
    demo.submit_all("foo", (0..TASKS).map(|n| format!(r#"{{"n":{n}}}"#)));
    let mut master: Master = demo.follow(limited(&demo.master(r#"{"foo": "failing"}"#, &[])));
    let line = master.expect(SAID);
    assert!(line.contains("tasks.db: ") && line.contains("kept and tried again"), "{line}");
    let health = demo.run(&["health"]);
    assert!(health.code == 1 && [&*health.stdout, &*health.stderr].concat().contains(SAID), "{health:?}");
    let large = format!("\"{}\"", "x".repeat(100_000));
    let submit = ran(&demo.command(&["submit", "foo", &large]));
    assert!(submit.code == 69 && submit.stderr.contains(SAID), "{submit:?}");
    let before = demo.dead_letters("foo").len();
    assert!((1..TASKS).contains(&before), "{before}");
    raise_limit(&master);
    master.expect("works again");
    until("not all ends are stored", || demo.dead_letters("foo").len() == TASKS && demo.is_empty("foo"));
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    assert_eq!((log.matches(SAID).count(), log.matches("works again").count()), (1, 1), "{log}");
    // What had ended was kept, and not done again.
    let begun = std::fs::read_to_string(demo.folder.path().join("begun")).expect("it was made");
    assert_eq!(begun.lines().count(), TASKS, "{begun}");
    demo.nobody_is_left();
}
