//! The command line as people and scripts meet it: what is printed where, and with which exit code a command ends.

mod celery;
mod celery_queues;
mod compare;
mod config;
mod denied;
mod drain;
mod failed;
mod folder;
mod output;
mod pipelines;
mod report;
mod secrets;
mod submit;
#[path = "../support/mod.rs"]
mod support;
mod zones;

use std::{collections::BTreeSet, ffi::OsStr, path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    Demo, Place,
    demo::Ran,
    foreign::Foreign,
    in_order,
    log::{Master, Stopwatch, until},
    on_each,
};
use uuid::Uuid;

const FOO: &str = r#"{"foo": "demo_foo_worker"}"#;

/// Holds if a command failed with this code, one `error:` line that contains `error`, and, where one is wanted, one
/// `hint:` line that contains `hint`.
fn refused(run: &Ran, code: i32, error: &str, hint: Option<&str>) {
    assert_eq!(run.code, code, "{run:?}");
    let lines: Vec<&str> = run.stderr.lines().collect();
    let first = lines.first().and_then(|line| line.strip_prefix("error: "));
    assert!(first.is_some_and(|line| line.contains(error)), "no `error: …{error}…` in {run:?}");
    let second = lines.get(1).map(|line| line.strip_prefix("hint: ").unwrap_or_default());
    match (hint, second) {
        (Some(hint), Some(line)) => assert!(line.contains(hint), "no `hint: …{hint}…` in {run:?}"),
        (None, None) => {}
        _ => panic!("a hint, or none: {run:?}"),
    }
    assert!(lines.len() <= 2, "{run:?}");
}

// The configuration.

const FIVE_MISTAKES: &str = "\
wrokers: {}
workers:
  foo: demo_fo_worker
  \"bad name\": demo_foo_worker
  bar:
    worker: demo_bar_worker
    timeout: 10 parsecs
