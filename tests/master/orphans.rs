//! What a task's process leaves running: killed with it where it was killed or died, left alone where it ended in order, and
//! ended or named by the next master where this one was killed.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::support::{Demo, Place, log::until};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Value, json};

/// A worker in Python that speaks frames; a task's `run` is executed in it.
const WORKER: &str = r#"
import ctypes, json, os, signal, socket, subprocess, sys, threading, time
for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(name, signal.SIG_IGN)
def say(frame, **fields):
    master.sendall(json.dumps({frame: fields}).encode() + b"\n")
def wrote(text):
    with open("pid.new", "w") as file: file.write(text)
    os.rename("pid.new", "pid")
def daemon():
    "Forks twice; what stays has a session of its own and no parent."
    told, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(tell, b"x")
            time.sleep(1000)
        os._exit(0)
    os.wait(); os.read(told, 1)
def chain(links):
    "Forks again and again, each time with another number, and stays at last."
    if os.fork() == 0:
        for _ in range(links):
            os.setsid() if os.getsid(0) != os.getpid() else None
            if os.fork() != 0: os._exit(0)
            time.sleep(.002)
        wrote(str(os.getpid()))
        time.sleep(1000)
        os._exit(0)
def headless():
    "Leaves a process of its own session whose first thread has ended and whose second has not."
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            threading.Thread(target=time.sleep, args=(1000,)).start()
            wrote(str(os.getpid()))
            # exit(2): of the calling thread alone.
            ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
        os._exit(0)
    os.wait()
    def is_headless():
        try:
            with open("pid") as file: pid = file.read()
            with open(f"/proc/{pid}/stat") as file: return file.read().rsplit(") ")[1][0] == "Z"
        except OSError: return False
    while not is_headless(): time.sleep(.005)
def others(done):
    "Processes of this file, in this demo, but for this one."
    def is_one(pid):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/cmdline", "rb") as command:
                return f"DEMO_FILE={done}\0".encode() in environ.read() and b"worker.py" in command.read()
        except OSError:
            return False
    return sum(is_one(pid) for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid())
if "ASYNCTASK_TASK_ID" in os.environ:
    exec(json.load(sys.stdin)["run"])
    sys.exit()
master = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
os.set_inheritable(master.fileno(), False)
say("ready", protocol=1, name="PYTHON")
for line in master.makefile("rb"):
    (frame, fields), *_ = json.loads(line).items()
    if frame == "task":
        exec(fields["payload"]["run"])
        say("done", id=fields["id"])
    elif frame == "ping": say("pong", n=fields["n"])
    elif frame == "halt":
        say("bye"); break
"#;

/// Starts a process in a session of its own, whose number is then in the file `pid`.
const APART: &str = "cat > /dev/null; setsid sh -c 'echo $$ > new; mv new pid; exec sleep 1000' &";
/// The same of a process that has forgotten everything.
const BARE: &str = "cat > /dev/null; setsid env -i /bin/sh -c 'echo $$ > new; mv new pid; exec sleep 1000' &";
/// The same of one that has only a group of its own.
const GROUP: &str = "cat > /dev/null; set -m; sh -c 'echo $$ > new; mv new pid; exec sleep 1000' &";
/// The same of one that stays where it is.
const NEAR: &str = "cat > /dev/null; sh -c 'echo $$ > new; mv new pid; exec sleep 1000' &";

/// Until it has begun.
const BEGUN: &str = "until test -e pid; do sleep 0.02; done; echo begun;";

/// A demo whose kind is a shell script (`once`) or the worker above (`frames`).
fn demo(place: &Place, queue: &str, mode: &str, script: &str) -> Demo {
    let demo = Demo::new(place);
    demo.write("worker.py", WORKER);
    demo.write("work.sh", script);
    let kind = match mode {
        "once" => "{ command: [bash, work.sh], mode: once }",
        _ => "{ command: [python3, worker.py] }",
    };
    demo.write("asynctask.yaml", &format!("workers: {{ foo: {{ worker: k, {queue} }} }}\nkinds: {{ k: {kind} }}\n"));
    demo
}

/// The number that the task wrote.
fn written(demo: &Demo) -> i32 {
    let path = demo.folder.path().join("pid");
    until("no process has told its number", || path.exists());
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Dead, or dead and not yet reaped by whoever inherited it.
fn is_gone(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        // The 20th is the number of threads: others may run on without the first.
        fields[0].starts_with(['Z', 'X']) && fields[17].parse::<u32>().unwrap() <= 1
    })
}

