//! Tasks that others published to RabbitMQ, with libraries and habits of their own: pika without any properties, and
//! kombu's `SimpleQueue`, into classic queues that they declared; and bodies that are no tasks at all.
//!
//! The libraries are installed by pip into a folder below `target/`, once. Where that cannot be done the tests are
//! left out, with a message; with `ASYNCTASK_REQUIRE_BROKER=1` that is a failure.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::support::{Demo, Place, demo::Ran, in_order};

/// A Python that has pika and kombu.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let python = folder.join("bin/python");
        let succeeds = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        let has_both = || succeeds(Command::new(&python).args(["-c", "import pika, kombu"]).stderr(Stdio::null()));
        if !has_both() {
            let made = succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--timeout=15", "--retries=1"];
            let _ = made && succeeds(Command::new(&python).args(pip).args(["pika~=1.3", "kombu~=5.5"]));
        }
        has_both().then_some(python)
    });
    if python.is_none() {
        let required = std::env::var_os("ASYNCTASK_REQUIRE_BROKER").is_some();
        assert!(!required, "pika and kombu cannot be installed, and everything is required");
        crate::support::left_out("pika and kombu cannot be installed by pip");
    }
    python.as_deref()
}

/// A demo on a virtual host of its own; `None` where the broker or the libraries are missing.
fn demo() -> Option<Demo> {
    let place = Place::amqp()?;
    python()?;
    Some(Demo::new(&place))
}

/// Runs a part of `foreign.py`; what it printed.
fn others(demo: &Demo, part: &str) -> String {
    let script = demo.write("foreign.py", include_str!("../support/foreign.py"));
    let mut command = Command::new(python().expect("it was there a moment ago"));
    let output = command.arg(script).args([part, &demo.uri]).stdin(Stdio::null()).output().expect("Python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{part}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn drained(demo: &Demo) -> Ran {
    let run = demo.workers(r#"{"foo": "demo_foo_worker"}"#, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let warnings: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("WARNING:")).collect();
    let classic = warnings.iter().filter(|line| line.contains("\"foo\" is a classic queue")).count();
    assert_eq!(classic, 1, "one line says that the queue is a classic one: {warnings:#?}");
    assert!(demo.is_empty("foo"));
    run
}

fn processed(run: &Ran, payloads: &[&str]) {
    let lines: Vec<String> = payloads.iter().map(|payload| format!("FOO processed: {payload}")).collect();
    in_order(run, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run.stdout.matches("FOO processed: ").count(), payloads.len(), "{}", run.stdout);
}

#[test]
fn json_without_any_properties_is_done() {
    let Some(demo) = demo() else { return };
    others(&demo, "pika");
    let run = drained(&demo);
    let payloads = [
        r#"{"foo":1}"#,
        r#"{"order":2,"spaced":[1,2]}"#,
        "[3,null]",
        r#""a string""#,
        "4.50",
        // Encoded twice: unwrapped once.
        r#"{"in":5}"#,
    ];
    processed(&run, &payloads);
    assert_eq!(demo.dead_letters("foo"), [0; 0]);
}

#[test]
fn what_kombus_simple_queue_puts_is_done() {
    let Some(demo) = demo() else { return };
    others(&demo, "kombu");
    let run = drained(&demo);
    processed(&run, &[r#"{"foo":1}"#, r#"{"foo":2}"#, r#"{"foo":3}"#, r#""only text""#]);
    assert_eq!(demo.dead_letters("foo"), [0; 0]);
}

#[test]
fn what_pika_and_kombu_pack_is_unpacked_and_what_cannot_be_is_named() {
    let Some(demo) = demo() else { return };
    others(&demo, "packed");
    let run = drained(&demo);
    processed(&run, &[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#, r#"{"n":4}"#, r#"{"n":6}"#]);
    let letters = demo.dead_letters("foo");
    assert_eq!((letters.len(), &letters[0]["reason"]), (1, &"malformed".into()));
    let error = letters[0]["error"].as_str().expect("a text");
    assert!(error.starts_with("compression \"application/x-bz2\" "), "{error}");
}

#[test]
fn what_is_not_json_is_put_aside_untouched_and_the_queue_goes_on() {
    let Some(demo) = demo() else { return };
    others(&demo, "garbage");
    let run = drained(&demo);
    processed(&run, &[r#"{"after":"all of it"}"#]);
    let letters = demo.dead_letters("foo");
    assert_eq!(letters.len(), 8);
    for letter in &letters {
        assert_eq!((&letter["reason"], &letter["queue"]), (&"malformed".into(), &"foo".into()), "{letter}");
        assert!(letter["error"].as_str().is_some_and(|error| !error.is_empty()), "{letter}");
    }
    let shown = demo.json(&["failed", "show", "foo", "id-binary", "--json"]);
    assert_eq!(shown["payload_base64"], "//4AASBiaW5hcnkgwyg=", "{shown}");
    assert_eq!(others(&demo, "verify"), "untouched\n");
}