scheduled_workers:
  - { worker: demo_bar_worker, second: \"*/99\" }
";

#[test]
fn five_mistakes_are_told_at_once_and_nothing_is_begun() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", FIVE_MISTAKES);
    let before = demo.files();
    for verb in [&["workers", "--halt-when-empty"][..], &["submit", "foo", "1"], &["queues"], &["config", "check"]] {
        let run = demo.run(verb);
        assert_eq!((run.code, run.stdout.as_str()), (78, ""), "{verb:?}: {}", run.stderr);
        let problems: Vec<&str> = run.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        let expected = [
            ("asynctask.yaml:1:1: wrokers: unknown key", r#"did you mean "workers"?"#),
            (r#"asynctask.yaml:3:8: workers.foo: unknown worker kind "demo_fo_worker""#, r#"mean "demo_foo_worker"?"#),
            (r#"asynctask.yaml:4:3: workers."bad name": "bad name" is not a properly-formatted queue name"#, "letters"),
            ("asynctask.yaml:7:14: workers.bar.timeout: expected a duration", ""),
            ("asynctask.yaml:9:40: scheduled_workers[0].second: ", ""),
        ];
        assert_eq!(problems.len(), expected.len(), "{}", run.stderr);
        for (problem, (beginning, hint)) in problems.iter().zip(expected) {
            assert!(problem.starts_with(beginning), "{problem}\nis not {beginning}");
            assert!(run.stderr.contains(hint), "no hint {hint}: {}", run.stderr);
        }
        assert_eq!(demo.files(), before, "{verb:?} made a file");
        assert_eq!(demo.processes(), [0; 0], "{verb:?} left a process");
    }
    let run = demo.run(&["config", "check", "--json"]);
    assert_eq!(run.code, 78);
    let problems: Value = serde_json::from_str(&run.stdout).expect("one array");
    assert_eq!(problems.as_array().map(Vec::len), Some(5), "{problems}");
    assert_eq!(
        (&problems[1]["line"], &problems[1]["column"], &problems[1]["path"]),
        (&3.into(), &8.into(), &"workers.foo".into())
    );
}

#[test]
fn a_queue_is_shown_with_its_delays_and_names() {
    let mut demo = Demo::new(&Place::sqlite());
    demo.write(
        "asynctask.yaml",
        "workers:\n  foo:\n    worker: demo_foo_worker\n    unique: '{payload.k}'\n    dead_letter: { queue: gone, keep: forever }\n    \
         retry: { max_attempts: 4, first: 1s, factor: 3, longest: 1h, jitter: 20% }\n",
    );
    demo.uri = "amqp://example.org".to_owned();
    let all = demo.json(&["config", "show", "--json"]);
    let (shown, derived) = (&all["workers"]["foo"], &all["x-derived"]["queues"]["foo"]);
    let retry = json!({ "max_attempts": 4, "first": 1, "factor": 3.0, "longest": 3600, "jitter": 0.2 });
    assert_eq!((&shown["retry"], &derived["delays"]), (&retry, &json!([1, 3, 9, 5])), "{shown}");
    assert_eq!(shown["unique"], json!({ "key": "{payload.k}", "conflict": "snooze", "after": 5 }));
    assert_eq!(shown["dead_letter"], json!({ "queue": "gone", "keep": "forever" }));
    // 3 s are 2 and 1; 9 s are 5, 2 and 2.
    let delays = ["foo.retry.1000", "foo.retry.2000", "foo.retry.5000"];
    let names = json!({ "queue": "foo", "retry": "foo.retry.<ms>", "delays": delays, "dead_letter": "gone" });
    assert_eq!(derived["names"], names);
    demo.uri = "localmem:".to_owned();
    let derived = demo.json(&["config", "show", "--json"])["x-derived"]["queues"]["foo"].clone();
    assert_eq!(derived["delays"], json!([1, 3, 9, 5]));
    assert_eq!(derived["names"], json!({ "queue": "foo", "retry": null, "delays": null, "dead_letter": "gone" }));
}

#[test]
fn the_settings_are_shown_as_they_are_meant() {
    let mut demo = Demo::new(&Place::sqlite());
    let file = std::mem::replace(&mut demo.uri, "amqp://user:secret@example.org/".to_owned());
    demo.write(
        "asynctask.yaml",
        "workers: { foo: { worker: demo_foo_worker, timeout: 10m, processes: 2 }, off: null }\n",
    );
    let shown = demo.json(&["config", "show", "--json"]);
    assert_eq!(shown["workers"]["foo"]["timeout"], 600, "{shown}");
    assert_eq!(shown["workers"]["foo"]["processes"], 2);
    assert!(shown["workers"].get("off").is_none_or(Value::is_null), "{shown}");
    let yaml = demo.run(&["config", "show"]);
    assert_eq!(yaml.code, 0);
    for text in [shown.to_string(), yaml.stdout] {
        assert!(!text.contains("secret"), "{text}");
    }
    let names = json!({ "queue": "foo", "retry": "foo.retry.<ms>", "delays": [], "dead_letter": "foo_failed" });
    assert_eq!(shown["x-derived"]["queues"]["foo"]["names"], names);
    let yaml = demo.run(&["config", "show"]).stdout;
    // Its password is masked there, and not known any more.
    demo.uri = "amqp://user:***@example.org/".to_owned();
    for shown in [format!("{shown}\n"), yaml] {
        demo.write("shown.yaml", &shown);
        let json = if shown.starts_with('{') { &["--json"][..] } else { &[] };
        let run = demo.run(&[&["config", "show", "-c", "shown.yaml"], json].concat());
        assert_eq!((run.code, run.stdout.as_str()), (0, shown.as_str()), "{}", run.stderr);
    }
    for verb in [&["workers"][..], &["submit", "foo", "1"], &["queues"], &["process", "foo"]] {
        let run = demo.run(&[verb, &["-c", "shown.yaml"]].concat());
        refused(&run, 78, "\"amqp://user:***@example.org/\" is not a transport: its password is masked", None);
    }
    demo.uri = file;
    let check = demo.run(&["config", "check"]);
    assert_eq!((check.code, check.stdout.as_str()), (0, "the configuration is right: 1 queue, 0 schedules\n"));
    assert_eq!(demo.json(&["config", "check", "--json"]), json!([]));
    assert_eq!(demo.files(), ["asynctask.yaml", "shown.yaml"]);
}

// Usage.

#[test]
fn help_is_on_stdout_and_a_usage_error_is_one_line_and_a_hint() {
    let demo = Demo::new(&Place::sqlite());
    for verb in [&[][..], &["workers"], &["submit"], &["queues"], &["failed"], &["failed", "list"], &["config"]] {
        let run = demo.run(&[verb, &["--help"]].concat());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{verb:?}");
        assert!(run.stdout.contains("Usage: demo"), "{verb:?}: {}", run.stdout);
    }
    refused(&demo.run(&["frobnicate"]), 64, "'frobnicate'", Some("Usage: demo"));
    refused(&demo.run(&["workers", "--halt-when-emty"]), 64, "'--halt-when-emty'", Some("'--halt-when-empty'"));
    refused(&demo.run(&["workers", "--halt-timeout", "5s"]), 64, "--halt-when-empty", Some("Usage"));
    refused(&demo.run(&["workers", "--halt-when-empty", "--halt-timeout", "soon"]), 64, "\"soon\"", Some("30s"));
    refused(&demo.run(&["workers", "-m", "0"]), 64, "--processes", Some("--help"));
    refused(&demo.run(&["workers", "--log-level", "loud"]), 64, "\"loud\" is not a level", Some("debug"));
    refused(&demo.run(&["submit", "a b", "1"]), 64, "\"a b\" is not a properly-formatted queue name", Some("letters"));
    refused(&demo.run(&["submit", "foo", "{oops"]), 64, "PAYLOAD: the payload is not JSON", None);
    refused(&demo.run(&["submit", "foo", "1", "--delay", "3x"]), 64, "--delay: \"3x\"", Some("500ms"));
    refused(&demo.run(&["submit", "--id", "one", "foo"]), 64, "--id", None);
    let unknown = demo.workers(FOO, &["--queue", "nope"]);
    refused(&unknown, 64, "--queue: \"nope\" is not a configured queue", Some("configured are: foo"));
    assert_eq!(demo.files(), [""; 0]);
    let absent = demo.run(&["workers", "-c", "nope.yaml"]);
    refused(&absent, 78, "nope.yaml: no such file", None);
}

#[test]
fn the_program_for_masters_says_what_to_type() {
    let program = env!("CARGO_BIN_EXE_asynctask-workers");
    let help = std::process::Command::new(program).arg("--help").output().expect("it runs");
    let help = String::from_utf8(help.stdout).expect("text");
    assert!(help.contains("Usage: asynctask-workers [OPTIONS]\n"), "{help}");
}

// Submitting.

#[test]
fn a_worker_that_goes_away_with_success_is_asked_whether_it_daemonizes() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "kinds: { gone: { command: ['true'] } }\nworkers: { foo: gone }\n");
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stdout.contains("foo[1]: does it daemonize? A worker stays in the foreground\n"), "{}", run.stdout);
}

