//! Draining a queue in this process, on every transport; `run` and `process` on the command line.

use crate::support::{Demo, Place};
use asynctask::{
    App, Context, Level, Outcome,
    client::blocking::Client,
    config::{Config, Sources},
    drain::{self, Error},
};
use serde_json::{Value, json};

fn app() -> App {
    App::new("test")
        .worker_fn("fine", |_: Value, _: &Context| Ok(Outcome::Done))
        .worker_fn("unused", |_: Value, _: &Context| Ok(Outcome::Done))
        .worker_fn("picky", |payload: Value, context: &Context| match payload["do"].as_str() {
            Some("error") => Err("Oops!".into()),
            Some("panic") => panic!("no"),
            Some("once more") if context.attempt() == 1 => {
                Ok(Outcome::Retry { after: std::time::Duration::from_millis(100) })
            }
            Some("dead") => Ok(Outcome::Dead("never".to_owned())),
            Some("split") => {
                context.submit("other", &json!({}))?;
                Ok(Outcome::Done)
            }
            _ => Ok(Outcome::Done),
        })
        .worker_fn("curious", |payload: Value, context: &Context| {
            let properties = serde_json::to_value(context.properties())?;
            let seen = if payload == json!({ "a": 1 }) { properties } else { payload };
            Ok(Outcome::Dead(seen.to_string()))
        })
        .with_properties("curious")
        .worker_fn("plain", |_: Value, context: &Context| {
            Ok(Outcome::Dead(serde_json::to_string(context.properties())?))
        })
        .async_worker_fn("later", |_: Value, _: Context| async { Ok(Outcome::Done) })
}

fn settings(app: &App, uri: &str, more: &[&str]) -> Config {
    let transport = format!("transport={uri}");
    let set = [transport.as_str()].iter().chain(more).map(ToString::to_string).collect();
    let sources = Sources {
        files: Vec::new(),
        set,
        rust_kinds: app.kinds().keys().cloned().collect(),
        env: Vec::new().into_iter().collect(),
        cwd: std::env::temp_dir(),
        application: "test".to_owned(),
        at_once: false,
    };
    asynctask::config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"))
}

/// An address of each transport that is there.
fn each(test: impl Fn(&str)) {
    test(&format!("localmem:drain-{}", uuid::Uuid::now_v7()));
    for place in Place::all() {
        test(&Demo::new(&place).uri);
    }
}

const WORKERS: &str = r#"workers={"first": "fine", "foo": "fine", "bar": {"worker": "picky", "retry": {"max_attempts": 2, "first": "100ms"}}, "baz": "later"}"#;

#[test]
fn a_queue_is_drained_and_its_tasks_are_counted() {
    each(|uri| {
        let app = app();
        let config = settings(&app, uri, &[WORKERS]);
        let client = Client::open(uri).unwrap();
        for queue in ["foo", "foo", "foo", "baz", "elsewhere", "first"] {
            client.submit(queue, &json!({ "n": 1 })).unwrap();
        }
        let drain = |queue, kind| drain::process_queue(app.registry(), &config, queue, kind, Level::Error).unwrap();
        assert_eq!(drain("foo", None), 3, "{uri}");
        assert_eq!(drain("foo", None), 0, "{uri}");
        assert_eq!(drain("baz", None), 1, "{uri}");
        assert_eq!(drain("elsewhere", Some("fine")), 1, "{uri}");
        let run = |kind, queue| drain::run_worker(app.registry(), &config, kind, queue, Level::Error).unwrap();
        // The first queue that is configured for it.
        assert_eq!(run("fine", None), 1, "{uri}");
        client.submit("elsewhere", &json!({})).unwrap();
        assert_eq!(run("unused", Some("elsewhere")), 1, "{uri}");
    });
}

