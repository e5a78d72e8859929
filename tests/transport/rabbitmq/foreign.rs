//! Messages and queues that others made.

use std::time::Duration;

use asynctask::{
    Properties,
    clock::{Clock, Timestamp},
    payload::{Body, Packing},
    task::{Failure, Reason, Settlement, Task},
    transport::{Event, Visit},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::At;
use crate::contract::party::{Party, done, setup, task, tasks};
use crate::support::foreign::Foreign;

const SHORT: Duration = Duration::from_millis(100);

fn retry(after: Duration) -> Settlement {
    Settlement::Retry { after, failure: Box::new(Failure::new(Reason::Error, "no", Clock::wall())) }
}

fn dead() -> Settlement {
    Settlement::Dead(Box::new(Failure::new(Reason::Failed, "never", Clock::wall())))
}

#[test]
fn a_plain_message_gets_an_id_at_its_first_move() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[SHORT])], 1);
    Foreign::connect(&at.0).publish("foo", BasicProperties::default(), b"plain");
    let first = party.delivery();
    assert_eq!((first.identity, first.task.body.as_slice()), (None, &b"plain"[..]));
    assert!(!first.task.id.is_empty());
    party.settle_now(first.handle, retry(SHORT));
    let second = party.delivery();
    assert_eq!((&second.task.id, second.task.attempts), (&first.task.id, 1));
    assert!(second.identity.is_some());
    party.settle_now(second.handle, done());
}

#[test]
fn hostile_properties_survive_a_retry_and_a_death() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[SHORT]), setup("trap", &[])], 1);
    let foreign = Foreign::connect(&at.0);
    let mut headers = FieldTable::default();
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString("trap".into())].into()));
    headers.insert("x-theirs".into(), AMQPValue::DecimalValue(lapin::types::DecimalValue { scale: 2, value: 314 }));
    headers.insert("x-death".into(), AMQPValue::LongString("nonsense".into()));
    headers.insert("asynctask-attempt".into(), AMQPValue::LongString("minus one".into()));
    headers.insert("big".into(), AMQPValue::LongString("x".repeat(100_000).into()));
    let properties = BasicProperties::default()
        .with_user_id("guest".into())
        .with_expiration("3600000".into())
        .with_priority(200)
        .with_reply_to("somewhere".into())
        .with_type("t".into())
        .with_timestamp(17)
        .with_message_id("m".into())
        .with_headers(headers);
    foreign.publish("foo", properties, &[0, 1, 2]);
    let mut came = party.deliveries(2);
    came.sort_by_key(|delivery| delivery.queue);
    party.settle_now(came[1].handle, done());
    party.settle_now(came[0].handle, retry(SHORT));
    let again = party.delivery();
    assert_eq!((again.queue.0, again.task.attempts, again.task.body.as_slice()), (0, 1, &[0, 1, 2][..]));
    let mut failure = Failure::new(Reason::Crash, "e".repeat(10_000), Clock::wall());
    failure.detail = "d".repeat(200_000);
    failure.output_tail = "o".repeat(8_192);
    party.settle_now(again.handle, Settlement::Dead(Box::new(failure)));
    party.until_depth("foo", |depth| depth.failed == 1);
    let letter = party.dead_letters("foo").remove(0);
    assert_eq!((letter.reason.as_str(), letter.failure.error.len()), ("crash", 2_048));
    assert_eq!(letter.headers["big"].as_str().unwrap().len(), 100_000);
    let message = foreign.take("foo_failed").unwrap();
    let properties = message.properties;
    assert_eq!(properties.user_id(), &None);
    assert_eq!(properties.expiration().as_ref().unwrap().as_str(), "345600000");
    assert_eq!((properties.priority(), properties.timestamp()), (&Some(200), &Some(17)));
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "t");
    let table = properties.headers().clone().unwrap();
    for (name, text) in [("asynctask-user-id", "guest"), ("asynctask-expiration", "3600000")] {
        assert_eq!(table.inner()[name], AMQPValue::LongString(text.into()));
    }
    assert!(matches!(table.inner()["x-theirs"], AMQPValue::DecimalValue(_)));
    assert!(!table.contains_key("CC") && !table.contains_key("x-death"));
    assert!(foreign.take("trap").is_none(), "a copy went where it should not");
}

