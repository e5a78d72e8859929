//! What a submission says when it breaks off, and that it is true; and how tasks are written for it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::Stdio,
    time::{Duration, UNIX_EPOCH},
};

use asynctask::{
    client::{Submission, SubmitOptions, blocking::Client},
    clock::Clock,
};
use lapin::types::AMQPValue;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{on_each, refused};
use crate::support::{Demo, Place, broker, demo::Ran, foreign::Foreign, log::Stopwatch};

/// Of this program's broker alone. No other test of it sends so much.
const LARGEST: usize = 1 << 20;

/// RabbitMQ with a largest message, if there is one that is ours.
fn on_rabbitmq() -> Option<Demo> {
    let broker = broker::shared().filter(|broker| broker.is_own())?;
    broker.control(&["eval", &format!("application:set_env(rabbit, max_message_size, {LARGEST}).")]);
    Some(Demo::new(&Place::Amqp(broker.fresh_vhost())))
}

fn limit(demo: &Demo, policy: &str) {
    let vhost = demo.uri.rsplit('/').next().expect("an address has one");
    let broker = broker::shared().expect("it is there");
    broker.control(&["set_policy", "-p", vhost, "limit", "^foo$", policy, "--apply-to", "queues"]);
}

fn ready(demo: &Demo) -> u64 {
    demo.depth("foo")["ready"].as_u64().expect("a count")
}

fn numbers(count: usize) -> String {
    (0..count).map(|number| "{\"n\":".to_owned() + &number.to_string() + "}\n").collect()
}

/// The first number behind a text.
fn number_after(text: &str, before: &str) -> u64 {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no `{before}` in {text}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after `{before}` in {text}"))
}

/// Runs a command to its end under a limit of 512-byte blocks for each file it writes.
fn within_blocks(demo: &Demo, blocks: u32, arguments: &str, text: &str) -> Ran {
    let program = crate::support::demo::demo_program().display();
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec {program} {arguments} --set transport={}", demo.uri);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.current_dir(demo.folder.path()).spawn().expect("there is a shell");
    let (mut input, text) = (child.stdin.take().expect("piped"), text.to_owned());
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it is our child");
    let _ = writer.join().expect("the writer does not panic");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap_or(-1) }
}

#[test]
fn a_file_that_cannot_grow_ends_a_submission_that_says_what_is_in_it() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "{}");
    let run = within_blocks(&demo, 2_000, "submit foo -", &numbers(40_000));
    let line = number_after(&run.stderr, "standard input, line ");
    assert!(run.stderr.contains("the limit of file size (ulimit -f, LimitFSIZE=) is reached"), "{run:?}");
    let stored = number_after(&run.stderr, "hint: ");
    assert!(line == stored + 1 && stored > 0, "{run:?}");
    refused(
        &run,
        69,
        "tasks.db",
        Some(&format!("{stored} tasks before it were submitted; nothing from line {line} on")),
    );
    assert_eq!((run.stdout.as_str(), ready(&demo)), ("", stored + 1));
    // What is printed is stored, and nothing else.
    let run = within_blocks(&demo, 4_000, "submit foo - --json", &numbers(40_000));
    let more = number_after(&run.stderr, "hint: ");
    assert_eq!(run.stdout.lines().count() as u64, more, "{}", run.stderr);
    assert_eq!(ready(&demo), stored + more + 1);
}

#[test]
fn nothing_after_a_task_that_is_too_large_is_stored() {
    let Some(demo) = on_rabbitmq() else { return };
    let large = format!("\"{}\"\n", "x".repeat(LARGEST));
    for (before, after) in [(1, 1), (400, 300), (0, 2)] {
        let had = ready(&demo);
        let run = demo.feed(&["submit", "foo", "-"], &(numbers(before) + &large + &numbers(after)));
        let hint = match before {
            0 => "no task was submitted before it".to_owned(),
            1 => "1 task before it was submitted".to_owned(),
            before => format!("{before} tasks before it were submitted"),
        };
        let line = before + 1;
        refused(&run, 1, &format!("standard input, line {line}: queue \"foo\" did not take"), Some(&hint));
        assert!(run.stderr.contains(&format!("nothing from line {line} on is stored")), "{run:?}");
        assert_eq!(ready(&demo), had + before as u64);
    }
    assert_eq!(demo.run(&["submit", "foo", &"7".repeat(100_000)]).code, 0);
}

