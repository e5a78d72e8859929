//! Payloads of all shapes come to a worker of another language as they were submitted.

use std::io::Write;

use serde_json::{Value, json};

use super::repository;
use crate::support::{Demo, Place};

/// The queue `foo` is worked by `raw.py`, which prints the payload's own text as it stands in the frame.
fn demo(accepts: &str) -> Demo {
    let demo = Demo::new(&Place::sqlite());
    let program = repository("tests/kinds/languages/raw.py");
    let command = format!("command: [python3, {}], accepts: {accepts}", program.display());
    demo.write("asynctask.yaml", &format!("workers: {{ foo: raw }}\nkinds: {{ raw: {{ {command} }} }}\n"));
    demo
}

/// What the worker printed, a line a task.
fn raw(demo: &Demo) -> Vec<String> {
    let run = demo.run(&["workers", "--halt-when-empty", "--log-level", "info"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    run.stdout.lines().filter_map(|line| line.strip_prefix("RAW ")).map(str::to_owned).collect()
}

#[test]
fn the_text_of_a_payload_is_not_touched() {
    let demo = demo("json");
    let payloads = [
        "{}",
        "null",
        r#""42""#,
        "42",
        r#"{"n":1234567890123456789012345678901234567890,"x":1.50,"y":1E+2,"z":-0}"#,
        r#"{"a":{"\u00fc":["\ud83d\ude00","😀","\u0000","ж \u2028"]},"a":1}"#,
        r#"{ "spaced" : [ 1 ,2 ] }"#,
    ];
    for payload in payloads {
        demo.submit("foo", payload);
    }
    assert_eq!(raw(&demo), payloads);
    assert_eq!(demo.dead_letters("foo").len(), 0);
}

#[test]
fn pretty_printed_json_comes_on_one_line() {
    let demo = demo("json");
    demo.submit("foo", "{\n  \"a\": [\r\n    1,\n    \"b\\nc\"\n  ]\n}\n");
    assert_eq!(raw(&demo), [r#"{   "a": [      1,     "b\nc"   ] }"#]);
}

#[test]
fn ten_megabytes_go_through_and_what_no_frame_holds_is_malformed() {
    let demo = demo("json");
    let large = format!("\"{}\"", "x".repeat(10 << 20));
    let too_large = format!("\"{}\"", "y".repeat(16 << 20));
    // Lines of standard input: no argument may be so long.
    demo.submit_all("foo", [large.clone(), too_large, "7".to_owned()]);
    let lines = raw(&demo);
    // A line of the log is cut.
    assert_eq!(lines.len(), 2, "{}", lines.len());
    assert!(lines[0].starts_with(&format!("{} bytes \"xxx", large.len())), "{}", &lines[0][..40]);
    assert_eq!(lines[1], "7");
    let letters = demo.dead_letters("foo");
    assert_eq!((letters.len(), &letters[0]["reason"]), (1, &json!("malformed")));
    let shown = demo.json(&["failed", "show", "foo", letters[0]["id"].as_str().expect("an id"), "--json"]);
    assert!(shown["payload"].as_str().is_some_and(|payload| payload.len() == 16 << 20), "its body is untouched");
    assert!(shown["error"].as_str().is_some_and(|error| error.contains("frame")), "{}", shown["error"]);
}

#[test]
fn bytes_come_in_base_64() {
    let demo = demo("bytes");
    demo.submit("foo", "{ \"a\":\n 1 }");
    assert_eq!(raw(&demo), ["bytes b'{ \"a\":\\n 1 }'"]);
    // What is no text at all; only `run` takes it from a command line.
    let mut child = demo.command(&["run", "raw", "-"]);
    child.env_remove("LOG_LEVEL").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = child.spawn().expect("the demo starts");
    child.stdin.take().expect("it is piped").write_all(b"\0\xff\n\"").expect("it reads");
    let output = child.wait_with_output().expect("it is our child");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(stdout.contains("RAW bytes b'\\x00\\xff\\n\"'\n") && stdout.ends_with("done\n"), "{stdout}");
}

#[test]
fn what_is_not_json_never_reaches_a_kind_that_takes_json() {
    let demo = demo("json");
    let run = demo.feed(&["run", "raw", "-", "--json"], "{oops");
    let last: Value = serde_json::from_str(run.stdout.lines().last().unwrap_or_default()).expect("an object");
    assert_eq!((&last["outcome"], run.code), (&json!("malformed"), 1), "{}", run.stdout);
}
