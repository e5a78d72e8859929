//! Starts that are slow, fail, or cannot be had: with real processes, and real limits of the system.

use std::{num::NonZero, path::Path, process::Stdio};

use crate::support::{
    Demo, Place,
    demo::demo_program,
    log::{Master, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A master after these words of a shell, with the socket by which it is asked.
fn after(shell: &str, demo: &Demo, workers: &str, options: &[&str]) -> Master {
    let script = format!("{shell}; exec \"$0\" \"$@\"");
    let program = demo_program().to_str().expect("a path of ours");
    let mut words = vec!["-c", &script, program, "workers", "--socket", "master.sock"];
    words.extend(options);
    let mut command = demo.command_of(Path::new("sh"), &words);
    command.arg("--set").arg(format!("asynctask_workers={workers}"));
    Master::follow(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("sh starts"))
}

fn slots(demo: &Demo, queue: &str) -> Vec<Value> {
    let status = demo.json(&["status", "--json", "--socket", "master.sock"]);
    status["queues"][queue]["slots"].as_array().expect("slots").clone()
}

fn in_state<'a>(slots: &'a [Value], state: &str) -> Vec<&'a Value> {
    slots.iter().filter(|slot| slot["state"] == state).collect()
}

fn ends_with(master: Master, demo: &Demo, code: i32) -> String {
    master.signal(Signal::SIGTERM);
    let (ended, log) = master.wait();
    assert_eq!(ended, code, "{log}");
    demo.nobody_is_left();
    log
}

/// Says how many start at this moment: each has a file from its first line to its ready frame.
const STARTER: &str = r#"
import os, runpy, sys, time
mine = "starting." + str(os.getpid())
open(mine, "w").close()
print("BESIDE", sum(name.startswith("starting.") for name in os.listdir(".")), flush=True)
until = time.process_time() + 0.1
while time.process_time() < until: pass
os.unlink(mine)
sys.argv = ["worker.py", "plain"]
runpy.run_path("worker.py", run_name="__main__")
"#;

fn starters(demo: &Demo) {
    demo.write_python_worker("plain");
    demo.write("starter.py", STARTER);
    demo.write("asynctask.yaml", "kinds: { slow: { command: [python3, starter.py] } }\n");
}

fn most_beside(log: &str) -> usize {
    let counts = log.lines().filter_map(|line| line.strip_prefix("BESIDE "));
    counts.map(|count| count.parse().expect("a number")).max().expect("workers were started")
}

fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).saturating_mul(2).max(4)
}

#[test]
fn many_slow_starters_come_up_a_few_at_a_time_whatever_queue_they_are_of() {
    let demo = Demo::new(&Place::sqlite());
    starters(&demo);
    let (many, few) = (2 * at_once(), at_once());
    let others: Vec<String> = (0..few).map(|n| format!(", o{n}: slow")).collect();
    let workers = format!("{{a: {{worker: slow, processes: {many}}}{}}}", others.concat());
    let mut master = after(":", &demo, &workers, &[]);
    for _ in 0..many + few {
        master.expect("Starting; queue=");
    }
    // The same at a scale, and when all are renewed at once.
    let scaled = (many + few).to_string();
    assert_eq!(demo.run(&["control", "scale", "a", &scaled, "--socket", "master.sock"]).code, 0);
    for _ in 0..few {
        master.expect("Starting; queue=a");
    }
    assert_eq!(demo.run(&["control", "restart", "--socket", "master.sock"]).code, 0);
    for _ in 0..many + few + few {
        master.expect("Starting; queue=");
    }
    let log = ends_with(master, &demo, 0);
    assert!(most_beside(&log) <= at_once(), "{log}");
    assert!(!log.contains("not ready within") && !log.contains("parked"), "{log}");
}

/// Its starters hang, in every place there is: the other queue does not wait for them.
#[test]
fn a_queue_whose_workers_hang_does_not_keep_others_waiting() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "kinds: { hangs: { command: [sleep, '1000'] } }\n");
    let queues: Vec<String> = (0..at_once()).map(|n| format!("h{n}: {{worker: hangs, processes: 2}}, ")).collect();
    // Its name is the last one: all the others have their places first.
    let workers = format!("{{{}z: {{worker: demo_quiet_worker, processes: 2}}}}", queues.concat());
    let mut master = after(":", &demo, &workers, &["--set", "supervisor.start_timeout=10m"]);
    master.expect("Starting; queue=z");
    master.expect("Starting; queue=z");
    ends_with(master, &demo, 0);
}

