//! Queues that are full or forbidden, and what others owe them: told at each change, and no reason to stop working.

use std::{collections::BTreeSet, time::Duration};

use asynctask::{
    clock::Timestamp,
    task::{Delivery, Failure, Reason, Settlement},
    transport::{Error, Event},
};
use lapin::types::AMQPValue;

use super::At;
use crate::contract::party::{Party, done, setup, task, tasks};
use crate::support::{broker, foreign::Foreign, log::Stopwatch};

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// What a queue that takes one message and refuses more is declared with.
fn of_one(kind: &str) -> [(&'static str, AMQPValue); 3] {
    [("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish")), ("x-queue-type", text(kind))]
}

fn empty(foreign: &Foreign, queue: &str) {
    while foreign.take(queue).is_some() {}
}

/// The first queue of a party has a task in hand; the other is worked.
fn works(party: &mut Party<'_, At>) {
    for _ in 0..3 {
        party.submit(vec![task("good", "x")]);
        let delivery = party.delivery();
        assert_eq!(delivery.queue.0, 1);
        party.settle_now(delivery.handle, done());
    }
}

fn failure() -> Box<Failure> {
    Box::new(Failure::new(Reason::Error, "not stored", Timestamp(1_700_000_000_000)))
}

/// How many tasks of the first queue are held up by which other queue, and why; at the next change.
fn stuck(party: &mut Party<'_, At>) -> (String, String, u32) {
    party.wait("Stuck", |event| match event {
        Event::Stuck { queue, by, error, tasks } if queue.0 == 0 => Some((by.clone(), error.to_string(), *tasks)),
        Event::Lost { error, .. } => panic!("{error}"),
        _ => None,
    })
}

fn held(at: &At) -> (Party<'_, At>, Delivery) {
    let mut party = Party::attached(at, &[setup("foo", &[]), setup("good", &[])], 1);
    party.submit(tasks("foo", 1));
    let held = party.delivery();
    (party, held)
}

fn told_in_time(party: &mut Party<'_, At>, held: &Delivery, queue: &str) {
    let watch = Stopwatch::start();
    party
        .settle(held.handle, Settlement::Done { submit: vec![task("open", "a"), task(queue, "b"), task("open", "c")] });
    works(party);
    let error = party.wait("Unstorable", |event| match event {
        Event::Unstorable { handle, error, .. } if *handle == held.handle => Some(error.clone()),
        Event::Lost { error, .. } => panic!("{error}"),
        _ => None,
    });
    assert!(matches!(&error, Error::NotStored { queue: of, .. } if of == queue), "{error}");
    assert!(error.to_string().contains("full"), "{error}");
    assert!(watch.elapsed() < Duration::from_secs(20), "it took {:?}", watch.elapsed());
    works(party);
}

#[test]
fn follow_ups_into_a_full_queue_are_told_within_seconds() {
    for kind in ["classic", "quorum"] {
        let Some(at) = At::fresh() else { return };
        let foreign = Foreign::connect(&at.0);
        foreign.declare("full", &of_one(kind));
        foreign.fill("full");
        let (mut party, held) = held(&at);
        told_in_time(&mut party, &held, "full");
        // What was stored beside it is not stored again with each try.
        let id = |message: lapin::message::Delivery| message.properties.message_id().clone().map(|id| id.to_string());
        let stored: Vec<_> = std::iter::from_fn(|| foreign.take("open")).filter_map(id).collect();
        let distinct: BTreeSet<_> = stored.iter().collect();
        assert!(stored.contains(&"a".to_owned()) && distinct.len() == stored.len(), "{stored:?}");
        // Now there is room, and the same works.
        empty(&foreign, "full");
        party.settle_now(held.handle, Settlement::Done { submit: vec![task("full", "b")] });
        party.until_depth("full", |depth| depth.ready == 1);
    }
}

#[test]
fn a_policy_makes_a_queue_full_too() {
    let Some(at) = At::fresh() else { return };
    let vhost = at.0.rsplit('/').next().expect("a virtual host");
    let policy = r#"{"max-length":1,"overflow":"reject-publish"}"#;
    let foreign = Foreign::connect(&at.0);
    foreign.declare("full", &[("x-queue-type", text("quorum"))]);
    let set = ["set_policy", "-p", vhost, "full", "^full", policy, "--apply-to", "queues"];
    broker::shared().expect("it was there").control(&set);
    foreign.fill("full");
    let (mut party, held) = held(&at);
    told_in_time(&mut party, &held, "full");
    party.settle_now(held.handle, Settlement::Dead(failure()));
}

