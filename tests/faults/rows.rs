//! Rows of the file that another program wrote: each is done or becomes a dead letter, and no master ends for it.

use rusqlite::Connection;
use serde_json::json;

use crate::support::{Demo, Place};

const WORKERS: &str = "{foo: {worker: demo_file_worker, retry: {max_attempts: 2, first: 100ms}}}";

fn file(demo: &Demo) -> Connection {
    Connection::open(demo.uri.strip_prefix("sqlite:").expect("a file")).expect("the file is there")
}

/// A row of the queue `foo` with these columns, as SQL.
fn insert(file: &Connection, columns: &str, values: &str) {
    let row =
        format!("INSERT INTO task (queue, {columns}) VALUES ((SELECT id FROM queue WHERE name = 'foo'), {values})");
    assert_eq!(file.execute(&row, []).unwrap_or_else(|error| panic!("{row}: {error}")), 1);
}

#[test]
fn rows_that_another_program_wrote_end_no_master() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", r#"{"ours":1}"#);
    let file = file(&demo);
    let done = [
        ("due, message_id, body", "0, 'text', '{\"n\":1}'"),
        ("due, message_id, body", "0, x'626c6f62', x'7b226e223a327d'"),
        ("due, message_id, body", "0, 17, 3"),
        ("due, message_id, body, headers", "0, 'headers', '4', 'no json'"),
        ("due, message_id, body, headers, history", "0, 'blobs', '5', x'ff00', 7"),
        ("due, message_id, body, expires_at, first_failed_at", "0, 'moments', '6', 'never', x'00'"),
        ("due, message_id, body, redelivered", "0, 'again', '7', 'yes'"),
        ("due, message_id, body, claim", "0, 'claimed', '8', 'often'"),
        ("due, message_id, body, claim", "0, 'claims', '9', 9223372036854775807"),
        ("due, message_id, body", "1.5, 'point', '10'"),
        ("due, message_id, body", "'some day', 'due', '11'"),
        ("due, message_id, body", "x'00', 'due too', '12'"),
    ];
    let dead = [
        ("due, message_id, body, attempts", "0, 'minus', '{}', -5"),
        ("due, message_id, body, attempts", "0, 'least', '{}', -9223372036854775808"),
        ("due, message_id, body, attempts", "0, 'most', '{}', 9223372036854775807"),
        ("due, message_id, body, attempts", "0, 'word', '{}', 'three'"),
        ("due, message_id, body, deliveries", "0, 'times', '{}', 'three'"),
        ("due, message_id, body", "0, 'bytes', x'ff00'"),
        ("due, message_id, body", "0, '', ''"),
    ];
    for (columns, values) in done.iter().chain(&dead) {
        insert(&file, columns, values);
    }
    let run = demo.workers(WORKERS, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(demo.done().len(), 1 + done.len(), "{:?}", demo.done());
    let letters = demo.dead_letters("foo");
    assert_eq!(letters.len(), dead.len(), "{letters:?}");
    assert!(letters.iter().all(|letter| letter["reason"] == "malformed"), "{letters:?}");
    let told = |id: &str| letters.iter().find(|letter| letter["id"] == id).expect("a dead letter")["error"].to_string();
    assert!(told("minus").contains("attempts is -5"), "{}", told("minus"));
    assert!(told("word").contains("attempts is of the class Text"), "{}", told("word"));
    assert!(told("times").contains("deliveries"), "{}", told("times"));
}