fn end(pid: i32) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
}

fn letter(demo: &Demo, id: &str) -> Value {
    demo.json(&["failed", "show", "foo", id, "--json"])
}

#[test]
fn a_task_that_is_told_to_be_killed_at_its_limit_has_nothing_running() {
    for place in Place::all() {
        for script in [APART, BARE, GROUP, NEAR] {
            let demo = demo(&place, "timeout: 1500ms", "once", &format!("{script} {BEGUN} sleep 1000"));
            let id = demo.submit("foo", "{}");
            let mut master = demo.start_configured(&[]);
            master.expect("begun");
            let pid = written(&demo);
            assert!(!is_gone(pid), "{script}");
            let line = master.expect("is to be dead-lettered");
            assert!(is_gone(pid), "{script}: told to be killed, and runs: {line}");
            assert!(line.contains("time limit") && !line.contains("left running"), "{line}");
            master.expect("dead-lettered to");
            let letter = letter(&demo, &id);
            assert_eq!((&letter["reason"], &letter["detail"]), (&json!("timeout"), &json!("")), "{letter}");
            master.signal(Signal::SIGTERM);
            assert_eq!(master.wait().0, 0);
            demo.nobody_is_left();
        }
    }
}

#[test]
fn what_a_crashed_worker_has_started_is_gone_before_its_task_begins_again() {
    for place in Place::all() {
        for (mode, what) in
            [("frames", "daemon()"), ("frames", "chain(50)"), ("once", "daemon()"), ("once", "chain(50)")]
        {
            let demo = demo(&place, "retry: { max_attempts: 2, first: 0s }", "frames", "");
            if mode == "once" {
                let text = "kinds: { k: { command: [python3, worker.py], mode: once } }\n";
                demo.write("once.yaml", text);
            }
            let run =
                format!("print('beside', others('{}'), flush=True)\n{what}\nos.abort()", demo.done_file().display());
            demo.submit("foo", &json!({ "run": run }).to_string());
            let mut options = vec!["--halt-when-empty", "-c", "asynctask.yaml"];
            if mode == "once" {
                options.extend(["-c", "once.yaml"]);
            }
            let mut master = demo.start_configured(&options);
            for _ in 0..2 {
                assert_eq!(master.expect("beside "), "beside 0", "{mode} {what}");
            }
            master.expect("dead-lettered to");
            assert_eq!(master.wait().0, 0);
            demo.nobody_is_left();
        }
    }
}

/// Such a process looks like one that has ended: by its state, and as its environment cannot be read by its own number.
#[test]
fn a_process_whose_first_thread_has_ended_is_gone_too() {
    for mode in ["frames", "once"] {
        let demo = demo(&Place::sqlite(), "retry: { max_attempts: 1 }", "frames", "");
        if mode == "once" {
            demo.write("asynctask.yaml", "workers: { foo: { worker: k, retry: { max_attempts: 1 } } }\nkinds: { k: { command: [python3, worker.py], mode: once } }\n");
        }
        demo.submit("foo", &json!({ "run": "headless()\nos.abort()" }).to_string());
        let mut master = demo.start_configured(&["--halt-when-empty"]);
        let line = master.expect("is to be dead-lettered");
        assert!(line.contains("SIGABRT"), "{mode}: {line}");
        let pid = written(&demo);
        let is_gone = is_gone(pid);
        end(pid);
        assert!(is_gone, "{mode}: its task is dead-lettered, and it runs");
        assert_eq!(master.wait().0, 0);
        demo.nobody_is_left();
    }
}

#[test]
fn a_cancelled_task_has_nothing_running() {
    for (mode, run) in
        [("once", ""), ("frames", "subprocess.Popen(['bash', 'work.sh'], stdin=subprocess.DEVNULL).wait()")]
    {
        let demo = demo(&Place::sqlite(), "processes: 1", mode, &format!("{APART} {BEGUN} sleep 1000"));
        let id = demo.submit("foo", &json!({ "run": run }).to_string());
        let mut master = demo.start_configured(&[]);
        master.expect("begun");
        let pid = written(&demo);
        assert_eq!(demo.run(&["control", "cancel", &id]).code, 0);
        master.expect("is to be dead-lettered");
        assert!(is_gone(pid), "{mode}");
        master.expect("dead-lettered to");
        assert_eq!(letter(&demo, &id)["reason"], "cancelled");
        master.signal(Signal::SIGTERM);
        assert_eq!(master.wait().0, 0);
        demo.nobody_is_left();
    }
}