#[test]
fn follow_ups_wait_out_a_queue_that_is_full_for_a_moment() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    foreign.declare("full", &of_one("classic"));
    foreign.fill("full");
    let (mut party, held) = held(&at);
    party.settle(held.handle, Settlement::Done { submit: vec![task("full", "b")] });
    party.wait("Warning", |event| match event {
        Event::Warning(text) => text.contains("could not be stored").then_some(()),
        _ => None,
    });
    empty(&foreign, "full");
    party.settled(&[held.handle]);
    party.until_depth("full", |depth| depth.ready == 1);
}

#[test]
fn dead_letters_that_are_not_taken_are_told_at_each_change() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    foreign.declare("foo_failed", &of_one("quorum"));
    foreign.fill("foo_failed");
    let (mut party, first) = held(&at);
    party.credit(0, 2);
    party.settle(first.handle, Settlement::Dead(failure()));
    let (by, error, tasks) = stuck(&mut party);
    assert_eq!((by.as_str(), tasks), ("foo_failed", 1));
    assert!(error.contains("\"foo_failed\"") && error.contains("full"), "{error}");
    works(&mut party);
    party.submit(vec![task("foo", "second")]);
    let second = party.delivery();
    party.settle(second.handle, Settlement::Dead(failure()));
    assert_eq!(stuck(&mut party).2, 2);
    empty(&foreign, "foo_failed");
    assert_eq!(stuck(&mut party).2, 1);
    assert_eq!(stuck(&mut party).2, 0);
    party.settled(&[first.handle, second.handle]);
}

#[test]
fn dead_letters_that_are_forbidden_wait_for_permission() {
    let Some(at) = At::fresh() else { return };
    let (mut party, held) = held(&at);
    let vhost = at.0.rsplit('/').next().expect("a virtual host");
    let broker = broker::shared().expect("it was there");
    Foreign::connect(&at.0).delete("foo_failed");
    broker.control(&["set_permissions", "-p", vhost, "guest", "^(foo|good)$", ".*", ".*"]);
    party.settle(held.handle, Settlement::Dead(failure()));
    let (by, error, tasks) = stuck(&mut party);
    assert_eq!((by.as_str(), tasks), ("foo_failed", 1));
    assert!(error.contains("ACCESS_REFUSED"), "{error}");
    works(&mut party);
    broker.control(&["set_permissions", "-p", vhost, "guest", ".*", ".*", ".*"]);
    assert_eq!(stuck(&mut party).2, 0);
    party.settled(&[held.handle]);
}

#[test]
fn a_delay_queue_that_is_full_is_passed_by_and_a_queue_without_any_waits() {
    let Some(at) = At::fresh() else { return };
    let vhost = at.0.rsplit('/').next().expect("a virtual host");
    let broker = broker::shared().expect("it was there");
    let foreign = Foreign::connect(&at.0);
    let (mut party, first) = held(&at);
    let limit = |pattern: &str| {
        let policy = r#"{"max-length":0,"overflow":"reject-publish"}"#;
        broker.control(&["set_policy", "-p", vhost, "full", pattern, policy, "--apply-to", "queues"]);
    };
    let fill = |step: &str| {
        let queue = format!("foo.retry.{step}");
        let to = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("foo"))];
        let more =
            [("x-queue-type", text("classic")), ("x-message-ttl", AMQPValue::LongInt(step.parse().expect("a number")))];
        foreign.declare(&queue, &[&to[..], &more[..]].concat());
        limit(&format!("^foo[.]retry[.]{step}$"));
        foreign.fill(&queue);
    };
    // The others are made by us, and take tasks.
    fill("3600000");
    party.settle_now(first.handle, Settlement::Snooze { after: Duration::from_hours(1), memo: None });
    let passed = party.wait("Warning", |event| match event {
        Event::Warning(text) if text.contains("3600000") => Some(text.clone()),
        Event::Stuck { error, .. } => panic!("{error}"),
        _ => None,
    });
    assert!(passed.contains("is full") && passed.contains("\"foo.retry.1800000\""), "{passed}");
    works(&mut party);
    // Now the smallest one, of which there is no smaller one.
    fill("100");
    party.submit(vec![task("foo", "second")]);
    let second = party.delivery();
    party.settle(second.handle, Settlement::Retry { after: Duration::from_millis(100), failure: failure() });
    let (by, error, tasks) = stuck(&mut party);
    assert_eq!((by.as_str(), tasks), ("foo.retry.100", 1));
    assert!(error.contains("full"), "{error}");
    works(&mut party);
    broker.control(&["clear_policy", "-p", vhost, "full"]);
    assert_eq!(stuck(&mut party).2, 0);
    party.settled(&[second.handle]);
}