#[test]
fn packed_bodies_are_unpacked_and_properties_are_told_to_who_wants_them() {
    each(|uri| {
        let app = app();
        let config = settings(&app, uri, &[r#"workers={"foo": "curious", "bar": "plain"}"#]);
        let client = Client::open(uri).unwrap();
        let mut told = "{}";
        for queue in ["foo", "bar"] {
            let drain = || drain::process_queue(app.registry(), &config, queue, None, Level::Error).unwrap();
            // The queue is there from then on.
            drain();
            if uri.starts_with("amqp") {
                let properties = lapin::BasicProperties::default();
                let properties = properties.with_content_encoding("gzip".into()).with_reply_to("answers".into());
                let body = asynctask::payload::Packing::Gzip.pack(br#"{"a":1}"#);
                crate::support::foreign::Foreign::connect(uri).publish(queue, properties, &body);
                told = r#"{"content_encoding":"gzip","reply_to":"answers"}"#;
            } else {
                client.submit(queue, &json!({ "a": 1 })).unwrap();
            }
            assert_eq!(drain(), 0, "{uri}");
        }
        assert_eq!(["foo", "bar"].map(|queue| dead(uri, queue)), [told, "{}"], "{uri}");
    });
}

/// The error of the one dead letter of a queue.
fn dead(uri: &str, queue: &str) -> String {
    use asynctask::transport::{self, DeadQueue, Request, Uri, Visit};
    let (events, _heard) = tokio::sync::mpsc::unbounded_channel();
    let transport = transport::open(&Uri::parse(uri, &std::env::temp_dir()).unwrap(), events).unwrap();
    let (sender, errors) = std::sync::mpsc::channel();
    let visit = Box::new(move |letter: &transport::DeadLetter| {
        sender.send(letter.failure.error.clone()).unwrap();
        Visit::Keep
    });
    let queue = DeadQueue::of(queue);
    transport::call(&*transport, |reply| Request::WalkDead { queue, visit, reply }).unwrap();
    let errors: Vec<String> = errors.iter().collect();
    assert_eq!(errors.len(), 1, "{uri}: {errors:?}");
    errors.into_iter().next().unwrap()
}

#[test]
fn what_is_missing_is_named() {
    let app = app();
    let config = settings(&app, "localmem:", &[WORKERS, r#"kinds={"sh": {"command": ["sh"]}}"#]);
    let process =
        |queue, kind| drain::process_queue(app.registry(), &config, queue, kind, Level::Error).unwrap_err().to_string();
    let run =
        |kind, queue| drain::run_worker(app.registry(), &config, kind, queue, Level::Error).unwrap_err().to_string();
    assert_eq!(process("doesntexist", None), "Cannot identify worker for queue \"doesntexist\"");
    assert_eq!(run("unused", None), "Cannot identify queue for worker \"unused\"");
    assert_eq!(run("doesntexist", None), "Worker \"doesntexist\" does not exist");
    assert_eq!(process("foo", Some("doesntexist")), "Worker \"doesntexist\" does not exist");
    assert!(run("sh", Some("foo")).starts_with("Worker \"sh\" is a program"));
    assert_eq!(process("_", Some("fine")), "\"_\" is not a properly-formatted queue name");
}

#[test]
fn an_error_ends_the_drain_and_loses_nothing() {
    each(|uri| {
        let app = app();
        let config = settings(&app, uri, &[WORKERS]);
        let client = Client::open(uri).unwrap();
        for what in ["ok", "error", "ok"] {
            client.submit("bar", &json!({ "do": what })).unwrap();
        }
        let drain = || drain::process_queue(app.registry(), &config, "bar", None, Level::Error);
        let Err(Error::Task { error, done, .. }) = drain() else { panic!("{uri}: no error") };
        assert_eq!((error.as_str(), done), ("Oops!", 1));
        // The third, and then the second attempt of the second: delayed tasks are waited for.
        let Err(Error::Task { error, done, .. }) = drain() else { panic!("{uri}: no error") };
        assert_eq!((error.as_str(), done), ("Oops!", 1));
        // It was the last one: a dead letter, and the queue is empty.
        assert_eq!(drain().unwrap(), 0);
        client.submit("bar", &json!({ "do": "panic" })).unwrap();
        assert!(matches!(drain(), Err(Error::Task { error, .. }) if error == "no"), "{uri}");
    });
}

#[test]
fn other_outcomes_are_settled_and_the_drain_goes_on() {
    each(|uri| {
        let app = app();
        let config = settings(&app, uri, &[WORKERS]);
        let client = Client::open(uri).unwrap();
        for what in ["once more", "dead", "split", "ok"] {
            client.submit("bar", &json!({ "do": what })).unwrap();
        }
        assert_eq!(drain::process_queue(app.registry(), &config, "bar", None, Level::Error).unwrap(), 3, "{uri}");
        assert_eq!(
            drain::process_queue(app.registry(), &config, "other", Some("fine"), Level::Error).unwrap(),
            1,
            "{uri}"
        );
    });
}

#[test]
fn a_rate_is_kept() {
    let (app, uri) = (app(), "localmem:drain-rate");
    let workers = r#"workers={"foo": {"worker": "fine", "rate_max_calls": 1, "rate_period": 0.2}}"#;
    let config = settings(&app, uri, &[workers]);
    let client = Client::open(uri).unwrap();
    for _ in 0..3 {
        client.submit("foo", &json!({})).unwrap();
    }
    let clock = asynctask::clock::Clock::start();
    assert_eq!(drain::process_queue(app.registry(), &config, "foo", None, Level::Error).unwrap(), 3);
    assert!(clock.now().at.since_start() >= std::time::Duration::from_millis(400));
}

#[test]
fn the_command_prints_the_count() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", r#"{"a":1}"#);
    demo.submit("foo", r#"{"a":2}"#);
    let set = ["--set", r#"workers={"foo": "demo_error_worker"}"#];
    let ran = demo.run(&[&["process", "foo"][..], &set].concat());
    assert_eq!(ran.stdout.lines().last(), Some("2"));
    assert_eq!(ran.code, 0);
    demo.submit("foo", r#"{"error":true}"#);
    let ran = demo.run(&[&["process", "foo", "--json"][..], &set].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("Oops!"), "{}", ran.stderr);
    assert_eq!(demo.dead_letters("foo").len(), 1);
    let ran = demo.run(&[&["process", "foo", "--json"][..], &set].concat());
    assert_eq!(ran.stdout, "{\"done\":0,\"queue\":\"foo\"}\n");
}

#[test]
fn one_payload_is_run_without_a_queue() {
    let demo = Demo::new(&Place::sqlite());
    let ran = demo.run(&["run", "demo_foo_worker", r#"{"a":1}"#]);
    assert_eq!((ran.stdout.as_str(), ran.code), ("FOO processed: {\"a\":1}\ndone\n", 0));
    let ran = demo.run(&["run", "demo_error_worker", r#"{"error":true}"#]);
    assert_eq!((ran.stdout.as_str(), ran.code), ("error: Oops!\n", 1));
    let ran = demo.run(&["run", "demo_foo_worker", "{"]);
    assert!(ran.stdout.starts_with("malformed: "), "{}", ran.stdout);
    let ran = demo.run(&["run", "nobody"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with("error: Worker \"nobody\" does not exist\nhint: known kinds: "), "{}", ran.stderr);
    assert!(!demo.folder.path().join("tasks.db").exists());
}

#[test]
fn a_program_that_speaks_frames_is_run_too() {
    let demo = Demo::new(&Place::sqlite());
    let script = r#"
import os, json, socket
s = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
f = s.makefile("rw")
def say(frame):
    f.write(json.dumps(frame) + "\n"); f.flush()
say({"ready": {"protocol": 1}})
for line in f:
    frame = json.loads(line)
    if "task" in frame:
        task = frame["task"]
        print("got", task["payload"])
        if task["payload"] == "die": os._exit(3)
        if "accept" in str(task["payload"]): say({"accept": {"id": task["id"]}})
        if "no" in str(task["payload"]): say({"error": {"id": task["id"], "error": "Oops!"}})
        else: say({"done": {"id": task["id"]}})
    if "halt" in frame:
        say({"bye": {}})
        break
"#;
    std::fs::write(demo.folder.path().join("worker.py"), script).unwrap();
    let kinds = "kinds.py={command: [python3, worker.py]}";
    let run =
        |payload| demo.command(&["run", "py", payload, "--json", "--set", kinds]).env_remove("LOG_LEVEL").output();
    let outcome = |payload| {
        let output = run(payload).unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap_or_default()).unwrap_or_default();
        (last, output.status.code(), stdout)
    };
    let (ok, code, stdout) = outcome("1");
    assert_eq!((ok["outcome"].as_str(), code), (Some("done"), Some(0)), "{stdout}");
    assert!(stdout.starts_with("got 1\n"), "{stdout}");
    let (error, code, stdout) = outcome("\"no\"");
    assert_eq!((error["error"].as_str(), code), (Some("Oops!"), Some(1)), "{stdout}");
    let (crash, _, stdout) = outcome("\"die\"");
    assert_eq!((&crash["outcome"], &crash["exit"]), (&json!("crash"), &json!({ "code": 3 })), "{stdout}");
    // The acceptance is answered too: nothing waits for the limit of a transport that stores nothing.
    for (payload, ends, code) in [("\"accept\"", "done", 0), ("\"accept, no\"", "error", 1)] {
        let (accepted, ended_with, stdout) = outcome(payload);
        assert_eq!((accepted["outcome"].as_str(), ended_with), (Some(ends), Some(code)), "{stdout}");
        let stderr = String::from_utf8(run(payload).unwrap().stderr).unwrap();
        assert!(!stderr.contains("stored"), "{stderr}");
    }
}

#[test]
fn shells_and_readers_are_served() {
    let demo = Demo::new(&Place::sqlite());
    for shell in ["bash", "zsh", "fish"] {
        let ran = demo.run(&["completions", shell]);
        assert!(ran.code == 0 && ran.stdout.contains("halt-when-empty"), "{shell}: {}", ran.stderr);
    }
    let page = demo.run(&["man"]).stdout;
    assert!(page.contains(".SH \"DEMO WORKERS\"") && page.contains("halt\\-when\\-empty"), "{page}");
}