#[test]
fn what_a_stop_interrupts_has_nothing_running() {
    for place in Place::all() {
        let demo = demo(&place, "processes: 1", "once", &format!("trap '' TERM; {APART} {BEGUN} sleep 1000"));
        demo.submit("foo", "{}");
        let mut master = demo.start_configured(&["--set", "supervisor.grace=100ms"]);
        master.expect("begun");
        let pid = written(&demo);
        master.signal(Signal::SIGTERM);
        master.expect("back in its queue");
        assert!(is_gone(pid));
        assert_eq!(master.wait().0, 82);
        demo.nobody_is_left();
        assert_eq!(demo.depth("foo")["ready"], 1);
    }
}

/// The key belongs to the task until all is gone.
#[test]
fn the_next_task_with_a_key_begins_when_nothing_runs_of_the_one_before() {
    let script = format!(
        "test -e pid && {{ kill -0 $(cat pid) 2>/dev/null && echo beside; exit 0; }}; {APART} {BEGUN} sleep 1000"
    );
    let demo = demo(&Place::sqlite(), "unique: one, processes: 2, timeout: 500ms", "once", &script);
    demo.submit_all("foo", (0..6).map(|n| n.to_string()));
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert!(run.stdout.contains("begun") && !run.stdout.contains("beside"), "{}", run.stdout);
    assert_eq!(run.stdout.matches("Processing complete").count(), 5, "{}", run.stdout);
    demo.nobody_is_left();
}

#[test]
fn a_daemon_that_was_started_in_order_lives_on() {
    let start = format!("{APART} {BEGUN}");
    for (mode, run) in [("once", ""), ("frames", "subprocess.run(['bash', 'work.sh'], stdin=subprocess.DEVNULL)")] {
        let demo = demo(&Place::sqlite(), "processes: 1", mode, &start);
        demo.submit("foo", &json!({ "run": run }).to_string());
        let ran = demo.run(&["workers", "--halt-when-empty"]);
        assert!(ran.stdout.contains("Processing complete"), "{}", ran.stdout);
        let pid = written(&demo);
        assert!(!is_gone(pid), "{mode}");
        // Nor does the next master touch it, but it says that it is there.
        let ran = demo.run(&["workers", "--halt-when-empty"]);
        let line = ran
            .stdout
            .lines()
            .find(|line| line.contains(&format!("pid {pid} (sleep with 1 argument) is left of foo[1]")));
        assert!(line.is_some_and(|line| line.contains("is left running")), "{}", ran.stdout);
        assert!(!is_gone(pid), "{mode}");
        end(pid);
    }
}

