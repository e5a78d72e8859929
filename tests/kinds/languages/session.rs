//! The same ten tasks, done by a kind in Rust, in Python, in JavaScript, and in shell with one process a task: the same
//! outcomes, the same dead letters, the same lines of the master.
//!
//! What may differ is taken out: names of kinds, ids, pids, moments, what the code itself printed, and the detail of an
//! error (a traceback is in its language). Retried tasks come again in an order that depends on how long others took,
//! so the log is compared task by task.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{has, repository};
use crate::support::{Demo, Place, demo::Ran};

const TASKS: [&str; 10] = [
    r#"{"n":1}"#,
    r#"{"n":2,"text":"ü \u2713 [\"a\", {\"b\": null}]","deep":[[[{}]]]}"#,
    r#"{"n":3,"then":"error"}"#,
    r#"{"n":4,"then":"dead"}"#,
    r#"{"n":5,"then":"retry_once"}"#,
    r#"{"n":6,"then":"abort"}"#,
    r#"{"n":7,"then":"hang"}"#,
    r#"{"n":8,"large":1234567890123456789012345678901234567890,"small":1e-7,"exact":0.10}"#,
    r#"{"n":9,"then":"segfault"}"#,
    r#"{"n":10,"then":"ok"}"#,
];

/// What is compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    code: i32,
    /// Before the first task, and from the emptiness on.
    frame: Vec<String>,
    /// By payload: all runs of it.
    tasks: BTreeMap<String, Vec<String>>,
    /// By payload: reason, error, attempts, queue, signal.
    letters: BTreeMap<String, Vec<Value>>,
}

fn session(demo: &Demo, kind: &str, name: &str) -> Seen {
    let ids = demo.submit_ids("foo", TASKS.map(str::to_owned));
    let settings =
        "timeout: 2s, retry: {max_attempts: 2, first: 100ms, factor: 1, longest: 100ms, jitter: 0%}, processes: 1";
    let run = demo.workers(&format!("{{foo: {{worker: {kind}, {settings}}}}}"), &["--halt-when-empty"]);
    let mut seen = Seen { code: run.code, ..Seen::default() };
    read_log(&run, kind, name, &ids, &mut seen);
    for letter in demo.dead_letters("foo") {
        let id = letter["id"].as_str().expect("an id");
        let letter = demo.json(&["failed", "show", "foo", id, "--json"]);
        let n = letter["payload"]["n"].to_string();
        let parts = ["reason", "error", "attempts", "queue"].map(|key| letter[key].clone());
        // A process of its own that said no has an exit code besides.
        let signal = letter["exit"]["signal"].clone();
        seen.letters.insert(n, [&parts[..], &[signal]].concat());
        assert_eq!(letter["kind"], kind);
    }
    assert!(demo.is_empty("foo"));
    seen
}

fn read_log(run: &Ran, kind: &str, name: &str, ids: &[String], seen: &mut Seen) {
    let mut task: Option<String> = None;
    let mut after_error = false;
    for line in run.stdout.lines() {
        let is_masters = ["DEBUG:", "INFO:", "WARNING:", "ERROR:"].iter().any(|level| line.starts_with(level));
        // The text of an error stands in a line of its own, its detail below.
        if !is_masters && !after_error {
            continue;
        }
        after_error = is_masters && (line.contains("unhandled exception") || line.contains("cannot be processed"));
        let mut line = line.replace(&format!(":{name}:"), ":NAME:").replace(kind, "KIND");
        for id in ids {
            line = line.replace(id.as_str(), "ID");
        }
        let line = without_numbers(&line, "(pid ", ")");
        // With an exit status alone nobody can say why.
        let line = line.split_once("Retry asked for:").map_or(line.clone(), |(begin, _)| begin.to_owned() + "Retry");
        let line = line.split_once("is retried in").map_or(line.clone(), |(begin, _)| begin.to_owned() + "is retried");
        // Of how long it took, and what a broker's connection says of itself.
        let is_own = |said: &&str| line.contains(said);
        if ["tasks in", "processed", "a session with amqp:"].iter().any(is_own) {
            continue;
        }
        if let Some((_, payload)) = line.split_once("Got payload: ") {
            task = Some(payload.to_owned());
        } else if line.contains("No tasks found") {
            task = None;
        }
        match &task {
            Some(payload) => seen.tasks.entry(payload.clone()).or_default().push(line),
            None => seen.frame.push(line),
        }
    }
    for lines in seen.tasks.values_mut() {
        *lines = stored_last(std::mem::take(lines));
    }
}