#[test]
fn a_full_queue_takes_what_it_says() {
    let Some(demo) = on_rabbitmq() else { return };
    for (kind, declare) in [("quorum", false), ("classic", true)] {
        let demo = Demo::new(&Place::Amqp(broker::shared().expect("it was there").fresh_vhost()));
        if declare {
            Foreign::connect(&demo.uri).declare("foo", &[]);
        } else {
            demo.submit("foo", "0");
        }
        limit(&demo, r#"{"max-length":100,"overflow":"reject-publish"}"#);
        let had = ready(&demo);
        let run = demo.feed(&["submit", "foo", "-", "--json"], &numbers(600));
        let line = number_after(&run.stderr, "standard input, line ");
        let stored = line - 1;
        refused(
            &run,
            1,
            "full",
            Some(&format!("{stored} tasks before it were submitted; nothing from line {line} on")),
        );
        assert_eq!((ready(&demo), run.stdout.lines().count() as u64), (had + stored, stored), "{kind}: {}", run.stderr);
        assert_eq!(demo.run(&["submit", "foo", "1"]).code, 1, "{kind}");
    }
    drop(demo);
}

/// A file that another program writes to.
fn locked(demo: &Demo) -> rusqlite::Connection {
    let path = demo.uri.strip_prefix("sqlite:").expect("a file");
    let other = rusqlite::Connection::open(path).expect("the file is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
    other
}

#[test]
fn a_lock_is_told_and_waited_for_as_long_as_was_said() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "{}");
    let other = locked(&demo);
    for arguments in [&["submit", "foo", "7", "--wait", "3s"][..], &["submit", "foo", "-", "--wait", "3s"]] {
        let watch = Stopwatch::start();
        let run = demo.feed(arguments, "1\n2\n");
        assert!(watch.elapsed() >= Duration::from_secs(3), "{:?}", watch.elapsed());
        assert_eq!((run.code, run.stdout.as_str()), (69, ""), "{run:?}");
        assert!(run.stderr.starts_with("waiting for ") && run.stderr.contains("keeps locked\nerror: "), "{run:?}");
        assert_eq!(run.stderr.contains("nothing from line 1 on is stored"), arguments.contains(&"-"), "{run:?}");
    }
    let mut command = demo.command(&["submit", "foo", "7"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts");
    let mut told = String::new();
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    stderr.read_line(&mut told).expect("a line");
    assert!(told.contains("keeps locked"), "{told}");
    other.execute_batch("ROLLBACK").expect("it is ours");
    assert!(child.wait().expect("it is our child").success());
    assert_eq!(ready(&demo), 2);
}

#[test]
fn a_slow_producer_is_served_at_once_and_an_interrupt_says_how_far_it_came() {
    on_each(|demo| {
        for (signal, code, name) in [(Signal::SIGINT, 130, "SIGINT"), (Signal::SIGTERM, 143, "SIGTERM")] {
            let mut command = demo.command(&["submit", "foo", "-", "--json"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("the demo starts");
            let mut input = child.stdin.take().expect("piped");
            let mut output = BufReader::new(child.stdout.take().expect("piped"));
            for text in ["1\n", "\n2\n"] {
                input.write_all(text.as_bytes()).expect("it reads");
                let mut line = String::new();
                output.read_line(&mut line).expect("a line");
                assert!(line.starts_with("{\"id\":"), "{line}");
            }
            kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("it lives");
            let mut errors = String::new();
            child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
            assert_eq!(child.wait().expect("it is our child").code(), Some(code), "{errors}");
            let told = format!(
                "error: standard input, line 4: interrupted by {name}\nhint: 2 tasks before it were submitted; nothing from line 4 on is stored\n"
            );
            assert_eq!(errors, told);
        }
        assert_eq!(ready(demo), 4);
    });
}

#[test]
fn what_cannot_be_printed_is_told_and_counted() {
    let demo = Demo::new(&Place::sqlite());
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = demo.command(&["submit", "foo", "-", "--json"]);
    command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the demo starts");
    child.stdin.take().expect("piped").write_all(b"1\n2\n").expect("it reads");
    let output = child.wait_with_output().expect("it is our child");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let stored = number_after(&told, "hint: ");
    assert!(output.status.code() == Some(70) && told.contains("cannot write to standard output"), "{told}");
    assert_eq!(ready(&demo), stored);
}

#[test]
fn a_byte_order_mark_is_skipped_and_utf_16_is_named() {
    let demo = Demo::new(&Place::sqlite());
    let marked = "\u{feff}{\"a\":1}\n{\"a\":2}\n";
    let run = demo.feed(&["submit", "foo", "-"], marked);
    assert_eq!((run.code, run.stdout.as_str()), (0, "2 tasks submitted to queue foo\n"), "{run:?}");
    assert_eq!(demo.run(&["submit", "foo", "\u{feff}{\"a\":3}"]).code, 0);
    assert_eq!(demo.feed(&["submit", "foo"], "\u{feff}").stdout, "0 tasks submitted to queue foo\n");
    refused(&demo.feed(&["submit", "foo"], "1\n\u{feff}2\n"), 64, "line 2: the payload is not JSON", Some("1 task"));
    refused(&demo.feed(&["submit", "foo"], "{\0}\0\n\0"), 64, "line 1: it is UTF-16, not UTF-8", Some("no task"));
    let run = demo.feed(&["run", "demo_foo_worker", "-"], "\u{feff}{\"a\":4}");
    assert!(run.code == 0 && run.stdout.contains("FOO processed: {\"a\":4}"), "{run:?}");
    let run = demo.workers(super::FOO, &["--halt-when-empty"]);
    for number in 1..=3 {
        assert!(run.stdout.contains(&format!("FOO processed: {{\"a\":{number}}}")), "{}", run.stdout);
    }
}

#[test]
fn a_queue_that_nobody_works_is_a_warning() {
    let demo = Demo::new(&Place::sqlite());
    let set = ["--set", "workers={thumbnails: demo_foo_worker, old: null}"];
    let submit = |queue: &str, set: &[&str]| {
        let run = demo.run(&[&["submit", queue, "1"], set].concat());
        assert_eq!(run.code, 0, "{run:?}");
        run.stderr
    };
    let told = "warning: no configured queue is named \"tumbnails\"; did you mean \"thumbnails\"?\n";
    assert_eq!(submit("tumbnails", &set), told);
    assert_eq!(submit("zebra", &set), "warning: no configured queue is named \"zebra\"\n");
    for known in ["thumbnails", "old", "scheduled_0_foo"] {
        assert_eq!(submit(known, &set), "");
    }
    assert_eq!(submit("tumbnails", &[]), "");
    let run = demo.feed(&["submit", "tumbnails", "--set", set[1]], "1\n2\n");
    assert_eq!((run.code, run.stderr.as_str()), (0, told));
    assert_eq!(demo.json(&["queues", "--json"])["tumbnails"]["ready"], 4);
}

#[test]
fn negative_durations_are_no_durations() {
    let demo = Demo::new(&Place::sqlite());
    for (arguments, option, text) in [
        (&["submit", "foo", "1", "--delay", "-5s"][..], "--delay", "-5s"),
        (&["submit", "foo", "1", "--delay=-5s"], "--delay", "-5s"),
        (&["submit", "foo", "1", "--wait", "-5"], "--wait", "-5"),
        (&["workers", "--halt-when-empty", "--halt-timeout", "-1s"], "--halt-timeout", "-1s"),
        (&["failed", "list", "foo", "--older-than", "-1h"], "--older-than", "-1h"),
        (&["health", "--socket", "none.sock", "--wait", "-1s"], "--wait", "-1s"),
        (&["check-worker", "--within", "-1s", "--", "true"], "--within", "-1s"),
        (&["queues", "purge", "foo", "--yes", "--wait", "-1s"], "--wait", "-1s"),
    ] {
        refused(&demo.run(arguments), 64, &format!("{option}: \"{text}\" is not a duration"), Some("500ms"));
    }
    let run = demo.run(&["submit", "foo", "1", "--expires", "-5s"]);
    refused(&run, 64, "--expires: \"-5s\" is neither a duration nor a moment", Some("10m"));
    let last = Some("up to 9999-12-30T22:00:00Z; --delay 10m counts");
    for at in ["10m", "9999-12-31T00:00:00Z"] {
        refused(&demo.run(&["submit", "foo", "1", "--at", at]), 64, "is no moment", last);
    }
    refused(&demo.run(&["submit", "foo", "1", "--at", "-5s"]), 64, "--at: \"-5s\" is no moment", Some("2027"));
    let run = demo.run(&["failed", "retry", "foo", "--all", "--rate", "-5/s"]);
    refused(&run, 64, "--rate: \"-5/s\" is not a rate", Some("50/s"));
    refused(&demo.workers(super::FOO, &["-m", "-1"]), 64, "'-1' for '--processes", Some("--help"));
    refused(&demo.run(&["submit", "foo", "1", "--priority", "-1"]), 64, "'-1' for '--priority", Some("--help"));
    refused(&demo.run(&["submit", "foo", "1", "--wait", "0"]), 64, "longer than 0", None);
    assert_eq!(demo.files(), [""; 0]);
    assert_eq!(demo.run(&["submit", "foo", "1", "--delay", "2w"]).code, 0);
}

#[test]
fn a_task_is_due_at_a_moment() {
    on_each(|demo| {
        let now = jiff::Timestamp::from_millisecond(Clock::wall().0).expect("a moment");
        let soon = (now + jiff::SignedDuration::from_secs(3)).to_string();
        let watch = Stopwatch::start();
        assert_eq!(demo.run(&["submit", "foo", "\"soon\"", "--at", &soon]).code, 0);
        let run = demo.run(&["submit", "foo", "\"past\"", "--at", "2020-01-01T00:00"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, "warning: the moment of --at has passed: due at once\n"));
        let depth = demo.depth("foo");
        assert_eq!((&depth["ready"], &depth["delayed"]), (&1.into(), &1.into()), "{depth}");
        let run = demo.workers(super::FOO, &["--halt-when-empty"]);
        assert_eq!(run.code, 0);
        super::in_order(&run, &["FOO processed: \"past\"", "FOO processed: \"soon\""]);
        assert!(watch.elapsed() >= Duration::from_millis(1_500), "{:?}", watch.elapsed());
        let both = demo.run(&["submit", "foo", "1", "--at", &soon, "--delay", "1s"]);
        refused(&both, 64, "--delay", Some("Usage"));
    });
    let demo = Demo::new(&Place::sqlite());
    let mut command = demo.command(&["submit", "foo", "1", "--expires", "1h", "--at", "2040-07-01T08:00"]);
    assert!(command.env("TZ", "Europe/Berlin").output().expect("it runs").status.success());
    let file = rusqlite::Connection::open(demo.uri.strip_prefix("sqlite:").expect("a file")).expect("it is there");
    let due: i64 = file.query_row("SELECT due FROM task", [], |row| row.get(0)).expect("a task");
    let expected: jiff::Timestamp = "2040-07-01T06:00:00Z".parse().expect("a moment");
    // It is stored with what remained when it was submitted.
    assert!((due - expected.as_millisecond()).abs() <= 5_000, "{due}");
}

#[test]
fn a_priority_counts_where_there_are_some_and_is_refused_elsewhere() {
    let demo = Demo::new(&Place::sqlite());
    for arguments in [&["submit", "foo", "1", "--priority", "9"][..], &["submit", "foo", "--priority", "9"]] {
        let run = demo.feed(arguments, "1\n");
        assert!(run.code == 1 && run.stderr.contains("this transport has no priorities"), "{run:?}");
    }
    let Some(demo) = on_rabbitmq() else { return };
    Foreign::connect(&demo.uri).declare("foo", &[("x-max-priority", AMQPValue::LongInt(9))]);
    for priority in ["1", "9", "5"] {
        assert_eq!(demo.run(&["submit", "foo", priority, "--priority", priority]).code, 0);
    }
    let client = Client::open(&demo.uri).expect("a client");
    let options = SubmitOptions::new().priority(7).at(UNIX_EPOCH);
    client.submit_with("foo", &7, options).expect("stored");
    let run = demo.workers(super::FOO, &["--halt-when-empty"]);
    super::in_order(
        &run,
        &["9", "7", "5", "1"].map(|payload| format!("FOO processed: {payload}")).each_ref().map(String::as_str),
    );
}

#[test]
fn a_client_is_told_the_same() {
    let Some(demo) = on_rabbitmq() else { return };
    let client = Client::open(&demo.uri).expect("a client");
    let task = |id: usize, size| {
        let options = SubmitOptions::new().id(id.to_string());
        Submission::new("foo", &"7".repeat(size - 2), options).expect("a task")
    };
    let mut tasks: Vec<Submission> = (0..600).map(|id| task(id, 10)).collect();
    tasks[300] = task(300, LARGEST + 1);
    let extent = client.submit_all(tasks).expect_err("one is too large").extent();
    assert_eq!((extent.stored, extent.unknown.len(), extent.beyond.len()), (300, 0, 0));
    assert_eq!(ready(&demo), 300);
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "{}");
    let _other = locked(&demo);
    let client = Client::open_within(&demo.uri, Duration::from_secs(1)).expect("a client");
    let watch = Stopwatch::start();
    let error = client.submit("foo", &1).expect_err("it is locked");
    assert!(error.to_string().contains("keeps it locked") && error.extent().unknown.is_empty(), "{error}");
    assert!(watch.elapsed() < Duration::from_secs(8), "{:?}", watch.elapsed());
}

#[test]
fn the_memory_of_one_process_is_nothing_to_submit_to() {
    let mut demo = Demo::new(&Place::sqlite());
    demo.uri = "localmem:x".to_owned();
    for command in [
        &["submit", "foo", "1"][..],
        &["submit", "foo", "-"],
        &["queues"],
        &["queues", "purge", "foo", "--yes"],
        &["failed", "list", "foo"],
        &["process", "foo"],
    ] {
        let run = demo.run(command);
        assert_eq!((run.code, run.stdout.as_str()), (78, ""), "{command:?}: {run:?}");
        assert!(run.stderr.contains("localmem:x: that transport lives in one process"), "{command:?}: {run:?}");
    }
}