#[test]
fn the_next_master_ends_what_a_killed_one_left() {
    for place in Place::all() {
        let script =
            format!("{NEAR} {BEGUN} setsid sh -c 'echo $$ > new; mv new apart; exec sleep 1000' & {BEGUN} wait");
        let demo = demo(&place, "processes: 1", "once", &script);
        demo.submit("foo", "{}");
        let mut master = demo.start_configured(&[]);
        master.expect("begun");
        let near = written(&demo);
        let path = demo.folder.path().join("apart");
        until("no second process", || path.exists());
        let apart: i32 = std::fs::read_to_string(path).unwrap().trim().parse().unwrap();
        // One that works the same beside it touches nothing; nor does one that works something else after its end.
        demo.write("none.yaml", "workers: { bar: k }\nkinds: { k: { command: [cat], mode: once } }\n");
        let beside =
            demo.run(&["workers", "--halt-when-empty", "-c", "none.yaml", "--set", "control.socket=none.sock"]);
        assert_eq!(beside.code, 0, "{}", beside.stderr);
        let pid = master.pid();
        master.signal(Signal::SIGKILL);
        assert_eq!(master.wait().0, -9);
        let other = Demo::new(&Place::sqlite());
        let other = other.workers(r#"{"foo": "demo_quiet_worker"}"#, &["--halt-when-empty"]);
        assert!(!is_gone(near) && !is_gone(apart), "{}", other.stdout);
        assert!(!beside.stdout.contains("is left of") && !other.stdout.contains("is left of"), "{}", other.stdout);

        let next = demo.run(&["workers", "--halt-when-empty", "-c", "none.yaml"]);
        let of = |pid: i32| format!("pid {pid} (sleep with 1 argument) is left of foo[1], of the master ");
        let line = |pid: i32| next.stdout.lines().find(|line| line.contains(&of(pid))).unwrap_or_default();
        assert!(line(near).ends_with(&format!("{pid} that is no more: ended")), "{}", next.stdout);
        assert!(line(apart).contains("has left its worker's process group and is left running"), "{}", next.stdout);
        assert!(is_gone(near) && !is_gone(apart));
        end(apart);
        demo.nobody_is_left();
    }
}

/// A folder where another user runs the demonstration program, and root's program that nobody else may kill.
fn of_nobody(place: &Place, kind: &str) -> Option<Demo> {
    if !nix::unistd::geteuid().is_root() {
        crate::support::left_out("only root can make a program that another user's master may not kill");
        return None;
    }
    let demo = Demo::new(place);
    let folder = demo.folder.path();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let (program, helper) = (folder.join("program"), folder.join("helper"));
    std::fs::copy(crate::support::demo::demo_program(), &program).unwrap();
    let found = Command::new("sh").args(["-c", "command -v setpriv"]).output().unwrap();
    std::fs::copy(String::from_utf8(found.stdout).unwrap().trim(), &helper).unwrap();
    mode(folder, 0o777);
    mode(&program, 0o755);
    mode(&helper, 0o4755);
    demo.write(
        "asynctask.yaml",
        &format!("workers: {{ foo: {{ worker: k, timeout: 1500ms }} }}\nkinds: {{ k: {{ mode: once, no_new_privs: false, {kind} }} }}\n"),
    );
    demo.write("work.sh", "./helper --reuid=0 --regid=0 --clear-groups sh -c 'echo $$ > new; mv new pid; exec sleep 1000' & until test -e pid; do sleep 0.02; done; echo begun; wait\n");
    Some(demo)
}

fn as_nobody(demo: &Demo, options: &[&str]) -> crate::support::log::Master {
    let own = demo.command_of(&demo.folder.path().join("program"), &["workers"]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(own.get_program()).args(own.get_args());
    command.args(options).current_dir(demo.folder.path()).env("LOG_LEVEL", "DEBUG").env("DEMO_FILE", demo.done_file());
    let master = demo.follow(command);
    // Whoever comes first makes the file, and it has to be the master's.
    until("the master makes no file", || demo.folder.path().join("tasks.db").exists());
    master
}

#[test]
fn what_cannot_be_ended_is_named() {
    let Some(demo) = of_nobody(&Place::sqlite(), "command: [bash, work.sh]") else { return };
    let mut master = as_nobody(&demo, &[]);
    let id = demo.submit("foo", "{}");
    master.expect("begun");
    let pid = written(&demo);
    let line = master.expect("left running");
    let named = format!("pid {pid} (sleep with 1 argument): it cannot be killed: Operation not permitted");
    assert!(line.contains(&named), "{line}");
    master.expect("dead-lettered to");
    let letter = letter(&demo, &id);
    assert_eq!(letter["reason"], "timeout");
    assert!(letter["detail"].as_str().unwrap().contains(&format!("left running: {named}")), "{letter}");
    let left = &demo.json(&["status", "--json"])["left_running"];
    assert_eq!((&left[0]["pid"], &left[0]["slot"]), (&json!(pid), &json!("foo[1]")), "{left}");
    end(pid);
    until("it is shown although it is gone", || demo.json(&["status", "--json"])["left_running"] == json!([]));
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}

#[test]
fn a_stop_that_has_to_leave_a_process_ends_with_82() {
    let kind = "command: [./helper, --reuid=0, --regid=0, --clear-groups, sh, -c, 'echo $$ > new; mv new pid; exec sleep 1000']";
    let Some(demo) = of_nobody(&Place::sqlite(), kind) else { return };
    let mut master = as_nobody(&demo, &["--set", "supervisor.grace=100ms", "--set", "workers.foo.timeout=1h"]);
    demo.submit("foo", "{}");
    let pid = written(&demo);
    master.signal(Signal::SIGTERM);
    master.expect(&format!("left running: pid {pid} of foo[1]"));
    let (code, log) = master.wait();
    assert_eq!(code, 82, "{log}");
    assert!(log.contains("is back in its queue, no attempt used"), "{log}");
    assert!(!is_gone(pid));
    end(pid);
    assert_eq!(demo.depth("foo")["ready"], 1);
}