/// Variables are bytes, and so are folders and programs: all commands work, and workers get what the master got.
#[test]
fn an_environment_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;

    let latin = OsStr::from_bytes(b"Gr\xfc\xdfe");
    let demo = Demo::new(&Place::sqlite());
    let folder = demo.folder.path().join(latin);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("job"), "#!/bin/sh\nexec python3 -c 'import os; print(os.environb[b\"LATIN\"])'\n")
        .unwrap();
    std::fs::set_permissions(folder.join("job"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = folder.join("asynctask.yaml");
    let yaml = "kinds: { job: { command: [./job], mode: once, cwd: / } }\nworkers: { foo: job }\n\
                scheduled_workers: [{ ctl: \"bin/tidy\", hour: 3 }]\n";
    std::fs::write(&file, yaml).unwrap();
    let run = |arguments: &[&str], config: &Path| {
        let mut command = demo.command(arguments);
        command
            .env("ASYNCTASK_CONFIG", config)
            .env("LATIN", latin)
            .env(latin, "x")
            .env("HOME", latin)
            .env("PWD", latin);
        command.env("TMPDIR", &folder).env("RUNTIME_DIRECTORY", &folder).env("NOTIFY_SOCKET", folder.join("no"));
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(run(&["submit", "foo", "1"], &file).0, Some(0));
    let (code, stdout, stderr) = run(&["workers", "--halt-when-empty"], &file);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("b'Gr\\xfc\\xdfe'\n"), "{stdout}");
    for (arguments, expected) in [
        (&["queues", "--json"][..], 0),
        (&["config", "show"], 0),
        (&["config", "show", "--json"], 0),
        (&["config", "check"], 0),
        (&["failed", "list", "foo"], 0),
        (&["schedules"], 0),
        (&["run", "job", "1"], 0),
        // A program is started by a master alone.
        (&["process", "foo"], 1),
        (&["status"], 3),
        (&["health"], 3),
        (&["control", "reload"], 3),
    ] {
        let (code, stdout, stderr) = run(arguments, &file);
        assert_eq!(code, Some(expected), "{arguments:?}: {stdout}{stderr}");
    }
    std::fs::write(folder.join("asks.yaml"), "application: \"${LATIN}\"\n").unwrap();
    let (code, _, stderr) = run(&["queues"], &folder.join("asks.yaml"));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("application: the environment variable LATIN is not UTF-8"), "{stderr}");
}

