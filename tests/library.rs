//! A program of somebody else's that uses the library, and has one thread until then: the harness of tests would give it more.
//! Without arguments it starts itself in the roles that its `main` tells apart, and judges them.

#[path = "support/mod.rs"]
mod support;

use std::process::{Command, ExitCode};

use asynctask::{
    App, Context, Level, Outcome,
    config::{self, Sources},
    drain, process,
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use support::{Demo, Place, foreign::Foreign};

/// More than a stack of 2 MiB has room for by far. 20,000 would fit a frame, but the broker takes seconds for such a message.
const LEVELS: usize = 5_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["drain", uri] => drained(uri),
        ["thread-first", uri] => {
            std::thread::spawn(|| {}).join().expect("it does nothing");
            drained(uri)
        }
        _ => {
            // Those of `cargo test`: a filter names tests, of which this program has one.
            let name = "a_drain_in_a_program_of_ones_own_outlives_nested_headers";
            let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
            if !words.contains(&"--list") && (filters.is_empty() || filters.iter().any(|word| name.contains(**word))) {
                outlives_nested_headers();
                println!("test {name} ... ok");
            }
            ExitCode::SUCCESS
        }
    }
}

fn drained(uri: &str) -> ExitCode {
    let app = App::new("test").worker_fn("fine", |_: Value, _: &Context| Ok(Outcome::Done));
    let sources = Sources {
        files: Vec::new(),
        set: vec![format!("transport={uri}")],
        rust_kinds: vec!["fine".to_owned()],
        env: Vec::new().into_iter().collect(),
        cwd: std::env::temp_dir(),
        application: "test".to_owned(),
        at_once: false,
    };
    let config = config::load(&sources).expect("they are right");
    let done =
        drain::process_queue(app.registry(), &config, "foo", Some("fine"), Level::Info).expect("the queue is drained");
    println!("done: {done}");
    ExitCode::SUCCESS
}

fn outlives_nested_headers() {
    // This program makes such a message by recursion, too.
    assert!(process::stacks::enlarge(), "this is its beginning");
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    let run = |role: &str| {
        let program = std::env::current_exe().expect("a test has a path");
        let output =
            Command::new(program).args([role, &demo.uri]).env_remove("RUST_MIN_STACK").output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    };
    let advice = format!("RUST_MIN_STACK={} ", process::stacks::LARGE);
    // The first to come makes the queue. A thread that was there before is told of, as long as it harms nobody.
    let (code, text) = run("thread-first");
    assert!(code == Some(0) && text.contains("done: 0") && text.contains(&advice), "{text}");
    let uri = demo.uri.clone();
    let publish = move || {
        let nested = |inner, _| {
            AMQPValue::FieldTable(
                std::iter::once(("".into(), inner)).collect::<std::collections::BTreeMap<_, _>>().into(),
            )
        };
        let mut headers = FieldTable::default();
        headers.insert("x".into(), (0..LEVELS).fold(AMQPValue::Void, nested));
        Foreign::connect(&uri).publish("foo", BasicProperties::default().with_headers(headers), br#"{"then":"error"}"#);
    };
    std::thread::spawn(publish.clone()).join().expect("it is published");
    let (code, text) = run("drain");
    assert!(code == Some(0) && text.contains("done: 1") && !text.contains("RUST_MIN_STACK"), "{text}");
    // A master, too, also where it publishes a copy.
    std::thread::spawn(publish).join().expect("it is published");
    let mut master = demo.start(r#"{"foo": "demo_sleep_worker"}"#, &[]);
    master.expect("dead-lettered to foo_failed");
    master.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
    assert_eq!(demo.dead_letters("foo").len(), 1);
}