/// All that a producer can say, with a body that is packed.
fn said(encoding: &str) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding(encoding.into())
        .with_correlation_id("42".into())
        .with_reply_to("answers".into())
        .with_type("resize".into())
        .with_priority(5)
        .with_app_id("shop".into())
        .with_timestamp(1_767_323_045)
}

#[test]
fn properties_and_packed_bodies_survive_every_move() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[SHORT])], 1);
    let foreign = Foreign::connect(&at.0);
    for (encoding, packing) in [("gzip", Packing::Gzip), ("deflate", Packing::Zlib), ("deflate", Packing::Deflate)] {
        let packed = packing.pack(br#"{"a":1}"#);
        let is_whole = |what: &str, properties: Option<&Properties>, body: &[u8], read: Body<'_>| {
            let json = serde_json::json!({
                "content_type": "application/json", "content_encoding": encoding, "correlation_id": "42",
                "reply_to": "answers", "type": "resize", "priority": 5, "app_id": "shop",
                "timestamp": "2026-01-02T03:04:05Z",
            });
            assert_eq!(serde_json::to_value(properties).unwrap(), json, "{what}");
            assert!(body == packed, "{what}: {body:?}");
            assert_eq!(read.json(true).unwrap(), r#"{"a":1}"#, "{what}");
        };
        let of_task = |what: &str, task: &Task| is_whole(what, task.properties.as_deref(), &task.body, task.into());
        foreign.publish("foo", said(encoding), &packed);
        let mut delivery = party.delivery();
        of_task("new", &delivery.task);
        for (what, settlement) in [
            ("retried", retry(SHORT)),
            ("snoozed", Settlement::Snooze { after: SHORT, memo: None }),
            ("released", Settlement::Release),
        ] {
            party.settle_now(delivery.handle, settlement);
            delivery = party.delivery();
            of_task(what, &delivery.task);
        }
        party.settle_now(delivery.handle, Settlement::Accept);
        party.settle_now(delivery.handle, dead());
        party.until_depth("foo", |depth| depth.failed == 1);
        let letter = party.dead_letters("foo").remove(0);
        is_whole("dead", letter.properties.as_deref(), &letter.body, Body::from(&letter));
        assert_eq!(party.walk("foo", |_| Visit::Retry { body: None }).retried, 1);
        let delivery = party.delivery();
        of_task("back from the dead", &delivery.task);
        party.settle_now(delivery.handle, dead());
        party.until_depth("foo", |depth| depth.failed == 1);
        let message = foreign.take("foo_failed").unwrap();
        let (was, is) = (said(encoding), &message.properties);
        assert_eq!(is.content_encoding(), was.content_encoding());
        assert_eq!((is.timestamp(), is.kind(), is.app_id()), (was.timestamp(), was.kind(), was.app_id()));
        assert!(message.data == packed);
    }
}

#[test]
fn an_expiry_is_read_from_the_header_in_any_shape() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[])], 3);
    let foreign = Foreign::connect(&at.0);
    let text = AMQPValue::LongString("2030-01-02T03:04:05+01:00".into());
    for value in [AMQPValue::LongLongInt(1_893_549_845_000), text, AMQPValue::Timestamp(1_893_549_845)] {
        let mut headers = FieldTable::default();
        headers.insert("asynctask-expires-at".into(), value);
        foreign.publish("foo", BasicProperties::default().with_headers(headers), b"1");
    }
    for delivery in party.deliveries(3) {
        assert_eq!(delivery.task.expires_at, Some(Timestamp(1_893_549_845_000)));
    }
}