#[test]
fn nobody_submits_behind_the_scenes() {
    let demo = Demo::new(&Place::sqlite());
    let set = "workers={foo: demo_foo_worker, bar: {worker: demo_foo_worker, dead_letter: {queue: graves}}, baz: null}";
    for (name, what) in [
        ("foo_failed", "the dead-letter queue of queue \"foo\""),
        ("bar_failed", "the dead-letter queue of queue \"bar\""),
        ("graves", "the dead-letter queue of queue \"bar\""),
        ("baz_failed", "the dead-letter queue of queue \"baz\""),
        ("foo.retry.1000", "a delay queue of queue \"foo\""),
    ] {
        refused(
            &demo.run(&["submit", name, "1", "--set", set]),
            1,
            &format!("\"{name}\" is {what}"),
            Some("submit to"),
        );
        refused(&demo.run(&["submit", name, "--set", set]), 1, what, Some("submit to"));
    }
    assert_eq!(demo.files(), [""; 0]);
    for name in ["other_failed", "foo.retry.soon"] {
        assert_eq!(demo.run(&["submit", name, "1", "--set", set]).code, 0, "{name} is nobody's");
    }
}

#[test]
fn lines_are_submitted_up_to_the_bad_one() {
    on_each(|demo| {
        let run = demo.feed(&["submit", "foo"], "{\"n\":1}\n\n{\"n\":2}\n{oops\n{\"n\":3}\n");
        refused(&run, 64, "standard input, line 4: the payload is not JSON", Some("2 tasks before it were submitted"));
        let run = demo.feed(&["submit", "foo", "-"], "{\"n\":4}\n[5]\n6");
        assert_eq!((run.code, run.stdout.as_str()), (0, "3 tasks submitted to queue foo\n"), "{}", run.stderr);
        let ids = demo.submit_ids("foo", ["7".to_owned(), "8".to_owned()]);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 2);
        let run = demo.workers(FOO, &["--halt-when-empty"]);
        let payloads = [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":4}"#, "[5]", "6", "7", "8"];
        let lines = payloads.map(|payload| format!("FOO processed: {payload}"));
        in_order(&run, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(run.stdout.matches("FOO processed").count(), payloads.len());
    });
}

#[test]
fn a_delayed_task_waits_and_is_waited_for() {
    on_each(|demo| {
        let watch = Stopwatch::start();
        let run = demo.run(&["submit", "foo", r#"{"late":true}"#, "--delay", "2s", "--id", "late-one", "--json"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "{\"id\":\"late-one\"}\n"));
        let depth = demo.depth("foo");
        assert_eq!((&depth["ready"], &depth["delayed"]), (&0.into(), &1.into()), "{depth}");
        demo.submit("foo", r#"{"late":false}"#);
        let run = demo.workers(FOO, &["--halt-when-empty"]);
        assert!(watch.elapsed() >= Duration::from_secs(2), "{:?}", watch.elapsed());
        in_order(&run, &[r#"FOO processed: {"late":false}"#, r#"FOO processed: {"late":true}"#]);
        assert_eq!(run.code, 0);
        assert!(demo.is_empty("foo"));
    });
}

// Looking.

#[test]
fn queues_and_dead_letters_are_told_as_json() {
    on_each(|demo| {
        demo.submit_all("foo", (0..3).map(|n| format!(r#"{{"error":true,"n":{n}}}"#)));
        let workers = r#"{"foo": "demo_error_worker", "bar": "demo_bar_worker"}"#;
        let run = demo.workers(workers, &["--halt-when-empty", "--fail-on-dead-letter"]);
        assert_eq!(run.code, 80, "{}", run.stdout);
        let id = demo.submit("foo", "{}");

        let set = format!("workers={workers}");
        let queues = demo.json(&["queues", "--json", "--set", &set]);
        let foo = json!({"kind": "demo_error_worker", "ready": 1, "delayed": 0, "in_hand": 0, "failed": 3});
        let bar = json!({"kind": "demo_bar_worker", "ready": 0, "delayed": 0, "in_hand": 0, "failed": 0});
        assert_eq!(queues, json!({"foo": foo, "bar": bar}));
        let table = demo.run(&["queues", "--set", &set]).stdout;
        assert!(table.lines().any(|line| line.split_whitespace().eq(["foo", "demo_error_worker", "1", "0", "0", "3"])));

        let letters = demo.dead_letters("foo");
        assert_eq!(letters.len(), 3);
        let keys =
            ["id", "queue", "kind", "reason", "error", "fingerprint", "attempts", "first_failed_at", "failed_at"];
        for letter in &letters {
            let got: BTreeSet<&str> = letter.as_object().expect("an object").keys().map(String::as_str).collect();
            assert_eq!(got, keys.into(), "{letter}");
        }
        assert_eq!(demo.run(&["failed", "list", "foo", "--json", "--limit", "2"]).stdout.lines().count(), 2);
        let summary = demo.json(&["failed", "list", "foo", "--summary", "--json"]);
        let fingerprint = &letters[0]["fingerprint"];
        let expected = json!({"reason": "error", "fingerprint": fingerprint, "error": "Oops!", "count": 3});
        assert_eq!(summary, expected);
        assert!(demo.run(&["failed", "list", "foo", "--summary"]).stdout.contains("Oops!"));

        let of_first = letters[0]["id"].as_str().expect("a string");
        let shown = demo.json(&["failed", "show", "foo", of_first, "--json"]);
        assert_eq!(shown["payload"], json!({"error": true, "n": 0}));
        for unknown in [id.as_str(), "no-such-id"] {
            let error = format!("queue foo has no dead letter with id \"{unknown}\"");
            refused(&demo.run(&["failed", "show", "foo", unknown]), 1, &error, None);
        }
        // Looking took nothing away.
        assert_eq!(demo.dead_letters("foo").len(), 3);
    });
}

#[test]
fn a_drained_run_without_dead_letters_is_a_success() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "{}");
    assert_eq!(demo.workers(FOO, &["--halt-when-empty", "--fail-on-dead-letter"]).code, 0);
}

// What cannot work.

#[test]
fn a_transport_out_of_reach_is_told_at_once() {
    let demo = Demo::new(&Place::Amqp("amqp://guest:hidden@127.0.0.1:1/%2f".to_owned()));
    for verb in [
        &["submit", "foo", "1"][..],
        &["queues", "--set", "workers={foo: demo_foo_worker}"],
        &["failed", "list", "foo"],
    ] {
        let run = demo.run(verb);
        refused(&run, 69, "127.0.0.1:1", None);
        assert!(!run.stderr.contains("hidden"), "{}", run.stderr);
    }
    // Each transport takes its address as it is.
    let demo = Demo::new(&Place::Amqp("sqlite:/no/such/folder/tasks.db".to_owned()));
    refused(&demo.run(&["submit", "foo", "1"]), 69, "/no/such/folder/tasks.db", None);
}

#[test]
fn a_wrong_password_is_told_at_once_to_a_producer_and_to_a_master() {
    let Some(broker) = crate::support::broker::controlled() else { return };
    let uri = broker.fresh_vhost();
    for wrong in [uri.replace("guest:guest@", "guest:hidden@"), uri.clone() + "-is-no-virtual-host"] {
        let demo = Demo::new(&Place::Amqp(wrong));
        refused(&demo.run(&["submit", "foo", "1"]), 69, "", Some("user, password and virtual host"));
        for options in [&[][..], &["--halt-when-empty"]] {
            let run = demo.workers(FOO, options);
            assert_eq!(run.code, 69, "{run:?}");
            assert!(run.stderr.starts_with("error: ") && run.stderr.contains("\nhint: "), "{run:?}");
            assert!(!(run.stdout + &run.stderr).contains("hidden"));
        }
        demo.nobody_is_left();
    }
}

#[test]
fn a_run_that_takes_too_long_says_so() {
    on_each(|demo| {
        demo.submit("foo", r#"{"sleep_ms":600000}"#);
        let options = ["--halt-when-empty", "--halt-timeout", "1s", "--set", "supervisor.grace=300ms"];
        let run = demo.workers(r#"{"foo": "demo_sleep_worker"}"#, &options);
        assert_eq!(run.code, 81, "{}{}", run.stdout, run.stderr);
        assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
        assert_eq!(demo.depth("foo")["ready"], 1);
        demo.nobody_is_left();
    });
}

#[test]
fn a_kind_that_cannot_start_ends_a_halting_run_after_three_tries() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "{}");
    let kinds = "kinds: { ends: { command: [python3, missing.py] }, absent: { command: [no-such-program] } }\n";
    demo.write("asynctask.yaml", kinds);
    for kind in ["ends", "absent"] {
        let run = demo.workers(&format!(r#"{{"foo": "{kind}"}}"#), &["--halt-when-empty"]);
        refused(&run, 1, &format!("worker kind {kind} for queue foo could not be started"), None);
        assert_eq!(run.stdout.matches(&format!("Launching {kind} to work on queue foo")).count(), 3, "{}", run.stdout);
        assert_eq!(demo.depth("foo")["ready"], 1);
    }
}

#[test]
fn queues_of_others_are_worked_whatever_their_names() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    let longest = "x".repeat(240);
    let names = ["a/b", " two  blanks ", "ü@#+*", "say \"hi\\", "_fails", "{curly=}.[1]", "-x", &longest];
    let queue = |name: &str| {
        let kind = if name == "_fails" { "demo_error_worker" } else { "demo_foo_worker" };
        format!("  {}: {{ worker: {kind}, retry: {{ max_attempts: 2, first: 100ms }} }}\n", Value::from(name))
    };
    demo.write("asynctask.yaml", &format!("workers:\n{}", names.map(queue).concat()));
    // They are never made here.
    refused(&demo.run(&["submit", "a/b", "1"]), 1, "\"a/b\" is not a properly-formatted queue name", None);
    let absent = "queue \"a/b\" does not exist, and is not created: \"a/b\" is not a properly-formatted queue name";
    refused(&demo.run(&["workers", "--halt-when-empty", "-q"]), 69, absent, None);

    let foreign = Foreign::connect(&demo.uri);
    for name in names {
        foreign.declare_classic(name);
        // An option's name would stand behind `--`.
        match name {
            "-x" => foreign.publish(name, lapin::BasicProperties::default(), b"1"),
            "_fails" => drop(demo.submit(name, r#"{"error":1}"#)),
            _ => drop(demo.submit(name, "1")),
        }
    }
    let depths = demo.json(&["queues", "--json"]);
    for name in names {
        assert_eq!(depths[name]["ready"], 1, "{name}: {depths}");
    }
    let master = demo.start_configured(&[]);
    let counts = || demo.json(&["queues", "--json"]);
    until("not all is done", || {
        let counts = counts();
        let idle = |name: &&str| ["ready", "delayed"].iter().all(|count| counts[name][count] == 0);
        names.iter().all(idle) && counts["_fails"]["failed"] == 1
    });
    let status = demo.json(&["status", "--json"]);
    for name in names {
        assert_eq!(status["queues"][name]["slots"][0]["slot"], format!("{name}[1]"), "{status}");
        if name != "-x" {
            assert_eq!(demo.run(&["control", "pause", name]).code, 0, "{name}");
            assert_eq!(demo.run(&["control", "resume", name]).code, 0, "{name}");
        }
    }
    master.signal(Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0);
    assert_eq!(log.matches("FOO processed: 1").count(), names.len() - 1, "{log}");
    let letters = demo.dead_letters("_fails");
    assert_eq!((letters.len(), &letters[0]["queue"], &letters[0]["attempts"]), (1, &"_fails".into(), &2.into()));
    assert_eq!(demo.run(&["failed", "retry", "_fails", "--all"]).code, 0);
    assert_eq!(demo.run(&["queues", "purge", "_fails", "--yes"]).code, 0);
    demo.submit(names[3], "2");
    let set = r#"workers."say \"hi\\".processes=2"#;
    let run = demo.run(&["workers", "--halt-when-empty", "--queue", names[3], "--set", set]);
    assert_eq!(run.code, 0, "{run:?}");
    in_order(&run, &["FOO processed: 2"]);
    demo.submit("a/b", "3");
    let run = demo.run(&["process", "a/b", "--json"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(demo.json(&["queues", "--json"])["a/b"]["ready"], 0);
}

// Schedules.

const SCHEDULES: &str = r#"
workers: {}
scheduled_workers:
  - { worker: demo_bar_worker, second: "*/1", id: bars }
  - { ctl: "echo told by ctl", second: "*/1", id: told }
  - { ctl: "false", second: "*/1", id: fails }
"#;

fn scheduler(demo: &Demo) -> Master {
    // Two masters beside one file: only one of them can have the control socket there.
    let mut command = demo.command(&["workers", "--scheduler", "--socket", "none"]);
    command.env("LOG_LEVEL", "DEBUG");
    demo.follow(command)
}

/// The ids that a schedule's tasks have in the minute that ends with `last`.
fn ids_of_moments(schedule: &str, last: &str) -> BTreeSet<String> {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"asynctask.schedule");
    let last: jiff::Timestamp = last.parse().expect("RFC 3339");
    let id = |second: i64| Uuid::new_v5(&namespace, format!("{schedule}@{second}000").as_bytes()).to_string();
    (last.as_second() - 60..=last.as_second()).map(id).collect()
}

#[test]
fn a_schedule_fires_kinds_and_commands_and_of_two_schedulers_one() {
    on_each(|demo| {
        demo.write("asynctask.yaml", SCHEDULES);
        let mut first = scheduler(demo);
        first.expect(r#"Scheduling "demo_bar_worker" for {"second":"*/1"}"#);
        first.expect("Triggering scheduled execution of false");
        first.expect("INFO:CtlExecutorWorker:Executing Task: ");
        let mut second = scheduler(demo);
        second.expect("Starting; queue=scheduled_0_ctl_fails");
        for _ in 0..3 {
            first.expect("Triggering scheduled execution of false");
        }
        // The other one works what is fired, and does not fire.
        assert!(!second.log().text().contains("Triggering"), "{}", second.log().text());
        first.signal(Signal::SIGTERM);
        first.expect("Termination received; shutting down scheduler");
        first.expect("Scheduler dead");
        let (code, by_first) = first.wait();
        assert_eq!(code, 0);
        for _ in 0..3 {
            second.expect("Triggering scheduled execution of false");
        }
        second.signal(Signal::SIGTERM);
        let (code, by_second) = second.wait();
        assert_eq!(code, 0);
        demo.nobody_is_left();

        let log = by_first + "\n" + &by_second;
        let count = |line: &str| log.lines().filter(|got| *got == line).count();
        for line in [
            "BAR processed: {}",
            "INFO:CtlExecutorWorker:Executing Task: echo told by ctl",
            "INFO:CtlExecutorWorker:told by ctl",
            "INFO:CtlExecutorWorker:Executing Task: false",
            "ERROR:CtlExecutorWorker:Failed execution",
            "Received unexpected exit code: expected 0; got 1",
        ] {
            assert!(count(line) >= 4, "{line}: {} times", count(line));
        }
        // Each moment of the failing command is a dead letter, or lies in its queue still: none fired twice.
        let letters = demo.dead_letters("scheduled_0_ctl_fails");
        let ids: BTreeSet<&str> = letters.iter().filter_map(|letter| letter["id"].as_str()).collect();
        assert_eq!(ids.len(), letters.len(), "ids are unique");
        let last = letters.last().expect("there are some")["failed_at"].as_str().expect("a string");
        let moments = ids_of_moments("fails", last);
        for id in &ids {
            assert!(moments.contains(*id), "{id} is not that of a moment before {last}");
        }
        let waiting = demo.json(&["queues", "--json"])["scheduled_0_ctl_fails"]["ready"].as_u64().expect("a count");
        let fired = log.matches("Triggering scheduled execution of false").count();
        assert_eq!(ids.len() + usize::try_from(waiting).expect("few"), fired, "each that fired, once");
    });
}

#[test]
fn a_schedule_gives_a_configured_queue_a_payload() {
    const PERIODIC: &str = r#"
workers:
  foo: { worker: demo_foo_worker, processes: 2 }
scheduled_workers:
  - { queue: foo, every: 1s, payload: { foo: 1.10 }, id: fast }
  - { worker: demo_bar_worker, cron: "* * * * *", payload: [soon], misfire: run_once }
"#;
    on_each(|demo| {
        demo.write("asynctask.yaml", PERIODIC);
        let mut master = scheduler(demo);
        master.expect(r#"Scheduling "foo" for {"every":"1s"}"#);
        master.expect(r#"Scheduling "demo_bar_worker" for {"cron":"* * * * *"}"#);
        for _ in 0..3 {
            master.expect("Triggering scheduled execution of foo");
            master.expect(r#"FOO processed: {"foo":1.10}"#);
        }
        master.signal(Signal::SIGTERM);
        let (code, log) = master.wait();
        assert_eq!(code, 0);
        let fired = log.matches("Triggering scheduled execution of foo").count() as u64;
        let done = log.matches(r#"FOO processed: {"foo":1.10}"#).count() as u64;
        let queues = demo.json(&["queues", "--json"]);
        assert_eq!(queues["foo"]["ready"].as_u64().expect("a count") + done, fired, "each second, once: {log}");
    });
}

#[test]
fn schedules_are_shown_with_their_moments_and_who_fires_them() {
    const SHOWN: &str = r#"
workers: { foo: demo_foo_worker }
scheduled_workers:
  - { queue: foo, every: 1s, id: often }
  - { worker: demo_bar_worker, cron: "30 12 * * 1", timezone: Europe/Berlin, start_date: 2037-01-01 }
  - { ctl: "copy amqp://u:hunter2@h/", year: 2000 }
"#;
    on_each(|demo| {
        demo.write("asynctask.yaml", SHOWN);
        let is_amqp = demo.uri.starts_with("amqp");
        let shown = demo.json(&["schedules", "--json"]);
        assert_eq!((&shown["leader"], &shown["led"]), (&Value::Null, &(!is_amqp).then_some(false).into()), "{shown}");
        assert_eq!(shown["last_known"], !is_amqp, "without a master");
        let [often, monday, never] = &shown["schedules"].as_array().expect("a list")[..] else { panic!("{shown}") };
        assert_eq!((&often["id"], &often["queue"], &often["last_at"]), (&"often".into(), &"foo".into(), &Value::Null));
        assert_eq!(often["next"].as_array().map(Vec::len), Some(3));
        assert_eq!(
            (&monday["worker"], &monday["queue"]),
            (&"demo_bar_worker".into(), &"scheduled_0_demo_bar_worker".into())
        );
        let mondays = ["2037-01-05T12:30:00+01:00", "2037-01-12T12:30:00+01:00", "2037-01-19T12:30:00+01:00"];
        assert_eq!(monday["next"], json!(mondays));
        assert_eq!((&never["next"], &never["ctl"]), (&json!([]), &"copy amqp://u:***@h/".into()));
        assert_eq!(demo.files(), ["asynctask.yaml"], "looking makes no file");
        let table = demo.run(&["schedules"]);
        assert_eq!(table.code, 0, "{table:?}");
        let lines: Vec<&str> = table.stdout.lines().collect();
        assert!(lines[0].starts_with(" ID") && lines[0].ends_with("FIRED BY"), "{}", table.stdout);
        assert!(lines[1].contains("queue foo") && lines[1].ends_with(if is_amqp { "unknown" } else { "nobody" }));
        assert!(lines[2].contains(&mondays.join("  ")), "{}", table.stdout);
        refused(&demo.run(&["schedules", "--socket", "none-there"]), 3, "no master answers", Some("running"));

        let mut command = demo.command(&["workers", "--scheduler"]);
        command.env("LOG_LEVEL", "DEBUG");
        let mut master = demo.follow(command);
        master.expect("Triggering scheduled execution of foo");
        master.expect("Triggering scheduled execution of foo");
        let shown = demo.json(&["schedules", "--json"]);
        assert_eq!((&shown["led"], &shown["last_known"]), (&true.into(), &true.into()), "{shown}");
        assert_eq!(shown["leader"]["pid"], master.pid(), "{shown}");
        let often = &shown["schedules"][0];
        let at =
            |moment: &Value| moment.as_str().expect("text").parse::<jiff::Timestamp>().expect("RFC 3339").as_second();
        let (last, next) = (at(&often["last_at"]), at(&often["next"][0]));
        assert!(last < next && next - last <= 5, "{shown}");
        assert_eq!(shown["schedules"][1]["last_at"], Value::Null);
        let table = demo.run(&["schedules"]).stdout;
        assert!(table.contains(&format!("pid {} on ", master.pid())), "{table}");
        master.signal(Signal::SIGTERM);
        assert_eq!(master.wait().0, 0);
    });
    let demo = Demo::new(&Place::sqlite());
    assert_eq!(demo.run(&["schedules"]).stdout, "no schedules are configured\n");
    demo.write("asynctask.yaml", "scheduled_workers: [{ ctl: x, hour: 1, every: 1s }]");
    assert_eq!(demo.run(&["schedules"]).code, 78);
}

#[test]
fn a_scheduler_without_schedules_says_so() {
    let demo = Demo::new(&Place::sqlite());
    let run = demo.workers(FOO, &["--scheduler", "--halt-when-empty"]);
    in_order(&run, &["INFO:AsyncTaskWorkerTask:No schedules configured -- not starting scheduler"]);
    assert_eq!(run.code, 0);
}
