//! Dead letters that the broker or other systems made.

use asynctask::payload::Packing;
use lapin::BasicProperties;
use serde_json::json;

use super::{lines, store};
use crate::support::{Demo, Place, foreign::Foreign};

#[test]
fn thirty_listings_of_five_hundred_keep_all_and_their_order() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    store::bury_many(&demo, "foo", 500);
    let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    for listing in 0..30 {
        let ids: Vec<String> = super::ids(&demo.run(&["failed", "list", "foo", "--json"]));
        assert!(ids == expected, "listing {listing}: {ids:?}");
    }
    assert_eq!(demo.depth("foo")["failed"], 500);
}

#[test]
fn what_the_broker_dead_lettered_is_listed_shown_and_retried() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    store::bury_many(&demo, "foo", 0);
    let foreign = Foreign::connect(&demo.uri);
    foreign.publish("foo", BasicProperties::default().with_expiration("1".into()), br#"{"old":1}"#);
    crate::support::log::until("it does not expire", || demo.depth("foo")["failed"] == 1);
    foreign.publish("foo", BasicProperties::default(), br#"{"refused":1}"#);
    crate::support::log::until("it is not there", || demo.depth("foo")["ready"] == 1);
    foreign.reject("foo");
    crate::support::log::until("it is not dead", || demo.depth("foo")["failed"] == 2);
    // Moved there by a person, without a header of anybody.
    foreign.publish("foo_failed", BasicProperties::default(), br#"{"moved":1}"#);
    crate::support::log::until("it is not there", || demo.depth("foo")["failed"] == 3);
    let letters = lines(&demo.run(&["failed", "list", "foo", "--json"]));
    let reasons: Vec<_> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["expired", "broker:rejected", "broker:unknown"]);
    for (letter, payload) in letters.iter().zip([json!({"old": 1}), json!({"refused": 1}), json!({"moved": 1})]) {
        let id = letter["id"].as_str().unwrap();
        assert_eq!(demo.json(&["failed", "show", "foo", id, "--json"])["payload"], payload);
    }
    let run = demo.run(&["failed", "retry", "foo", "--reason", "broker:rejected"]);
    assert_eq!(run.stdout, "1 dead letter of queue foo retried\n");
    let id = letters[2]["id"].as_str().unwrap();
    assert_eq!(demo.run(&["failed", "retry", "foo", id]).code, 0);
    let run = demo.workers(r#"{"foo": "demo_file_worker"}"#, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(demo.done(), [r#"{"refused":1}"#, r#"{"moved":1}"#]);
    assert_eq!(super::ids(&demo.run(&["failed", "list", "foo", "--json"])), [letters[0]["id"].as_str().unwrap()]);
}

#[test]
fn packed_letters_are_shown_unpacked_changed_and_packed_again() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    store::bury_many(&demo, "foo", 0);
    let foreign = Foreign::connect(&demo.uri);
    let publish = |id: &str, encoding: &str, body: &[u8]| {
        let properties = BasicProperties::default().with_message_id(id.into()).with_content_encoding(encoding.into());
        foreign.publish("foo_failed", properties.with_reply_to("ans\nwers".into()), body);
    };
    let text = br#"{"n":1e400,"a":1}"#;
    publish("gzip", "gzip", &Packing::Gzip.pack(text));
    publish("zlib", "deflate", &Packing::Zlib.pack(text));
    publish("utf", "utf-8", text);
    publish("br", "br", b"[1]");
    publish("cut", "gzip", &Packing::Gzip.pack(text)[..12]);
    crate::support::log::until("they are not there", || demo.depth("foo")["failed"] == 5);
    for (id, encoding) in [("gzip", "gzip"), ("zlib", "deflate"), ("utf", "utf-8")] {
        let shown = demo.run(&["failed", "show", "foo", id, "--json"]).stdout;
        assert!(shown.starts_with(r#"{"payload":{"n":1e400,"a":1},"#), "{shown}");
        let properties = format!(r#""properties":{{"content_encoding":"{encoding}","reply_to":"ans\nwers"}}"#);
        assert!(shown.contains(&properties), "{shown}");
        let shown = demo.run(&["failed", "show", "foo", id]).stdout;
        assert!(shown.starts_with("payload: {\"n\":1e400,\"a\":1}\n"), "{shown}");
        assert!(shown.contains(&format!("\nproperties: {{\"content_encoding\":\"{encoding}\",")), "{shown}");
    }
    let exported = demo.run(&["failed", "export", "foo"]).stdout;
    assert!(exported.lines().all(|line| line.contains(r#""properties":{"content_encoding":""#)), "{exported}");
    assert_eq!(exported.matches(r#"{"payload":{"n":1e400,"a":1},"#).count(), 3, "{exported}");
    // What is not unpacked is there as it came.
    assert!(exported.contains(r#"{"payload_base64":"WzFd","#), "{exported}");
    let run = demo.run(&["failed", "retry", "foo", "br", "--set-payload", "a=2"]);
    super::refused(&run, 1, "content encoding \"br\" is not supported");
    let run = demo.run(&["failed", "retry", "foo", "cut", "--set-payload", "a=2"]);
    super::refused(&run, 1, "cannot be unpacked (gzip): it ends too early");
    for id in ["gzip", "zlib", "utf"] {
        assert_eq!(demo.run(&["failed", "retry", "foo", id, "--set-payload", "a=2"]).code, 0);
    }
    for (id, body) in [
        ("gzip", Packing::Gzip.pack(br#"{"n":1e400,"a":2}"#)),
        ("zlib", Packing::Zlib.pack(br#"{"n":1e400,"a":2}"#)),
        ("utf", br#"{"n":1e400,"a":2}"#.to_vec()),
    ] {
        let message = foreign.take("foo").expect("it was put back");
        assert_eq!(message.properties.message_id().as_ref().map(lapin::types::ShortString::as_str), Some(id));
        assert_eq!(message.data, body, "{id}");
        foreign.publish("foo", message.properties, &body);
    }
    // Unchanged, the others go back and end where they were, with the cause.
    assert_eq!(demo.run(&["failed", "retry", "foo", "br", "cut"]).code, 0);
    let run = demo.workers(r#"{"foo": "demo_file_worker"}"#, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(demo.done(), [r#"{"n":1e400,"a":2}"#; 3]);
    let letters = lines(&demo.run(&["failed", "list", "foo", "--json"]));
    assert!(letters.iter().all(|letter| letter["reason"] == "malformed"), "{letters:?}");
    let mut errors: Vec<_> = letters.iter().map(|letter| letter["error"].as_str().expect("a text")).collect();
    errors.sort_unstable();
    assert_eq!(
        errors,
        [
            r#"content encoding "br" is not supported; gzip and deflate are"#,
            "the body cannot be unpacked (gzip): it ends too early",
        ]
    );
}

/// Ours go to the queue that the settings name, the broker's to the default one.
#[test]
fn dead_letters_of_the_broker_are_found_beside_those_in_a_queue_of_another_name() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    let foreign = Foreign::connect(&demo.uri);
    let workers = r#"{"foo": {"worker": "demo_sleep_worker", "dead_letter": {"queue": "elsewhere"}}}"#;
    let set = format!("workers={workers}");
    let run = |arguments: &[&str]| {
        let ran = demo.run(&[arguments, &["--set", &set]].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran
    };
    let failed = || {
        let queues: serde_json::Value = serde_json::from_str(&run(&["queues", "--json"]).stdout).expect("JSON");
        queues["foo"]["failed"].as_u64()
    };
    for _ in 0..2 {
        run(&["submit", "foo", r#"{"then":"dead"}"#, "--id", "ours"]);
        assert_eq!(demo.workers(workers, &["--halt-when-empty"]).code, 0);
        let named = BasicProperties::default().with_message_id("expired".into());
        foreign.publish("foo", named.with_expiration("1".into()), b"{}");
        crate::support::log::until("it does not expire", || failed() == Some(2));
        let listed = lines(&run(&["failed", "list", "foo", "--json"]));
        let told: Vec<_> = listed.iter().map(|letter| (letter["id"].as_str(), letter["reason"].as_str())).collect();
        assert_eq!(told, [(Some("ours"), Some("failed")), (Some("expired"), Some("expired"))]);
        assert_eq!(lines(&run(&["failed", "list", "foo", "--json", "--limit", "1"])).len(), 1);
        assert_eq!(run(&["failed", "export", "foo"]).stdout.lines().count(), 2);
        assert!(run(&["failed", "show", "foo", "expired"]).stdout.contains("expired"));
        let told = run(&["failed", "purge", "foo", "--all", "--yes"]).stdout;
        assert_eq!(told, "2 dead letters of queue foo deleted\n");
        assert_eq!((failed(), foreign.ready("elsewhere"), foreign.ready("foo_failed")), (Some(0), 0, 0));
    }
    foreign.publish("foo", BasicProperties::default().with_expiration("1".into()), br#"{"n":7}"#);
    crate::support::log::until("it does not expire", || failed() == Some(1));
    assert_eq!(run(&["failed", "retry", "foo", "--all"]).stdout, "1 dead letter of queue foo retried\n");
    assert_eq!(demo.workers(workers, &["--halt-when-empty"]).code, 0);
    assert_eq!((demo.done().len(), failed()), (1, Some(0)));
}

#[test]
fn a_queue_of_somebodys_own_refuses_and_no_connection_is_lost() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    store::bury_many(&demo, "foo", 0);
    let foreign = Foreign::connect(&demo.uri);
    foreign.declare_exclusive("theirs");
    foreign.declare_exclusive("bar_failed");
    for command in [
        &["queues", "purge", "theirs", "--yes"][..],
        &["queues", "delete", "theirs", "--yes"],
        &["failed", "list", "bar"],
        &["failed", "retry", "bar", "--all"],
        &["failed", "purge", "bar", "--all", "--yes"],
    ] {
        let run = demo.run(command);
        super::refused(&run, 1, "RESOURCE_LOCKED");
        assert!(run.stderr.contains("cannot be had") && !run.stderr.contains("was lost"), "{run:?}");
        assert!(!run.stderr.contains("check user"), "{run:?}");
    }
}