/// Who is there a second time hangs in its start; the first one has shown that the kind is well, even when it is gone.
#[test]
fn where_one_was_ready_those_that_are_late_do_not_park_the_queue() {
    let demo = Demo::new(&Place::sqlite());
    demo.write_python_worker("plain");
    let script = "if mkdir first 2>/dev/null; then exec python3 worker.py plain; else exec sleep 1000; fi";
    let kind = format!("kinds: {{ slow: {{ command: [sh, -c, {}] }} }}\n", Value::from(script));
    demo.write("asynctask.yaml", &kind);
    let options = ["--set", "supervisor={start_timeout: 1s, restart: {first: 10ms, longest: 10ms}}"];
    let mut master = after(":", &demo, "{a: {worker: slow, processes: 3}}", &options);
    master.expect("Starting; queue=a");
    demo.submit("a", "{\"n\":1}");
    master.expect("PYTHON begins");
    until("it is not idle again", || in_state(&slots(&demo, "a"), "idle").len() == 1);
    let pid = in_state(&slots(&demo, "a"), "idle")[0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    kill(Pid::from_raw(pid.expect("a pid")), Signal::SIGKILL).expect("the worker lives");
    // Well beyond the five that park a queue: each of three is told the first and the fourth time.
    for _ in 0..3 {
        master.expect("(4 failed starts in a row)");
    }
    let log = ends_with(master, &demo, 0);
    assert!(!log.contains("parked"), "{log}");
}

/// The number of descriptors that a text says are there for workers.
fn left_for_workers(text: &str) -> usize {
    let number = text.split("leaves ").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number in: {text}"))
}

#[test]
fn what_fits_works_and_the_rest_waits_when_descriptors_are_short() {
    for place in Place::all() {
        let demo = Demo::new(&place);
        demo.submit_all("a", (0..50).map(|n| format!("{{\"n\":{n}}}")));
        let workers = "{a: {worker: demo_file_worker, processes: 30}}";
        let mut master = after("ulimit -n 64", &demo, workers, &[]);
        let line = master.expect("The workers take 60 file descriptors, and the limit of open files leaves ");
        let promised = left_for_workers(&line);
        master.expect("could not be started: Too many open files");
        until("not all tasks are done", || demo.done().len() == 50);
        // What is promised fits: two for each.
        let fit = promised / 2;
        assert!((8..30).contains(&fit), "{line}");
        until("not all that fit are there", || in_state(&self::slots(&demo, "a"), "idle").len() >= fit);
        let slots = slots(&demo, "a");
        let waiting = in_state(&slots, "waiting");
        let is_told = |slot: &&Value| {
            let exit = slot["last_exit"].as_str().unwrap_or_default();
            exit.starts_with("could not be started: Too many open files")
        };
        assert!(waiting.iter().any(is_told), "{slots:?}");
        let health = demo.run(&["health", "--socket", "master.sock"]);
        assert_eq!(health.code, 0, "{}", health.stdout);
        let log = ends_with(master, &demo, 0);
        assert!(!log.contains("parked"), "{log}");
        // Told once for each that cannot be started, not for each try.
        assert!(log.matches("could not be started").count() <= 2 * 30, "{log}");
    }
}

/// A run that is to halt does not wait for those that never come up.
#[test]
fn a_run_halts_although_some_cannot_be_started() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit_all("a", (0..50).map(|n| format!("{{\"n\":{n}}}")));
    let workers = "{a: {worker: demo_file_worker, processes: 30}}";
    let master = after("ulimit -n 64", &demo, workers, &["--halt-when-empty"]);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
    assert_eq!(demo.done().len(), 50, "{log}");
    assert!(log.contains("could not be started: Too many open files"), "{log}");
}

#[test]
fn more_processes_than_there_are_descriptors_for_are_refused() {
    let demo = Demo::new(&Place::sqlite());
    let workers = "{a: {worker: demo_quiet_worker, processes: 4}, b: demo_quiet_worker}";
    let mut master = after("ulimit -n 64", &demo, workers, &[]);
    for _ in 0..5 {
        master.expect("Starting; queue=");
    }
    let scale =
        |processes: usize| demo.run(&["control", "scale", "a", &processes.to_string(), "--socket", "master.sock"]);
    // The first look at the status opens what the transport counts by, and leaves it open.
    assert_eq!(slots(&demo, "a").len(), 4);
    let ran = scale(3000);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let why = "3000 processes of a take 6000 file descriptors, with the other queues 6002, and the limit of open files \
               leaves ";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    assert_eq!(slots(&demo, "a").len(), 4);
    // What is promised fits beside the one process of the other queue, but for a question that is not closed yet; and no more
    // than that is promised.
    let most = left_for_workers(&ran.stderr) / 2 - 1;
    assert!((10..24).contains(&most), "{}", ran.stderr);
    assert_eq!(scale(most + 1).code, 1);
    let ran = scale(most - 1);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    until("not all are there", || in_state(&slots(&demo, "a"), "idle").len() == most - 1);
    let log = ends_with(master, &demo, 0);
    assert!(!log.contains("could not be started"), "{log}");
}

