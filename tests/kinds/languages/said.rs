//! What a worker of another language says is bounded, and need not be Unicode: the same on each transport.

use serde_json::{Value, json};

use super::repository;
use crate::support::{Demo, Place};

fn demo(place: &Place) -> Demo {
    let demo = Demo::new(place);
    let program = repository("tests/kinds/languages/said.py");
    demo.write(
        "asynctask.yaml",
        &format!("workers: {{ foo: said }}\nkinds: {{ said: {{ command: [python3, {}] }} }}\n", program.display()),
    );
    demo
}

/// The dead letter of a task whose worker said this, with all that is told of it, and the run's log.
fn dead(demo: &Demo, payload: &Value) -> (Value, String) {
    demo.submit("foo", &payload.to_string());
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let letters = demo.dead_letters("foo");
    let id = letters.last().expect("a dead letter")["id"].as_str().expect("text").to_owned();
    let letter = demo.json(&["failed", "show", "foo", &id, "--json"]);
    assert_eq!(demo.run(&["failed", "purge", "foo", "--all", "--yes"]).code, 0);
    (letter, run.stdout)
}

#[test]
fn long_texts_are_cut_alike_everywhere() {
    for place in Place::all() {
        let demo = demo(&place);
        let say = r#"{"error":{"id":"@","error":"E","detail":"D"}}"#;
        let (letter, _) = dead(&demo, &json!({ "say": say, "long": { "E": 6_000_000, "D": 6_000_000 } }));
        let length = |name: &str| letter[name].as_str().expect("text").len();
        assert_eq!((length("error"), length("detail")), (2 * 1024, 32 * 1024), "{place:?}");

        let (letter, log) = dead(&demo, &json!({ "say": r#"{"done":{"id":"I"}}"#, "long": { "I": 3_000_000 } }));
        assert_eq!(letter["reason"], "crash");
        let error = letter["error"].as_str().expect("text");
        assert!(error.contains("which it does not hold") || error.len() < 500, "{place:?}: {}", error.len());
        assert!(log.lines().all(|line| line.len() < 2000), "{place:?}");
    }
}

#[test]
fn a_worker_that_submits_too_much_fails_its_task() {
    let demo = demo(&Place::sqlite());
    let say = r#"{"done":{"id":"@","submit":[F]}}"#;
    let (letter, _) = dead(&demo, &json!({ "say": say, "list": { "F": [r#"{"queue":"bar","payload":1}"#, 65_537] } }));
    assert_eq!(letter["error"], "65537 follow-ups of one task, at most 65536 can be stored");
    assert_eq!(demo.depth("bar")["ready"], 0);
}

#[test]
fn what_has_no_place_is_an_error_of_its_task_and_no_death() {
    for place in Place::all() {
        let demo = demo(&place);
        for (say, long, error) in [
            (
                r#"{"snooze":{"id":"@","delay_ms":1,"memo":"MM"}}"#,
                json!({ "MM": 1 << 20 }),
                "its memo has 1048578 bytes, more than 16384: put it into a file and give its name",
            ),
            (
                r#"{"done":{"id":"@","submit":[{"item":1},{"more":2}]}}"#,
                json!({}),
                "it submits 2 items, and is of no job",
            ),
            (
                r#"{"done":{"id":"@","submit":[{"pipeline":"p","payload":1,"id":"a/b"}]}}"#,
                json!({}),
                "\"a/b\" cannot be the id of a job: that is 1 to 200 letters, digits and _ - . : with a letter or digit first",
            ),
            (
                r#"{"done":{"id":"@","submit":[{"queue":"asynctask.ledger.app","payload":1}]}}"#,
                json!({}),
                "\"asynctask.ledger.app\" is the ledger of the jobs of app",
            ),
        ] {
            let (letter, log) = dead(&demo, &json!({ "say": say, "long": long }));
            assert_eq!(
                (letter["reason"].as_str(), letter["error"].as_str()),
                (Some("error"), Some(error)),
                "{place:?}"
            );
            assert!(!log.contains("died"), "{log}");
        }
    }
}

#[test]
fn a_queue_that_nobody_works_is_told_once() {
    let demo = demo(&Place::sqlite());
    for queue in ["fooo", "fooo", "foo"] {
        let say =
            format!(r#"{{"done":{{"id":"@","submit":[{{"queue":"{queue}","payload":{{"say":"I","long":{{}}}}}}]}}}}"#);
        demo.submit("foo", &json!({ "say": say.replace('I', r#"{\"done\":{\"id\":\"@\"}}"#) }).to_string());
    }
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!(run.code, 0, "{run:?}");
    let told = "A task was submitted to a queue that nobody may work: no configured queue is named \"fooo\"; did you mean \"foo\"?";
    assert_eq!(run.stdout.matches(told).count(), 1, "{}", run.stdout);
    assert_eq!(run.stdout.matches("nobody may work").count(), 1, "{}", run.stdout);
    assert_eq!(demo.depth("fooo")["ready"], 2);
}

#[test]
fn half_a_character_is_shown_as_such_and_breaks_nothing() {
    for place in Place::all() {
        let demo = demo(&place);
        for (say, error) in [
            (r#"{"error":{"id":"@","error":"cannot resize \ud83d"}}"#, "cannot resize \u{fffd}"),
            (r#"{"failed":{"id":"@","error":"\ude00\ud83d"}}"#, "\u{fffd}\u{fffd}"),
            ("{\"error\":{\"id\":\"@\",\"error\":\"Stra\u{df}e\"}}", "Stra\u{fffd}e"),
        ] {
            let (letter, _) = dead(&demo, &json!({ "say": say }));
            assert_eq!(letter["error"], error, "{place:?}");
        }
        // The payload of a follow-up is what it was.
        demo.submit(
            "foo",
            &json!({ "say": r#"{"done":{"id":"@","submit":[{"queue":"bar","payload":["\ud83d"]}]}}"# }).to_string(),
        );
        assert_eq!(demo.run(&["workers", "--halt-when-empty"]).code, 0);
        let kinds = "kinds={once: {command: [cat], mode: once}}";
        let run = demo.run(&["workers", "--halt-when-empty", "--set", "workers={bar: once}", "--set", kinds]);
        assert!(run.stdout.contains(r#"["\ud83d"]"#), "{place:?}: {run:?}");
    }
}

#[test]
fn a_payload_with_half_a_character_is_json_everywhere() {
    for place in Place::all() {
        let demo = Demo::new(&place);
        for payload in [r#""\ud800""#, r#"["\ud800"]"#, r#"{"s":"\ud800"}"#] {
            demo.submit("foo", payload);
            let run = demo.workers("{foo: demo_foo_worker}", &["--halt-when-empty"]);
            assert!(run.code == 0 && run.stdout.contains("FOO processed"), "{place:?} {payload}: {run:?}");
        }
        assert_eq!(demo.dead_letters("foo").len(), 0, "{place:?}");
        // Not every reader takes it in a list.
        demo.submit("foo", r#"{"s":"\ud800","then":"dead"}"#);
        assert_eq!(demo.workers("{foo: demo_sleep_worker}", &["--halt-when-empty"]).code, 0);
        let exported = demo.run(&["failed", "export", "foo"]).stdout;
        let line: Value = serde_json::from_str(&exported).expect("every reader takes it");
        assert_eq!(line["payload_base64"], "eyJzIjoiXHVkODAwIiwidGhlbiI6ImRlYWQifQ==", "{place:?}");
    }
}

#[test]
fn ids_are_listed_whole_and_found_as_they_are_listed() {
    let demo = Demo::new(&Place::sqlite());
    let id = "a\nb\u{1b}[31m-and-so-on-for-more-than-eighty-characters-which-is-as-long-as-an-error-may-be-in-a-table";
    demo.submit("foo", r#"{"then":"dead"}"#);
    // Of another program: `submit` takes no such id.
    let file =
        rusqlite::Connection::open(demo.uri.strip_prefix("sqlite:").expect("a file")).expect("the file is there");
    file.execute("UPDATE task SET message_id = ?1", [id]).expect("it is not locked");
    assert_eq!(demo.workers("{foo: demo_sleep_worker}", &["--halt-when-empty"]).code, 0);
    let shown = id.replace('\n', "\\n").replace('\u{1b}', "\\u{1b}");
    let list = demo.run(&["failed", "list", "foo"]).stdout;
    assert!(list.contains(&shown), "{list}");
    for asked in [id, &shown] {
        assert_eq!(demo.json(&["failed", "show", "foo", asked, "--json"])["id"], id);
    }
    assert_eq!(demo.run(&["failed", "retry", "foo", &shown]).code, 0);
    assert_eq!(demo.depth("foo")["ready"], 1);
}