/// That a dead letter is stored is said when the transport has said so, before or after the next worker is ready.
fn stored_last(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_by_key(|line| line.contains("dead-lettered to"));
    lines
}

fn without_numbers(line: &str, before: &str, after: &str) -> String {
    match line.split_once(before).and_then(|(begin, rest)| Some((begin, rest.split_once(after)?.1))) {
        Some((begin, end)) => format!("{begin}{before}N{after}{end}"),
        None => line.to_owned(),
    }
}

/// A demo in which `session` is a kind that is this program.
fn demo_with(place: &Place, kind: &str) -> Demo {
    let demo = Demo::new(place);
    demo.write("asynctask.yaml", &format!("kinds:\n  {kind}\n"));
    demo
}

#[test]
fn ten_tasks_end_alike_in_every_language_and_on_every_transport() {
    let rust = Place::all().iter().map(in_every_language).collect::<Vec<Seen>>();
    for seen in &rust {
        assert_eq!(seen, &rust[0]);
    }
}

/// What the session in Rust showed, which those in the other languages showed too.
fn in_every_language(place: &Place) -> Seen {
    let script = |name: &str| repository("tests/kinds/languages").join(name).display().to_string();
    let python = format!(
        "python: {{ command: [python3, {}], env: {{ PYTHONPATH: {}, PYTHONDONTWRITEBYTECODE: 1 }} }}",
        script("session.py"),
        repository("examples/python").display()
    );
    let shell = format!("shell: {{ command: [sh, {}], mode: once }}", script("session.sh"));
    let node = format!(
        "node: {{ command: [node, {}], env: {{ WORKER_MODULE: {} }} }}",
        script("session.mjs"),
        repository("examples/node/worker.mjs").display()
    );
    let others = [("python", "session", python), ("shell", "shell", shell), ("node", "session", node)];
    std::thread::scope(|scope| {
        let others = others.map(|(kind, name, settings)| {
            let place = another(place);
            let run = move || session(&demo_with(&place, &settings), kind, name);
            (kind, has_language(kind).then(|| scope.spawn(run)))
        });
        let rust = session(&Demo::new(place), "demo_sleep_worker", "SleepWorker");
        assert_eq!((rust.code, rust.tasks.len(), rust.letters.len()), (0, 10, 5), "{rust:#?}");
        for (kind, thread) in others {
            if let Some(thread) = thread {
                assert_same(kind, &thread.join().expect("its session"), &rust);
            }
        }
        rust
    })
}

/// One of the same kind, empty.
fn another(place: &Place) -> Place {
    match place {
        Place::Sqlite => Place::sqlite(),
        Place::Amqp(_) => Place::amqp().expect("there was one"),
        Place::Postgres(_) => Place::postgres().expect("there was one"),
    }
}

fn has_language(kind: &str) -> bool {
    kind != "node" || has("node")
}

fn assert_same(language: &str, seen: &Seen, rust: &Seen) {
    assert_eq!(seen.letters, rust.letters, "dead letters of {language}");
    for (payload, lines) in &rust.tasks {
        assert_eq!(seen.tasks.get(payload), Some(lines), "lines about {payload} of {language}");
    }
    assert_eq!(seen, rust, "{language}");
}