/// Two processes of this user there can be beside the master, or few more, and five are wanted.
#[test]
fn what_fits_works_and_the_rest_waits_when_processes_are_short() {
    use std::os::unix::fs::PermissionsExt;
    if !nix::unistd::geteuid().is_root() {
        crate::support::left_out("it takes root to become a user with no other processes");
        return;
    }
    let demo = Demo::new(&Place::sqlite());
    std::fs::set_permissions(demo.folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let kind = "kinds: { once: { command: [sh, -c, 'read n; echo $n >> $DEMO_FILE; exec sleep 0.2'], mode: once } }\n";
    demo.write("asynctask.yaml", kind);
    // A user whom nobody else is: the limit counts all processes and threads of a user.
    let user = 1_000_000 + std::process::id();
    let shell = format!("exec prlimit --nproc=12 setpriv --reuid={user} --regid={user} --clear-groups \"$0\" \"$@\"");
    let mut master = after(&shell, &demo, "{a: {worker: once, processes: 20}}", &[]);
    master.expect("Starting; queue=a");
    demo.submit_all("a", (0..40).map(|n| n.to_string()));
    master.expect("could not be started");
    until("not all tasks are done", || demo.done().len() == 40);
    let log = ends_with(master, &demo, 0);
    assert!(log.contains("Resource temporarily unavailable") && !log.contains("parked"), "{log}");
    assert_eq!(demo.dead_letters("a").len(), 0, "{log}");
}

/// One task of five names a program that is not there: it alone fails, and the others do not wait for it.
#[test]
fn a_task_whose_program_alone_is_not_found_fails_by_itself() {
    for processes in [1, 3] {
        for place in Place::all() {
            let demo = Demo::new(&place);
            let script = "read n; test $n = 2 && exec no-such-program; exit 0";
            let kind = format!("kinds: {{ once: {{ command: [sh, -c, {}], mode: once }} }}\n", Value::from(script));
            demo.write("asynctask.yaml", &kind);
            demo.submit_all("a", (1..=5).map(|n| n.to_string()));
            let workers = format!("{{a: {{worker: once, processes: {processes}}}}}");
            let run = demo.workers(&workers, &["--halt-when-empty"]);
            assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
            assert_eq!(run.stdout.matches("Processing complete").count(), 4, "{}", run.stdout);
            let letters = demo.dead_letters("a");
            assert_eq!((letters.len(), &letters[0]["reason"]), (1, &"error".into()), "{letters:?}");
            let error = letters[0]["error"].as_str().expect("a text");
            assert!(error.starts_with("a program was not found (exit status 127): "), "{error}");
            assert!(error.ends_with("; 3 times, and other tasks of the queue could be done meanwhile"), "{error}");
            assert!(demo.is_empty("a"));
        }
    }
}

/// The first of a queue, whose own program is not found at each attempt, with one process: the others are done, and the run
/// ends well.
#[test]
fn a_task_whose_program_is_not_found_at_any_attempt_holds_nobody_up() {
    for place in Place::all() {
        let demo = Demo::new(&place);
        let kind =
            "kinds: { once: { command: [sh, -c, 'read p; case $p in *bad*) nosuchprog;; esac'], mode: once } }\n";
        demo.write("asynctask.yaml", kind);
        demo.submit_all("a", ["\"bad\""].into_iter().chain(["\"ok\""; 5]).map(str::to_owned));
        let workers = "{a: {worker: once, retry: {max_attempts: 2, first: 1s}}}";
        let run = demo.workers(workers, &["--halt-when-empty"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout.matches("Processing complete").count(), 5, "{}", run.stdout);
        let letters = demo.dead_letters("a");
        assert_eq!((letters.len(), &letters[0]["attempts"]), (1, &2.into()), "{letters:?}");
        let error = letters[0]["error"].as_str().expect("a text");
        assert!(error.ends_with("; 4 times, and other tasks of the queue could be done meanwhile"), "{error}");
        assert!(demo.is_empty("a"));
    }
}

/// Nothing can be executed: of one task alone that is known after three tries, and no attempt is used.
#[test]
fn a_run_in_which_no_program_is_found_ends_and_uses_no_attempt() {
    for tasks in [1, 2, 6] {
        let demo = Demo::new(&Place::sqlite());
        demo.write("asynctask.yaml", "kinds: { once: { command: [sh, -c, 'exec nosuchprog'], mode: once } }\n");
        demo.submit_all("a", (0..tasks).map(|n| n.to_string()));
        let run = demo.workers("{a: once}", &["--halt-when-empty"]);
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout.matches("a program was not found").count(), 3, "{}", run.stdout);
        assert_eq!(demo.dead_letters("a").len(), 0);
        assert!(!demo.is_empty("a"));
    }
}

/// A start that fails for a while is told at first and when it is over.
#[test]
fn a_start_that_succeeds_at_last_is_told() {
    let demo = Demo::new(&Place::sqlite());
    demo.write_python_worker("plain");
    let script = "for n in 1 2 3; do mkdir $n 2>/dev/null && exit 1; done; exec python3 worker.py plain";
    let kind = format!("kinds: {{ slow: {{ command: [sh, -c, {}] }} }}\n", Value::from(script));
    demo.write("asynctask.yaml", &kind);
    let mut master = after(":", &demo, "{a: slow}", &[]);
    master.expect("a[1] could be started after 3 failed starts");
    let log = ends_with(master, &demo, 0);
    assert_eq!(log.matches("exit status 1 before it was ready").count(), 1, "{log}");
    assert_eq!(log.matches("Launching slow").count(), 2, "{log}");
}
