//! Dead letters that the broker or other systems made.

use lapin::BasicProperties;
use serde_json::json;

use crate::{
    lines, store,
    support::{Demo, Place, foreign::Foreign},
};

#[test]
fn thirty_listings_of_five_hundred_keep_all_and_their_order() {
    let Some(place) = Place::amqp() else { return };
    let demo = Demo::new(&place);
    store::bury_many(&demo, "foo", 500);
    let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    for listing in 0..30 {
        let ids: Vec<String> = crate::ids(&demo.run(&["failed", "list", "foo", "--json"]));
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
    assert_eq!(run.stdout, "1 dead letters of queue foo retried\n");
    let id = letters[2]["id"].as_str().unwrap();
    assert_eq!(demo.run(&["failed", "retry", "foo", id]).code, 0);
    let run = demo.workers(r#"{"foo": "demo_file_worker"}"#, &["--halt-when-empty"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(demo.done(), [r#"{"refused":1}"#, r#"{"moved":1}"#]);
    assert_eq!(crate::ids(&demo.run(&["failed", "list", "foo", "--json"])), [letters[0]["id"].as_str().unwrap()]);
}