#[test]
fn a_classic_queue_is_used_as_it_is_and_counts_too() {
    let Some(at) = At::fresh() else { return };
    Foreign::connect(&at.0).declare_classic("foo");
    for deliveries in 0..4 {
        let mut party = Party::attached(&at, &[setup("foo", &[])], 1);
        let warning = party.wait("Warning", |event| match event {
            Event::Warning(text) => Some(text.clone()),
            _ => None,
        });
        assert!(warning.contains("\"foo\" is a classic queue"), "{warning}");
        if deliveries == 0 {
            party.submit(vec![task("foo", "a")]);
        }
        let delivery = party.delivery();
        assert_eq!((delivery.task.id.as_str(), delivery.task.deliveries), ("a", deliveries));
        party.kill();
    }
}

#[test]
fn quorum_queues_are_not_called_classic() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[])], 1);
    party.submit(vec![task("foo", "a")]);
    party.delivery();
    drop(party);
    let mut party = Party::attached(&at, &[setup("foo", &[])], 1);
    party.wait("Delivered before any warning", |event| match event {
        Event::Warning(text) => panic!("{text}"),
        Event::Delivered(_) => Some(()),
        _ => None,
    });
}

#[test]
fn what_the_broker_dead_lettered_is_listed_and_can_be_retried() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[SHORT])], 0);
    let foreign = Foreign::connect(&at.0);
    foreign.publish("foo", BasicProperties::default().with_expiration("1".into()), b"old");
    party.until_depth("foo", |depth| depth.failed == 1);
    // One that has been on the ladder before: that is not what killed it.
    party.submit(vec![task("foo", "b")]);
    party.credit(0, 1);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, retry(SHORT));
    let delivery = party.delivery();
    party.credit(0, 0);
    party.settle_now(delivery.handle, Settlement::Release);
    party.until_depth("foo", |depth| depth.ready == 1);
    foreign.reject("foo");
    party.until_depth("foo", |depth| depth.failed == 2);
    let letters = party.dead_letters("foo");
    assert_eq!((letters[0].reason.as_str(), letters[0].failure.reason), ("expired", Reason::Expired));
    assert_eq!((letters[1].reason.as_str(), letters[1].failure.attempts), ("broker:rejected", 1));
    assert!(letters.iter().all(|letter| letter.failure.failed_at > Timestamp(1_700_000_000_000)));
    assert_eq!(party.walk("foo", |_| Visit::Retry { body: None }).retried, 2);
    party.credit(0, 2);
    for delivery in party.deliveries(2) {
        assert_eq!((delivery.task.attempts, delivery.task.deliveries), (0, 0));
        party.settle_now(delivery.handle, done());
    }
}

#[test]
fn thirty_walks_over_five_hundred_dead_letters_keep_all_and_their_order() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[])], 500);
    party.submit(tasks("foo", 500));
    let held = party.deliveries(500);
    let handles: Vec<_> = held.iter().map(|delivery| delivery.handle).collect();
    party.ask(asynctask::transport::Request::Settle(handles.iter().map(|handle| (*handle, dead())).collect()));
    party.settled(&handles);
    let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    for walk in 0..30 {
        let ids: Vec<_> = party.dead_letters("foo").into_iter().map(|letter| letter.id).collect();
        assert!(ids == expected, "walk {walk}: {ids:?}");
    }
}

#[test]
fn a_delay_between_the_steps_is_kept_to_the_millisecond_and_costs_no_attempt() {
    let Some(at) = At::fresh() else { return };
    let delay = Duration::from_millis(1_777);
    let mut party = Party::attached(&at, &[setup("foo", &[])], 1);
    party.submit(vec![task("foo", "a")]);
    let delivery = party.delivery();
    let start = Clock::wall();
    party.settle_now(delivery.handle, Settlement::Snooze { after: delay, memo: None });
    assert!(!party.survey().0);
    let again = party.delivery();
    let took = Clock::wall().0 - start.0;
    assert!((1_777..4_000).contains(&took), "{took} ms");
    assert_eq!((again.task.attempts, again.task.deliveries, again.redelivered), (0, 0, false));
    party.settle_now(again.handle, done());
    assert!(party.survey().0);
}
