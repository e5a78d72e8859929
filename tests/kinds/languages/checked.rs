//! `check-worker`: good workers pass, each mistake is named.

use serde_json::Value;

use super::{has, repository};
use crate::support::{Demo, Place, demo::Ran};

fn check(demo: &Demo, options: &[&str], command: &[&str]) -> Ran {
    let mut run = demo.command(&["check-worker"]);
    // The transport is an option of every command, and stands before the program.
    run.args(options).arg("--").args(command);
    let output = run.output().expect("the demo starts");
    Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

fn path(name: &str) -> String {
    repository(name).display().to_string()
}

#[test]
fn the_examples_pass() {
    let demo = Demo::new(&Place::sqlite());
    std::fs::copy(repository("examples/python/sample.ppm"), demo.folder.path().join("sample.ppm")).expect("a copy");
    let payload = ["--payload", r#"{"file":"sample.ppm"}"#];
    let run = check(&demo, &payload, &["python3", &path("examples/python/thumbnail.py"), "thumbnail"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.starts_with("ok     ready: protocol 1, named thumbnail"), "{}", run.stdout);
    assert!(run.stdout.contains("ok     good task: done, 1 task submitted\n"), "{}", run.stdout);
    assert!(run.stdout.ends_with("12 of 12 checks passed\n"), "{}", run.stdout);
    assert!(run.stderr.contains("sample.ppm is now sample.thumb.ppm"), "{}", run.stderr);
    if has("node") {
        let run = check(&demo, &["--payload", r#"{"text":"a b"}"#], &["node", &path("examples/node/worker.mjs")]);
        assert!(run.code == 0 && run.stdout.contains("good task: done"), "{run:?}");
    }
    demo.nobody_is_left();
}

#[test]
fn the_smallest_worker_of_the_page_is_a_whole_one() {
    let demo = Demo::new(&Place::sqlite());
    let page = std::fs::read_to_string(repository("examples/README.md")).expect("the page");
    let (_, code) = page.split_once("```python\n").expect("a worker in Python");
    let (code, _) = code.split_once("```").expect("its end");
    let worker = demo.write("small.py", code).display().to_string();
    let run = check(&demo, &["--payload", r#"{"name":"you"}"#], &["python3", &worker]);
    assert!(run.code == 0 && run.stdout.ends_with("12 of 12 checks passed\n"), "{run:?}");
    assert!(run.stderr.contains("hello you"), "{}", run.stderr);
    demo.write("asynctask.yaml", "workers: { foo: small }\nkinds: { small: { command: [python3, small.py] } }\n");
    demo.submit("foo", r#"{"name":"you"}"#);
    demo.submit("foo", "{}");
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("hello you\nDEBUG:Small:Processing complete\n"), "{}", run.stdout);
    assert_eq!(demo.dead_letters("foo")[0]["error"], "KeyError('name')");
}

/// The names of the checks that did not pass, with what was said.
fn mistakes(mood: &str, within: &str) -> Vec<(String, String)> {
    let demo = Demo::new(&Place::sqlite());
    let run = check(&demo, &["--json", "--within", within], &["python3", &path("tests/kinds/languages/odd.py"), mood]);
    assert_eq!(run.code, 1, "{run:?}");
    let lines = run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object a line"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let wrong = lines.filter(|line| line["ok"] == false).map(|line| (text(&line["check"]), text(&line["text"])));
    demo.nobody_is_left();
    wrong.collect()
}

#[test]
fn each_mistake_is_named_and_hides_no_other() {
    let found = mistakes("deaf", "1s");
    let names: Vec<&str> = found.iter().map(|(check, _)| check.as_str()).collect();
    assert_eq!(names, ["unknown frame", "ping when idle", "recall", "payload of another shape", "halt"], "{found:?}");
    assert!(found[1].1.contains("nothing came within 1 s"), "{found:?}");
    assert!(found[3].1.starts_with("null: ") && found[3].1.contains("it ended (exit status 1)"), "{found:?}");
    let found = mistakes("greedy", "20s");
    let [(check, text)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(check, "tasks ahead");
    assert_eq!(text, "expected {\"pong\":{\"n\":4}}, but it said done of task \"check-10\"");
    let found = mistakes("never_ready", "1s");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "ready");
}

#[test]
fn a_program_that_is_not_there_is_a_finding() {
    let demo = Demo::new(&Place::sqlite());
    let run = check(&demo, &[], &["no-such-program-at-all"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("WRONG  ready: it could not be started: cannot start no-such"), "{}", run.stdout);
    let run = demo.run(&["check-worker"]);
    assert_eq!(run.code, 64, "{run:?}");
    assert_eq!(check(&demo, &["--payload", "{oops"], &["true"]).code, 64);
}

#[test]
fn the_program_does_not_get_the_address_of_the_transport() {
    let demo = Demo::new(&Place::sqlite());
    let seen = demo.folder.path().join("seen");
    let script = format!("env >> {}", seen.display());
    for settings in ["transport: ${BROKER}\n", "transport: ${BROKER}\nno_such_key: 1\n"] {
        demo.write("asynctask.yaml", settings);
        // What stands behind the program is the program's: the transport is that of the file.
        let mut command = demo.command(&["check-worker", "--within", "1s", "--", "sh", "-c", &script]);
        command.env("BROKER", "amqp://me:secret@example.org/").env("OTHER", "kept");
        let output = command.output().expect("the demo starts");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let seen = std::fs::read_to_string(&seen).expect("it ran");
        assert!(seen.contains("OTHER=kept") && !seen.contains("secret"), "{seen}");
    }
}