#[test]
fn dead_letters_that_another_program_wrote_are_listed_retried_and_purged() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "1");
    let file = file(&demo);
    for (id, rest) in [
        ("none", "0, NULL, '2'"),
        ("bytes", "0, x'ff', x'33'"),
        ("number", "0, 17, 4"),
        ("text", "'long ago', 'it broke', '5'"),
    ] {
        insert(&file, "state, message_id, due, failure, body", &format!("2, '{id}', {rest}"));
    }
    insert(&file, "state, message_id, due, body, claim", "2, 'claimed', 5, '6', 'often'");
    insert(&file, "state, message_id, due, body, purge_at", "2, 'kept', 6, '7', 'for ever'");
    let ids: Vec<String> =
        demo.dead_letters("foo").iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 6, "{ids:?}");
    let shown = demo.json(&["failed", "show", "foo", "text", "--json"]);
    assert_eq!((&shown["payload"], &shown["detail"]), (&json!(5), &json!("it broke")));
    let run = demo.run(&["failed", "purge", "foo", "none", "text", "--yes"]);
    assert_eq!(run.code, 0, "{run:?}");
    let run = demo.run(&["failed", "retry", "foo", "--all"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(demo.workers(WORKERS, &["--halt-when-empty"]).code, 0);
    let mut done = demo.done();
    done.sort();
    assert_eq!(done, ["1", "3", "4", "6", "7"]);
}

#[test]
fn names_of_queues_that_are_no_text_are_listed() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "1");
    file(&demo).execute("INSERT INTO queue (name) VALUES (x'6261ff'), (17)", []).expect("another program's");
    let run = demo.run(&["queues", "--json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let queues: serde_json::Value = serde_json::from_str(&run.stdout).expect("an object");
    assert_eq!(queues["foo"]["ready"], 1, "{queues}");
}

#[test]
fn rows_in_hands_of_nobody_or_in_no_state_are_worked() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "0");
    let file = file(&demo);
    // The first number that a master of this file gets is 1.
    let strange = ["1", "999", "0", "-5", "'abc'", "x'00'", "1.5", "9223372036854775807"].map(|owner| (owner, "1"));
    let states = ["9", "-1", "0.5", "'ready'", "x'00'"].map(|state| ("0", state));
    let mut all = vec!["0".to_owned()];
    for (owner, state) in strange.into_iter().chain(states) {
        let body = all.len().to_string();
        insert(&file, "due, message_id, body, owner, state", &format!("0, 'm{body}', '{body}', {owner}, {state}"));
        all.push(body);
    }
    // A master that never was, and a key of it.
    file.execute("INSERT INTO master (owner, pid, attached_at) VALUES (-7, 1, 1)", []).expect("another program's");
    insert(&file, "due, message_id, body, owner, state", "0, 'row', '100', -7, 1");
    all.push("100".to_owned());
    file.execute("INSERT INTO held_key (key, owner, task) VALUES ('k', 999, 'x')", []).expect("another program's");
    file.execute("INSERT INTO task (queue, due, message_id, body) VALUES (4711, 0, 'nowhere', '1')", [])
        .expect("a row");
    let run = demo.workers(WORKERS, &["--halt-when-empty", "--halt-timeout", "30s"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("in the hands of no master, or in no state"), "{run:?}");
    let mut done = demo.done();
    let number = |body: &String| body.parse::<u32>().expect("a number");
    done.sort_by_key(number);
    assert_eq!(done, all);
    let count = |query: &str| file.query_row(query, [], |row| row.get::<_, i64>(0)).expect("a count");
    assert_eq!(count("SELECT count(*) FROM task"), 1, "the row of no queue is left alone");
    assert_eq!(count("SELECT count(*) FROM held_key"), 0);
}

#[test]
fn rows_in_hands_of_nobody_are_worked_when_they_come_to_a_master_that_runs() {
    let demo = Demo::new(&Place::sqlite());
    demo.submit("foo", "0");
    let mut master = demo.start(WORKERS, &[]);
    master.expect("Got payload: 0");
    let file = file(&demo);
    insert(&file, "due, message_id, body, owner, state", "0, 'a', '1', 999, 1");
    master.expect("Got payload: 1");
    insert(&file, "due, message_id, body, owner, state", "0, 'b', '2', 0, 9");
    master.expect("Got payload: 2");
    master.signal(nix::sys::signal::Signal::SIGTERM);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
}
